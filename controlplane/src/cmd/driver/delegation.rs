//! The delegating server follows relocations: who is told to take a prefix has it delegated from then on.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::Daemon;
use crate::delegation::delegating::{MoveError, Taker};
use crate::delegation::server::MoveFailure;
use crate::delegation::wire::Duid;
use crate::event::Event;
use crate::proxy_binding::requested_prefixes;
use crate::wire::mobility::{MobilityMessage, RelocationStep};

impl Daemon {
    /// A message that is about to be sent to `to`. If it says to take a prefix, the lease of that is moved there; said
    /// again, it is moved already. The relocation does not wait for it, nor fails with it.
    pub(super) fn delegate_relocated(&self, to: Ipv6Addr, message: &MobilityMessage) {
        let MobilityMessage::ProxyBindingUpdate(update) = message else {
            return;
        };
        let relocation = update.options.anchor_relocation;
        if !relocation.is_some_and(|it| it.step == RelocationStep::Take) {
            return;
        }
        for prefix in requested_prefixes(&update.options) {
            self.delegate(*prefix, to);
        }
    }

    /// Has the delegating server pass a prefix on to a MAAR.
    pub(super) fn delegate(&self, prefix: Ipv6Net, to: Ipv6Addr) {
        let Some(server) = self.delegation.clone() else {
            return;
        };
        let observer = self.observer.clone();
        let taker = Taker {
            client: Duid::of_node(to),
            iaid: None,
        };
        tokio::spawn(async move {
            match server.move_lease(prefix, taker).await {
                // Of a pool that is nobody's to delegate.
                Ok(()) | Err(MoveFailure::Refused(MoveError::NotInPools { .. })) => {}
                Err(error) => {
                    let text = format!("the delegation of {prefix} does not follow it to {to}: {error}");
                    let event = Event::new("delegation_not_moved", text);
                    observer.warn(&event.with("prefix", prefix).with("to", to));
                }
            }
        });
    }
}
