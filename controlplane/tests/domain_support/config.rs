//! The configurations of a domain's daemons.

use kedge_config::{Config, FilterRule, Meter};

use super::*;

pub fn maar_config(index: usize, tunnel: &str) -> Config {
    Config::parse(&maar_text(index, tunnel), "test").unwrap()
}

/// The same as a file.
pub fn maar_text(index: usize, tunnel: &str) -> String {
    let over_ipv4 = if tunnel == GTPU_IPV4 {
        format!("gtpu_ipv4_address = \"192.0.2.{}\"", index + 1)
    } else {
        String::new()
    };
    let tunnel = tunnel.trim_end_matches("-ipv4");
    format!(
        r#"
        [node]
        name = "maar{number}"
        role = "maar"
        address = "{address}"
        [dataplane]
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
        addresses = ["2001:db8:ca{number}::2/64"]
        [[route]]
        prefix = "::/0"
        port = "core"
        gateway = "2001:db8:ca{number}::1"
        [maar]
        cmd = ["{CMD}"]
        prefix_pools = ["2001:db8:{number}00::/48"]
        tunnel = "{tunnel}"
        {over_ipv4}
        [maar.mobile_routers]
        pools = ["2001:db8:f{number}00::/40"]
        {dpns}
        "#,
        number = index + 1,
        address = maar_address(index),
        dpns = dpns::known(index),
    )
}

pub fn cmd_config(tunnel: &str) -> Config {
    let maars: String = (0..3)
        .map(|index| {
            format!(
                "[[cmd.known_maar]]\naddress = \"{}\"\nprefix_pools = [\"2001:db8:{number}00::/48\", \"2001:db8:f{number}00::/40\"]\n",
                maar_address(index),
                number = index + 1
            )
        })
        .collect();
    let text = format!(
        "[node]\nname = \"cmd\"\nrole = \"cmd\"\naddress = \"{CMD}\"\n[cmd]\nmaximum_previous_maars = 2\ntunnel = \"{tunnel}\"\n{maars}"
    );
    Config::parse(&text, "test").unwrap()
}

pub fn filter(text: &str) -> FilterRule {
    toml::from_str(text).unwrap()
}

pub const WEB: &str = "name = \"web\"\naction = \"meter\"\nmeter = \"gold\"\nnode = \"mn1@example.net\"\n\
                   protocol = \"tcp\"\nidle_timeout = 600\nlifetime = 1000";

pub fn gold(rate: u64) -> Meter {
    let text = format!(
        "name = \"gold\"\ncir_bits_per_second = {rate}\ncbs_bytes = 10000\npir_bits_per_second = 2000000\n\
         pbs_bytes = 20000"
    );
    toml::from_str(&text).unwrap()
}
