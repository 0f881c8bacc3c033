//! Examples are accepted; each rule refuses what breaks it, with the key, the value and the reason.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use kedge_config::{Config, TunnelType};
use proptest::prelude::*;

const MAAR: &str = include_str!("../examples/maar.toml");
const CMD: &str = include_str!("../examples/cmd.toml");
/// The section of the example, whole.
const ANNOUNCE: &str = r#"[announce]
daemon = "gobgp"                       # or "kernel", for BIRD and FRR
what = "pools"                         # or "prefixes": one route for each node
communities = ["65001:100"]

[announce.gobgp]
endpoint = "http://127.0.0.1:50051""#;

#[test]
fn the_examples_are_accepted() {
    for text in [MAAR, CMD, include_str!("../examples/maar-nic.toml")] {
        Config::parse(text, "example").unwrap();
    }
}

#[test]
fn tunnels_are_ipv6_in_ipv6_unless_said_otherwise() {
    for (text, kind) in [
        ("", TunnelType::Ipv6InIpv6),
        ("tunnel = \"gtpu\"", TunnelType::GtpU),
        ("tunnel = \"gre\"", TunnelType::Gre),
    ] {
        let maar = Config::parse(&MAAR.replace("tunnel = \"ipv6-in-ipv6\"", text), "maar").unwrap();
        assert_eq!(maar.maar.unwrap().tunnel, kind);
        let cmd = Config::parse(&CMD.replace("tunnel = \"ipv6-in-ipv6\"", text), "cmd").unwrap();
        assert_eq!(cmd.cmd.unwrap().tunnel, kind);
    }
}

/// Changes a piece of an example, and gives the errors that this leads to.
fn errors(text: &str, from: &str, to: &str) -> Vec<String> {
    assert!(text.contains(from), "the example has no {from:?}");
    let changed = text.replacen(from, to, 1);
    match Config::parse(&changed, "f") {
        Ok(_) => panic!("{to:?} was accepted"),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

#[test]
fn each_rule_names_key_value_and_reason() {
    let cases = [
        (
            MAAR,
            "what = \"pools\"",
            "med = 1\nbatch = 0",
            "f: announce.batch = 0: must be 1 to 65536",
        ),
        (
            MAAR,
            "what = \"pools\"",
            "next_hop = \"fe80::1\"",
            "f: announce.next_hop = fe80::1: must be a global unicast address",
        ),
        (
            MAAR,
            "addresses = [\"2001:db8:ca1::2/64\"]",
            "addresses = [\"192.0.2.2/24\"]",
            "f: announce.next_hop: is required: no core port has a global IPv6 address",
        ),
        (
            MAAR,
            "what = \"pools\"",
            "minimum_withdrawal_interval_ms = 3600001",
            "f: announce.minimum_withdrawal_interval_ms = 3600001: must be 0 to 3600000 ms",
        ),
        (
            MAAR,
            "what = \"pools\"",
            "propagation_ms = 60001",
            "f: announce.propagation_ms = 60001: must be 0 to 60000 ms",
        ),
        (
            MAAR,
            "what = \"pools\"",
            "resync_interval_ms = 999",
            "f: announce.resync_interval_ms = 999: must be 1000 to 86400000 ms",
        ),
        (
            MAAR,
            "communities = [\"65001:100\"]",
            "communities = [\"65536:100\"]",
            "\"65536:100\" is no community",
        ),
        (
            MAAR,
            "endpoint = \"http://127.0.0.1:50051\"",
            "endpoint = \"127.0.0.1:50051\"",
            "\"127.0.0.1:50051\" is neither http://HOST:PORT nor unix:///PATH",
        ),
        (
            MAAR,
            "endpoint = \"http://127.0.0.1:50051\"",
            "path_identifier = 0",
            "f: announce.gobgp.path_identifier = 0: must be 1 to 4294967295",
        ),
        (
            MAAR,
            "daemon = \"gobgp\" ",
            "daemon = \"kernel\" ",
            "f: announce.communities = 1: goes with announce.daemon = \"gobgp\"",
        ),
        (
            MAAR,
            "daemon = \"gobgp\" ",
            "daemon = \"kernel\" ",
            "f: announce.gobgp: goes with announce.daemon = \"gobgp\"",
        ),
        (
            MAAR,
            "[announce.gobgp]\nendpoint = \"http://127.0.0.1:50051\"",
            "[announce.kernel]\ntable = 5213",
            "f: announce.kernel: goes with announce.daemon = \"kernel\"",
        ),
        (
            MAAR,
            ANNOUNCE,
            "[announce]\ndaemon = \"kernel\"\nkernel = { table = 255 }",
            "f: announce.kernel.table = 255: must be 1 to 4294967295, and not 255",
        ),
        (
            MAAR,
            ANNOUNCE,
            "[announce]\ndaemon = \"kernel\"\nkernel = { protocol = 12 }",
            "f: announce.kernel.protocol = 12: must be 5 to 255, and not of another daemon",
        ),
        (
            MAAR,
            ANNOUNCE,
            "[announce]\ndaemon = \"kernel\"\nlocal_preference = 7",
            "f: announce.local_preference = 7: goes with announce.daemon = \"gobgp\"",
        ),
        (
            CMD,
            "[cmd]",
            "[announce]\ndaemon = \"kernel\"\n[cmd]",
            "f: announce: is not allowed with node.role = \"cmd\"",
        ),
        (
            MAAR,
            "server = \"2001:db8:d::1\"               # or port = \"core\": servers and relays on that link",
            "pools = 2",
            "f: maar.delegation: needs a port or a server",
        ),
        (
            MAAR,
            "server = \"2001:db8:d::1\"               # or port = \"core\": servers and relays on that link",
            "server = \"2001:db8:d::1\"\nport = \"core\"",
            "f: maar.delegation.server = 2001:db8:d::1: is there beside",
        ),
        (
            MAAR,
            "server = \"2001:db8:d::1\"               # or port = \"core\": servers and relays on that link",
            "port = \"cor\"",
            "f: maar.delegation.port = \"cor\": no port has this name",
        ),
        (
            MAAR,
            "server = \"2001:db8:d::1\"               # or port = \"core\": servers and relays on that link",
            "port = \"access\"",
            "f: maar.delegation.port = \"access\": is an access port",
        ),
        (
            MAAR,
            "server = \"2001:db8:d::1\"               # or port = \"core\": servers and relays on that link",
            "server = \"ff02::1:2\"",
            "f: maar.delegation.server = ff02::1:2: must be a global unicast",
        ),
        (
            MAAR,
            "server = \"2001:db8:d::1\"               # or port = \"core\": servers and relays on that link",
            "server = \"2001:db8:a::1\"",
            "f: maar.delegation.server = 2001:db8:a::1: is node.address",
        ),
        (
            MAAR,
            "length = 48",
            "pools = 65",
            "f: maar.delegation.pools = 65: must be 0 to 64",
        ),
        (
            MAAR,
            "length = 48",
            "length = 65",
            "f: maar.delegation.length = 65: must be 16 to 64",
        ),
        (
            CMD,
            "interfaces = [\"eth1\"]",
            "relays = [\"ff02::1\"]",
            "f: cmd.delegation.relays[0] = ff02::1: must be a unicast address",
        ),
        (
            CMD,
            "interfaces = [\"eth1\"]",
            "relays = [\"2001:db8::7\", \"2001:db8::7\"]",
            "f: cmd.delegation.relays[1] = 2001:db8::7: is there twice",
        ),
        (
            CMD,
            "interfaces = [\"eth1\"]",
            "interfaces = [\"eth1\", \"eth1\"]",
            "f: cmd.delegation.interfaces[1] = \"eth1\": is there twice",
        ),
        (
            CMD,
            "interfaces = [\"eth1\"]",
            "interfaces = [\"a name that is long\"]",
            "f: cmd.delegation.interfaces[0] = \"a name that is long\": is no name",
        ),
        (
            CMD,
            "2001:db8:1000::/40",
            "2001:db8:1010::/40",
            "f: cmd.delegation.pool[0].prefix = 2001:db8:1010::/40: has bits set",
        ),
        (
            CMD,
            "delegated_length = 48",
            "delegated_length = 39",
            "f: cmd.delegation.pool[0].delegated_length = 39: must be 40 to 63 more",
        ),
        (
            CMD,
            "delegated_length = 48",
            "delegated_length = 65",
            "f: cmd.delegation.pool[0].delegated_length = 65: must be 16 to 64",
        ),
        (
            CMD,
            "delegated_length = 48",
            "delegated_length = 48\nexclude_length = 48",
            "f: cmd.delegation.pool[0].exclude_length = 48: must be longer",
        ),
        (
            CMD,
            "delegated_length = 48",
            "delegated_length = 48\n[[cmd.delegation.pool]]\nprefix = \"2001:db8:1001::/48\"\ndelegated_length = 64",
            "f: cmd.delegation.pool[1].prefix = 2001:db8:1001::/48: overlaps",
        ),
        (
            CMD,
            "valid_lifetime = 3600",
            "valid_lifetime = 1799",
            "f: cmd.delegation.valid_lifetime = 1799: must be at least",
        ),
        (
            CMD,
            "\npreferred_lifetime = 1800",
            "\npreferred_lifetime = 0",
            "f: cmd.delegation.preferred_lifetime = 0: must be 1 to",
        ),
        (
            CMD,
            "valid_lifetime = 3600",
            "maximum_per_client = 0",
            "f: cmd.delegation.maximum_per_client = 0: must be 1 to 65535",
        ),
        (
            CMD,
            "valid_lifetime = 3600",
            "maximum_delegations = 0",
            "f: cmd.delegation.maximum_delegations = 0: must be 1 to",
        ),
        (
            MAAR,
            "tunnel = \"ipv6-in-ipv6\"",
            "tunnel_encapsulation_limit = 256",
            "maar.tunnel_encapsulation_limit = 256: must be 0 to 255",
        ),
        (
            MAAR,
            "huge_pages = \"auto\"",
            "path_mtu_lifetime = 299",
            "f: dataplane.path_mtu_lifetime = 299: must be 300 to 86400 seconds",
        ),
        (
            MAAR,
            "[timers]",
            "[[filter]]\nname = \"f\"\naction = \"drop\"\npriority = 0\n[timers]",
            "f: filter[2].priority = 0: must be 1 to 65535",
        ),
        (
            MAAR,
            "[timers]",
            "[[filter]]\nname = \"f f\"\naction = \"drop\"\n[timers]",
            "f: filter[2].name = \"f f\": must be 1 to 63 letters",
        ),
        (
            MAAR,
            "[timers]",
            "[[filter]]\nname = \"f\"\naction = \"drop\"\nlifetime = 3\n[timers]",
            "f: filter[2].lifetime = 3: only a filter that an operator adds",
        ),
        (
            MAAR,
            "[timers]",
            "[[filter]]\nname = \"f\"\naction = \"drop\"\nsource = \"2001:db8::1/32\"\n[timers]",
            "f: filter[2].source = 2001:db8::1/32: has bits set",
        ),
        (
            MAAR,
            "[timers]",
            "[[filter]]\nname = \"f\"\naction = \"drop\"\nprotocol = \"icmpv6\"\nsource_ports = 7\n[timers]",
            "f: filter[2].source_ports = 7-7: protocol 58 has no ports",
        ),
        (
            MAAR,
            "[timers]",
            "[[filter]]\nname = \"f\"\naction = \"drop\"\nsource_ports = \"9-7\"\n[timers]",
            "\"9-7\" is no port and no range",
        ),
        (
            MAAR,
            "[timers]",
            "[[filter]]\nname = \"f\"\naction = \"drop\"\ntraffic_class = 3\ntraffic_class_mask = 252\n[timers]",
            "f: filter[2].traffic_class = 3: has bits",
        ),
        (
            MAAR,
            "[timers]",
            "[[filter]]\nname = \"f\"\naction = \"drop\"\nflow_label = 1048576\n[timers]",
            "f: filter[2].flow_label = 1048576: must be 0 to 1048575",
        ),
        (
            MAAR,
            "[timers]",
            "[[filter]]\nname = \"f\"\naction = \"drop\"\napplies_to = \"domain\"\nnode = \"mn1\"\n[timers]",
            "f: filter[2].node = mn1: is not of a filter with applies_to = \"domain\"",
        ),
        (
            MAAR,
            "[timers]",
            "[[filter]]\nname = \"f\"\naction = \"tunnel\"\n[timers]",
            "f: filter[2].maar: a filter with action = \"tunnel\" needs a MAAR",
        ),
        (
            MAAR,
            "[timers]",
            "[[filter]]\nname = \"f\"\naction = \"meter\"\nmeter = \"gold\"\n[timers]",
            "f: filter[2].meter = \"gold\": there is no meter of this name",
        ),
        (
            MAAR,
            "[timers]",
            "[[filter]]\nname = \"f\"\naction = \"local-breakout\"\ndirection = \"to-node\"\n[timers]",
            "f: filter[2].direction = to-node: only what comes from a node can break out",
        ),
        (
            MAAR,
            "[timers]",
            "[[meter]]\nname = \"m\"\ncir_bits_per_second = 8\ncbs_bytes = 2000\n[timers]",
            "f: meter[1] = m: needs either pir_bits_per_second",
        ),
        (
            MAAR,
            "[timers]",
            "[[meter]]\nname = \"m\"\ncir_bits_per_second = 80\ncbs_bytes = 2000\npir_bits_per_second = 8\npbs_bytes = 2000\n[timers]",
            "f: meter[1].pir_bits_per_second = 8: must be at least cir_bits_per_second",
        ),
        (
            MAAR,
            "[timers]",
            "[[meter]]\nname = \"m\"\ncir_bits_per_second = 8\ncbs_bytes = 1279\neir_bits_per_second = 8\nebs_bytes = 2000\n[timers]",
            "f: meter[1].cbs_bytes = 1279: must be 1280 to",
        ),
        (
            CMD,
            "[cmd]",
            "[[filter]]\nname = \"f\"\naction = \"drop\"\n[cmd]",
            "f: filter: filters and meters are of node.role = \"maar\"",
        ),
        (
            MAAR,
            "huge_pages = \"auto\"",
            "maximum_filters = 16777217",
            "f: dataplane.maximum_filters = 16777217: must be 0 to 16777216",
        ),
        (
            MAAR,
            "huge_pages = \"auto\"",
            "maximum_domain_filters = 1048577",
            "f: dataplane.maximum_domain_filters = 1048577: must be 0 to 1048576",
        ),
        (
            MAAR,
            "huge_pages = \"auto\"",
            "maximum_meters = 16777216",
            "f: dataplane.maximum_meters = 16777216: must be 0 to 16777215",
        ),
        (
            MAAR,
            "name = \"maar1\"",
            "name = \"\"",
            "f: node.name = \"\": must be 1 to 63",
        ),
        (
            MAAR,
            "name = \"maar1\"",
            "name = \"a/b\"",
            "node.name = \"a/b\": ",
        ),
        (
            MAAR,
            "address = \"2001:db8:a::1\"",
            "address = \"fe80::1\"",
            "node.address = fe80::1: must be a global",
        ),
        (
            MAAR,
            "[::1]:9111",
            "[::1]:9110",
            "dataplane.metrics = [::1]:9110: is node.metrics too",
        ),
        (
            MAAR,
            "workers = [1]",
            "workers = [1, 1]",
            "dataplane.workers = 1: is named twice",
        ),
        (
            MAAR,
            "workers = [1]",
            "workers = []",
            "dataplane.workers = 0: must name 1 to 128",
        ),
        (
            MAAR,
            "workers = [1]",
            "workers = [1]\nredistribute = true",
            "wanted string or table",
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
            "prefix = \"::/0\"",
            "prefix = \"0.0.0.0/0\"",
            "route[0].gateway = 2001:db8:ca1::1: is of another IP version than 0.0.0.0/0",
        ),
        (
            MAAR,
            "gateway = \"2001:db8:ca1::1\"",
            "gateway = \"192.0.2.1\"",
            "route[0].gateway = 192.0.2.1: is of another IP version than ::/0",
        ),
        (
            MAAR,
            "[\"2001:db8:ca1::2/64\"]",
            "[\"2001:db8:ca1::2/64\", \"224.0.0.1/4\"]",
            "port[0].addresses = 224.0.0.1/4: must be unicast",
        ),
        (
            MAAR,
            "exception = \"kacc\"",
            "exception = \"kacc\"\naddresses = [\"192.0.2.1/24\"]",
            "port[1].addresses = 192.0.2.1/24: is IPv4; nodes",
        ),
        (
            CMD,
            "tunnel = \"ipv6-in-ipv6\"",
            "tunnel = \"GTP-U\"",
            "unknown variant `GTP-U`, expected one of `ipv6-in-ipv6`, `gre`, `gtpu`",
        ),
        (
            MAAR,
            "workers = [1]",
            "workers = [1]\nredistribute = \"sometimes\"",
            "unknown variant `sometimes`, expected one of `auto`, `always`, `never`",
        ),
        (
            MAAR,
            "workers = [1]",
            "workers = [1]\nmemory_mib = 1",
            "dataplane.memory_mib = 1: must be 64 to 65536 MiB",
        ),
        (
            MAAR,
            "workers = [1]",
            "workers = [1]\nhold = { packets = 4097 }",
            "dataplane.hold.packets = 4097: must be at most half of dataplane.packet_buffers = 8192",
        ),
        (
            MAAR,
            "workers = [1]",
            "workers = [1]\nhold = { unknown_ms = 1001 }",
            "dataplane.hold.unknown_ms = 1001: must be 0 to 1000 ms",
        ),
        (
            MAAR,
            "workers = [1]",
            "workers = [1]\nhold = { path_end_ms = 0 }",
            "dataplane.hold.path_end_ms = 0: must be 1 to 600000 ms",
        ),
        (
            MAAR,
            "workers = [1]",
            "workers = [1]\nhold = { age_ms = 0 }",
            "dataplane.hold.age_ms = 0: must be 1 to 600000 ms",
        ),
        (
            MAAR,
            "workers = [1]",
            "workers = [1]\nhold = { overflow = \"drop-some\" }",
            "unknown variant `drop-some`, expected `drop-newest` or `drop-oldest`",
        ),
        (
            MAAR,
            "exception = \"kcore\"",
            "exception = \"kacc\"",
            "port[1].exception = \"kacc\": another port",
        ),
        (
            MAAR,
            "exception = \"kcore\"",
            "exception = \"a-name-too-long-for-linux\"",
            "port[0].exception = ",
        ),
        (
            MAAR,
            "exception = \"kcore\"",
            "",
            "port[0].addresses: the kernel has them on the exception",
        ),
        (
            MAAR,
            "side = \"core\"",
            "side = \"core\"\nmtu = 900",
            "port[0].mtu = 900: must be 1280 to 9600 octets",
        ),
        (
            MAAR,
            "side = \"core\"",
            "side = \"core\"\nvlan = 4095",
            "port[0].vlan = 4095: must be 1 to 4094",
        ),
        (
            MAAR,
            "side = \"core\"",
            "side = \"access\"",
            "port: a MAAR needs a port with side = \"core\"",
        ),
        (
            MAAR,
            "side = \"access\"",
            "side = \"access\"\nlink_layer_address = \"01:00:00:00:00:00\"",
            "port[1].link_layer_address = \"01:00:00:00:00:00\": must be a unicast",
        ),
        (
            MAAR,
            "name = \"access\"",
            "name = \"core\"",
            "port[1].name = \"core\": another port",
        ),
        (MAAR, "net_af_packet1", "net_af_packet0", "port[1].device = "),
        (
            MAAR,
            "port = \"core\"",
            "port = \"cor\"",
            "route[0].port = \"cor\": there is no port",
        ),
        (
            MAAR,
            "port = \"core\"",
            "port = \"access\"",
            "route[0].port = \"access\": is an access port",
        ),
        (
            MAAR,
            "ca1::1\"",
            "ca9::1\"",
            "route[0].gateway = 2001:db8:ca9::1: is not in a prefix",
        ),
        (
            MAAR,
            "gateway = \"2001:db8:ca1::1\"",
            "gateway = \"2001:db8:ca1::2\"",
            "is this node's own address",
        ),
        (
            MAAR,
            "prefix = \"::/0\"",
            "prefix = \"2001:db8::1/32\"",
            "route[0].prefix = 2001:db8::1/32: has bits set",
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
            "unknown_nodes = \"accept\"",
            "preferred_lifetime = 9000",
            "access.valid_lifetime = 7200: must be at least",
        ),
        (
            MAAR,
            "unknown_nodes = \"accept\"",
            "router_lifetime = 9001",
            "access.router_lifetime = 9001: must be 1 to 9000",
        ),
        (
            MAAR,
            "unknown_nodes = \"accept\"",
            "router_link_local_address = \"2001:db8::1\"",
            "access.router_link_local_address = 2001:db8::1: must be in fe80::/10",
        ),
        (
            MAAR,
            "= 600000",
            "= 600001",
            "timers.binding_lifetime_ms = 600001: must be a multiple of 4000",
        ),
        (
            MAAR,
            "= 600000",
            "= 600000\nmax_bindack_timeout_ms = 500",
            "timers.max_bindack_timeout_ms = 500: must be at least",
        ),
        (
            MAAR,
            "= 600000",
            "= 600000\nroute_settle_ms = 0",
            "timers.route_settle_ms = 0: must be 1 to 10000 ms",
        ),
        (
            MAAR,
            "= 600000",
            "= 600000\nuplink_settle_ms = 151",
            "timers.uplink_settle_ms = 151: must be 0 to 150 ms",
        ),
        (
            CMD,
            "relocate_after_s = 0",
            "relocate_after_s = 40000000",
            "cmd.relocate_after_s = 40000000: must be 0 to 31536000 s",
        ),
        (
            MAAR,
            "role = \"maar\"",
            "role = \"cmd\"",
            "maar: is not allowed with node.role = \"cmd\"",
        ),
        (
            MAAR,
            "/etc/kedge/policy.toml",
            "policy.toml",
            "access.policy_file = policy.toml: must be an absolute path",
        ),
        (
            MAAR,
            "metrics = \"[::1]:9110\"",
            "run_directory = \"run\"",
            "node.run_directory = run: must be an absolute path",
        ),
        (
            CMD,
            "mode = \"proxy\"",
            "mode = \"relay\"",
            "cmd.mode = relay: is not built yet",
        ),
        (
            CMD,
            "maximum_previous_maars = 8",
            "maximum_previous_maars = 65",
            "cmd.maximum_previous_maars = 65: must be 1 to 64",
        ),
        (
            CMD,
            "2001:db8:200::/48",
            "2001:db8:100:1::/64",
            "overlaps cmd.known_maar[0].prefix_pools[0]",
        ),
        (
            CMD,
            "2001:db8:b::1",
            "2001:db8:a::1",
            "cmd.known_maar[1].address = 2001:db8:a::1: another known_maar",
        ),
        (CMD, "[cmd]", "[cmd]\nsurprise = 1", "unknown field `surprise`"),
        (CMD, "role = \"cmd\"", "role = \"lma\"", "unknown variant `lma`"),
    ];
    for (text, from, to, expected) in cases {
        let errors = errors(text, from, to);
        assert!(
            errors.iter().any(|error| error.contains(expected)),
            "{to:?} gave {errors:#?}, not {expected:?}"
        );
    }
}

#[test]
fn all_errors_are_told_together() {
    let text = MAAR
        .replace("workers = [1]", "workers = []")
        .replace("name = \"maar1\"", "name = \"\"");
    assert_eq!(Config::parse(&text, "f").unwrap_err().errors.len(), 2);
}

#[test]
fn an_unknown_key_is_found_by_line_and_column() {
    let error = Config::parse("[node]\nname = \"a\"\nnme = \"b\"\n", "f")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("f: line 3, column 1: unknown field `nme`"),
        "{error}"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load("/nonexistent/kedge.toml".as_ref())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("/nonexistent/kedge.toml: cannot be read"),
        "{error}"
    );
}

proptest! {
    /// Whatever is in the file, an error is the worst that comes of it.
    #[test]
    fn nothing_panics(at in 0usize..1200, length in 0usize..40, with in "[ -~\n]{0,20}") {
        for text in [MAAR, CMD] {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            if let (Some(before), Some(after)) = (text.get(..at), text.get(end..)) {
                let _ = Config::parse(&format!("{before}{with}{after}"), "f");
            }
        }
    }
}

#[test]
fn ipv4_is_known_by_its_mapped_form() {
    let text = MAAR
        .replace(
            "[\"2001:db8:ca1::2/64\"]",
            "[\"2001:db8:ca1::2/64\", \"192.0.2.2/24\"]",
        )
        .replace(
            "[maar]",
            "[[route]]\nprefix = \"0.0.0.0/0\"\nport = \"core\"\ngateway = \"192.0.2.254\"\n[maar]",
        )
        .replace(
            "\"ipv6-in-ipv6\"",
            "\"gtpu\"\ngtpu_ipv4_address = \"198.51.100.1\"",
        );
    let config = Config::parse(&text, "maar").unwrap();
    let address = config.ports[0].addresses[1];
    assert_eq!(address, "::ffff:192.0.2.2/120".parse().unwrap());
    assert_eq!(kedge_config::shown(address).to_string(), "192.0.2.2/24");
    let route = &config.routes[1];
    assert_eq!(kedge_config::shown(route.prefix).to_string(), "0.0.0.0/0");
    assert_eq!(route.gateway.to_string(), "::ffff:192.0.2.254");
    assert_eq!(kedge_config::shown("::/0".parse().unwrap()).to_string(), "::/0");
    let expected = "198.51.100.1".parse().unwrap();
    assert_eq!(config.maar.unwrap().gtpu_ipv4_address, Some(expected));
}

#[test]
fn a_tunnel_for_each_node_fits_by_default() {
    let dataplane = Config::parse(MAAR, "maar").unwrap().dataplane.unwrap();
    assert_eq!(dataplane.maximum_tunnels, 1 << 20);
}

#[test]
fn sequence_numbers_need_one_worker() {
    let gtpu = MAAR.replace("\"ipv6-in-ipv6\"", "\"gtpu\"\ngtpu_sequence_numbers = true");
    assert!(
        Config::parse(&gtpu, "maar")
            .unwrap()
            .maar
            .unwrap()
            .gtpu_sequence_numbers
    );
    let found = errors(&gtpu, "workers = [1]", "workers = [1, 2]");
    let expected = "maar.gtpu_sequence_numbers = true: needs one worker, and dataplane.workers names 2";
    assert!(found.iter().any(|error| error.contains(expected)), "{found:?}");
}
