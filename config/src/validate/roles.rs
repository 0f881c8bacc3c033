//! Which sections go with which role.

use super::Findings;
use crate::{CmdMode, Config, Role};

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let role = match config.node.role {
        Role::Maar => "maar",
        Role::Cmd => "cmd",
        Role::Dpn => "dpn",
    };
    let mut section = |name: &str, there: bool, wanted: bool| {
        if there != wanted {
            let what = if wanted { "is required" } else { "is not allowed" };
            findings.add(name, "", format!("{what} with node.role = {role:?}"));
        }
    };
    let is = |role| config.node.role == role;
    let forwards = !is(Role::Cmd);
    section("maar", config.maar.is_some(), is(Role::Maar));
    section("dataplane", config.dataplane.is_some(), forwards);
    section("cmd", config.cmd.is_some(), is(Role::Cmd));
    section("dpn", config.dpn.is_some(), is(Role::Dpn));
    if !forwards {
        section("port", !config.ports.is_empty(), false);
        section("route", !config.routes.is_empty(), false);
    }
    if !is(Role::Maar) {
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
