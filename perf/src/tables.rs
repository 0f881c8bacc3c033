//! What the gateway under test is told.

use std::net::Ipv6Addr;
use std::path::Path;

use anyhow::{Context, ensure};
use ipnet::Ipv6Net;
use kedge_dataplane_api::model::{Encapsulation, NextHop, PrefixEntry, Tunnel};
use kedge_dataplane_api::{Client, Tables, Transaction};

use crate::forward::Case;
use crate::frames::{self, Plan, Varied};

/// Name of the one port.
pub(crate) const PORT: &str = "core";
/// The gateway.
pub(crate) const GATEWAY: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1);
/// The other end of the tunnel.
pub(crate) const PEER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 1);
/// The router that everything goes to.
pub(crate) const ROUTER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xca, 0, 0, 0, 0, 1);
/// A node's prefix that is anchored here; the first of them, where there are several.
pub(crate) const ANCHORED: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 1);
/// Elsewhere.
pub(crate) const ELSEWHERE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf00, 0, 0, 0, 0, 1);
/// Prefixes in one transaction: a million of them in one would exceed what a message may have.
pub(crate) const PREFIXES_TOGETHER: usize = 100_000;

/// Fills the tables of the gateway for `case`, with that many prefixes; says which frames to send it.
pub(crate) fn program(socket: &Path, case: Case, prefixes: usize) -> anyhow::Result<Plan> {
    ensure!(
        (1..=frames::MOST_PREFIXES).contains(&prefixes),
        "{prefixes} prefixes: 1 to {} can be had",
        frames::MOST_PREFIXES
    );
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
        let numbers: Vec<usize> = (0..prefixes).collect();
        for numbers in numbers.chunks(PREFIXES_TOGETHER) {
            client.apply(&routes(case, numbers)?).await?;
        }
        Ok(plan(case, gateway, prefixes))
    })
}

/// What there is besides the prefixes.
fn tables(case: Case) -> anyhow::Result<Tables> {
    let mut tables = Tables::default();
    tables.local_addresses.insert(GATEWAY);
    tables
        .neighbours
        .insert((PORT.to_owned(), ROUTER), [2, 0, 0, 0, 0, 0x99]);
    tables.prefixes.insert("::/0".parse()?, route(by_router()));
    if case != Case::Plain {
        let tunnel = Tunnel {
            encapsulation: Encapsulation::Ipv6InIpv6,
            local: GATEWAY,
            remote: PEER,
            hop_limit: 64,
            mtu: 0,
            encapsulation_limit: None,
        };
        tables.tunnels.insert(1, tunnel);
    }
    Ok(tables)
}

/// The /64 prefixes with these numbers.
fn routes(case: Case, numbers: &[usize]) -> anyhow::Result<Transaction> {
    let (base, next_hop) = match case {
        Case::Plain => (ELSEWHERE, by_router()),
        Case::Encapsulate | Case::Decapsulate => (ANCHORED, NextHop::Tunnel(1)),
    };
    let put_prefixes = numbers
        .iter()
        .map(|number| {
            let net = Ipv6Net::new(frames::prefix(base, *number), 64)?;
            Ok((net, route(next_hop.clone())))
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(Transaction {
        put_prefixes,
        ..Transaction::default()
    })
}

pub(crate) fn route(next_hop: NextHop) -> PrefixEntry {
    PrefixEntry {
        next_hop,
        source: None,
    }
}

pub(crate) fn by_router() -> NextHop {
    NextHop::Gateway {
        port: PORT.to_owned(),
        address: ROUTER,
    }
}

/// The frames of `case` for a device with this address.
pub(crate) fn plan(case: Case, gateway: [u8; 6], prefixes: usize) -> Plan {
    let plain = Plan {
        gateway,
        destination: ELSEWHERE,
        source: ELSEWHERE,
        outer: None,
        varied: Varied::Destination,
        prefixes,
    };
    match case {
        Case::Plain => plain,
        Case::Encapsulate => Plan {
            destination: ANCHORED,
            ..plain
        },
        // From the nodes behind the tunnel to elsewhere.
        Case::Decapsulate => Plan {
            source: ANCHORED,
            outer: Some((PEER, GATEWAY)),
            varied: Varied::Source,
            ..plain
        },
    }
}
