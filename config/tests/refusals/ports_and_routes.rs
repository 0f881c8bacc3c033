//! Of `[[port]]` and `[[route]]`.

use super::{DPN, MAAR, refused};

#[test]
fn each_rule_names_key_value_and_reason() {
    refused(&[
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
            "port: a gateway needs a port with side = \"core\"",
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
            DPN,
            "side = \"core\"",
            "side = \"access\"",
            "f: port: a gateway needs a port with side = \"core\"",
        ),
    ]);
}
