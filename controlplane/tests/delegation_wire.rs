//! DHCPv6 messages: golden octets, scapy and tshark as independent readers and writers. Needs the Debian packages
//! `python3-scapy` and `tshark`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helper functions too"
)]

use std::io::Write;
use std::process::{Command, Stdio};

use kedge_controlplane::delegation::wire::{
    Authentication, DelegatedPrefix, Duid, Hop, IdentityAssociation, Message, MessageType, OtherAssociation,
    Packet, Relay, StatusCode, WireError, option,
};
use proptest::prelude::*;
use serde_json::Value;

const PYTHON: &str = "/usr/bin/python3";

fn duid(last: u8) -> Duid {
    Duid::new(&[0, 3, 0, 1, 2, 0, 0, 0, 0x0a, last]).unwrap()
}

fn prefix(prefix: &str, exclude: Option<&str>) -> DelegatedPrefix {
    DelegatedPrefix {
        preferred: 120,
        valid: 240,
        prefix: prefix.parse().unwrap(),
        exclude: exclude.map(|it| it.parse().unwrap()),
        status: None,
    }
}

/// Everything that a Reply can have.
fn reply() -> Message {
    let mut message = Message::new(MessageType::Reply, 0x00ab_cdef);
    message.client = Some(duid(1));
    message.server = Some(duid(255));
    message.preference = Some(255);
    message.rapid_commit = true;
    message.reconfigure_accept = true;
    message.status = Some(StatusCode::new(0, "fine"));
    message.server_unicast = Some("2001:db8::1".parse().unwrap());
    message.solicit_maximum = Some(600);
    message.delegations = vec![
        IdentityAssociation {
            iaid: 7,
            t1: 60,
            t2: 96,
            // The example of RFC 6603 section 4.2.
            prefixes: vec![prefix("2001:db8:dead:bee0::/59", Some("2001:db8:dead:beef::/64"))],
            status: None,
        },
        IdentityAssociation {
            iaid: 8,
            status: Some(StatusCode::new(6, "none left")),
            ..IdentityAssociation::default()
        },
    ];
    message.others = vec![OtherAssociation {
        option: option::IA_NA,
        iaid: 9,
        status: Some(StatusCode::new(2, "")),
    }];
    message.authentication = Some(Authentication {
        protocol: 3,
        algorithm: 1,
        method: 0,
        replay: 77,
        information: [vec![1], vec![0x5a; 16]].concat(),
    });
    message
}

fn solicit() -> Message {
    let mut message = Message::new(MessageType::Solicit, 0x0001_0203);
    message.client = Some(duid(1));
    message.elapsed = Some(150);
    message.rapid_commit = true;
    message.reconfigure_accept = true;
    message.option_request = vec![option::PD_EXCLUDE, option::SOL_MAX_RT];
    let hint = DelegatedPrefix {
        preferred: 0,
        valid: 0,
        ..prefix("::/56", None)
    };
    message.delegations = vec![IdentityAssociation {
        prefixes: vec![hint],
        ..IdentityAssociation::new(1)
    }];
    message
}

fn relayed() -> Relay {
    Relay {
        forward: true,
        hop: Hop {
            count: 1,
            link: "2001:db8:a::1".parse().unwrap(),
            peer: "fe80::1".parse().unwrap(),
            interface: Some(b"eth0".to_vec()),
        },
        message: solicit().emit().unwrap(),
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

/// Both ways, octet by octet; the excluded prefix is the RFC's own example.
#[test]
fn golden() {
    let octets = unhex(
        "07 abcdef
         0001 000a 00030001020000000a01   0002 000a 00030001020000000aff
         0007 0001 ff   000e 0000   0014 0000   000d 0006 0000 66696e65
         000c 0010 20010db8000000000000000000000001   0052 0004 00000258
         0019 002f 00000007 0000003c 00000060
           001a 001f 00000078 000000f0 3b 20010db8deadbee00000000000000000   0043 0002 40 78
         0019 001b 00000008 00000000 00000000   000d 000b 0006 6e6f6e65206c656674
         0003 0012 00000009 00000000 00000000   000d 0002 0002
         000b 001c 03 01 00 000000000000004d 01 5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a",
    );
    assert_eq!(hex(&reply().emit().unwrap()), hex(&octets));
    assert_eq!(Message::parse(&octets).unwrap(), reply());
    let octets = unhex(
        "01 010203   0001 000a 00030001020000000a01   0008 0002 0096   000e 0000   0014 0000   0006 0004 0043 0052
         0019 0029 00000001 00000000 00000000   001a 0019 00000000 00000000 38 00000000000000000000000000000000",
    );
    assert_eq!(hex(&solicit().emit().unwrap()), hex(&octets));
    let relay = unhex(&format!(
        "0c 01 20010db8000a00000000000000000001 fe800000000000000000000000000001
         0012 0004 65746830   0009 {:04x} {}",
        octets.len(),
        hex(&octets)
    ));
    assert_eq!(hex(&relayed().emit().unwrap()), hex(&relay));
    assert_eq!(Packet::parse(&relay).unwrap(), Packet::Relay(relayed()));
}

/// dhcpcd makes room for an option for the excluded prefix and writes it without its content (9.4.1 and later): zeros are left.
#[test]
fn zeros_at_the_end_are_no_option() {
    let message = unhex("05 010203 0008 0002 0000");
    for zeros in 0..4 {
        let octets = [&message[..], &[0; 3][..zeros]].concat();
        assert_eq!(
            Packet::parse(&octets).unwrap(),
            Packet::parse(&message).unwrap(),
            "{zeros}"
        );
    }
}

#[test]
fn what_is_wrong_is_named() {
    let head = "01 010203 ";
    for (text, error) in [
        ("01 0102", "3 octets: the header has 4"),
        ("63 010203", "message type 99 is not known"),
        (
            "01 010203 0001 01",
            "3 octets are left where an option should begin",
        ),
        (
            "01 010203 0001 000a 00",
            "option 1: it says 10 octets, 1 are left",
        ),
        (
            "01 010203 0001 0002 0003",
            "option 1: a DUID has 3 to 130 octets, this one 2",
        ),
        ("01 010203 0008 0001 00", "option 8: 1 octets; it has 2"),
        ("01 010203 000e 0001 00", "option 14: 1 octets; it has none"),
        ("01 010203 000e 0000 000e 0000", "option 14 is there twice"),
        (
            "01 010203 0006 0003 000001",
            "option 6: 3 octets; it has an even number",
        ),
        (
            "01 010203 000b 0005 0301000000",
            "option 11: 5 octets; it has 11 or more",
        ),
        ("01 010203 000d 0001 00", "option 13: 1 octets; it has 2 or more"),
        (
            "01 010203 0019 0004 00000001",
            "option 25: 4 octets; it has 12 or more",
        ),
        (
            "01 010203 0003 0004 00000001",
            "option 3: 4 octets; it has 12 or more",
        ),
        ("0c 00 2001", "4 octets: the header has 34"),
    ] {
        assert_eq!(
            Packet::parse(&unhex(text)).unwrap_err().to_string(),
            error,
            "{text}"
        );
    }
    let in_prefix = |length: &str, rest: &str| {
        let rest = unhex(rest);
        let data = format!(
            "00000078 000000f0 {length} 20010db8deadbee00000000000000000 {}",
            hex(&rest)
        );
        let outer = format!("00000007 00000000 00000000 001a {:04x} {data}", 25 + rest.len());
        let octets = unhex(&format!("{head} 0019 {:04x} {outer}", 12 + 29 + rest.len()));
        Message::parse(&octets).unwrap_err().to_string()
    };
    assert_eq!(in_prefix("81", ""), "prefix length 129: it is at most 128");
    for (length, exclude) in [
        ("40", "0043 0002 40 78"),
        ("3b", "0043 0012 81 0000000000000000000000000000000000"),
    ] {
        let error = in_prefix(length, exclude);
        assert!(error.starts_with("excluded prefix length"), "{error}");
    }
    let error = in_prefix("3b", "0043 0003 40 78 00");
    assert!(
        error.starts_with("option 67: 3 octets; it has 2 to 17"),
        "{error}"
    );
    let twice = in_prefix("3b", "0043 0002 40 78 0043 0002 40 78");
    assert_eq!(twice, "option 67 is there twice");
    let mut message = reply();
    message.delegations[0].prefixes[0].exclude = Some("2001:db8::/64".parse().unwrap());
    assert!(matches!(message.emit(), Err(WireError::Exclude { .. })));
    let mut message = reply();
    message.status = Some(StatusCode::new(0, &"x".repeat(65_534)));
    assert!(matches!(
        message.emit(),
        Err(WireError::TooLong { option: 13, .. })
    ));
    let empty_relay = unhex(&format!("0c 01 {} 0012 0001 00", "00".repeat(32)));
    assert_eq!(
        Packet::parse(&empty_relay),
        Err(WireError::Missing {
            option: option::RELAY_MESSAGE
        })
    );
}

/// Host bits behind a prefix's length mean nothing.
#[test]
fn bits_behind_the_length_are_cleared() {
    let mut octets = solicit().emit().unwrap();
    let last = octets.len() - 1;
    octets[last] = 0xff;
    assert_eq!(Message::parse(&octets).unwrap(), solicit());
}

fn python(script: &str, input: &str) -> Value {
    let mut child = Command::new(PYTHON)
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "is the Debian package `python3-scapy` there?"
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn scapy_reads_what_is_written() {
    let script = r#"
import json, sys
from scapy.layers.dhcp6 import *
def pd(ia):
    return {"iaid": ia.iaid, "t1": ia.T1, "t2": ia.T2, "options": [
        {"prefix": o.prefix, "length": o.plen, "preferred": o.preflft, "valid": o.validlft} if o.optcode == 26
        else {"status": o.statuscode, "text": o.statusmsg.decode()} for o in ia.iapdopt]}
def layers(packet):
    while packet:
        yield packet
        packet = packet.payload
out = []
for line in sys.stdin:
    packet = (DHCP6_RelayForward if line.startswith("0c") else DHCP6_Solicit if line.startswith("01") else DHCP6_Reply)(bytes.fromhex(line))
    if line.startswith("0c"):
        out.append({"hops": packet.hopcount, "link": packet.linkaddr, "peer": packet.peeraddr,
                    "in": type(packet[DHCP6OptRelayMsg].message).__name__})
        continue
    out.append({"type": packet.msgtype, "transaction": packet.trid,
        "codes": [l.optcode for l in layers(packet.payload) if hasattr(l, "optcode")],
        "pd": [pd(l) for l in layers(packet.payload) if getattr(l, "optcode", 0) == 25]})
print(json.dumps(out))
"#;
    let lines = [
        reply().emit().unwrap(),
        solicit().emit().unwrap(),
        relayed().emit().unwrap(),
    ];
    let read = python(script, &lines.map(|octets| hex(&octets)).join("\n"));
    assert_eq!(
        (&read[0]["type"], &read[0]["transaction"]),
        (&7.into(), &0x00ab_cdef.into())
    );
    assert_eq!(
        read[0]["codes"],
        serde_json::json!([1, 2, 7, 14, 20, 13, 12, 82, 25, 25, 3, 11])
    );
    assert_eq!(
        read[0]["pd"][0]["options"][0],
        serde_json::json!({"prefix": "2001:db8:dead:bee0::", "length": 59, "preferred": 120, "valid": 240})
    );
    assert_eq!(read[0]["pd"][0]["t2"], 96);
    assert_eq!(
        read[0]["pd"][1]["options"][0],
        serde_json::json!({"status": 6, "text": "none left"})
    );
    assert_eq!(read[1]["codes"], serde_json::json!([1, 8, 14, 20, 6, 25]));
    assert_eq!(
        read[2],
        serde_json::json!({"hops": 1, "link": "2001:db8:a::1", "peer": "fe80::1", "in": "DHCP6_Solicit"})
    );
}

#[test]
fn what_scapy_writes_is_read() {
    let script = r#"
import json
from scapy.layers.dhcp6 import *
d = DUID_LL(lladdr="02:00:00:00:0a:01")
ia = DHCP6OptIA_PD(iaid=5, T1=10, T2=20, iapdopt=[DHCP6OptIAPrefix(preflft=30, validlft=40, plen=56, prefix="2001:db8:1:200::")])
message = DHCP6_Renew(trid=0x123456) / DHCP6OptClientId(duid=d) / DHCP6OptServerId(duid=d) / DHCP6OptElapsedTime(elapsedtime=7) / ia / DHCP6OptReconfAccept()
relay = DHCP6_RelayForward(hopcount=0, linkaddr="2001:db8::9", peeraddr="fe80::9") / DHCP6OptIfaceId(ifaceid=b"x") / DHCP6OptRelayMsg(message=message)
print(json.dumps([bytes(message).hex(), bytes(relay).hex()]))
"#;
    let written = python(script, "");
    let octets = unhex(written[0].as_str().unwrap());
    let mut expected = Message::new(MessageType::Renew, 0x0012_3456);
    (expected.client, expected.server) = (Some(duid(1)), Some(duid(1)));
    (expected.elapsed, expected.reconfigure_accept) = (Some(7), true);
    expected.delegations = vec![IdentityAssociation {
        iaid: 5,
        t1: 10,
        t2: 20,
        prefixes: vec![DelegatedPrefix {
            preferred: 30,
            valid: 40,
            ..prefix("2001:db8:1:200::/56", None)
        }],
        status: None,
    }];
    assert_eq!(Message::parse(&octets).unwrap(), expected);
    let Ok(Packet::Relay(relay)) = Packet::parse(&unhex(written[1].as_str().unwrap())) else {
        panic!()
    };
    assert_eq!(
        (relay.message, relay.hop.interface),
        (octets, Some(b"x".to_vec()))
    );
}

/// tshark knows the Prefix Exclude option, and says so when a length is wrong.
#[test]
fn tshark_reads_what_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("delegation.txt");
    let mut dump = String::new();
    for octets in [
        reply().emit().unwrap(),
        solicit().emit().unwrap(),
        relayed().emit().unwrap(),
    ] {
        dump += &format!(
            "0000 {}\n",
            octets.iter().map(|it| format!("{it:02x} ")).collect::<String>()
        );
    }
    std::fs::write(&path, dump).unwrap();
    let pcap = directory.path().join("delegation.pcap");
    let made = Command::new("text2pcap")
        .args(["-q", "-6", "2001:db8::1,2001:db8::2", "-u", "547,546"])
        .args([&path, &pcap])
        .status()
        .unwrap();
    assert!(made.success());
    let output = Command::new("tshark")
        .args(["-n", "-V", "-r"])
        .arg(&pcap)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        "Message type: Reply (7)",
        "Transaction ID: 0xabcdef",
        "Prefix address: 2001:db8:dead:bee0::",
        "Status Code: NoPrefixAvail (6)",
        "IPv6 subnet ID: 78",
        "Message type: Relay-forw (12)",
    ] {
        let all_of = line.split(": ");
        let found = text.lines().any(|it| {
            all_of
                .clone()
                .all(|part| it.to_lowercase().contains(&part.to_lowercase()))
        });
        assert!(found, "{line} is not in\n{text}");
    }
    assert!(!text.contains("Malformed"), "{text}");
}

proptest! {
    #[test]
    fn what_is_read_is_written_the_same(octets in proptest::collection::vec(any::<u8>(), 0..200), seed in any::<usize>()) {
        // Mostly a message with one octet changed: that gets further than noise.
        let mut near = reply().emit().unwrap();
        let at = seed % near.len();
        near[at] = octets.first().copied().unwrap_or(0);
        for octets in [octets, near] {
            if let Ok(message) = Message::parse(&octets) {
                prop_assert_eq!(Message::parse(&message.emit().unwrap()), Ok(message));
            }
        }
    }
}
