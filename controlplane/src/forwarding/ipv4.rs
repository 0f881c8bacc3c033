//! Nodes with IPv4, of whom the configuration tells: see `maar.ipv4_pools` and `[[maar.ipv4]]`.
//!
//! PMIPv6 here is of IPv6, and so are bindings; these do not move. Their tunnels have ids from [`FIRST_ID`] on, far above
//! those that the state machine gives out one by one, and of what they are: an entry that is moved in the file, or comes before
//! others, changes no tunnel and no count.

use kedge_config::{Config, Ipv4Binding, Maar, PduType, TunnelType, mapped};
use kedge_dataplane_api::model::{
    DiscardReason, Encapsulation, Gre, GtpU, NextHop, PrefixEntry, Sender, Source, SourcePath, Tables,
};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU32;

use super::{outside, pdu_session, put};
use crate::maar::State;

/// The least id of their tunnels; there are as many as bits are zero in it.
const FIRST_ID: u32 = 0xf000_0000;

/// Puts pools, prefixes and tunnels into the tables.
pub(super) fn put_ipv4(config: &Config, state: &State, tables: &mut Tables) {
    let Some(maar) = &config.maar else {
        return;
    };
    for pool in &maar.ipv4_pools {
        put(
            tables,
            mapped((*pool).into()),
            NextHop::Discard(DiscardReason::Unallocated),
        );
    }
    for binding in &maar.ipv4_bindings {
        let Some(id) = tunnel(config, maar, state, binding, tables) else {
            continue;
        };
        let entry = PrefixEntry {
            next_hop: NextHop::Tunnel(id),
            source: Some(Source {
                sender: Sender::Tunnel(id),
                path: SourcePath::Native,
            }),
        };
        tables.prefixes.insert(mapped(binding.prefix.into()), entry);
    }
}

/// The id of the tunnel of an entry, which is put into the tables. `None`: it is none that validation lets pass.
fn tunnel(
    config: &Config,
    maar: &Maar,
    state: &State,
    binding: &Ipv4Binding,
    tables: &mut Tables,
) -> Option<u32> {
    let encapsulation = match binding.tunnel {
        TunnelType::Ipv6InIpv6 => Encapsulation::Ipv6InIpv6,
        TunnelType::Gre => Encapsulation::Gre(Gre {
            local_key: binding.local_id,
            remote_key: binding.remote_id,
        }),
        TunnelType::GtpU => Encapsulation::GtpU(GtpU {
            local_teid: NonZeroU32::new(binding.local_id?)?,
            remote_teid: NonZeroU32::new(binding.remote_id?)?,
            pdu_session: pdu_session(binding.qfi, binding.pdu_type == Some(PduType::Uplink)),
            sequence_numbers: maar.gtpu_sequence_numbers,
        }),
    };
    let local = if binding.peer.to_ipv4_mapped().is_some() {
        maar.gtpu_ipv4_address?.to_ipv6_mapped()
    } else {
        config.node.address
    };
    let tunnel = outside(config, encapsulation, local, binding.peer);
    // Several prefixes share one; and with a MAAR or DPN there is one IPv6-in-IPv6 tunnel, whatever it carries.
    let shared = state.tunnel_ids.get(&binding.peer).copied();
    let id = shared
        .filter(|_| encapsulation == Encapsulation::Ipv6InIpv6)
        .unwrap_or_else(|| {
            free_id(id_of(binding), |id| {
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
fn id_of(binding: &Ipv4Binding) -> u32 {
    let mut hasher = DefaultHasher::new();
    let kind = match binding.tunnel {
        TunnelType::Ipv6InIpv6 => 0,
        TunnelType::Gre => 1,
        TunnelType::GtpU => 2,
    };
    (binding.peer, kind, binding.local_id, binding.remote_id).hash(&mut hasher);
    FIRST_ID | hasher.finish() as u32
}

/// This id, or the first after it that is free; there are far more than entries.
fn free_id(id: u32, is_free: impl Fn(u32) -> bool) -> u32 {
    let after = |step: u32| FIRST_ID | id.wrapping_add(step);
    (0..=!FIRST_ID).map(after).find(|id| is_free(*id)).unwrap_or(id)
}
