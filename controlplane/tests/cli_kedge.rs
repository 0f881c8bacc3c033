//! `kedge` as an operator and as a program meets it. Needs root for its namespaces.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod driver_support;

use std::process::{Command, Output, Stdio};

use driver_support::{Daemon, Namespace};

fn kedge(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kedge"))
        .args(arguments)
        .env_remove("KEDGE_RUN_DIRECTORY")
        .output()
        .unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_daemon_that_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    for (arguments, daemon, socket) in [
        (&["show", "nodes"][..], "kedge-controlplane", "controlplane.sock"),
        (
            &["attach", "mn1@example.net"],
            "kedge-controlplane",
            "controlplane.sock",
        ),
        (&["watch"], "kedge-controlplane", "controlplane.sock"),
        (&["show", "tunnels"], "kedge-dataplane", "dataplane.sock"),
        (&["--json", "show", "drops"], "kedge-dataplane", "dataplane.sock"),
    ] {
        let output = kedge(&[&["--run-directory", path], arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let text = error(&output);
        assert!(
            text.contains(daemon) && text.contains(&format!("{path}/{socket}")),
            "{text}"
        );
        assert!(output.stdout.is_empty());
    }
    // Somebody died and left the socket.
    drop(std::os::unix::net::UnixListener::bind(directory.path().join("controlplane.sock")).unwrap());
    let text = error(&kedge(&["--run-directory", path, "show", "info"]));
    assert!(text.contains("nobody answers"), "{text}");
    // By the environment.
    let output = Command::new(env!("CARGO_BIN_EXE_kedge"))
        .args(["show", "nodes"])
        .env("KEDGE_RUN_DIRECTORY", path)
        .output()
        .unwrap();
    assert!(error(&output).contains(path));
}

#[test]
fn usage() {
    for arguments in [
        &[][..],
        &["show"],
        &["show", "nonsense"],
        &["attach"],
        &["--node", "a", "--run-directory", "b", "watch"],
    ] {
        assert_eq!(kedge(arguments).status.code(), Some(2), "{arguments:?}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let output = kedge(&["completions", shell]);
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.contains("bindings") && text.contains("deregister"),
            "{shell}"
        );
    }
}

/// A reader that has read enough is no failure, and no panic.
#[test]
fn a_closed_pipe_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kedge"))
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", error(&output));
    assert_eq!(error(&output), "");
}

#[test]
fn a_running_cmd() {
    let namespace = Namespace::new("cli");
    namespace.address("2001:db8:d::1/128", "lo");
    let directory = tempfile::tempdir().unwrap();
    let config =
        "[cmd]\n[[cmd.known_maar]]\naddress = \"2001:db8:a::1\"\nprefix_pools = [\"2001:db8:100::/48\"]\n";
    let cmd = Daemon::start(
        &namespace,
        directory.path(),
        "cmd",
        "cmd",
        "2001:db8:d::1",
        config,
    );
    let info = cmd.json(&["show", "info"]);
    assert_eq!(info["controlplane"]["name"], "cmd");
    assert_eq!(info["controlplane"]["role"], "cmd");
    assert_eq!(info["controlplane"]["address"], "2001:db8:d::1");
    assert_eq!(info["dataplane"], serde_json::Value::Null);
    assert_eq!(cmd.json(&["show", "bindings"]), serde_json::json!([]));
    assert_eq!(cmd.counter("bindings_created"), 0);
    let shown = cmd.kedge(&["show", "bindings"]);
    assert_eq!(String::from_utf8(shown.stdout).unwrap(), "no bindings\n");
    for arguments in [
        &["show", "nodes"][..],
        &["attach", "mn1@example.net"],
        &["detach", "mn1@example.net"],
    ] {
        let output = cmd.kedge(arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(error(&output).contains("role cmd"), "{}", error(&output));
    }
    for (arguments, reason) in [
        (
            &["relocate", "2001:db8:100::/64", "--to", "2001:db8:a::1"][..],
            "2001:db8:100::/64 is no prefix of any node",
        ),
        (
            &["relocate", "2001:db8:100::/64", "--to", "2001:db8:b::1"],
            "2001:db8:b::1 is no MAAR of this domain",
        ),
        (
            &["relocate", "nowhere", "--to", "2001:db8:a::1"],
            "prefix = \"nowhere\" is no IPv6 prefix",
        ),
        (
            &["relocate", "2001:db8:100::/64", "--to", "maar1"],
            "maar = \"maar1\" is no IPv6 address",
        ),
        (
            &["drain", "2001:db8:b::1"],
            "2001:db8:b::1 is no MAAR of this domain",
        ),
        (&["drain", "x", "--stop"], "maar = \"x\" is no IPv6 address"),
        (
            &["policy", "set", "a", "--mobility", "some"],
            "policy.mobility = some: must be one of none, tunnel, relocate",
        ),
        (
            &["policy", "set", "a b", "--mobility", "none"],
            "policy.name = \"a b\": must be 1 to 63 letters, digits, - or _",
        ),
        (
            &[
                "policy",
                "set",
                "a",
                "--mobility",
                "none",
                "--relocate-after",
                "5",
            ],
            "policy.relocate_after_s = 5: goes with mobility = \"relocate\"",
        ),
        (&["policy", "remove", "a"], "there is no policy a"),
    ] {
        let output = cmd.kedge(arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(error(&output).contains(reason), "{}", error(&output));
    }
    let nothing =
        serde_json::json!({"maar": "2001:db8:a::1", "to_relocate": 0, "under_way": 0, "attached": 0});
    assert_eq!(cmd.json(&["drain", "2001:db8:a::1"]), nothing);
    let shown = cmd.kedge(&["drain", "2001:db8:a::1", "--stop"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(shown, "2001:db8:a::1: not drained any more\n");
    let shown = cmd.kedge(&["policy", "show"]);
    assert_eq!(String::from_utf8(shown.stdout).unwrap(), "no policies\n");
    for (mobility, done) in [
        ("none", "policy calls is set\n"),
        ("relocate", "policy calls is replaced\n"),
    ] {
        let arguments = [
            "policy",
            "set",
            "calls",
            "--node-like",
            "*@a",
            "--mobility",
            mobility,
        ];
        let shown = cmd.kedge(&arguments);
        assert_eq!(String::from_utf8(shown.stdout).unwrap(), done);
    }
    let policies = cmd.json(&["policy", "show"]);
    let policy = &policies[0];
    assert_eq!(
        (&policy["node"], &policy["mobility"]),
        (&"*@a".into(), &"relocate".into())
    );
    let shown = cmd.kedge(&["policy", "remove", "calls"]);
    assert_eq!(
        String::from_utf8(shown.stdout).unwrap(),
        "policy calls is removed\n"
    );
    assert_eq!(cmd.json(&["policy", "show"]), serde_json::json!([]));
    // A second daemon of the same node does not take the first one's place.
    let second = Command::new(env!("CARGO_BIN_EXE_kedge-controlplane"))
        .arg("--config")
        .arg(directory.path().join("cmd/config.toml"))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(error(&second).contains("is in use"), "{}", error(&second));
    assert_eq!(cmd.json(&["show", "info"])["controlplane"]["name"], "cmd");
}

#[test]
fn check_config() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Command::new(env!("CARGO_BIN_EXE_kedge-controlplane"))
            .args(["--check-config", "--config"])
            .arg(&file)
            .output()
            .unwrap()
    };
    let good = "[node]\nname = \"cmd\"\nrole = \"cmd\"\naddress = \"2001:db8:d::1\"\n[cmd]\nknown_maar = [{address = \"2001:db8:a::1\", prefix_pools = [\"2001:db8:100::/48\"]}]\n";
    let output = check(good);
    assert!(output.status.success(), "{}", error(&output));
    let bad = good.replace("role =", "roll =");
    let output = check(&bad);
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains("roll"), "{}", error(&output));
    let policy = format!("{good}\n[access]\npolicy_file = \"/nonexistent/nodes.toml\"\n");
    let output = check(&policy);
    assert!(
        error(&output).contains("/nonexistent/nodes.toml"),
        "{}",
        error(&output)
    );
}
