//! `--check-config` and what cannot be started, without root and without devices.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod shell_support;

use shell_support::{node, run_binary};

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// Exit code, standard output, standard error.
fn check(configuration: &str) -> (Option<i32>, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node.toml");
    std::fs::write(&file, configuration).unwrap();
    let name = file.to_str().unwrap().to_owned();
    let output = run_binary(&["--config", &name, "--check-config"]);
    let readable = |octets: &[u8]| text(octets).replace(&name, "FILE");
    (
        output.status.code(),
        readable(&output.stdout),
        readable(&output.stderr),
    )
}

fn good(more: &str) -> String {
    let port = r#"
[[port]]
name = "core"
device = "net_null0"
side = "core"
"#;
    node(std::path::Path::new("/nowhere"), "check", "2001:db8:a::1", "") + port + more
}

#[test]
fn a_good_file_is_ok() {
    assert_eq!(
        check(&good("")),
        (Some(0), "FILE: ok\n".to_owned(), String::new())
    );
}

#[test]
fn an_unknown_key_is_named() {
    let (code, output, errors) = check(&good("colour = \"blue\"\n"));
    assert_eq!((code, output.as_str()), (Some(1), ""));
    assert!(errors.contains("FILE: ") && errors.contains("colour"), "{errors}");
}

#[test]
fn a_wrong_link_layer_address_is_named() {
    let (code, _, errors) = check(&good("link_layer_address = \"01:00:5e:00:00:01\"\n"));
    assert_eq!(code, Some(1), "{errors}");
    assert!(
        errors.contains("port[0].link_layer_address") && errors.contains("01:00:5e:00:00:01"),
        "{errors}"
    );
}

#[test]
fn a_missing_file_is_named() {
    let output = run_binary(&["--config", "/nowhere/kedge.toml", "--check-config"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).starts_with("/nowhere/kedge.toml: "),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_node_without_a_data_plane_has_none_to_run() {
    let cmd = r#"
[node]
name = "cmd"
role = "cmd"
address = "2001:db8:c::1"
[cmd]
[[cmd.known_maar]]
address = "2001:db8:a::1"
prefix_pools = ["2001:db8:100::/48"]
"#;
    let (code, _, errors) = check(cmd);
    assert_eq!(code, Some(1));
    assert!(errors.contains("FILE: dataplane: absent"), "{errors}");
}

#[test]
fn version_and_usage() {
    let output = run_binary(&["--version"]);
    assert_eq!(
        text(&output.stdout),
        format!("kedge-dataplane {}\n", env!("CARGO_PKG_VERSION"))
    );
    let output = run_binary(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--config"));
    let output = run_binary(&["--config", "x", "--log", "a=b=c"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}
