//! Home network prefixes behind tunnels that nobody signals: `maar.ipv6_pools` and `[[maar.ipv6]]`.

use kedge_config::{Config, Ipv6Binding, Maar, PduType, TunnelType};

use crate::refused;

/// A MAAR with two peers over IPv6 and one over IPv4, and with IPv4 behind the first one's tunnel too.
const STATIC: &str = r#"
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
[maar.mobile_routers]
pools = ["2001:db8:f100::/40"]
[[maar.ipv4]]
prefix = "203.0.113.7/32"
peer = "2001:db8:b::1"
tunnel = "gtpu"
local_id = 7
remote_id = 8
[[maar.ipv6]]
prefix = "2001:db8:500:7::/64"
peer = "2001:db8:b::1"
tunnel = "gtpu"
local_id = 7
remote_id = 8
[[maar.ipv6]]
prefix = "2001:db8:500:800::/56"
peer = "192.0.2.9"
tunnel = "gtpu"
local_id = 9
remote_id = 10
qfi = 9
pdu_type = "uplink"
[[maar.ipv6]]
prefix = "2001:db8:500:9::9/128"
peer = "2001:db8:c::1"
"#;

fn maar(text: &str) -> Maar {
    Config::parse(text, "maar").unwrap().maar.unwrap()
}

#[test]
fn home_network_prefixes_behind_tunnels_are_told_by_the_file() {
    let maar = maar(STATIC);
    assert_eq!(maar.ipv6_pools, ["2001:db8:500::/48".parse().unwrap()]);
    let prefixes: Vec<String> = maar
        .ipv6_bindings
        .iter()
        .map(|it| it.prefix.to_string())
        .collect();
    assert_eq!(
        prefixes,
        [
            "2001:db8:500:7::/64",
            "2001:db8:500:800::/56",
            "2001:db8:500:9::9/128"
        ]
    );
    let expected = Ipv6Binding {
        prefix: "2001:db8:500:800::/56".parse().unwrap(),
        peer: "::ffff:192.0.2.9".parse().unwrap(),
        tunnel: TunnelType::GtpU,
        local_id: Some(9),
        remote_id: Some(10),
        qfi: Some(9),
        pdu_type: Some(PduType::Uplink),
    };
    assert_eq!(maar.ipv6_bindings[1], expected);
    assert_eq!(maar.ipv6_bindings[2].tunnel, TunnelType::Ipv6InIpv6);
    // A tunnel has prefixes of both IP versions behind it.
    assert_eq!(maar.ipv4_bindings[0].end(), maar.ipv6_bindings[0].end());
    assert_eq!(maar.tunnel_ends().count(), 4);
}

#[test]
fn they_need_neither_gtpu_nor_ipv4() {
    let without = STATIC
        .replace("inner_ipv4 = \"carry\"", "")
        .replace("ipv4_pools = [\"203.0.113.0/24\"]", "");
    let (before, behind) = without.split_once("[[maar.ipv4]]").unwrap();
    let behind = behind.split_once("[[maar.ipv6]]").unwrap().1;
    assert_eq!(
        maar(&format!("{before}[[maar.ipv6]]{behind}"))
            .ipv6_bindings
            .len(),
        3
    );
}

/// Each has to be one that no node could get, and that leads nowhere else.
#[test]
fn pools_of_such_prefixes() {
    let pool = "ipv6_pools = [\"2001:db8:500::/48\"]";
    let pools = |text: &str| pool.replace("2001:db8:500::/48", text);
    let within = |text: &str| pool.replace("\"]", &format!("\", \"{text}\"]"));
    refused(&[
        (
            STATIC,
            pool,
            &pools("2001:db8:500::1/48"),
            "maar.ipv6_pools[0] = 2001:db8:500::1/48: has bits set behind its length; 2001:db8:500::/48 is meant?",
        ),
        (
            STATIC,
            pool,
            &within("2001:db8:600::/65"),
            "maar.ipv6_pools[1] = 2001:db8:600::/65: must have a length of 16 to 64",
        ),
        (
            STATIC,
            pool,
            &within("2001:db8:500:700::/56"),
            "maar.ipv6_pools[1] = 2001:db8:500:700::/56: overlaps maar.ipv6_pools[0] = 2001:db8:500::/48",
        ),
        (
            STATIC,
            pool,
            &within("2001:db8:100:ff00::/56"),
            "maar.ipv6_pools[1] = 2001:db8:100:ff00::/56: overlaps maar.prefix_pools[0] = 2001:db8:100::/48",
        ),
        (
            STATIC,
            pool,
            &within("2001:db8:f000::/36"),
            "maar.ipv6_pools[1] = 2001:db8:f000::/36: overlaps maar.mobile_routers.pools[0] = 2001:db8:f100::/40",
        ),
        (
            STATIC,
            pool,
            &within("ff00::/16"),
            "maar.ipv6_pools[1] = ff00::/16: must be of addresses that nodes can have",
        ),
        (
            STATIC,
            pool,
            &within("2001:db8:a::/48"),
            "maar.ipv6_pools[1] = 2001:db8:a::/48: contains node.address = 2001:db8:a::1",
        ),
        (
            STATIC,
            pool,
            &within("2001:db8:ca::/64"),
            "maar.ipv6_pools[1] = 2001:db8:ca::/64: contains 2001:db8:ca::2/64, an address of port \"core\"",
        ),
        (
            STATIC,
            pool,
            &within("2001:db8:d::/48"),
            "maar.ipv6_pools[1] = 2001:db8:d::/48: contains 2001:db8:d::1, which is maar.cmd[0]",
        ),
        (
            STATIC,
            pool,
            &format!("{}\npeers = [\"2001:db8:e::1\"]", within("2001:db8:e::/48")),
            "maar.ipv6_pools[1] = 2001:db8:e::/48: contains 2001:db8:e::1, which is maar.peers[0]",
        ),
        (
            STATIC,
            pool,
            &within("2001:db8:c::/48"),
            "maar.ipv6_pools[1] = 2001:db8:c::/48: contains 2001:db8:c::1, which is maar.ipv6[2].peer",
        ),
        (
            STATIC,
            pool,
            &within("2001:db8:b::/48"),
            "maar.ipv6_pools[1] = 2001:db8:b::/48: contains 2001:db8:b::1, which is maar.ipv4[0].peer",
        ),
        (
            STATIC,
            "[maar]\n",
            "[[route]]\nprefix = \"2001:db8:500:9::/64\"\nport = \"core\"\ngateway = \"2001:db8:ca::9\"\n[maar]\n",
            "maar.ipv6_pools[0] = 2001:db8:500::/48: contains all of route[1] (by 2001:db8:ca::9)",
        ),
        (
            STATIC,
            "[maar]\n",
            "[[route]]\nprefix = \"2001:db8:9::/48\"\nport = \"core\"\ngateway = \"2001:db8:500::9\"\n[maar]\n",
            "maar.ipv6_pools[0] = 2001:db8:500::/48: contains the gateway of route[1] (by 2001:db8:500::9)",
        ),
    ]);
}

#[test]
fn prefixes_and_their_tunnels() {
    refused(&[
        (
            STATIC,
            "2001:db8:500:7::/64",
            "2001:db8:500:7::1/64",
            "maar.ipv6[0].prefix = 2001:db8:500:7::1/64: has bits set behind its length; 2001:db8:500:7::/64 is meant?",
        ),
        (
            STATIC,
            "2001:db8:500:7::/64",
            "2001:db8:100:7::/64",
            "maar.ipv6[0].prefix = 2001:db8:100:7::/64: is in none of maar.ipv6_pools",
        ),
        (
            STATIC,
            "2001:db8:500:7::/64",
            "2001:db8::/32",
            "maar.ipv6[0].prefix = 2001:db8::/32: is in none of maar.ipv6_pools",
        ),
        (
            STATIC,
            "2001:db8:500:9::9/128",
            "2001:db8:500:801::/64",
            "maar.ipv6[2].prefix = 2001:db8:500:801::/64: overlaps maar.ipv6[1].prefix = 2001:db8:500:800::/56",
        ),
        (
            STATIC,
            "2001:db8:500:7::/64",
            "203.0.113.9/32",
            "invalid IP address syntax",
        ),
        (
            STATIC,
            "peer = \"2001:db8:c::1\"",
            "peer = \"2001:db8:a::1\"",
            "maar.ipv6[2].peer = 2001:db8:a::1: is an address of this node",
        ),
        (
            STATIC,
            "peer = \"2001:db8:c::1\"",
            "peer = \"192.0.2.9\"",
            "maar.ipv6[2].peer = 192.0.2.9: must be an IPv6 address: only GTP-U goes over IPv4",
        ),
        (
            STATIC,
            "gtpu_ipv4_address = \"198.51.100.1\"",
            "",
            "maar.ipv6[1].peer = 192.0.2.9: needs maar.gtpu_ipv4_address, the other end",
        ),
        (
            STATIC,
            "local_id = 9",
            "local_id = 0",
            "maar.ipv6[1].local_id = 0: must be a TEID",
        ),
        (
            STATIC,
            "remote_id = 10",
            "",
            "maar.ipv6[1].remote_id = none: must be a TEID",
        ),
        (
            STATIC,
            "qfi = 9",
            "qfi = 64",
            "maar.ipv6[1].qfi = 64: must be 0 to 63",
        ),
        (STATIC, "qfi = 9", "", "maar.ipv6[1].pdu_type = uplink: needs qfi"),
        (
            STATIC,
            "peer = \"2001:db8:c::1\"",
            "peer = \"2001:db8:c::1\"\nlocal_id = 3",
            "maar.ipv6[2].local_id = 3: is for tunnel",
        ),
        // Of one tunnel the entries of both IP versions say the same.
        (
            STATIC,
            "remote_id = 8\n[[maar.ipv6]]",
            "remote_id = 6\n[[maar.ipv6]]",
            "maar.ipv6[0].remote_id = 8: maar.ipv4[0] has the same peer and local_id, and another one",
        ),
        (
            STATIC,
            "remote_id = 8\n[[maar.ipv6]]",
            "remote_id = 8\nqfi = 5\n[[maar.ipv6]]",
            "maar.ipv6[0].qfi = none: maar.ipv4[0] has the same tunnel, and another qfi or pdu_type",
        ),
        (
            STATIC,
            "prefix = \"2001:db8:500:9::9/128\"",
            "prefix = \"2001:db8:500:9::9/128\"\nteid = 3",
            "unknown field `teid`",
        ),
    ]);
}
