//! The daemon of role MAAR and filters that the data plane has no room for. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod driver_support;

use driver_support::{Daemon, Namespace, eventually};

fn maar(namespace: &Namespace, directory: &std::path::Path, limits: &str, more: &str) -> Daemon {
    let text = format!(
        r#"
        [dataplane]
        {limits}
        [[port]]
        name = "access"
        device = "net_null0"
        side = "access"
        exception = "kacc"
        [[port]]
        name = "core"
        device = "net_null1"
        side = "core"
        exception = "kcore"
        addresses = ["2001:db8:ca::2/64"]
        [[route]]
        prefix = "::/0"
        port = "core"
        gateway = "2001:db8:ca::1"
        [maar]
        cmd = ["2001:db8:d::1"]
        prefix_pools = ["2001:db8:100::/48"]
        [[meter]]
        name = "gold"
        cir_bits_per_second = 8000
        cbs_bytes = 2000
        pir_bits_per_second = 16000
        pbs_bytes = 4000
        {more}
        "#
    );
    Daemon::start(namespace, directory, "maar1", "maar", "2001:db8:a::1", &text)
}

#[test]
fn a_filter_that_does_not_fit_is_refused() {
    let (namespace, directory) = (Namespace::new("maar"), tempfile::tempdir().unwrap());
    let maar = maar(
        &namespace,
        directory.path(),
        "maximum_filters = 3\nmaximum_meters = 1",
        "",
    );
    let add = |name: &str, action: &str| {
        let mut arguments = vec!["filter", "add", name, "--domain", "--action", action];
        if action == "meter" {
            arguments.extend(["--meter", "gold"]);
        }
        let output = maar.kedge(&arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        if output.status.success() {
            Ok(())
        } else {
            Err(said)
        }
    };
    let refused = |name, action, expected: &str| {
        let said = add(name, action).unwrap_err();
        assert!(said.contains(expected), "{said}");
    };
    add("one", "drop").unwrap();
    add("two", "meter").unwrap();
    refused(
        "three",
        "meter",
        "filter three comes to 1 now: there would be 2 meters, and dataplane.maximum_meters = 1",
    );
    add("three", "drop").unwrap();
    refused(
        "four",
        "drop",
        "filter four comes to 1 now: there would be 4 filters, and dataplane.maximum_filters = 3",
    );
    // One instead of itself needs no more room; nor does one instead of another.
    add("three", "local-breakout").unwrap();
    add("two", "meter").unwrap();
    assert!(maar.kedge(&["filter", "delete", "two"]).status.success());
    add("four", "meter").unwrap();
    let shown = maar.json(&["filter", "show"]);
    let names: Vec<_> = shown.as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["four", "one", "three"]);
    assert!(!maar.log().contains("left out"), "{}", maar.log());
}

#[test]
fn filters_of_the_file_that_do_not_fit_are_told() {
    let (namespace, directory) = (Namespace::new("maar"), tempfile::tempdir().unwrap());
    let filter = |name: &str| {
        format!("[[filter]]\nname = \"{name}\"\napplies_to = \"domain\"\naction = \"drop\"\nprotocol = 17\n")
    };
    let more = ["a", "b", "c"].map(filter).concat();
    let maar = maar(&namespace, directory.path(), "maximum_filters = 1", &more);
    let expected = "2 filters are left out, for dataplane.maximum_filters = 1: what they ask for is not done";
    eventually("the event", || maar.log().contains(expected).then_some(()));
    let shown = maar.json(&["filter", "show"]);
    let left_out: Vec<_> = shown
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["left_out"])
        .collect();
    assert_eq!(left_out, [0, 1, 1]);
    let text = String::from_utf8(maar.kedge(&["filter", "show"]).stdout).unwrap();
    assert!(text.contains("0 of 1"), "{text}");
}
