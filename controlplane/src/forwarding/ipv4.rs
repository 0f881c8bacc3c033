//! Nodes with IPv4, of whom the configuration tells: see `maar.ipv4_pools` and `[[maar.ipv4]]`.
//!
//! PMIPv6 here is of IPv6, and so are bindings; these do not move. Their tunnels have ids from [`FIRST_ID`] on, far above
//! those that the state machine gives out one by one.

use kedge_config::{Config, Ipv4Binding, Maar, TunnelType, mapped};
use kedge_dataplane_api::model::{
    DiscardReason, Encapsulation, Gre, GtpU, NextHop, PrefixEntry, Sender, Source, SourcePath, Tables, Tunnel,
};
use std::num::NonZeroU32;

use super::{OUTER_HOP_LIMIT, encapsulation_limit, put};
use crate::maar::State;

/// Of the first entry's tunnel.
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
    for (index, binding) in maar.ipv4_bindings.iter().enumerate() {
        let Some(id) = tunnel(config, maar, state, index, binding, tables) else {
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

/// The id of the tunnel of entry number `index`, which is put into the tables. `None`: it is none that validation lets pass.
fn tunnel(
    config: &Config,
    maar: &Maar,
    state: &State,
    index: usize,
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
            pdu_session: None,
            sequence_numbers: maar.gtpu_sequence_numbers,
        }),
    };
    // Several prefixes share one; and with a MAAR or DPN there is one IPv6-in-IPv6 tunnel, whatever it carries.
    let same = |other: &Ipv4Binding| {
        Ipv4Binding {
            prefix: binding.prefix,
            ..*other
        } == *binding
    };
    let first = maar.ipv4_bindings.iter().position(same).unwrap_or(index);
    let shared = state.tunnel_ids.get(&binding.peer).copied();
    let id = shared
        .filter(|_| encapsulation == Encapsulation::Ipv6InIpv6)
        .or_else(|| FIRST_ID.checked_add(u32::try_from(first).ok()?))?;
    let local = if binding.peer.to_ipv4_mapped().is_some() {
        maar.gtpu_ipv4_address?.to_ipv6_mapped()
    } else {
        config.node.address
    };
    tables.tunnels.entry(id).or_insert(Tunnel {
        encapsulation,
        local,
        remote: binding.peer,
        hop_limit: OUTER_HOP_LIMIT,
        mtu: 0,
        encapsulation_limit: encapsulation_limit(config, encapsulation),
    });
    Some(id)
}
