//! Which sections go with which role.

use super::Findings;
use crate::{CmdMode, Config, Role};

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let role = match config.node.role {
        Role::Maar => "maar",
        Role::Cmd => "cmd",
    };
    let mut section = |name: &str, there: bool, wanted: bool| {
        if there != wanted {
            let what = if wanted { "is required" } else { "is not allowed" };
            findings.add(name, "", format!("{what} with node.role = {role:?}"));
        }
    };
    let maar = config.node.role == Role::Maar;
    section("maar", config.maar.is_some(), maar);
    section("dataplane", config.dataplane.is_some(), maar);
    section("cmd", config.cmd.is_some(), !maar);
    if !maar {
        section("port", !config.ports.is_empty(), false);
        section("route", !config.routes.is_empty(), false);
        section("announce", config.announce.is_some(), false);
    }
    if let Some(cmd) = &config.cmd {
        let name = match cmd.mode {
            CmdMode::Proxy => return,
            CmdMode::Relay => "relay",
            CmdMode::Locator => "locator",
        };
        findings.add("cmd.mode", name, "is not built yet; only proxy is");
    }
}
