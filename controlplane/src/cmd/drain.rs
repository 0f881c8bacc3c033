//! A MAAR is drained before its maintenance: whatever it anchors for nodes that are elsewhere goes to where they are,
//! now and as long as it is drained. Which MAARs are is stored, so a restart goes on with it.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::fsm::{Cmd, Output};
use super::relocation::RelocationError;
use super::state::{Relocation, RelocationPhase};
use crate::event::Event;
use crate::time::Time;

/// Relocations of a drain that are under way together.
const DRAIN_AT_ONCE: usize = 64;

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
        self.list_to_drain();
        self.drain_more(now, &mut outputs);
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
            self.list_to_drain();
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

    /// Finds what is to be drained; after a restart too.
    pub(super) fn list_to_drain(&mut self) {
        let draining = &self.state.draining;
        let bindings = if draining.is_empty() {
            None
        } else {
            Some(self.state.bindings.values())
        };
        self.to_drain = bindings
            .into_iter()
            .flatten()
            .flat_map(|binding| &binding.previous)
            .filter(|it| draining.contains(&it.address))
            .map(|it| it.prefix)
            .collect();
    }

    /// An anchor has confirmed where its node is, so the prefix can go there.
    pub(super) fn confirmed_by(
        &mut self,
        maar: Ipv6Addr,
        prefix: Ipv6Net,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        if self.state.draining.contains(&maar) {
            self.to_drain.insert(prefix);
            self.drain_more(now, outputs);
        }
    }

    pub(super) fn drain_more(&mut self, now: Time, outputs: &mut Vec<Output>) {
        // Those of which only the old anchor is to hear take nothing that others could use.
        let taking = |it: &&Relocation| it.phase != RelocationPhase::Yielding;
        while self.state.relocations.values().filter(taking).count() < DRAIN_AT_ONCE {
            let Some(prefix) = self.to_drain.pop_first() else {
                return;
            };
            // What cannot go now comes back into the list when its anchor confirms.
            if let Ok((identifier, from)) = self.relocatable(prefix, None)
                && self.state.draining.contains(&from)
                && let Some(to) = self.state.bindings.get(&identifier).map(|it| it.serving)
            {
                self.begin(&identifier, prefix, from, to, now, outputs);
            }
        }
    }
}
