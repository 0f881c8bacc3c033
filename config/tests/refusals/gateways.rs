//! Of `[maar]` and `[dpn]`.

use kedge_config::{Config, InnerIpv4, PduType};

use super::{DPN, MAAR, refused};

#[test]
fn each_rule_names_key_value_and_reason() {
    refused(&[
        (
            MAAR,
            "tunnel = \"ipv6-in-ipv6\"",
            "charging_interval_s = 0",
            "maar.charging_interval_s = 0: must be 1 to 3600 seconds",
        ),
        (
            MAAR,
            "tunnel = \"ipv6-in-ipv6\"",
            "tunnel_encapsulation_limit = 256",
            "maar.tunnel_encapsulation_limit = 256: must be 0 to 255",
        ),
        (
            MAAR,
            "hop_limit = 64",
            "dscp = 64",
            "tunnel.dscp = 64: must be 0 to 63",
        ),
        (
            MAAR,
            "hop_limit = 64",
            "dscp = 46\ncopy_dscp = true",
            "tunnel.dscp = 46: with tunnel.copy_dscp outer packets have that of the packet within",
        ),
        (
            MAAR,
            "hop_limit = 64",
            "hop_limit = 0",
            "tunnel.hop_limit = 0: must be 1 to 255",
        ),
        (
            DPN,
            "[access]",
            "[tunnel]\nmtu = 1279\n[access]",
            "tunnel.mtu = 1279: must be 1280 to 65535 octets",
        ),
        (
            MAAR,
            "tunnel = \"ipv6-in-ipv6\"",
            "tunnel = \"GRE\"",
            "unknown variant `GRE`, expected one of `ipv6-in-ipv6`, `gre`, `gtpu`",
        ),
        (
            MAAR,
            "tunnel = \"ipv6-in-ipv6\"",
            "gtpu_ipv4_address = \"192.0.2.1\"",
            "maar.gtpu_ipv4_address = 192.0.2.1: is for maar.tunnel = \"gtpu\" only",
        ),
        (
            MAAR,
            "tunnel = \"ipv6-in-ipv6\"",
            "tunnel = \"gtpu\"\ngtpu_ipv4_address = \"127.0.0.1\"",
            "maar.gtpu_ipv4_address = 127.0.0.1: must be a unicast",
        ),
        (
            MAAR,
            "tunnel = \"ipv6-in-ipv6\"",
            "gtpu_sequence_numbers = true",
            "maar.gtpu_sequence_numbers = true: is for maar.tunnel = \"gtpu\" only",
        ),
        (
            MAAR,
            "tunnel = \"ipv6-in-ipv6\"",
            "tunnel = \"gre\"\ngtpu_qfi = 9",
            "maar.gtpu_qfi = 9: is for maar.tunnel = \"gtpu\" only",
        ),
        (
            MAAR,
            "tunnel = \"ipv6-in-ipv6\"",
            "tunnel = \"gtpu\"\ngtpu_qfi = 64",
            "maar.gtpu_qfi = 64: must be 0 to 63",
        ),
        (
            DPN,
            "tunnel = \"ipv6-in-ipv6\"",
            "gtpu_qfi = 9",
            "dpn.gtpu_qfi = 9: is for dpn.tunnel = \"gtpu\" only",
        ),
        (
            DPN,
            "tunnel = \"ipv6-in-ipv6\"",
            "tunnel = \"gtpu\"\ngtpu_qfi = 64",
            "dpn.gtpu_qfi = 64: must be 0 to 63",
        ),
        (
            MAAR,
            "cmd = [\"2001:db8:d::1\"]",
            "cmd = []",
            "maar.cmd = 0: must have 1 to 8",
        ),
        (
            MAAR,
            "cmd = [\"2001:db8:d::1\"]",
            "cmd = [\"2001:db8:a::1\"]",
            "maar.cmd[0] = 2001:db8:a::1: is node.address",
        ),
        (
            MAAR,
            "prefix_pools = [\"2001:db8:100::/48\"]",
            "prefix_pools = [\"2001:db8:100::/48\", \"2001:db8:100:8::/61\"]",
            "maar.prefix_pools[1] = 2001:db8:100:8::/61: overlaps maar.prefix_pools[0] = 2001:db8:100::/48",
        ),
        (
            MAAR,
            "2001:db8:100::/48",
            "2001:db8:100::/65",
            "maar.prefix_pools[0] = 2001:db8:100::/65: must have a length",
        ),
        (
            MAAR,
            "2001:db8:100::/48",
            "2001:db8:a::/48",
            "contains node.address = 2001:db8:a::1",
        ),
        (
            MAAR,
            "role = \"maar\"",
            "role = \"cmd\"",
            "maar: is not allowed with node.role = \"cmd\"",
        ),
        (
            DPN,
            "dpa = \"2001:db8:a::1\"",
            "dpa = \"2001:db8:e1::1\"",
            "f: dpn.dpa = 2001:db8:e1::1: is node.address",
        ),
        (
            DPN,
            "dpa = \"2001:db8:a::1\"",
            "dpa = \"fe80::1\"",
            "f: dpn.dpa = fe80::1: must be a global unicast address",
        ),
        (
            DPN,
            "dpa = \"2001:db8:a::1\"",
            "dpa = \"2001:db8:a::1\"\nmaximum_nodes = 0",
            "f: dpn.maximum_nodes = 0: must be 1 to 10000000",
        ),
        (
            DPN,
            "role = \"dpn\"",
            "role = \"maar\"",
            "f: dpn: is not allowed with node.role = \"maar\"",
        ),
        (
            DPN,
            "[dpn]",
            "[[meter]]\nname = \"m\"\ncir_bits_per_second = 1000\ncbs_bytes = 1000\npir_bits_per_second = 2000\npbs_bytes = 1000\n[dpn]",
            "filters and meters are of node.role = \"maar\"",
        ),
        (
            MAAR,
            "address = \"2001:db8:e1::1\"",
            "address = \"2001:db8:a::1\"",
            "f: maar.dpn[0].address = 2001:db8:a::1: is node.address",
        ),
        (
            MAAR,
            "address = \"2001:db8:e1::1\"",
            "address = \"2001:db8:d::1\"",
            "f: maar.dpn[0].address = 2001:db8:d::1: is one of maar.cmd",
        ),
        (
            MAAR,
            "address = \"2001:db8:e1::1\"",
            "address = \"2001:db8:e1::1\"\n[[maar.dpn]]\naddress = \"2001:db8:e1::1\"",
            "f: maar.dpn[1].address = 2001:db8:e1::1: another maar.dpn has this address",
        ),
    ]);
}

/// A MAAR with IPv4 behind two peers, as small as can be.
const CARRYING: &str = r#"
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
tunnel = "gtpu"
gtpu_ipv4_address = "198.51.100.1"
[[maar.ipv4]]
prefix = "203.0.113.7/32"
peer = "2001:db8:b::1"
tunnel = "gtpu"
local_id = 7
remote_id = 8
[[maar.ipv4]]
prefix = "203.0.113.8/32"
peer = "2001:db8:c::1"
tunnel = "gre"
local_id = 9
remote_id = 10
"#;

#[test]
fn nodes_with_ipv4_are_told_by_the_file() {
    let config = Config::parse(CARRYING, "maar").unwrap();
    assert_eq!(config.dataplane.unwrap().inner_ipv4, InnerIpv4::Carry);
    let maar = config.maar.unwrap();
    assert_eq!(maar.ipv4_bindings.len(), 2);
    assert_eq!(maar.ipv4_bindings[1].local_id, Some(9));
    assert_eq!(
        Config::parse(MAAR, "maar").unwrap().dataplane.unwrap().inner_ipv4,
        InnerIpv4::Refuse
    );
    refused(&[
        (
            CARRYING,
            "ipv4_pools = [\"203.0.113.0/24\"]",
            "ipv4_pools = [\"203.0.113.1/24\"]",
            "maar.ipv4_pools[0] = 203.0.113.1/24: has bits set behind its length; 203.0.113.0/24 is meant?",
        ),
        (
            CARRYING,
            "ipv4_pools = [\"203.0.113.0/24\"]",
            "ipv4_pools = [\"0.0.0.0/0\"]",
            "maar.ipv4_pools[0] = 0.0.0.0/0: must be of addresses that nodes can have",
        ),
        (
            CARRYING,
            "ipv4_pools = [\"203.0.113.0/24\"]",
            "ipv4_pools = [\"203.0.113.0/24\", \"203.0.113.128/25\"]",
            "maar.ipv4_pools[1] = 203.0.113.128/25: overlaps maar.ipv4_pools[0] = 203.0.113.0/24",
        ),
        (
            CARRYING,
            "ipv4_pools = [\"203.0.113.0/24\"]",
            "ipv4_pools = [\"203.0.113.0/24\", \"198.51.100.0/24\"]",
            "maar.ipv4_pools[1] = 198.51.100.0/24: contains 198.51.100.1, an address of this node",
        ),
        (
            CARRYING,
            "peer = \"2001:db8:b::1\"",
            "peer = \"203.0.113.9\"",
            "maar.ipv4_pools[0] = 203.0.113.0/24: contains 203.0.113.9, which is maar.ipv4[0].peer",
        ),
        (
            CARRYING,
            "[maar]\n",
            "[[route]]\nprefix = \"203.0.113.64/26\"\nport = \"core\"\ngateway = \"192.0.2.9\"\n[maar]\n",
            "maar.ipv4_pools[0] = 203.0.113.0/24: contains all of route[1] (by 192.0.2.9)",
        ),
        (
            CARRYING,
            "[maar]\n",
            "[[route]]\nprefix = \"0.0.0.0/0\"\nport = \"core\"\ngateway = \"203.0.113.9\"\n[maar]\n",
            "maar.ipv4_pools[0] = 203.0.113.0/24: contains the gateway of route[1] (by 203.0.113.9)",
        ),
        (
            CARRYING,
            "ipv4_pools = [\"203.0.113.0/24\"]",
            "ipv4_pools = [\"10.0.0.0/8\"]",
            "maar.ipv4[0].prefix = 203.0.113.7/32: is in none of maar.ipv4_pools",
        ),
        (
            CARRYING,
            "203.0.113.8/32",
            "203.0.113.7/24",
            "maar.ipv4[1].prefix = 203.0.113.7/24: has bits set",
        ),
        (
            CARRYING,
            "203.0.113.8/32",
            "203.0.113.0/28",
            "maar.ipv4[1].prefix = 203.0.113.0/28: overlaps maar.ipv4[0].prefix = 203.0.113.7/32",
        ),
        (
            CARRYING,
            "peer = \"2001:db8:b::1\"",
            "peer = \"2001:db8:a::1\"",
            "maar.ipv4[0].peer = 2001:db8:a::1: is an address of this node",
        ),
        (
            CARRYING,
            "peer = \"2001:db8:b::1\"",
            "peer = \"fe80::1\"",
            "maar.ipv4[0].peer = fe80::1: must be a global unicast address",
        ),
        (
            CARRYING,
            "peer = \"2001:db8:b::1\"",
            "peer = \"198.51.100.1\"",
            "maar.ipv4[0].peer = 198.51.100.1: is maar.gtpu_ipv4_address",
        ),
        (
            CARRYING,
            "peer = \"2001:db8:b::1\"",
            "peer = \"127.0.0.1\"",
            "maar.ipv4[0].peer = 127.0.0.1: must be a unicast address that others can have",
        ),
        (
            CARRYING,
            "peer = \"2001:db8:c::1\"",
            "peer = \"192.0.2.9\"",
            "maar.ipv4[1].peer = 192.0.2.9: must be an IPv6 address: only GTP-U goes over IPv4",
        ),
        (
            CARRYING,
            "local_id = 7",
            "local_id = 0",
            "maar.ipv4[0].local_id = 0: must be a TEID",
        ),
        (
            CARRYING,
            "remote_id = 8",
            "",
            "maar.ipv4[0].remote_id = none: must be a TEID",
        ),
        (
            CARRYING,
            "tunnel = \"gre\"",
            "tunnel = \"ipv6-in-ipv6\"",
            "maar.ipv4[1].local_id = 9: is for tunnel",
        ),
        (
            CARRYING,
            "peer = \"2001:db8:c::1\"\ntunnel = \"gre\"\nlocal_id = 9",
            "peer = \"2001:db8:b::1\"\ntunnel = \"gtpu\"\nlocal_id = 7",
            "maar.ipv4[1].remote_id = 10: maar.ipv4[0] has the same peer and local_id, and another one",
        ),
        (
            CARRYING,
            "inner_ipv4 = \"carry\"",
            "inner_ipv4 = \"refuse\"",
            "maar.ipv4_pools = 2: needs dataplane.inner_ipv4",
        ),
        (
            CARRYING,
            "inner_ipv4 = \"carry\"",
            "inner_ipv4 = \"drop\"",
            "unknown variant `drop`, expected `refuse` or `carry`",
        ),
    ]);
}

#[test]
fn a_tunnel_of_the_file_has_a_qfi_where_it_says_so() {
    let bindings = |text: &str| {
        let text = CARRYING.replace("remote_id = 8", text);
        Config::parse(&text, "maar").unwrap().maar.unwrap().ipv4_bindings
    };
    let found = |text| (bindings(text)[0].qfi, bindings(text)[0].pdu_type);
    assert_eq!(found("remote_id = 8"), (None, None));
    assert_eq!(found("remote_id = 8\nqfi = 63"), (Some(63), None));
    let both = "remote_id = 8\nqfi = 0\npdu_type = \"uplink\"";
    assert_eq!(found(both), (Some(0), Some(PduType::Uplink)));
    let shares = |more: &str| {
        format!(
            "remote_id = 8\nqfi = 9\n[[maar.ipv4]]\nprefix = \"203.0.113.9/32\"\npeer = \"2001:db8:b::1\"\n\
             tunnel = \"gtpu\"\nlocal_id = 7\nremote_id = 8\n{more}"
        )
    };
    assert_eq!(bindings(&shares("qfi = 9\npdu_type = \"downlink\"")).len(), 3);
    refused(&[
        (
            CARRYING,
            "remote_id = 8",
            "remote_id = 8\nqfi = 64",
            "maar.ipv4[0].qfi = 64: must be 0 to 63",
        ),
        (
            CARRYING,
            "remote_id = 10",
            "remote_id = 10\nqfi = 9",
            "maar.ipv4[1].qfi = 9: is for maar.ipv4[1].tunnel = \"gtpu\" only",
        ),
        (
            CARRYING,
            "remote_id = 8",
            "remote_id = 8\npdu_type = \"uplink\"",
            "maar.ipv4[0].pdu_type = uplink: needs qfi",
        ),
        (
            CARRYING,
            "remote_id = 8",
            "remote_id = 8\nqfi = 9\npdu_type = \"up\"",
            "unknown variant `up`, expected `downlink` or `uplink`",
        ),
        (
            CARRYING,
            "remote_id = 8",
            &shares(""),
            "maar.ipv4[1].qfi = none: maar.ipv4[0] has the same tunnel, and another qfi or pdu_type",
        ),
        (
            CARRYING,
            "remote_id = 8",
            &shares("qfi = 9\npdu_type = \"uplink\""),
            "maar.ipv4[1].qfi = 9: maar.ipv4[0] has the same tunnel, and another qfi or pdu_type",
        ),
    ]);
}
