//! Nodes behind tunnels that nobody signals, of which the configuration tells: `[[maar.ipv4]]` and `[[maar.ipv6]]`.
//!
//! They are no bindings of PMIPv6, and do not move. Their tunnels have ids from [`FIRST_ID`] on, far above
//! those that the state machine gives out one by one, and of what they are: an entry that is moved in the file, or comes before
//! others, changes no tunnel and no count.

use ipnet::Ipv6Net;
use kedge_config::{Config, Maar, PduType, TunnelEnd, TunnelType, mapped};
use kedge_dataplane_api::model::{
    DiscardReason, Encapsulation, Gre, GtpU, NextHop, PrefixEntry, Sender, Source, SourcePath, Tables,
};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU32;

use super::{outside, pdu_session};
use crate::maar::State;

/// The least id of their tunnels; there are as many as bits are zero in it.
const FIRST_ID: u32 = 0xf000_0000;

/// The prefixes of `[[maar.ipv6]]`.
pub(super) fn prefixes(config: &Config) -> impl Iterator<Item = Ipv6Net> + '_ {
    let bindings = config.maar.iter().flat_map(|maar| &maar.ipv6_bindings);
    bindings.map(|binding| binding.prefix)
}

/// Puts prefixes and tunnels into the tables; of IPv4, with its pools, only where the data plane takes it.
pub(super) fn put(config: &Config, state: &State, inner_ipv4: bool, tables: &mut Tables) {
    let Some(maar) = &config.maar else {
        return;
    };
    if inner_ipv4 {
        for pool in &maar.ipv4_pools {
            super::put(
                tables,
                mapped((*pool).into()),
                NextHop::Discard(DiscardReason::Unallocated),
            );
        }
        for binding in &maar.ipv4_bindings {
            let prefix = mapped(binding.prefix.into());
            put_behind(config, maar, state, prefix, &binding.end(), tables);
        }
    }
    for binding in &maar.ipv6_bindings {
        put_behind(config, maar, state, binding.prefix, &binding.end(), tables);
    }
}

/// A prefix that is reached by a tunnel, out of which its packets come and no others.
fn put_behind(
    config: &Config,
    maar: &Maar,
    state: &State,
    prefix: Ipv6Net,
    end: &TunnelEnd,
    tables: &mut Tables,
) {
    let Some(id) = tunnel(config, maar, state, end, tables) else {
        return;
    };
    let entry = PrefixEntry {
        next_hop: NextHop::Tunnel(id),
        source: Some(Source {
            sender: Sender::Tunnel(id),
            path: SourcePath::Native,
        }),
    };
    tables.prefixes.insert(prefix, entry);
}

/// The id of the tunnel of an entry, which is put into the tables. `None`: it is none that validation lets pass.
fn tunnel(config: &Config, maar: &Maar, state: &State, end: &TunnelEnd, tables: &mut Tables) -> Option<u32> {
    let encapsulation = match end.tunnel {
        TunnelType::Ipv6InIpv6 => Encapsulation::Ipv6InIpv6,
        TunnelType::Gre => Encapsulation::Gre(Gre {
            local_key: end.local_id,
            remote_key: end.remote_id,
        }),
        TunnelType::GtpU => Encapsulation::GtpU(GtpU {
            local_teid: NonZeroU32::new(end.local_id?)?,
            remote_teid: NonZeroU32::new(end.remote_id?)?,
            pdu_session: pdu_session(end.qfi, end.pdu_type == Some(PduType::Uplink)),
            sequence_numbers: maar.gtpu_sequence_numbers,
        }),
    };
    let local = if end.peer.to_ipv4_mapped().is_some() {
        maar.gtpu_ipv4_address?.to_ipv6_mapped()
    } else {
        config.node.address
    };
    let tunnel = outside(config, encapsulation, local, end.peer);
    // Several prefixes share one; and with a MAAR or DPN there is one IPv6-in-IPv6 tunnel, whatever it carries.
    let shared = state.tunnel_ids.get(&end.peer).copied();
    let id = shared
        .filter(|_| encapsulation == Encapsulation::Ipv6InIpv6)
        .unwrap_or_else(|| {
            free_id(id_of(end), |id| {
                tables.tunnels.get(&id).is_none_or(|it| *it == tunnel)
            })
        });
    tables.tunnels.entry(id).or_insert(tunnel);
    Some(id)
}

/// Whether the tunnel of this id is of the file, which tells of them.
pub(super) fn is_of_the_file(id: u32) -> bool {
    id >= FIRST_ID
}

/// By all that tells one tunnel from another.
fn id_of(end: &TunnelEnd) -> u32 {
    let mut hasher = DefaultHasher::new();
    let kind = match end.tunnel {
        TunnelType::Ipv6InIpv6 => 0,
        TunnelType::Gre => 1,
        TunnelType::GtpU => 2,
    };
    (end.peer, kind, end.local_id, end.remote_id).hash(&mut hasher);
    FIRST_ID | hasher.finish() as u32
}

/// This id, or the first after it that is free; there are far more than entries.
fn free_id(id: u32, is_free: impl Fn(u32) -> bool) -> u32 {
    let after = |step: u32| FIRST_ID | id.wrapping_add(step);
    (0..=!FIRST_ID).map(after).find(|id| is_free(*id)).unwrap_or(id)
}
