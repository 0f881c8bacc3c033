//! Which registrations are acceptable: RFC 5213 section 5.3.1, in its order, with the additions of RFC 8885.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use kedge_config::KnownMaar;

use super::fsm::Cmd;
use crate::identity::MobileNodeIdentifier;
use crate::overlap;
use crate::proxy_binding::{check_timestamp, requested_prefixes};
use crate::time::Time;
use crate::wire::mobility::{ProxyBindingUpdate, Status, is_mobile_network, update_flags};

/// A registration that has passed all checks that do not depend on the binding's phase.
pub(super) struct Checked {
    pub(super) identifier: MobileNodeIdentifier,
    /// The MAAR that serves the node (Proxy-CoA).
    pub(super) serving: Ipv6Addr,
    pub(super) prefixes: Vec<Ipv6Net>,
    /// Networks behind the node that the serving MAAR anchors, as far as it knows (RFC 7148).
    pub(super) networks: Vec<Ipv6Net>,
    pub(super) timestamp: u64,
    pub(super) handoff_indicator: u8,
    pub(super) access_technology_type: u8,
}

impl Cmd {
    /// Checks a registration; changes nothing.
    pub(super) fn check(
        &self,
        from: Ipv6Addr,
        update: &ProxyBindingUpdate,
        now: Time,
    ) -> Result<Checked, Status> {
        let options = &update.options;
        let identifier = options
            .mobile_node_identifier
            .clone()
            .filter(|identifier| !identifier.octets.is_empty())
            .ok_or(Status::MISSING_MN_IDENTIFIER_OPTION)?;
        // RFC 5213 section 5.3.1 (5): the sender must be a gateway of ours. RFC 6275 section
        // 6.2.5: an Alternate Care-of Address stands for the source; it must be one of ours too.
        let serving = options.alternate_care_of_address.unwrap_or(from);
        let (Some(_), Some(maar)) = (self.known_maar(from), self.known_maar(serving)) else {
            return Err(Status::MAG_NOT_AUTHORIZED_FOR_PROXY_REG);
        };
        // Choice G1: a plain PMIPv6 gateway gets 129, since a CMD is no LMA for it.
        if update.flags & update_flags::DISTRIBUTED == 0 {
            return Err(Status::ADMINISTRATIVELY_PROHIBITED);
        }
        let last = self
            .state
            .bindings
            .get(&identifier)
            .map_or(0, |binding| binding.last_timestamp);
        let timestamp = check_timestamp(
            options.timestamp,
            last,
            now,
            self.settings.timers.timestamp_validity_window,
        )?;
        let prefixes = requested_prefixes(options);
        if prefixes.is_empty() {
            return Err(Status::MISSING_HOME_NETWORK_PREFIX_OPTION);
        }
        let handoff_indicator = options
            .handoff_indicator
            .ok_or(Status::MISSING_HANDOFF_INDICATOR_OPTION)?;
        let access_technology_type = options
            .access_technology_type
            .ok_or(Status::MISSING_ACCESS_TECH_TYPE_OPTION)?;
        // RFC 8885 section 3.1: the MAAR chooses, out of its own pools; `::/0`, a request to choose
        // for it, is therefore refused like any foreign prefix.
        for prefix in prefixes {
            let of_another = self.is_of_another(*prefix, &identifier);
            if !self.in_pool(maar, *prefix) || prefix.prefix_len() != 64 || of_another {
                return Err(Status::NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX);
            }
        }
        let networks = options.delegated_prefixes.clone();
        for network in &networks {
            let owner = self.owners.get(network);
            if self.is_of_another(*network, &identifier) {
                return Err(Status::REQUESTED_DMNP_IN_USE);
            }
            // One that it has may have come from elsewhere.
            let known = owner.is_some() || self.in_pool(maar, *network);
            if !known || !is_mobile_network(*network) {
                return Err(Status::NOT_AUTHORIZED_FOR_DELEGATED_MNP);
            }
        }
        Ok(Checked {
            networks,
            identifier,
            serving,
            prefixes: prefixes.to_vec(),
            timestamp,
            handoff_indicator,
            access_technology_type,
        })
    }

    /// Whether another node has a prefix, a part of it, or what it is a part of.
    fn is_of_another(&self, prefix: Ipv6Net, identifier: &MobileNodeIdentifier) -> bool {
        if let Some(owner) = self.owners.get(&prefix) {
            return owner != identifier;
        }
        let mut parts = self.owners.range(overlap::inside(prefix));
        let below = |it| self.owners.range(..it).next_back().map(|(before, _)| *before);
        let wider = overlap::containing(prefix, below).and_then(|it| self.owners.get(&it));
        parts.any(|(_, owner)| owner != identifier) || wider.is_some_and(|owner| owner != identifier)
    }

    /// Whether a MAAR may give this prefix.
    fn in_pool(&self, maar: &KnownMaar, prefix: Ipv6Net) -> bool {
        let delegated = self.delegated.get(&maar.address).into_iter().flatten();
        let mut pools = maar.prefix_pools.iter().chain(delegated);
        pools.any(|pool| pool.contains(&prefix))
    }
}
