//! A daemon on `net_null` ports, and tables for it.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;

use kedge_dataplane_api::model::{
    Encapsulation, NextHop, PrefixEntry, Sender, Source, SourcePath, Tables, Tunnel,
};

use super::node;

/// Its configuration.
pub fn configuration(directory: &Path, name: &str, metrics: Option<SocketAddr>) -> String {
    let metrics = metrics.map_or_else(String::new, |address| format!("metrics = \"{address}\""));
    let ports = r#"
[[port]]
name = "access"
device = "net_null0,no-rx=1"
side = "access"

[[port]]
name = "core"
device = "net_null1,no-rx=1"
side = "core"
mtu = 1600
link_layer_address = "02:00:00:00:00:02"
"#;
    node(directory, name, "2001:db8:a::1", &metrics) + ports
}

/// Some of everything.
pub fn some_tables() -> Tables {
    let mut tables = Tables::default();
    let own: Ipv6Addr = "2001:db8:a::1".parse().unwrap();
    let peer: Ipv6Addr = "2001:db8:a::2".parse().unwrap();
    let gateway: Ipv6Addr = "2001:db8:ca::1".parse().unwrap();
    let node = [2, 0, 0, 0, 0, 9];
    tables.local_addresses.insert(own);
    tables.tunnels.insert(
        7,
        Tunnel {
            encapsulation: Encapsulation::Ipv6InIpv6,
            local: own,
            remote: peer,
            hop_limit: 64,
            mtu: 1452,
            encapsulation_limit: Some(4),
            dscp: kedge_dataplane_api::model::Dscp::default(),
        },
    );
    tables
        .neighbours
        .insert(("core".into(), gateway), [2, 0, 0, 0, 0, 1]);
    let entry = |next_hop| PrefixEntry {
        next_hop,
        source: None,
    };
    let on_link = NextHop::OnLink { port: "core".into() };
    tables
        .prefixes
        .insert("2001:db8:ca::/64".parse().unwrap(), entry(on_link));
    let router = NextHop::Gateway {
        port: "core".into(),
        address: gateway,
    };
    tables.prefixes.insert("::/0".parse().unwrap(), entry(router));
    tables.prefixes.insert(
        "2001:db8:100::/64".parse().unwrap(),
        PrefixEntry {
            next_hop: NextHop::Deliver {
                port: "access".into(),
                link_layer_address: node,
            },
            source: Some(Source {
                sender: Sender::Node {
                    port: "access".into(),
                    link_layer_address: node,
                },
                path: SourcePath::Tunnel(7),
            }),
        },
    );
    tables
}
