//! Of `[node]`, `[dataplane]`, `[access]` and `[timers]`.

use super::{CMD, MAAR, refused};

#[test]
fn each_rule_names_key_value_and_reason() {
    refused(&[
        (
            MAAR,
            "huge_pages = \"auto\"",
            "neighbour_requests_per_second = 0",
            "f: dataplane.neighbour_requests_per_second = 0: must be 1 to 100000",
        ),
        (
            MAAR,
            "huge_pages = \"auto\"",
            "path_mtu_lifetime = 299",
            "f: dataplane.path_mtu_lifetime = 299: must be 300 to 86400 seconds",
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
        (CMD, "role = \"cmd\"", "role = \"lma\"", "unknown variant `lma`"),
    ]);
}
