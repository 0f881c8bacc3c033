//! Kedge and scapy each read what the other writes. Needs scapy (Debian package `python3-scapy`).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helper functions too"
)]

mod wire_samples;

use std::io::Write;
use std::net::Ipv6Addr;
use std::process::{Command, Stdio};

use kedge_controlplane::wire::mobility::{
    self, BindingError, LogicalInterface, MobilityError, MobilityMessage, MobilityOptions,
    PreviousMaarOption, ProxyBindingAcknowledgement, ProxyBindingUpdate, Status, TunnelEndpoint,
};
use kedge_controlplane::wire::neighbour_discovery::{RouterAdvertisement, RouterSolicitation};
use serde::Deserialize;
use serde_json::{Value, json};
use wire_samples::{address, advertisement, maar_1, maar_2, options, packets, router, solicitation};

/// Debian's, for which its package of scapy is made.
const PYTHON: &str = "/usr/bin/python3";

/// Runs a script with `input`, and gives the lines that it prints.
fn python<T: for<'a> Deserialize<'a>>(script: &str, input: &str) -> Vec<T> {
    let mut child = Command::new(PYTHON)
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!(
                "{PYTHON} does not start ({error}): install the Debian packages `python3` and `python3-scapy`"
            )
        });
    // Small enough for a pipe, so nothing blocks; dropping the end closes it.
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{PYTHON} failed (is the Debian package `python3-scapy` there?): {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[derive(Deserialize)]
struct Built {
    name: String,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
    octets: String,
}

impl Built {
    fn octets(&self) -> Vec<u8> {
        (0..self.octets.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&self.octets[at..at + 2], 16).unwrap())
            .collect()
    }

    fn mobility(&self) -> Result<MobilityMessage, MobilityError> {
        mobility::parse(self.source, self.destination, &self.octets())
    }
}

#[test]
fn messages_built_by_scapy() {
    let built: Vec<Built> = python(include_str!("wire_scapy/build.py"), "");
    let get = |name: &str| built.iter().find(|built| built.name == name).unwrap();

    let mut first = options("2001:db8:100:1::/64", 1);
    assert_eq!(
        get("plain").mobility(),
        Ok(MobilityMessage::ProxyBindingUpdate(ProxyBindingUpdate {
            sequence: 1,
            flags: 0x8200,
            lifetime: 150,
            options: first.clone(),
        }))
    );
    first.link_local_address = Some(Ipv6Addr::UNSPECIFIED);
    let update = MobilityMessage::ProxyBindingUpdate(ProxyBindingUpdate {
        sequence: 1,
        flags: 0x8210,
        lifetime: 150,
        options: first,
    });
    assert_eq!(get("update").mobility().as_ref(), Ok(&update));
    // The same alignment on both sides, so the same octets.
    let emitted = mobility::emit(&update, get("update").source, get("update").destination).unwrap();
    assert_eq!(emitted, get("update").octets());

    let mut after_handover = options("2001:db8:200:1::/64", 3);
    after_handover.previous_maars.push(PreviousMaarOption {
        address: maar_1(),
        home_network_prefix: "2001:db8:100:1::/64".parse().unwrap(),
        logical_interface: LogicalInterface {
            link_local_address: Some(router()),
            link_layer_address: Some(vec![0, 0, 0x5e, 0, 0x52, 0x13]),
        },
    });
    assert_eq!(
        get("acknowledgement").mobility(),
        Ok(MobilityMessage::ProxyBindingAcknowledgement(
            ProxyBindingAcknowledgement {
                status: Status::ACCEPTED,
                flags: 0x22,
                sequence: 2,
                lifetime: 150,
                options: after_handover,
            }
        ))
    );

    // Between an option of another vendor and one of a version to come.
    let MobilityMessage::ProxyBindingUpdate(offer) = get("offer").mobility().unwrap() else {
        panic!("no update");
    };
    let teid = 0xfeed_1234.try_into().unwrap();
    assert_eq!(
        offer.options.tunnel_endpoints,
        [TunnelEndpoint::gtpu(maar_1(), teid)]
    );
    assert_eq!(offer.options.unknown, 2);

    let misaligned = MobilityOptions {
        mobile_node_identifier: Some("mn1@example.net".parse().unwrap()),
        home_network_prefixes: vec!["2001:db8:100:1::/64".parse().unwrap()],
        anchored_prefixes: vec!["2001:db8:100:1::/64".parse().unwrap()],
        local_prefixes: vec!["2001:db8:aa::/48".parse().unwrap()],
        serving_maar: Some(maar_2()),
        alternate_care_of_address: Some(address("2001:db8:a::2")),
        unknown: 1,
        ..MobilityOptions::default()
    };
    let Ok(MobilityMessage::ProxyBindingUpdate(update)) = get("misaligned").mobility() else {
        panic!("{:?}", get("misaligned").mobility());
    };
    assert_eq!(update.options, misaligned);

    assert_eq!(
        get("no proxy").mobility(),
        Err(MobilityError::NotProxy { mh_type: 5 })
    );
    let error = BindingError {
        status: mobility::binding_error_status::UNRECOGNISED_MH_TYPE,
        home_address: Ipv6Addr::UNSPECIFIED,
    };
    assert_eq!(get("error").mobility(), Ok(MobilityMessage::BindingError(error)));
    assert_eq!(get("other").mobility(), Ok(MobilityMessage::Other(1)));

    let built = get("solicitation");
    assert_eq!(
        RouterSolicitation::parse(built.source, built.destination, built.hop_limit, &built.octets()),
        Ok(solicitation())
    );
    // In another order, between options and flags that Kedge does not use.
    let built = get("advertisement");
    assert_eq!(
        RouterAdvertisement::parse(built.source, built.destination, built.hop_limit, &built.octets()),
        Ok(advertisement())
    );
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Type and data, as the script prints them.
fn option(option: u8, data: &[&[u8]]) -> Value {
    json!({ "type": option, "data": hexadecimal(&data.concat()) })
}

fn common(prefixes: &[(&str, u8)], indicator: u8) -> Vec<Value> {
    let mut options = vec![option(8, &[&[1], b"mn1@example.net"])];
    options.extend(
        prefixes
            .iter()
            .map(|(prefix, length)| option(22, &[&[0, *length], &address(prefix).octets()])),
    );
    options.push(option(23, &[&[0, indicator]]));
    options.push(option(24, &[&[0, 4]]));
    options.push(option(27, &[&[0, 0, 0x65, 0x53, 0xf1, 0, 0x80, 0]]));
    options.push(option(25, &[&[0, 0, 2, 0, 0, 0, 10, 1]]));
    options
}

#[test]
fn messages_read_by_scapy() {
    let input: String = packets()
        .iter()
        .map(|packet| hexadecimal(packet) + "\n")
        .collect();
    let seen: Vec<Value> = python(include_str!("wire_scapy/dissect.py"), &input);
    let [
        update,
        acknowledgement,
        to_previous,
        refusal,
        error,
        advertisement,
        solicitation,
    ] = &seen[..]
    else {
        panic!("{} packets", seen.len());
    };

    // scapy's seven flags are P R M K L H A from the right, then nine reserved bits: D is 0x10 of them.
    let mut expected = common(&[("2001:db8:100:1::", 64), ("2001:db8:100:8000::", 56)], 1);
    expected.push(option(26, &[&[0; 16]]));
    expected.push(option(3, &[&address("2001:db8:a::2").octets()]));
    assert_eq!(
        *update,
        json!({
            "kind": "update", "flags": 0x41, "reserved": 0x10, "sequence": 0xfffe, "lifetime": 150,
            "options": expected, "checksum": 0,
        })
    );

    let mut expected = common(&[("2001:db8:200:1::", 64)], 3);
    expected.push(option(26, &[&router().octets()]));
    expected.push(option(65, &[&[0, 64], &address("2001:db8:200:1::").octets()]));
    expected.push(option(66, &[&[0, 48], &address("2001:db8:aa::").octets()]));
    for (maar, prefix, last) in [
        ("2001:db8:a::1", "2001:db8:100:1::", 1),
        ("2001:db8:a::3", "2001:db8:300:1::", 3),
    ] {
        expected.push(option(
            67,
            &[&[0, 64], &address(maar).octets(), &address(prefix).octets()],
        ));
        expected.push(option(69, &[&address(&format!("fe80::{last}")).octets()]));
        expected.push(option(70, &[&[0, 0, 2, 0, 0, 0, 0, last]]));
    }
    assert_eq!(
        *acknowledgement,
        json!({
            "kind": "acknowledgement", "status": 0, "flags": 1, "reserved": 2, "sequence": 2, "lifetime": 100,
            "options": expected, "checksum": 0,
        })
    );

    let mut expected = common(&[("2001:db8:100:1::", 64)], 3);
    expected.push(option(68, &[&maar_2().octets()]));
    let teid = [0xfe, 0xed, 0x12, 0x34];
    expected.push(option(
        19,
        &[&[0, 0, 0x7e, 0xd9, 1, 0, 2, 0, 0], &maar_2().octets(), &teid],
    ));
    assert_eq!(
        *to_previous,
        json!({
            "kind": "update", "flags": 0x41, "reserved": 0x10, "sequence": 7, "lifetime": 150,
            "options": expected, "checksum": 0,
        })
    );

    let mut expected = common(&[("::", 0)], 4);
    expected[0] = option(8, &[&[1]]);
    assert_eq!(
        *refusal,
        json!({
            "kind": "acknowledgement", "status": 160, "flags": 1, "reserved": 2, "sequence": 3, "lifetime": 0,
            "options": expected, "checksum": 0,
        })
    );
    assert_eq!(
        *error,
        json!({ "kind": "error", "status": 2, "home_address": "::", "checksum": 0 })
    );
    assert_eq!(
        *advertisement,
        json!({
            "kind": "advertisement", "hop_limit": 64, "lifetime": 1800, "reachable": 30000, "retransmit": 1000,
            "link_layer_addresses": ["00:00:5e:00:52:13"],
            "prefixes": [
                ["2001:db8:200:1::", 64, 1, 1, 7200, 3600],
                ["2001:db8:100:1::", 64, 0, 1, u32::MAX, 0],
            ],
            "checksum": 0,
        })
    );
    assert_eq!(
        *solicitation,
        json!({ "kind": "solicitation", "link_layer_addresses": ["02:00:00:00:0a:01"], "checksum": 0 })
    );
}
