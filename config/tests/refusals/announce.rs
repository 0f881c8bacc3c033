//! Of `[announce]`.

use super::{ANNOUNCE, CMD, DPN, MAAR, refused};

#[test]
fn each_rule_names_key_value_and_reason() {
    refused(&[
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
            DPN,
            "[dpn]",
            "[announce]\ndaemon = \"gobgp\"\nwhat = \"pools\"\n[dpn]",
            "f: announce: is not allowed with node.role = \"dpn\"",
        ),
    ]);
}
