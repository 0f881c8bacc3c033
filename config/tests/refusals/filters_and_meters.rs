//! Of `[[filter]]` and `[[meter]]`.

use super::{CMD, MAAR, refused};

#[test]
fn each_rule_names_key_value_and_reason() {
    refused(&[
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
            "action = \"local-breakout\" ",
            "action = \"local-breakout\"\nrelocate_after_s = 5 ",
            "f: filter[1].relocate_after_s = 5: goes with action = \"anchor\", of nodes and not of the domain",
        ),
        (
            MAAR,
            "action = \"local-breakout\" ",
            "action = \"anchor\"\nrelocate_after_s = 31536001 ",
            "f: filter[1].relocate_after_s = 31536001: must be 0 to 31536000 seconds",
        ),
        (
            MAAR,
            "action = \"local-breakout\" ",
            "action = \"no-mobility\"\napplies_to = \"domain\" ",
            "f: filter[1].action = no-mobility: is of nodes, not of the domain",
        ),
        (
            MAAR,
            "action = \"local-breakout\" ",
            "action = \"hold\"\nlifetime = 601 ",
            "f: filter[1].lifetime = 601: a filter with action = \"hold\" needs 1 to 600 seconds",
        ),
        (
            MAAR,
            "action = \"local-breakout\" ",
            "action = \"hold\" ",
            "f: filter[1].action = hold: is of a filter that an operator adds, for a while: kedge filter add",
        ),
        (
            MAAR,
            "action = \"local-breakout\" ",
            "action = \"hold\"\napplies_to = \"domain\" ",
            "f: filter[1].action = hold: is of nodes, not of the domain",
        ),
    ]);
}
