//! What a node is told of its prefixes.

use std::time::Duration;

use super::fsm::Maar;
use super::io::Output;
use super::state::Phase;
use crate::identity::MobileNodeIdentifier;
use crate::time::Time;
use crate::wire::mobility::is_mobile_network;
use crate::wire::neighbour_discovery::PrefixInformation;

/// Between two advertisements that nothing but the end of a lease asks for (RFC 4861 section 6.2.1: MinRtrAdvInterval).
const SHORTEST_INTERVAL: Duration = Duration::from_secs(3);

impl Maar {
    /// Advertises to a node what it may use now: its own prefix preferred, older ones
    /// deprecated (RFC 8885 section 3.7). `withdrawn`: nothing any more (RFC 5213 section 6.12).
    pub(super) fn advertise(
        &mut self,
        identifier: &MobileNodeIdentifier,
        withdrawn: bool,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let node = self.state.nodes.get_mut(identifier);
        if let Some(node) = node.filter(|node| node.dpn.is_some()) {
            // That is its DPN's to do, which hears of it.
            node.advertise_at = None;
            return self.reschedule(identifier);
        }
        let own = self
            .state
            .nodes
            .get(identifier)
            .map(|node| node.home_network_prefix);
        let limits = own.map(|prefix| self.lifetime_limits(prefix, now));
        let (preferred_limit, valid_limit) = limits.unwrap_or_default();
        let older_limits = self.older_limits(identifier, now);
        let access = &self.settings.access;
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        // On-link is not set: a home network prefix belongs to one node, so there is
        // no neighbour in it, and everything goes by the MAAR.
        let information = |prefix, preferred_lifetime| PrefixInformation {
            prefix,
            on_link: false,
            autonomous: true,
            valid_lifetime: if withdrawn { 0 } else { access.valid_lifetime },
            preferred_lifetime: if withdrawn { 0 } else { preferred_lifetime },
        };
        let mut own = information(node.home_network_prefix, access.preferred_lifetime);
        own.preferred_lifetime = own.preferred_lifetime.min(preferred_limit);
        own.valid_lifetime = own.valid_lifetime.min(valid_limit);
        let mut prefixes = vec![own];
        // Those relocated here are still old ones: no new flow is to begin on them.
        let older = node.adopted.iter().map(|it| it.prefix);
        let older = older.chain(node.previous.iter().map(|previous| previous.prefix));
        // The network behind a node is not its link.
        let older = older.filter(|prefix| !is_mobile_network(*prefix));
        prefixes.extend(older.map(|prefix| {
            let mut older = information(prefix, 0);
            let limit = older_limits.get(&prefix).copied().unwrap_or(u32::MAX);
            older.valid_lifetime = older.valid_lifetime.min(limit);
            // As long as it is the node's; hosts may keep it for two hours nevertheless (RFC 4862 section 5.5.3 (e)).
            if let Some(end) = node.ends.get(&prefix) {
                let left = u32::try_from(end.since(now).as_secs()).unwrap_or(u32::MAX);
                older.valid_lifetime = older.valid_lifetime.min(left);
            }
            older
        }));
        // A host keeps the addresses of an ended one for two hours at most (RFC 4862 section 5.5.3 (e)), but begins
        // nothing with them.
        prefixes.extend(node.ended.iter().map(|prefix| PrefixInformation {
            valid_lifetime: 0,
            ..information(*prefix, 0)
        }));
        outputs.push(Output::Advertise {
            port: node.port.clone(),
            link_local_address: node.link_local_address,
            link_layer_address: node.link_layer_address,
            prefixes,
        });
        // What is told of a lease has to be told again before it ends: it is renewed at half of its time.
        let limits = [preferred_limit, valid_limit].into_iter();
        let limits = limits.chain(older_limits.into_values()).filter(|it| *it > 0);
        let interval = Duration::from_secs(access.advertisement_interval.into());
        let again = limits.map(|it| Duration::from_secs(it.into()).mul_f64(0.6).max(SHORTEST_INTERVAL));
        let again = again.chain([interval]).min().unwrap_or(interval);
        node.advertise_at = (node.phase == Phase::Attached).then(|| now.after(again));
        self.counters.add("advertisements_sent");
        self.reschedule(identifier);
    }
}
