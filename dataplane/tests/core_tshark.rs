//! An independent reader, tshark, on what the packet path makes: tunnelled packets and ICMPv6 errors.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;

use std::process::Command;

use core_support::*;

/// A pcap file of Ethernet frames.
fn pcap(frames: &[Vec<u8>]) -> tempfile::NamedTempFile {
    let mut octets = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65535, 1] {
        octets.extend_from_slice(&word.to_le_bytes());
    }
    for frame in frames {
        let length = u32::try_from(frame.len()).unwrap();
        for word in [0, 0, length, length] {
            octets.extend_from_slice(&word.to_le_bytes());
        }
        octets.extend_from_slice(frame);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), octets).unwrap();
    file
}

/// The fields of each frame, several of one kind separated by commas.
fn dissect(frames: &[Vec<u8>], fields: &[&str]) -> Vec<Vec<String>> {
    dissect_with(frames, &[], fields)
}

fn dissect_with(frames: &[Vec<u8>], options: &[&str], fields: &[&str]) -> Vec<Vec<String>> {
    let file = pcap(frames);
    let mut command = Command::new("tshark");
    command
        .arg("-r")
        .arg(file.path())
        .args(options)
        .args(["-T", "fields", "-E", "separator=|"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command
        .output()
        .expect("tshark is needed: install the package tshark");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| line.split('|').map(str::to_owned).collect())
        .collect()
}

#[test]
fn tunnelled_packets_are_ipv6_in_ipv6() {
    let out = Gateway::new().one(CORE, &udp(REMOTE, ANCHORED, 64));
    let frames = [out.transmit[0].1.clone()];
    let fields = [
        "ipv6.src",
        "ipv6.dst",
        "ipv6.nxt",
        "ipv6.hlim",
        "udp.dstport",
        "_ws.malformed",
        "ipv6.flow",
    ];
    let read = &dissect(&frames, &fields)[0];
    assert_eq!(read[0], format!("{OWN},{REMOTE}"));
    assert_eq!(read[1], format!("{PEER},{ANCHORED}"));
    assert_eq!(read[2..6], ["41,17", "64,63", "9", ""].map(str::to_owned));
    let flow = read[6].split(',').next().unwrap();
    assert_ne!(
        flow, "0x00000",
        "RFC 6438: the outer flow label tells flows apart"
    );
}

#[test]
fn errors_have_right_checksums() {
    let cases = [
        (udp(REMOTE, NODE, 1), "3", "0", ""),
        (udp(REMOTE, "2001:db8:100:77::1", 64), "1", "0", ""),
        (udp(REMOTE, "2001:db8:bad::1", 64), "1", "1", ""),
        (sized(REMOTE, ANCHORED, 1461), "2", "0", "1460"),
        (sized(REMOTE, ANCHORED, 1500), "2", "0", "1460"),
    ];
    let frames: Vec<Vec<u8>> = cases
        .iter()
        .map(|(packet, ..)| Gateway::new().one(CORE, packet).transmit[0].1.clone())
        .collect();
    let fields = [
        "icmpv6.type",
        "icmpv6.code",
        "icmpv6.mtu",
        "icmpv6.checksum.status",
        "frame.len",
    ];
    for (read, (_, kind, code, mtu)) in dissect(&frames, &fields).iter().zip(&cases) {
        assert_eq!(
            read[..4],
            [*kind, *code, *mtu, "1"].map(str::to_owned),
            "1 is a good checksum"
        );
        assert!(read[4].parse::<usize>().unwrap() <= 14 + 1280);
    }
}

#[test]
fn g_pdus_and_answers_are_gtpu() {
    let inner = udp(REMOTE, GTPU_OLD, 64);
    let frames: Vec<Vec<u8>> = [
        udp(REMOTE, GTPU_ANCHORED, 64),
        gtpu(PEER, OWN, &[0x32, 1, 0, 4, 0, 0, 0, 0, 0x12, 0x34, 0, 0]),
        g_pdu(PEER, OWN, 0x0102_0304, &inner),
    ]
    .iter()
    .map(|packet| Gateway::new().one(CORE, packet).transmit[0].1.clone())
    .collect();
    let fields = [
        "gtp.message",
        "gtp.teid",
        "gtp.seq_number",
        "gtp.recovery",
        "gtp.teid_data",
        "gtp.gsn_ipv6",
        "_ws.malformed",
        "udp.checksum.status",
        "udp.dstport",
    ];
    // Checksums are looked at only when asked for.
    let read = dissect_with(&frames, &["-o", "udp.check_checksum:TRUE"], &fields);
    let of = |at: usize| read[at].iter().map(String::as_str).collect::<Vec<_>>();
    // 1 is a good checksum; the inner one has none at all.
    assert_eq!(of(0)[..2], ["0xff", "0xdeadbeef"]);
    assert_eq!(of(0)[6], "");
    assert!(of(0)[7].starts_with('1') && of(0)[8] == "2152,9", "{:?}", of(0));
    assert_eq!(
        of(1),
        ["0x02", "0x00000000", "0x1234", "0", "", "", "", "1", "49443"]
    );
    assert_eq!(of(2)[..2], ["0x1a", "0x00000000"]);
    assert_eq!(of(2)[4..], ["0x01020304", OWN, "", "1", "2152"]);
}

#[test]
fn g_pdus_and_answers_over_ipv4_are_gtpu() {
    let to_core = |packet: &[u8]| ethernet4(CORE_MAC, ROUTER_MAC, packet);
    let request = [0x32, 1, 0, 4, 0, 0, 0, 0, 0x12, 0x34, 0, 0];
    let inner = udp(REMOTE, IPV4_OLD, 64);
    let mut frames = vec![
        Gateway::new().one(CORE, &udp(REMOTE, IPV4_ANCHORED, 64)).transmit[0]
            .1
            .clone(),
    ];
    for packet in [
        gtpu4(PEER4, OWN4, &[], &request, true),
        g_pdu4(PEER4, OWN4, 0x0102_0304, &inner),
    ] {
        let out = Gateway::new().frame(CORE, &to_core(&packet));
        frames.push(out.transmit[0].1.clone());
    }
    let fields = [
        "ip.src",
        "ip.dst",
        "ip.flags.df",
        "ip.checksum.status",
        "udp.checksum.status",
        "gtp.message",
        "gtp.teid",
        "gtp.teid_data",
        "gtp.gsn_ipv4",
        "_ws.malformed",
    ];
    let read = dissect_with(
        &frames,
        &["-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"],
        &fields,
    );
    let of = |at: usize| read[at].iter().map(String::as_str).collect::<Vec<_>>();
    // 1 is a good checksum, 3 none.
    for at in 0..3 {
        assert_eq!(of(at)[..4], [OWN4, PEER4, "1", "1"], "{at}");
        assert_eq!(of(at)[9], "");
    }
    assert!(of(0)[4].starts_with('3'), "{:?}", of(0));
    assert_eq!(of(0)[5..7], ["0xff", "0xdeadbeef"]);
    assert_eq!(of(1)[4..6], ["1", "0x02"]);
    assert_eq!(of(2)[4..9], ["1", "0x1a", "0x00000000", "0x01020304", OWN4]);
}

#[test]
fn fragments_of_a_g_pdu_over_ipv4_are_one_with_a_right_checksum() {
    let mut gateway = Gateway::new();
    let peer = octets(&format!("::ffff:{PEER4}")).into();
    let learned = gateway
        .compiler
        .learn_path_mtu(peer, 576, std::time::Instant::now());
    gateway.snapshot = learned.unwrap();
    let inner = ipv6(REMOTE, IPV4_ANCHORED, 59, 64, &[0x4b; 1240]);
    let out = gateway.one(CORE, &inner);
    let frames: Vec<_> = out.transmit.into_iter().map(|it| it.1).collect();
    let fields = [
        "ip.flags.df",
        "ip.flags.mf",
        "ip.checksum.status",
        "ip.reassembled.length",
        "ip.fragment.error",
        "udp.checksum.status",
        "gtp.teid",
        "ipv6.dst",
        "_ws.malformed",
    ];
    let options = [
        "-o",
        "ip.defragment:TRUE",
        "-o",
        "ip.check_checksum:TRUE",
        "-o",
        "udp.check_checksum:TRUE",
    ];
    let read = dissect_with(&frames, &options, &fields);
    let only = |it: &[String]| {
        it.iter()
            .map(|it| it.split(',').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let read: Vec<Vec<String>> = read.iter().map(|it| only(it)).collect();
    assert_eq!(read[0], ["0", "1", "1", "", "", "", "", "", ""]);
    assert_eq!(read[1][..3], ["0", "1", "1"]);
    // 1 is a good checksum; of UDP, it is the outer one's.
    assert_eq!(read[2][..6], ["0", "0", "1", "1296", "", "1"]);
    assert_eq!(read[2][6..], ["0xdeadbeef", IPV4_ANCHORED, ""]);
}

#[test]
fn gre_packets_have_the_key() {
    let frames: Vec<Vec<u8>> = [GRE_ANCHORED, KEYLESS_ANCHORED]
        .map(|to| {
            Gateway::new().one(CORE, &udp(REMOTE, to, 64)).transmit[0]
                .1
                .clone()
        })
        .to_vec();
    let fields = [
        "ipv6.nxt",
        "gre.proto",
        "gre.key",
        "gre.flags.key",
        "gre.flags.checksum",
        "udp.dstport",
        "_ws.malformed",
    ];
    let read = dissect(&frames, &fields);
    let key = format!("0x{REMOTE_KEY:08x}");
    assert_eq!(
        read[0],
        ["47,17", "0x86dd", &key, "1", "0", "9", ""].map(str::to_owned)
    );
    assert_eq!(
        read[1],
        ["47,17", "0x86dd", "", "0", "0", "9", ""].map(str::to_owned)
    );
}

#[test]
fn carried_ipv4_is_ipv4_in_every_kind_of_tunnel() {
    let payload = [0x30, 0x39, 0, 9, 0, 12, 0, 0, b'k', b'e', b'd', b'g'];
    let frames: Vec<Vec<u8>> = CARRIED
        .map(|to| {
            let packet = ipv4(REMOTE4, to, 17, &[], &payload);
            let out = Gateway::carrying_ipv4().frame(CORE, &ethernet4(CORE_MAC, ROUTER_MAC, &packet));
            out.transmit[0].1.clone()
        })
        .to_vec();
    let fields = [
        "ip.dst",
        "ip.ttl",
        "ip.checksum.status",
        "ipv6.nxt",
        "gre.proto",
        "gtp.teid",
        "udp.dstport",
        "_ws.malformed",
    ];
    let read = dissect_with(&frames, &["-o", "ip.check_checksum:TRUE"], &fields);
    let key = "0xdeadbeef";
    // Inner and outer, where both are IPv4; 1 is a good checksum, 61 less one the time to live.
    let expected = [
        [CARRIED[0], "60", "1", "4", "", "", "9", ""],
        [CARRIED[1], "60", "1", "4", "", "", "9", ""],
        [CARRIED[2], "60", "1", "17", "", key, "2152,9", ""],
        [
            "198.51.100.2,203.0.113.4",
            "64,60",
            "1,1",
            "",
            "",
            key,
            "2152,9",
            "",
        ],
        [CARRIED[4], "60", "1", "47", "0x0800", "", "9", ""],
        [CARRIED[5], "60", "1", "47", "0x0800", "", "9", ""],
    ];
    assert_eq!(read, expected.map(|line| line.map(str::to_owned).to_vec()));
}

#[test]
fn errors_about_carried_ipv4_and_its_fragments_are_right() {
    let large = |flags| {
        let packet = ipv4(REMOTE4, CARRIED[1], 17, &[], &[0x4b; 1480]);
        ethernet4(CORE_MAC, ROUTER_MAC, &ipv4_changed(&packet, 6, &[flags]))
    };
    let mut gateway = Gateway::carrying_ipv4();
    let mut frames = vec![gateway.frame(CORE, &large(0x40)).transmit[0].1.clone()];
    let late = ipv4_changed(&ipv4(REMOTE4, CARRIED[0], 17, &[], &[0x4b; 40]), 8, &[1]);
    let late = ethernet4(CORE_MAC, ROUTER_MAC, &late);
    frames.push(gateway.frame(CORE, &late).transmit[0].1.clone());
    let fields = [
        "icmp.type",
        "icmp.code",
        "icmp.mtu",
        "icmp.checksum.status",
        "_ws.malformed",
    ];
    let read = dissect_with(&frames, &["-o", "ip.check_checksum:TRUE"], &fields);
    assert_eq!(read[0], ["3", "4", "1260", "1", ""].map(str::to_owned));
    assert_eq!(read[1], ["11", "0", "", "1", ""].map(str::to_owned));
    // Both fragments together are one datagram for a reader that puts them together.
    let out = gateway.frame(CORE, &large(0));
    let frames: Vec<_> = out.transmit.into_iter().map(|it| it.1).collect();
    let fields = ["ip.flags.mf", "ip.reassembled.length", "ip.fragment.error"];
    let read = dissect_with(&frames, &["-o", "ip.defragment:TRUE"], &fields);
    assert_eq!(read[0][0], "1");
    assert_eq!(read[1], ["0", "1480", ""].map(str::to_owned));
}
