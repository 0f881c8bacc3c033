//! Tells the benches which compiler made them: their results say so.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUSTC");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(compiler).arg("--version").output();
    let version = version.map_or_else(
        |_| String::new(),
        |it| String::from_utf8_lossy(&it.stdout).trim().to_owned(),
    );
    let profile = std::env::var("PROFILE").unwrap_or_default();
    println!("cargo::rustc-env=KEDGE_PERF_COMPILER={version}, {profile}");
}
