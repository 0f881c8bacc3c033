//! Of `[[policy]]`.

use super::{CMD, MAAR, refused};

#[test]
fn each_rule_names_key_value_and_reason() {
    refused(&[
        (
            CMD,
            "name = \"sensors\"",
            "name = \"sen sors\"",
            "f: policy[0].name = \"sen sors\": must be 1 to 63 letters, digits, - or _",
        ),
        (
            CMD,
            "name = \"sensors\"",
            "name = \"long-lived\"",
            "f: policy[1].name = \"long-lived\": another policy has this name",
        ),
        (
            CMD,
            "node = \"*@sensors.example.net\"",
            "node = \"\"",
            "f: policy[0].node = \"\": must be 1 to 512 characters of an identifier, or *",
        ),
        (
            CMD,
            "prefix = \"2001:db8:100::/48\" ",
            "prefix = \"2001:db8:100::1/48\" ",
            "f: policy[1].prefix = 2001:db8:100::1/48: has bits set behind its length",
        ),
        (
            CMD,
            "priority = 2000",
            "priority = 0",
            "f: policy[1].priority = 0: must be 1 to 65535",
        ),
        (
            CMD,
            "relocate_after_s = 600 ",
            "relocate_after_s = 31536001 ",
            "f: policy[1].relocate_after_s = 31536001: must be 0 to 31536000 seconds",
        ),
        (
            CMD,
            "relocate_after_octets = 1000000000",
            "relocate_after_octets = 0",
            "f: policy[1].relocate_after_octets = 0: must be 1 to 9007199254740992 octets",
        ),
        (
            CMD,
            "mobility = \"relocate\"",
            "mobility = \"tunnel\"",
            "f: policy[1].relocate_after_s = 600: goes with mobility = \"relocate\"",
        ),
        (
            CMD,
            "mobility = \"relocate\"",
            "mobility = \"none\"",
            "f: policy[1].relocate_after_octets = 1000000000: goes with mobility = \"relocate\"",
        ),
        (
            CMD,
            "mobility = \"none\"",
            "mobility = \"none\"\nend_after_s = 5",
            "f: policy[0].end_after_s = 5: goes with mobility = \"tunnel\" or \"relocate\"",
        ),
        (
            CMD,
            "mobility = \"none\"",
            "mobility = \"tunnel\"\nend_after_s = 0",
            "f: policy[0].end_after_s = 0: must be 1 to 31536000 seconds",
        ),
        (
            CMD,
            "mobility = \"relocate\"",
            "mobility = \"all\"",
            "unknown variant `all`",
        ),
        (
            MAAR,
            "# Flows of nodes",
            "[[policy]]\nname = \"a\"\nmobility = \"none\"\n# Flows of nodes",
            "f: policy: policies are of node.role = \"cmd\"",
        ),
    ]);
}
