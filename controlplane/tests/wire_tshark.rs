//! What Kedge writes, as Wireshark reads it. Needs tshark (Debian package `tshark`).
//!
//! tshark 4.0 does not know options 65 to 70, nor the D flag, nor does it
//! verify a Mobility Header's checksum; `wire_scapy.rs` does the last.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helper functions too"
)]

mod wire_samples;

use std::collections::HashMap;
use std::io::Write;
use std::process::Command;

use wire_samples::{cmd, maar_1, packets};

/// `LINKTYPE_RAW`: the packet begins with its IP header.
const LINK_TYPE_RAW: u32 = 101;

const FIELDS: &[&str] = &[
    "frame.protocols",
    "ipv6.src",
    "ipv6.dst",
    "_ws.malformed",
    "_ws.expert.message",
    "mip6.proto",
    "mip6.hlen",
    "mip6.mhtype",
    "mip6.bu.seqnr",
    "mip6.bu.a_flag",
    "mip6.bu.h_flag",
    "mip6.bu.p_flag",
    "mip6.bu.lifetime",
    "mip6.ba.status",
    "mip6.ba.p_flag",
    "mip6.ba.seqnr",
    "mip6.ba.lifetime",
    "mip6.be.status",
    "mip6.be.haddr",
    "mip6.mnid.subtype",
    "mip6.mnid.identifier",
    "mip6.nemo.mnp.pfl",
    "mip6.nemo.mnp.mnp",
    "mip6.hi",
    "mip6.att",
    "mip6.timestamp_tmp",
    "mip6.mnlli.lli",
    "mip6.lila_lla",
    "mip6.acoa.acoa",
    "mip6.mobility_opt",
    "mip6.vsm.vendorId",
    "mip6.vsm.subtype",
    "mip6.padn",
    "icmpv6.type",
    "icmpv6.code",
    "icmpv6.checksum.status",
    "icmpv6.nd.ra.cur_hop_limit",
    "icmpv6.nd.ra.router_lifetime",
    "icmpv6.nd.ra.reachable_time",
    "icmpv6.nd.ra.retrans_timer",
    "icmpv6.opt.type",
    "icmpv6.opt.src_linkaddr",
    "icmpv6.opt.mtu",
    "icmpv6.opt.prefix",
    "icmpv6.opt.prefix.length",
    "icmpv6.opt.prefix.flag.l",
    "icmpv6.opt.prefix.flag.a",
    "icmpv6.opt.prefix.valid_lifetime",
    "icmpv6.opt.prefix.preferred_lifetime",
];

/// One packet: all values of each field, in their order, `|` between them.
struct Decoded(HashMap<&'static str, String>);

impl Decoded {
    fn from_line(line: &str) -> Self {
        // Versions differ in whether colons go between the octets of an address.
        let value = |field: &str, text: &str| match field {
            "mip6.mnlli.lli" | "icmpv6.opt.src_linkaddr" => text.replace(':', ""),
            _ => text.to_owned(),
        };
        let values = FIELDS.iter().zip(line.split('\t'));
        Decoded(values.map(|(field, text)| (*field, value(field, text))).collect())
    }

    #[track_caller]
    fn get(&self, field: &str) -> &str {
        self.0
            .get(field)
            .unwrap_or_else(|| panic!("{field} was not asked for"))
    }

    #[track_caller]
    fn expect(&self, expected: &[(&'static str, &str)]) {
        for (field, value) in expected {
            assert_eq!(self.get(field), *value, "{field}");
        }
    }
}

/// A capture file of IPv6 packets, all at time zero (the format of libpcap, version 2.4).
fn capture(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut octets = Vec::new();
    octets.extend(0xa1b2_c3d4_u32.to_be_bytes());
    octets.extend([0, 2, 0, 4]);
    octets.extend([0; 8]);
    octets.extend(65_535_u32.to_be_bytes());
    octets.extend(LINK_TYPE_RAW.to_be_bytes());
    assert_eq!(octets.len(), 24);
    for packet in packets {
        let length = u32::try_from(packet.len()).unwrap();
        octets.extend([0; 8]);
        octets.extend(length.to_be_bytes());
        octets.extend(length.to_be_bytes());
        octets.extend_from_slice(packet);
    }
    octets
}

fn decode(packets: &[Vec<u8>]) -> Vec<Decoded> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kedge-wire.pcap");
    std::fs::File::create(&path)
        .unwrap()
        .write_all(&capture(packets))
        .unwrap();

    let mut tshark = Command::new("tshark");
    // Nobody's own preferences, and times in UTC.
    tshark
        .env("WIRESHARK_CONFIG_DIR", directory.path())
        .env("TZ", "UTC");
    tshark.arg("-n").arg("-r").arg(&path);
    tshark.args([
        "-T",
        "fields",
        "-E",
        "separator=/t",
        "-E",
        "occurrence=a",
        "-E",
        "aggregator=|",
    ]);
    tshark.args(FIELDS.iter().flat_map(|field| ["-e", field]));
    let output = tshark.output().unwrap_or_else(|error| {
        panic!("tshark does not start ({error}): install the Debian package `tshark`")
    });
    assert!(
        output.status.success(),
        "tshark: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let decoded: Vec<_> = text.lines().map(Decoded::from_line).collect();
    assert_eq!(decoded.len(), packets.len(), "{text}");
    decoded
}

#[test]
fn messages_read_by_tshark() {
    let decoded = decode(&packets());
    let [
        update,
        acknowledgement,
        to_previous,
        refusal,
        error,
        advertisement,
        solicitation,
    ] = &decoded[..]
    else {
        panic!("{} packets", decoded.len());
    };
    for packet in &decoded {
        packet.expect(&[("_ws.malformed", "")]);
    }

    update.expect(&[
        ("frame.protocols", "raw:ipv6:mipv6"),
        ("ipv6.src", &maar_1().to_string()),
        ("ipv6.dst", &cmd().to_string()),
        ("_ws.expert.message", ""),
        ("mip6.proto", "59"),
        ("mip6.hlen", "18"),
        ("mip6.mhtype", "5"),
        ("mip6.bu.seqnr", "65534"),
        ("mip6.bu.a_flag", "1"),
        ("mip6.bu.h_flag", "0"),
        ("mip6.bu.p_flag", "1"),
        ("mip6.bu.lifetime", "150"),
        ("mip6.mnid.subtype", "1"),
        ("mip6.mnid.identifier", "mn1@example.net"),
        ("mip6.nemo.mnp.pfl", "64|56"),
        ("mip6.nemo.mnp.mnp", "2001:db8:100:1::|2001:db8:100:8000::"),
        ("mip6.hi", "1"),
        ("mip6.att", "4"),
        ("mip6.mnlli.lli", "020000000a01"),
        ("mip6.lila_lla", "::"),
        ("mip6.acoa.acoa", "2001:db8:a::2"),
    ]);

    // 14 November 2023; how the date is written differs between versions.
    let timestamp = update.get("mip6.timestamp_tmp");
    assert!(timestamp.contains("22:13:20.500000000"), "{timestamp}");

    acknowledgement.expect(&[
        ("mip6.mhtype", "6"),
        ("mip6.ba.status", "0"),
        ("mip6.ba.p_flag", "1"),
        ("mip6.ba.seqnr", "2"),
        ("mip6.ba.lifetime", "100"),
        ("mip6.mnid.identifier", "mn1@example.net"),
        ("mip6.nemo.mnp.mnp", "2001:db8:200:1::"),
        ("mip6.hi", "3"),
        ("mip6.lila_lla", "fe80::200:5eff:fe00:5213"),
        // Not dissected, but found where each begins, so the walk over the options is right.
        ("mip6.mobility_opt", "65|66|67|69|70|67|69|70"),
    ]);

    to_previous.expect(&[
        ("mip6.mhtype", "5"),
        ("mip6.hlen", "17"),
        ("mip6.bu.seqnr", "7"),
        ("mip6.bu.p_flag", "1"),
        ("mip6.nemo.mnp.mnp", "2001:db8:100:1::"),
        ("mip6.hi", "3"),
        ("mip6.mobility_opt", "68"),
        ("mip6.vsm.vendorId", "32473"),
        ("mip6.vsm.subtype", "1"),
    ]);

    // tshark remarks on the identifier without octets, which RFC 5213 section 5.3.6 demands here.
    refusal.expect(&[
        ("mip6.mhtype", "6"),
        ("mip6.ba.status", "160"),
        ("mip6.ba.seqnr", "3"),
        ("mip6.ba.lifetime", "0"),
        ("mip6.mnid.subtype", "1"),
        ("mip6.nemo.mnp.pfl", "0"),
        ("mip6.nemo.mnp.mnp", "::"),
    ]);

    error.expect(&[
        ("_ws.expert.message", ""),
        ("mip6.mhtype", "7"),
        ("mip6.hlen", "2"),
        ("mip6.be.status", "2"),
        ("mip6.be.haddr", "::"),
    ]);

    advertisement.expect(&[
        ("_ws.expert.message", ""),
        ("icmpv6.type", "134"),
        ("icmpv6.code", "0"),
        ("icmpv6.checksum.status", "1"),
        ("icmpv6.nd.ra.cur_hop_limit", "64"),
        ("icmpv6.nd.ra.router_lifetime", "1800"),
        ("icmpv6.nd.ra.reachable_time", "30000"),
        ("icmpv6.nd.ra.retrans_timer", "1000"),
        ("icmpv6.opt.type", "1|5|3|3"),
        ("icmpv6.opt.src_linkaddr", "00005e005213"),
        ("icmpv6.opt.mtu", "1460"),
        ("icmpv6.opt.prefix", "2001:db8:200:1::|2001:db8:100:1::"),
        ("icmpv6.opt.prefix.length", "64|64"),
        ("icmpv6.opt.prefix.flag.l", "1|0"),
        ("icmpv6.opt.prefix.flag.a", "1|1"),
        ("icmpv6.opt.prefix.valid_lifetime", "7200|4294967295"),
        ("icmpv6.opt.prefix.preferred_lifetime", "3600|0"),
    ]);

    solicitation.expect(&[
        ("_ws.expert.message", ""),
        ("icmpv6.type", "133"),
        ("icmpv6.checksum.status", "1"),
        ("icmpv6.opt.src_linkaddr", "020000000a01"),
    ]);
}

/// The test above can fail: a message that is cut short is seen as malformed.
#[test]
fn tshark_sees_a_message_that_is_cut_short() {
    let mut packet = packets().swap_remove(0);
    let length = u8::try_from(packet.len() - 40 - 8).unwrap();
    packet.truncate(packet.len() - 8);
    packet[5] = length;
    let decoded = decode(&[packet]);
    assert_ne!(decoded[0].get("_ws.malformed"), "");
}
