//! What the gateway under test is told.

use std::net::Ipv6Addr;
use std::path::Path;

use anyhow::Context;
use kedge_dataplane_api::model::{Encapsulation, NextHop, PrefixEntry, Tunnel};
use kedge_dataplane_api::{Client, Tables, Transaction};

use crate::forward::Case;
use crate::frames::Plan;

/// Name of the one port.
pub(crate) const PORT: &str = "core";
/// The gateway.
pub(crate) const GATEWAY: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1);
/// The other end of the tunnel.
const PEER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 1);
/// The router that everything goes to.
const ROUTER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xca, 0, 0, 0, 0, 1);
/// A node's prefix that is anchored here.
const ANCHORED: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 0);
/// Elsewhere.
const ELSEWHERE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf00, 0, 0, 0, 0, 1);

/// Fills the tables of the gateway for `case`; says which frames to send it.
pub(crate) fn program(socket: &Path, case: Case) -> anyhow::Result<Plan> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = Client::connect(socket).await?;
        let status = client.status().await?;
        let port = status.ports.first().context("the gateway has no port")?;
        let gateway = port
            .link_layer_address
            .as_slice()
            .try_into()
            .context("a link-layer address has 6 octets")?;
        client
            .apply(&Transaction::between(&Tables::default(), &tables(case)?))
            .await?;
        Ok(plan(case, gateway))
    })
}

fn tables(case: Case) -> anyhow::Result<Tables> {
    let mut tables = Tables::default();
    tables.local_addresses.insert(GATEWAY);
    tables
        .neighbours
        .insert((PORT.to_owned(), ROUTER), [2, 0, 0, 0, 0, 0x99]);
    let route = |next_hop| PrefixEntry {
        next_hop,
        source: None,
    };
    let default = NextHop::Gateway {
        port: PORT.to_owned(),
        address: ROUTER,
    };
    tables.prefixes.insert("::/0".parse()?, route(default));
    if case != Case::Plain {
        let tunnel = Tunnel {
            encapsulation: Encapsulation::Ipv6InIpv6,
            local: GATEWAY,
            remote: PEER,
            hop_limit: 64,
            mtu: 0,
        };
        tables.tunnels.insert(1, tunnel);
        tables
            .prefixes
            .insert(ipnet::Ipv6Net::new(ANCHORED, 48)?, route(NextHop::Tunnel(1)));
    }
    Ok(tables)
}

fn plan(case: Case, gateway: [u8; 6]) -> Plan {
    match case {
        Case::Plain => Plan {
            gateway,
            destination: ELSEWHERE,
            source: ELSEWHERE,
            outer: None,
        },
        Case::Encapsulate => Plan {
            gateway,
            destination: ANCHORED,
            source: ELSEWHERE,
            outer: None,
        },
        // From the node behind the tunnel to elsewhere.
        Case::Decapsulate => Plan {
            gateway,
            destination: ELSEWHERE,
            source: ANCHORED,
            outer: Some((PEER, GATEWAY)),
        },
    }
}
