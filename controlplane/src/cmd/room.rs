//! What there is room for in an answer: a Mobility Header has 2048 octets at most (RFC 6275 section 6.1.1).

use super::fsm::{Cmd, Output};
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::proxy_binding::fits;
use crate::wire::mobility::{PrefixMobility, PrefixMobilityKind, ProxyBindingAcknowledgement};

impl Cmd {
    /// Leaves out of an answer what it has no room for: first what has ended, then limits, then ends. The configuration sees
    /// to it that there is room for all but the first; it may have been another one when the node came.
    pub(super) fn make_fit(
        &mut self,
        identifier: &MobileNodeIdentifier,
        answer: &mut ProxyBindingAcknowledgement,
        outputs: &mut Vec<Output>,
    ) {
        while !answer.options.prefix_mobilities.is_empty() && !fits(answer) {
            let PrefixMobility { prefix, kind } = answer.options.prefix_mobilities.remove(0);
            self.counters.add("prefix_mobilities_left_out");
            let what = match kind {
                PrefixMobilityKind::Ended => "has ended",
                PrefixMobilityKind::DetourLimit { .. } => "may carry so much and no more",
                PrefixMobilityKind::EndsAfter { .. } => "ends",
            };
            let text = format!("the answer for {identifier} has no room to say that {prefix} {what}");
            let event = Event::new("prefix_mobility_left_out", text).with("identifier", identifier);
            outputs.push(Output::Event(event.with("prefix", prefix)));
        }
    }
}
