//! A MAAR is drained before its maintenance: whatever it anchors for nodes that are elsewhere goes to where they are,
//! now and as long as it is drained. Which MAARs are is stored, so a restart goes on with it.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::fsm::{Cmd, Output};
use super::relocation::RelocationError;
use super::state::{Binding, Relocation, RelocationPhase};
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::time::Time;

/// How far a drain is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainProgress {
    /// Prefixes anchored there whose nodes are served elsewhere: they can be relocated.
    pub to_relocate: usize,
    /// Of these, how many are under way.
    pub under_way: usize,
    /// Prefixes of nodes that are served there: they can go when their nodes have gone.
    pub attached: usize,
}

impl Cmd {
    /// Relocates, one after the other, whatever `maar` anchors for nodes that are elsewhere, now and as long as
    /// it is drained.
    ///
    /// # Errors
    /// It is no MAAR of this domain.
    pub fn drain(&mut self, maar: Ipv6Addr, now: Time) -> Result<Vec<Output>, RelocationError> {
        if self.known_maar(maar).is_none() {
            return Err(RelocationError::UnknownMaar(maar));
        }
        let mut outputs = Vec::new();
        if self.state.draining.insert(maar) {
            let text = format!("{maar} is being drained: what it anchors goes to where the nodes are");
            outputs.push(Output::Event(
                Event::new("drain_started", text).with("maar", maar),
            ));
        }
        self.list_to_relocate();
        self.relocate_more(now, &mut outputs);
        Ok(outputs)
    }

    /// Ends that. What was relocated stays where it is.
    ///
    /// # Errors
    /// It is no MAAR of this domain.
    pub fn stop_draining(&mut self, maar: Ipv6Addr) -> Result<Vec<Output>, RelocationError> {
        if self.known_maar(maar).is_none() {
            return Err(RelocationError::UnknownMaar(maar));
        }
        let mut outputs = Vec::new();
        if self.state.draining.remove(&maar) {
            self.list_to_relocate();
            let text = format!("{maar} is not drained any more");
            outputs.push(Output::Event(
                Event::new("drain_stopped", text).with("maar", maar),
            ));
        }
        Ok(outputs)
    }

    /// How far the drain of a MAAR is; `None` where none is wanted.
    #[must_use]
    pub fn drain_progress(&self, maar: Ipv6Addr) -> Option<DrainProgress> {
        self.state.draining.get(&maar)?;
        let mut progress = DrainProgress::default();
        for binding in self.state.bindings.values() {
            let there = binding.previous.iter().filter(|it| it.address == maar);
            progress.to_relocate += there.count();
            if binding.serving == maar {
                progress.attached += binding.prefixes.len() + binding.adopted.len();
            }
        }
        let relocations = self.state.relocations.values();
        progress.under_way = relocations.filter(|it| it.from == maar).count();
        Some(progress)
    }

    /// Finds what is to go; after a restart too.
    pub(super) fn list_to_relocate(&mut self) {
        let draining = &self.state.draining;
        let bindings = self.state.bindings.values();
        self.to_relocate = bindings
            .flat_map(|binding| &binding.previous)
            .filter(|it| it.wanted || draining.contains(&it.address))
            .map(|it| it.prefix)
            .collect();
    }

    /// An anchor has confirmed where its node is, so the prefix can go there.
    pub(super) fn confirmed_by(
        &mut self,
        identifier: &MobileNodeIdentifier,
        maar: Ipv6Addr,
        prefix: Ipv6Net,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let binding = self.state.bindings.get(identifier);
        let wanted = binding.is_some_and(|binding| binding.wants(prefix));
        if wanted || self.state.draining.contains(&maar) {
            self.to_relocate.insert(prefix);
            self.relocate_more(now, outputs);
        }
    }

    /// Begins what is to go, as far as there is room.
    pub(super) fn relocate_more(&mut self, now: Time, outputs: &mut Vec<Output>) {
        // Those of which only the old anchor is to hear take nothing that others could use.
        let taking = |it: &&Relocation| it.phase != RelocationPhase::Yielding;
        while self.state.relocations.values().filter(taking).count() < self.settings.maximum_relocations {
            let Some(prefix) = self.to_relocate.pop_first() else {
                return;
            };
            // What cannot go now comes back into the list when its anchor confirms.
            if let Ok((identifier, from)) = self.relocatable(prefix, None)
                && let Some(binding) = self.state.bindings.get(&identifier)
                && (self.state.draining.contains(&from) || binding.wants(prefix))
            {
                let to = binding.serving;
                self.begin(&identifier, prefix, from, to, now, outputs);
            }
        }
    }
}

impl Binding {
    /// Whether policy, or the serving MAAR, wants a prefix relocated.
    pub(super) fn wants(&self, prefix: Ipv6Net) -> bool {
        self.previous.iter().any(|it| it.prefix == prefix && it.wanted)
    }
}
