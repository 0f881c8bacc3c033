//! Which registrations are acceptable: RFC 5213 section 5.3.1, in its order, with the additions of RFC 8885.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::fsm::Cmd;
use crate::identity::MobileNodeIdentifier;
use crate::proxy_binding::{check_timestamp, requested_prefixes};
use crate::time::Time;
use crate::wire::mobility::{ProxyBindingUpdate, Status, update_flags};

/// A registration that has passed all checks that do not depend on the binding's phase.
pub(super) struct Checked {
    pub(super) identifier: MobileNodeIdentifier,
    /// The MAAR that serves the node (Proxy-CoA).
    pub(super) serving: Ipv6Addr,
    pub(super) prefixes: Vec<Ipv6Net>,
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
            let delegated = self.delegated.get(&maar.address).into_iter().flatten();
            let mut pools = maar.prefix_pools.iter().chain(delegated);
            let in_pool = pools.any(|pool| pool.contains(prefix));
            let of_another = self.owners.get(prefix).is_some_and(|owner| *owner != identifier);
            if !in_pool || prefix.prefix_len() != 64 || of_another {
                return Err(Status::NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX);
            }
        }
        Ok(Checked {
            identifier,
            serving,
            prefixes: prefixes.to_vec(),
            timestamp,
            handoff_indicator,
            access_technology_type,
        })
    }
}
