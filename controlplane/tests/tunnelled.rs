//! Nodes behind tunnels that nobody signals, of whom the configuration tells: what the data plane gets, and what is announced.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use ipnet::Ipv6Net;
use kedge_config::Config;
use kedge_controlplane::announce;
use kedge_controlplane::forwarding::{self, Limit};
use kedge_controlplane::maar::{DelegatedPool, State};
use kedge_dataplane_api::model::{
    DiscardReason, Encapsulation, Gre, GtpU, NextHop, PduSession, PrefixEntry, Sender, Source, SourcePath,
    Tables,
};

const MAAR: &str = r#"
[node]
name = "maar1"
role = "maar"
address = "2001:db8:a::1"
[dataplane]
inner_ipv4 = "carry"
[[port]]
name = "core"
device = "net_tap0"
side = "core"
exception = "kcore"
addresses = ["2001:db8:ca::2/64", "192.0.2.2/24"]
[[route]]
prefix = "::/0"
port = "core"
gateway = "2001:db8:ca::1"
[maar]
cmd = ["2001:db8:d::1"]
prefix_pools = ["2001:db8:100::/48"]
ipv4_pools = ["203.0.113.0/24"]
ipv6_pools = ["2001:db8:500::/48"]
tunnel = "gtpu"
gtpu_ipv4_address = "198.51.100.1"
tunnel_encapsulation_limit = 4
"#;

fn binding(prefix: &str, peer: &str, more: &str) -> String {
    format!("[[maar.ipv4]]\nprefix = \"{prefix}\"\npeer = \"{peer}\"\n{more}\n")
}

fn binding6(prefix: &str, peer: &str, more: &str) -> String {
    format!("[[maar.ipv6]]\nprefix = \"{prefix}\"\npeer = \"{peer}\"\n{more}\n")
}

fn config(bindings: &[String]) -> Config {
    Config::parse(&format!("{MAAR}{}", bindings.concat()), "maar").unwrap()
}

fn desired(state: &State, bindings: &[String]) -> Tables {
    forwarding::desired(&config(bindings), state, &BTreeMap::new(), true).tables
}

fn net(text: &str) -> Ipv6Net {
    text.parse().unwrap()
}

fn nowhere(reason: DiscardReason) -> PrefixEntry {
    PrefixEntry {
        next_hop: NextHop::Discard(reason),
        source: None,
    }
}

/// What the prefix leads to, which has to be the tunnel that its packets come out of.
fn tunnel(tables: &Tables, prefix: &str) -> u32 {
    let entry = &tables.prefixes[&prefix.parse().unwrap()];
    let NextHop::Tunnel(id) = entry.next_hop else {
        panic!("{entry:?}")
    };
    let source = Source {
        sender: Sender::Tunnel(id),
        path: SourcePath::Native,
    };
    assert_eq!(entry.source, Some(source));
    id
}

#[test]
fn each_has_its_tunnel_and_some_share_one() {
    let gtpu = "tunnel = \"gtpu\"\nlocal_id = 7\nremote_id = 8";
    let tables = desired(
        &State::default(),
        &[
            binding("203.0.113.1/32", "2001:db8:b::1", ""),
            binding("203.0.113.2/32", "2001:db8:b::1", ""),
            binding("203.0.113.3/32", "2001:db8:b::1", gtpu),
            binding("203.0.113.16/28", "2001:db8:b::1", gtpu),
            binding("203.0.113.4/32", "198.51.100.2", gtpu),
            binding(
                "203.0.113.5/32",
                "2001:db8:b::1",
                "tunnel = \"gre\"\nremote_id = 9",
            ),
        ],
    );
    let pool = nowhere(DiscardReason::Unallocated);
    assert_eq!(tables.prefixes[&net("::ffff:203.0.113.0/120")], pool);
    let ids = [1, 2, 3, 4, 5].map(|host| tunnel(&tables, &format!("::ffff:203.0.113.{host}/128")));
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[2], tunnel(&tables, "::ffff:203.0.113.16/124"));
    assert_eq!(tables.tunnels.len(), 4);
    let of = |at: usize| &tables.tunnels[&ids[at]];
    assert_eq!(
        (of(0).encapsulation, of(0).encapsulation_limit),
        (Encapsulation::Ipv6InIpv6, Some(4))
    );
    let teid = |teid| NonZeroU32::new(teid).unwrap();
    let expected = GtpU {
        local_teid: teid(7),
        remote_teid: teid(8),
        pdu_session: None,
        sequence_numbers: false,
    };
    for at in [2, 3] {
        assert_eq!(of(at).encapsulation, Encapsulation::GtpU(expected));
    }
    assert_eq!(of(2).local.to_string(), "2001:db8:a::1");
    assert_eq!(of(3).local.to_string(), "::ffff:198.51.100.1");
    let expected = Gre {
        local_key: None,
        remote_key: Some(9),
    };
    assert_eq!(of(4).encapsulation, Encapsulation::Gre(expected));
    for tunnel in tables.tunnels.values() {
        assert!(tables.local_addresses.contains(&tunnel.local));
    }
}

#[test]
fn a_qfi_of_the_file_goes_into_the_tunnel() {
    let gtpu = |host: u32, more: &str| {
        let tunnel = format!("tunnel = \"gtpu\"\nlocal_id = {host}\nremote_id = 8\n{more}");
        binding(&format!("203.0.113.{host}/32"), "2001:db8:b::1", &tunnel)
    };
    let state = State::default();
    let before = desired(&state, &[gtpu(1, ""), gtpu(2, ""), gtpu(3, "")]);
    let after = desired(
        &state,
        &[
            gtpu(1, "qfi = 9"),
            gtpu(2, "qfi = 63\npdu_type = \"uplink\""),
            gtpu(3, ""),
        ],
    );
    let session = |uplink, qfi| Some(PduSession { uplink, qfi });
    let expected = [session(false, 9), session(true, 63), None];
    for (host, expected) in (1..).zip(expected) {
        let prefix = format!("::ffff:203.0.113.{host}/128");
        let id = tunnel(&after, &prefix);
        // It stays the same tunnel, with its counters.
        assert_eq!(tunnel(&before, &prefix), id);
        let Encapsulation::GtpU(found) = after.tunnels[&id].encapsulation else {
            panic!("{:?}", after.tunnels[&id])
        };
        assert_eq!(found.pdu_session, expected);
    }
}

#[test]
fn with_a_maar_there_is_one_tunnel_whatever_it_carries() {
    let mut state = State::default();
    let peer = "2001:db8:b::1".parse().unwrap();
    state.tunnel_ids.insert(peer, 5);
    let tables = desired(&state, &[binding("203.0.113.1/32", "2001:db8:b::1", "")]);
    assert_eq!(tunnel(&tables, "::ffff:203.0.113.1/128"), 5);
    assert_eq!(tables.tunnels.keys().collect::<Vec<_>>(), [&5]);
}

/// A file is edited while traffic runs: what stays in it stays as it is.
#[test]
fn an_entry_that_comes_before_others_changes_nothing_of_them() {
    let entry = |host: u32| {
        let tunnel = format!("tunnel = \"gtpu\"\nlocal_id = {host}\nremote_id = 8");
        binding(&format!("203.0.113.{host}/32"), "2001:db8:b::1", &tunnel)
    };
    let state = State::default();
    let before = desired(&state, &[2, 3, 4].map(entry));
    let after = desired(&state, &[1, 4, 3].map(entry));
    for host in [3, 4] {
        let prefix = format!("::ffff:203.0.113.{host}/128");
        let id = tunnel(&before, &prefix);
        assert_eq!(tunnel(&after, &prefix), id);
        assert_eq!(before.tunnels[&id], after.tunnels[&id]);
    }
    assert_eq!((before.tunnels.len(), after.tunnels.len()), (3, 3));
}

/// Over IPv6 and IPv4, by each type; and what is of the pool and of no entry leads nowhere.
#[test]
fn home_network_prefixes_are_behind_tunnels_too() {
    let gtpu = |id: u32| format!("tunnel = \"gtpu\"\nlocal_id = {id}\nremote_id = {}", id + 1);
    let bindings = [
        binding6("2001:db8:500:1::/64", "2001:db8:b::1", &gtpu(7)),
        binding6(
            "2001:db8:500:200::/56",
            "198.51.100.2",
            &format!("{}\nqfi = 9", gtpu(7)),
        ),
        binding6(
            "2001:db8:500:3::/64",
            "2001:db8:b::1",
            "tunnel = \"gre\"\nlocal_id = 7",
        ),
        binding6("2001:db8:500:4::4/128", "2001:db8:b::1", ""),
        // Behind the tunnel of the first, as a node with both IP versions is.
        binding("203.0.113.1/32", "2001:db8:b::1", &gtpu(7)),
    ];
    let state = State::default();
    let tables = desired(&state, &bindings);
    assert_eq!(
        tables.prefixes[&net("2001:db8:500::/48")],
        nowhere(DiscardReason::Unallocated)
    );
    let prefixes = [
        "2001:db8:500:1::/64",
        "2001:db8:500:200::/56",
        "2001:db8:500:3::/64",
        "2001:db8:500:4::4/128",
    ];
    let ids = prefixes.map(|prefix| tunnel(&tables, prefix));
    let of = |at: usize| &tables.tunnels[&ids[at]];
    assert_eq!(tunnel(&tables, "::ffff:203.0.113.1/128"), ids[0]);
    assert_eq!(tables.tunnels.len(), 4);
    let teid = |teid| NonZeroU32::new(teid).unwrap();
    for (at, local, remote, qfi) in [
        (0, "2001:db8:a::1", "2001:db8:b::1", None),
        (1, "::ffff:198.51.100.1", "::ffff:198.51.100.2", Some(9)),
    ] {
        let expected = GtpU {
            local_teid: teid(7),
            remote_teid: teid(8),
            pdu_session: qfi.map(|qfi| PduSession { uplink: false, qfi }),
            sequence_numbers: false,
        };
        assert_eq!(of(at).encapsulation, Encapsulation::GtpU(expected));
        assert_eq!(
            (of(at).local, of(at).remote),
            (local.parse().unwrap(), remote.parse().unwrap())
        );
    }
    let expected = Gre {
        local_key: Some(7),
        remote_key: None,
    };
    assert_eq!(of(2).encapsulation, Encapsulation::Gre(expected));
    assert_eq!(of(3).encapsulation, Encapsulation::Ipv6InIpv6);

    // A data plane that takes no IPv4 of nodes takes these, by the same tunnels.
    let refusing = forwarding::desired(&config(&bindings), &state, &BTreeMap::new(), false).tables;
    assert_eq!(refusing.tunnels, tables.tunnels);
    assert_eq!(prefixes.map(|prefix| tunnel(&refusing, prefix)), ids);
    for of_ipv4 in ["::ffff:203.0.113.0/120", "::ffff:203.0.113.1/128"] {
        assert!(!refusing.prefixes.contains_key(&net(of_ipv4)));
    }
}

/// A file is edited while traffic runs.
#[test]
fn a_home_network_prefix_keeps_its_tunnel_in_another_file() {
    let entry = |host: u32| {
        let tunnel = format!("tunnel = \"gtpu\"\nlocal_id = {host}\nremote_id = 8");
        binding6(&format!("2001:db8:500:{host}::/64"), "2001:db8:b::1", &tunnel)
    };
    let state = State::default();
    let before = desired(&state, &[2, 3, 4].map(entry));
    let after = desired(&state, &[1, 4, 3].map(entry));
    for host in [3, 4] {
        let prefix = format!("2001:db8:500:{host}::/64");
        assert_eq!(tunnel(&after, &prefix), tunnel(&before, &prefix));
    }
    assert!(!after.prefixes.contains_key(&net("2001:db8:500:2::/64")));
}

#[test]
fn what_there_are_no_tunnels_for_leads_nowhere_and_is_told() {
    let bindings = [1, 2, 3].map(|host| {
        let tunnel = format!("tunnel = \"gtpu\"\nlocal_id = {host}\nremote_id = 8");
        binding6(&format!("2001:db8:500:{host}::/64"), "2001:db8:b::1", &tunnel)
    });
    let mut config = config(&bindings);
    config.dataplane.as_mut().unwrap().maximum_tunnels = 2;
    let derived = forwarding::desired(&config, &State::default(), &BTreeMap::new(), true);
    assert_eq!(
        (
            derived.left_out.count(Limit::Tunnels),
            derived.tables.tunnels.len()
        ),
        (1, 2)
    );
    let entries = [1, 2, 3].map(|host| &derived.tables.prefixes[&net(&format!("2001:db8:500:{host}::/64"))]);
    let lost = nowhere(DiscardReason::NodeAbsent);
    assert_eq!(entries.into_iter().filter(|it| **it == lost).count(), 1);
}

/// A server that delegates pools knows nothing of the file.
#[test]
fn a_delegated_pool_takes_nothing_from_a_prefix_of_the_file() {
    let prefix = "2001:db8:500:200::/56";
    let binding = binding6(prefix, "2001:db8:b::1", "");
    for (pool, there) in [
        ("2001:db8:500:200::/60", false),
        ("2001:db8:500:200::/56", false),
        ("2001:db8:500::/40", true),
        ("2001:db8:600::/48", true),
    ] {
        let state = State {
            delegated: Some(vec![DelegatedPool {
                prefix: net(pool),
                exclude: None,
                preferred_until: None,
                valid_until: None,
            }]),
            tunnel_ids: [("2001:db8:b::1".parse().unwrap(), 1)].into(),
            ..State::default()
        };
        let tables = desired(&state, std::slice::from_ref(&binding));
        tunnel(&tables, prefix);
        let within = tables.prefixes.get(&net(pool));
        assert_eq!(
            within == Some(&nowhere(DiscardReason::Unallocated)),
            there,
            "{pool}"
        );
    }
}

#[test]
fn they_are_announced_as_what_is_anchored_here() {
    let mut config = config(&[binding6("2001:db8:500:1::/64", "2001:db8:b::1", "")]);
    for (what, expected) in [
        ("pools", vec!["2001:db8:100::/48", "2001:db8:500::/48"]),
        ("prefixes", vec!["2001:db8:500:1::/64"]),
    ] {
        let section = format!("daemon = \"kernel\"\nwhat = \"{what}\"");
        config.announce = Some(toml::from_str(&section).unwrap());
        let routes = announce::desired(&config, &State::default());
        let prefixes: Vec<String> = routes.keys().map(ToString::to_string).collect();
        assert_eq!(prefixes, expected);
    }
}
