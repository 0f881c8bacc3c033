//! What a node was given here that the CMD may not have heard of, for the node went on before it was answered: it is kept for
//! the CMD to say that it knows of it, for maybe only the answer was lost, and is free when it does not. Of the network behind a node the end is
//! `Node::network_until`, of its home network prefix `Node::expires_at`.

use std::time::Duration;

use super::fsm::{Maar, Output};
use super::state::{Node, Phase};
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::time::Time;

/// How long: the updates of the CMD are repeated for MAX_BINDACK_TIMEOUT at most, one after the other.
const UNHEARD: Duration = Duration::from_secs(64);

impl Maar {
    /// The network behind a node that has gone on is free: the CMD has been silent about it, or the node ends here.
    pub(super) fn drop_unheard_network(&mut self, identifier: &MobileNodeIdentifier) {
        let gone = |node: &&mut Node| matches!(node.phase, Phase::Anchored { .. });
        let Some(node) = self.state.nodes.get_mut(identifier).filter(gone) else {
            return;
        };
        if let Some(prefix) = node.network_asked.take() {
            self.forget_network(identifier, prefix);
        }
    }

    /// The home network prefix of a node that has gone on is free: the CMD has been silent about it. The node goes on with
    /// what was relocated here.
    pub(super) fn drop_unheard_home(&mut self, identifier: &MobileNodeIdentifier, outputs: &mut Vec<Output>) {
        let Some(node) = self.state.nodes.get_mut(identifier).filter(|it| it.home_unheard) else {
            return;
        };
        let prefix = node.home_network_prefix;
        let text = format!("{prefix} of {identifier} is free again: the CMD has not heard of it");
        let event = Event::new("anchor_released", text).with("identifier", identifier);
        outputs.push(Output::Event(event.with("prefix", prefix)));
        if !node.go_on_without_home() {
            return self.remove(identifier);
        }
        self.free_prefix(prefix);
        self.forget_tunnels(identifier);
        self.reschedule(identifier);
    }
}

impl Node {
    /// It goes on, or has gone on, to another MAAR: waits for the CMD's word of what that may not have heard of. A CMD that did hear,
    /// and believes it here, speaks when the binding ends: after `lifetime`. Nobody else gets the prefix before.
    pub(super) fn keep_unheard(&mut self, lifetime: Duration, now: Time) {
        let waits = matches!(self.phase, Phase::Anchored { .. });
        let until = |known: Option<Time>, last| known.filter(|_| waits).unwrap_or(now.after(last));
        self.network_until = self.network_asked.map(|_| until(self.network_until, UNHEARD));
        let home = self.home_unheard;
        self.expires_at = home.then(|| until(self.expires_at, lifetime + UNHEARD));
    }

    /// Its home network prefix is not its any more: it has what was relocated here. `false`: nothing was.
    pub(super) fn go_on_without_home(&mut self) -> bool {
        if self.adopted.is_empty() {
            return false;
        }
        self.home_network_prefix = self.adopted.remove(0).prefix;
        self.home_unheard = false;
        if matches!(self.phase, Phase::Anchored { .. }) {
            self.expires_at = None;
        }
        true
    }
}
