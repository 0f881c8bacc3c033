//! Of `[cmd]`.

use super::{CMD, refused};

#[test]
fn each_rule_names_key_value_and_reason() {
    refused(&[
        (
            CMD,
            "tunnel = \"ipv6-in-ipv6\"",
            "tunnel = \"GTP-U\"",
            "unknown variant `GTP-U`, expected one of `ipv6-in-ipv6`, `gre`, `gtpu`",
        ),
        (
            CMD,
            "maximum_relocations = 64",
            "maximum_relocations = 0",
            "f: cmd.maximum_relocations = 0: must be 1 to 65536",
        ),
        (
            CMD,
            "relocate_after_s = 0",
            "relocate_after_s = 40000000",
            "cmd.relocate_after_s = 40000000: must be 0 to 31536000 s",
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
            "maximum_previous_maars = 23",
            "cmd.maximum_previous_maars = 23: must be 1 to 22",
        ),
        (
            CMD,
            "maximum_previous_maars = 8",
            "maximum_previous_maars = 21",
            "cmd.maximum_previous_maars = 21: at most 20 fit into an answer of 2048 octets, with this cmd.tunnel and these policies",
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
    ]);
}
