//! What is wrong with one entry, whatever else there is.

use ipnet::Ipv6Net;
use kedge_dataplane_api::model::{Encapsulation, NextHop, PrefixEntry, Sender, Source, SourcePath, Tunnel};

use super::super::PortDescription;
use super::super::family::{is_global_unicast, is_ipv4, is_ipv4_prefix, is_unicast, shown_prefix};
use super::ApplyError;

/// No prefix is held for longer: ten minutes.
pub(super) const MAXIMUM_HOLD_MS: u32 = 600_000;

pub(super) fn prefix_entry(
    prefix: Ipv6Net,
    entry: &PrefixEntry,
    ports: &[PortDescription],
    inner_ipv4: bool,
) -> Result<(), ApplyError> {
    let name = || format!("prefix {}", shown_prefix(prefix));
    if is_ipv4_prefix(prefix) {
        ipv4_entry(prefix, entry, inner_ipv4)?;
    }
    if prefix.trunc() != prefix {
        return Err(ApplyError::HostBits(prefix));
    }
    next_hop(prefix, &entry.next_hop, ports)?;
    match &entry.source {
        Some(Source {
            sender: Sender::Node {
                port,
                link_layer_address,
            },
            ..
        }) => {
            side(port, true, ports, name)?;
            unicast(*link_layer_address, name)
        }
        Some(Source {
            sender: Sender::Tunnel(tunnel),
            path: SourcePath::Tunnel(onward),
        }) if tunnel == onward => Err(ApplyError::Back {
            prefix,
            tunnel: *tunnel,
        }),
        _ => Ok(()),
    }
}

/// What an IPv4 prefix may be, beside one that routers lead to.
fn ipv4_entry(prefix: Ipv6Net, entry: &PrefixEntry, inner_ipv4: bool) -> Result<(), ApplyError> {
    let next_hop = match &entry.next_hop {
        NextHop::After { then, .. } => then,
        next_hop => next_hop,
    };
    let of_node = entry.source.is_some()
        || matches!(
            entry.next_hop,
            NextHop::Deliver { .. } | NextHop::Tunnel(_) | NextHop::Hold { .. } | NextHop::After { .. }
        );
    let on_link = matches!(next_hop, NextHop::Deliver { .. })
        || matches!(
            &entry.source,
            Some(Source {
                sender: Sender::Node { .. },
                ..
            })
        );
    if of_node && !inner_ipv4 {
        Err(ApplyError::Ipv4Node(prefix))
    } else if on_link {
        Err(ApplyError::Ipv4OnLink(prefix))
    } else {
        Ok(())
    }
}

pub(super) fn tunnel(id: u32, tunnel: &Tunnel) -> Result<(), ApplyError> {
    let entry = || format!("tunnel {id}");
    if id == 0 {
        return Err(ApplyError::TunnelZero);
    }
    for address in [tunnel.local, tunnel.remote] {
        if !is_global_unicast(address) {
            return Err(ApplyError::Address {
                entry: entry(),
                address,
                why: "no global unicast address",
            });
        }
    }
    // RFC 2473 section 4.1.2.
    if tunnel.local == tunnel.remote {
        return Err(ApplyError::Address {
            entry: entry(),
            address: tunnel.remote,
            why: "both ends are the same",
        });
    }
    let over_ipv4 = is_ipv4(tunnel.local);
    if is_ipv4(tunnel.remote) != over_ipv4 {
        return Err(ApplyError::Address {
            entry: entry(),
            address: tunnel.remote,
            why: "one end has an IPv4 address and the other an IPv6 one",
        });
    }
    if over_ipv4 && !matches!(tunnel.encapsulation, Encapsulation::GtpU(_)) {
        return Err(ApplyError::Address {
            entry: entry(),
            address: tunnel.remote,
            why: "only GTP-U goes over IPv4",
        });
    }
    Ok(())
}

fn next_hop(prefix: Ipv6Net, it: &NextHop, ports: &[PortDescription]) -> Result<(), ApplyError> {
    let name = || format!("prefix {}", shown_prefix(prefix));
    match it {
        NextHop::Deliver {
            port,
            link_layer_address,
        } => {
            side(port, true, ports, name)?;
            unicast(*link_layer_address, name)
        }
        NextHop::Gateway { port, address } => {
            side(port, false, ports, name)?;
            let why = if !is_unicast(*address) {
                "no unicast address"
            } else if is_ipv4(*address) != is_ipv4(prefix.addr()) {
                "the prefix is of the other IP version"
            } else {
                return Ok(());
            };
            Err(ApplyError::Address {
                entry: name(),
                address: *address,
                why,
            })
        }
        NextHop::OnLink { port } => known_port(port, ports, name),
        NextHop::Hold { maximum_ms } | NextHop::After { maximum_ms, .. } if *maximum_ms > MAXIMUM_HOLD_MS => {
            Err(ApplyError::Hold {
                prefix,
                maximum_ms: *maximum_ms,
            })
        }
        NextHop::After { then, .. } => match **then {
            NextHop::Deliver { .. } | NextHop::Tunnel(_) => next_hop(prefix, then, ports),
            _ => Err(ApplyError::Then(prefix)),
        },
        NextHop::Tunnel(_) | NextHop::Discard(_) | NextHop::Hold { .. } => Ok(()),
    }
}

pub(super) fn known_port(
    port: &str,
    ports: &[PortDescription],
    entry: impl Fn() -> String,
) -> Result<(), ApplyError> {
    if ports.iter().any(|it| it.name == port) {
        return Ok(());
    }
    Err(ApplyError::UnknownPort {
        entry: entry(),
        port: port.to_owned(),
    })
}

fn side(
    port: &str,
    access: bool,
    ports: &[PortDescription],
    entry: impl Fn() -> String,
) -> Result<(), ApplyError> {
    known_port(port, ports, &entry)?;
    if ports.iter().any(|it| it.name == port && it.access == access) {
        return Ok(());
    }
    Err(ApplyError::WrongSide {
        entry: entry(),
        port: port.to_owned(),
    })
}

pub(super) fn unicast(address: [u8; 6], entry: impl Fn() -> String) -> Result<(), ApplyError> {
    if address[0] & 1 == 0 && address != [0; 6] {
        return Ok(());
    }
    Err(ApplyError::LinkLayerAddress {
        entry: entry(),
        address,
    })
}
