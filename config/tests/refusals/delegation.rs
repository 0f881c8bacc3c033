//! Of prefixes that are delegated: by a server to this node, by it to nodes and to clients.

use super::{CMD, MAAR, refused};

#[test]
fn each_rule_names_key_value_and_reason() {
    refused(&[
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
            "pools = [\"2001:db8:f100::/40\"] ",
            "pools = [] ",
            "f: maar.mobile_routers.pools = []: there has to be at least one",
        ),
        (
            MAAR,
            "pools = [\"2001:db8:f100::/40\"] ",
            "pools = [\"2001:db8:f100::/57\"] ",
            "f: maar.mobile_routers.pools[0] = 2001:db8:f100::/57: is longer than delegated_length = 56",
        ),
        (
            MAAR,
            "pools = [\"2001:db8:f100::/40\"] ",
            "pools = [\"2001:db8:100:8000::/56\"] ",
            "f: maar.mobile_routers.pools[0] = 2001:db8:100:8000::/56: overlaps maar.prefix_pools[0] = 2001:db8:100::/48",
        ),
        (
            MAAR,
            "delegated_length = 56",
            "delegated_length = 64",
            "f: maar.mobile_routers.delegated_length = 64: must be 33 to 63",
        ),
        (
            MAAR,
            "delegated_length = 56",
            "preferred_lifetime = 0",
            "f: maar.mobile_routers.preferred_lifetime = 0: must be 1 to 4294967295 seconds",
        ),
        (
            MAAR,
            "delegated_length = 56",
            "valid_lifetime = 60",
            "f: maar.mobile_routers.valid_lifetime = 60: must be at least maar.mobile_routers.preferred_lifetime = 1800",
        ),
        (
            MAAR,
            "messages_per_second = 5 ",
            "messages_per_second = 0 ",
            "f: maar.mobile_routers.messages_per_second = 0: must be 1 to 1000",
        ),
    ]);
}
