//! What the gateway under test is told.

mod tunnels;

use std::net::Ipv6Addr;
use std::path::Path;

use anyhow::{Context, ensure};
use ipnet::Ipv6Net;
use kedge_dataplane_api::model::{NextHop, PrefixEntry};
use kedge_dataplane_api::{Client, Tables, Transaction};

use crate::forward::Case;
use crate::frames::{self, Plan, Template, Varied};
use tunnels::Tunnels;

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
/// Prefixes in one transaction, with their tunnels: a million of them in one would exceed what a message may have.
pub(crate) const PREFIXES_TOGETHER: usize = 50_000;

/// Fills the tables of the gateway for `case`, with that many prefixes; says which frames to send it.
pub(crate) fn program(socket: &Path, case: Case, prefixes: usize) -> anyhow::Result<Template> {
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
            .apply(&Transaction::between(&Tables::default(), &tables()?))
            .await?;
        let tunnels = Tunnels::of(case, prefixes);
        let numbers: Vec<usize> = (0..prefixes).collect();
        for numbers in numbers.chunks(PREFIXES_TOGETHER) {
            let put_tunnels = numbers.iter().filter(|number| **number < tunnels.count());
            let put = Transaction {
                put_tunnels: put_tunnels
                    .map(|number| (*number as u32 + 1, tunnels.tunnel(*number)))
                    .collect(),
                ..routes(case, tunnels, numbers)?
            };
            client.apply(&put).await?;
        }
        let nets: Vec<Ipv6Net> = numbers
            .iter()
            .map(|number| Ok(Ipv6Net::new(frames::prefix(ANCHORED, *number), 64)?))
            .collect::<anyhow::Result<_>>()?;
        for put in case.flows().iter().flat_map(|flows| flows.transactions(&nets)) {
            client.apply(&put).await?;
        }
        Ok(template(case, tunnels, gateway, prefixes))
    })
}

/// What there is besides prefixes and tunnels.
fn tables() -> anyhow::Result<Tables> {
    let mut tables = Tables::default();
    tables.local_addresses.insert(GATEWAY);
    tables.local_addresses.insert(tunnels::GATEWAY4.to_ipv6_mapped());
    let router4 = tunnels::ROUTER4.to_ipv6_mapped();
    for (router, everywhere) in [(ROUTER, "::/0"), (router4, "::ffff:0:0/96")] {
        tables
            .neighbours
            .insert((PORT.to_owned(), router), [2, 0, 0, 0, 0, 0x99]);
        let next_hop = NextHop::Gateway {
            port: PORT.to_owned(),
            address: router,
        };
        tables.prefixes.insert(everywhere.parse()?, route(next_hop));
    }
    Ok(tables)
}

/// The /64 prefixes with these numbers.
fn routes(case: Case, tunnels: Tunnels, numbers: &[usize]) -> anyhow::Result<Transaction> {
    let base = if case == Case::Plain { ELSEWHERE } else { ANCHORED };
    let next_hop = |number: usize| match tunnels.count() {
        0 => by_router(),
        count => NextHop::Tunnel((number % count) as u32 + 1),
    };
    let put_prefixes = numbers
        .iter()
        .map(|number| {
            let net = Ipv6Net::new(frames::prefix(base, *number), 64)?;
            Ok((net, route(next_hop(*number))))
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

/// The frames for a device with this address that knows neither prefixes nor tunnels.
pub(crate) fn plain(gateway: [u8; 6]) -> Template {
    template(Case::Plain, Tunnels::None, gateway, 1)
}

/// The frames of `case` for a device with this address.
fn template(case: Case, tunnels: Tunnels, gateway: [u8; 6], prefixes: usize) -> Template {
    let plan = Plan {
        gateway,
        destination: ELSEWHERE,
        source: ELSEWHERE,
        outer: None,
        varied: Varied::Destination,
        prefixes,
    };
    match case {
        Case::Plain => plan.template(),
        Case::Encapsulate
        | Case::GtpuEncapsulate
        | Case::Gtpu4Encapsulate
        | Case::GreEncapsulate
        | Case::Filters100
        | Case::Filters10000
        | Case::Meter => Plan {
            destination: ANCHORED,
            ..plan
        }
        .template(),
        // From the nodes behind the tunnels to elsewhere.
        Case::Decapsulate | Case::GtpuDecapsulate | Case::Gtpu4Decapsulate | Case::GreDecapsulate => {
            let plan = Plan {
                source: ANCHORED,
                varied: Varied::Source,
                ..plan
            };
            tunnels.wrap(plan.template())
        }
    }
}
