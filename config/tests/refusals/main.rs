//! Examples are accepted; each rule refuses what breaks it, with the key, the value and the reason.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod announce;
mod cmd;
mod delegation;
mod filters_and_meters;
mod gateways;
mod node;
mod policies;
mod ports_and_routes;
mod tunnelled;

use kedge_config::{Config, TunnelType};
use proptest::prelude::*;

const MAAR: &str = include_str!("../../examples/maar.toml");
const CMD: &str = include_str!("../../examples/cmd.toml");
const DPN: &str = include_str!("../../examples/dpn.toml");
/// The section of the example, whole.
const ANNOUNCE: &str = r#"[announce]
daemon = "gobgp"                       # or "kernel", for BIRD and FRR
what = "pools"                         # or "prefixes": one route for each node
communities = ["65001:100"]

[announce.gobgp]
endpoint = "http://127.0.0.1:50051""#;

#[test]
fn the_examples_are_accepted() {
    for text in [MAAR, CMD, DPN, include_str!("../../examples/maar-nic.toml")] {
        Config::parse(text, "example").unwrap();
    }
}

#[test]
fn tunnels_are_ipv6_in_ipv6_unless_said_otherwise() {
    for (text, kind) in [
        ("", TunnelType::Ipv6InIpv6),
        ("tunnel = \"gtpu\"", TunnelType::GtpU),
        ("tunnel = \"gre\"", TunnelType::Gre),
    ] {
        let maar = Config::parse(&MAAR.replace("tunnel = \"ipv6-in-ipv6\"", text), "maar").unwrap();
        assert_eq!(maar.maar.unwrap().tunnel, kind);
        let cmd = Config::parse(&CMD.replace("tunnel = \"ipv6-in-ipv6\"", text), "cmd").unwrap();
        assert_eq!(cmd.cmd.unwrap().tunnel, kind);
    }
}

/// Changes a piece of an example, and gives the errors that this leads to.
fn errors(text: &str, from: &str, to: &str) -> Vec<String> {
    assert!(text.contains(from), "the example has no {from:?}");
    let changed = text.replacen(from, to, 1);
    match Config::parse(&changed, "f") {
        Ok(_) => panic!("{to:?} was accepted"),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

/// For each change of an example there is an error with this text in it: the example, a piece of it, what stands there instead, the error.
fn refused(cases: &[(&str, &str, &str, &str)]) {
    for &(text, from, to, expected) in cases {
        let errors = errors(text, from, to);
        assert!(
            errors.iter().any(|error| error.contains(expected)),
            "{to:?} gave {errors:#?}, not {expected:?}"
        );
    }
}

#[test]
fn all_errors_are_told_together() {
    let text = MAAR
        .replace("workers = [1]", "workers = []")
        .replace("name = \"maar1\"", "name = \"\"");
    assert_eq!(Config::parse(&text, "f").unwrap_err().errors.len(), 2);
}

#[test]
fn an_unknown_key_is_found_by_line_and_column() {
    let error = Config::parse("[node]\nname = \"a\"\nnme = \"b\"\n", "f")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("f: line 3, column 1: unknown field `nme`"),
        "{error}"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load("/nonexistent/kedge.toml".as_ref())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("/nonexistent/kedge.toml: cannot be read"),
        "{error}"
    );
}

proptest! {
    /// Whatever is in the file, an error is the worst that comes of it.
    #[test]
    fn nothing_panics(at in 0usize..1200, length in 0usize..40, with in "[ -~\n]{0,20}") {
        for text in [MAAR, CMD] {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            if let (Some(before), Some(after)) = (text.get(..at), text.get(end..)) {
                let _ = Config::parse(&format!("{before}{with}{after}"), "f");
            }
        }
    }
}

#[test]
fn ipv4_is_known_by_its_mapped_form() {
    let text = MAAR
        .replace(
            "[\"2001:db8:ca1::2/64\"]",
            "[\"2001:db8:ca1::2/64\", \"192.0.2.2/24\"]",
        )
        .replace(
            "[maar]",
            "[[route]]\nprefix = \"0.0.0.0/0\"\nport = \"core\"\ngateway = \"192.0.2.254\"\n[maar]",
        )
        .replace(
            "\"ipv6-in-ipv6\"",
            "\"gtpu\"\ngtpu_ipv4_address = \"198.51.100.1\"",
        );
    let config = Config::parse(&text, "maar").unwrap();
    let address = config.ports[0].addresses[1];
    assert_eq!(address, "::ffff:192.0.2.2/120".parse().unwrap());
    assert_eq!(kedge_config::shown(address).to_string(), "192.0.2.2/24");
    let route = &config.routes[1];
    assert_eq!(kedge_config::shown(route.prefix).to_string(), "0.0.0.0/0");
    assert_eq!(route.gateway.to_string(), "::ffff:192.0.2.254");
    assert_eq!(kedge_config::shown("::/0".parse().unwrap()).to_string(), "::/0");
    let expected = "198.51.100.1".parse().unwrap();
    assert_eq!(config.maar.unwrap().gtpu_ipv4_address, Some(expected));
}

#[test]
fn a_tunnel_for_each_node_fits_by_default() {
    let dataplane = Config::parse(MAAR, "maar").unwrap().dataplane.unwrap();
    assert_eq!(dataplane.maximum_tunnels, 1 << 20);
}

#[test]
fn sequence_numbers_need_one_worker() {
    let gtpu = MAAR.replace("\"ipv6-in-ipv6\"", "\"gtpu\"\ngtpu_sequence_numbers = true");
    assert!(
        Config::parse(&gtpu, "maar")
            .unwrap()
            .maar
            .unwrap()
            .gtpu_sequence_numbers
    );
    let found = errors(&gtpu, "workers = [1]", "workers = [1, 2]");
    let expected = "maar.gtpu_sequence_numbers = true: needs one worker, and dataplane.workers names 2";
    assert!(found.iter().any(|error| error.contains(expected)), "{found:?}");
}
