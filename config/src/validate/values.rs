//! Numbers and what they have to do with each other.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Findings, is_link_layer_address};
use crate::{Config, Tunnel, policy};

pub(super) fn check(config: &Config, findings: &mut Findings) {
    if let Some(dataplane) = &config.dataplane {
        if dataplane.workers.is_empty() || dataplane.workers.len() > 128 {
            findings.add(
                "dataplane.workers",
                dataplane.workers.len(),
                "must name 1 to 128 cores",
            );
        }
        let mut cores = BTreeSet::new();
        for core in &dataplane.workers {
            if !cores.insert(core) {
                findings.add(
                    "dataplane.workers",
                    core,
                    "is named twice; each worker needs a core of its own",
                );
            }
        }
        findings.range("dataplane.memory_mib", dataplane.memory_mib, 64, 65_536, "MiB");
        findings.range(
            "dataplane.packet_buffers",
            dataplane.packet_buffers,
            1024,
            16_777_215,
            "",
        );
        findings.range(
            "dataplane.icmpv6_errors_per_second",
            dataplane.icmpv6_errors_per_second,
            1,
            100_000,
            "",
        );
        findings.range(
            "dataplane.punts_per_second",
            dataplane.punts_per_second,
            1,
            1_000_000,
            "",
        );
        findings.range(
            "dataplane.neighbour_requests_per_second",
            dataplane.neighbour_requests_per_second,
            1,
            100_000,
            "",
        );
        findings.range(
            "dataplane.maximum_prefixes",
            dataplane.maximum_prefixes,
            1,
            1 << 24,
            "",
        );
        findings.range(
            "dataplane.maximum_tunnels",
            dataplane.maximum_tunnels,
            1,
            1 << 20,
            "",
        );
        let hold = &dataplane.hold;
        if hold.packets > dataplane.packet_buffers / 2 {
            findings.add(
                "dataplane.hold.packets",
                hold.packets,
                format!(
                    "must be at most half of dataplane.packet_buffers = {}",
                    dataplane.packet_buffers
                ),
            );
        }
        let most = 16_777_215;
        findings.range(
            "dataplane.hold.packets_per_prefix",
            hold.packets_per_prefix,
            0,
            most,
            "",
        );
        findings.range(
            "dataplane.hold.bytes_per_prefix",
            hold.bytes_per_prefix,
            1280,
            u32::MAX,
            "",
        );
        findings.range("dataplane.hold.age_ms", hold.age_ms, 1, 600_000, "ms");
        findings.range("dataplane.hold.path_end_ms", hold.path_end_ms, 1, 600_000, "ms");
        findings.range("dataplane.hold.unknown_ms", hold.unknown_ms, 0, 1000, "ms");
        findings.range("dataplane.hold.maximum_ms", hold.maximum_ms, 1, 600_000, "ms");
        findings.range(
            "dataplane.hold.release_packets_per_second",
            hold.release_packets_per_second,
            1000,
            100_000_000,
            "",
        );
        findings.range(
            "dataplane.path_mtu_lifetime",
            dataplane.path_mtu_lifetime,
            300,
            86_400,
            "seconds",
        );
        for (key, value, most) in [
            ("dataplane.maximum_filters", dataplane.maximum_filters, 1 << 24),
            (
                "dataplane.maximum_domain_filters",
                dataplane.maximum_domain_filters,
                1 << 20,
            ),
            (
                "dataplane.maximum_meters",
                dataplane.maximum_meters,
                (1 << 24) - 1,
            ),
        ] {
            findings.range(key, value, 0, most, "");
        }
        if let Some(argument) = dataplane
            .eal_arguments
            .iter()
            .find(|argument| argument.contains('\0'))
        {
            findings.add(
                "dataplane.eal_arguments",
                format!("{argument:?}"),
                "contains a NUL octet",
            );
        }
    }
    tunnel(&config.tunnel, findings);
    if let Some(dpn) = &config.dpn {
        findings.range("dpn.maximum_nodes", dpn.maximum_nodes, 1, 10_000_000, "");
    }
    if let Some(maar) = &config.maar {
        findings.range("maar.maximum_nodes", maar.maximum_nodes, 1, 10_000_000, "");
        findings.range("maar.idle_prefix_s", maar.idle_prefix_s, 0, 31_536_000, "s");
        let interval = maar.charging_interval_s;
        findings.range("maar.charging_interval_s", interval, 1, 3600, "seconds");
        if let Some(limit) = maar.tunnel_encapsulation_limit {
            findings.range("maar.tunnel_encapsulation_limit", limit, 0, 255, "");
        }
    }
    if let Some(cmd) = &config.cmd {
        findings.range(
            "cmd.maximum_previous_maars",
            cmd.maximum_previous_maars,
            1,
            22,
            "",
        );
        let fit = policy::previous_maars_that_fit(cmd.tunnel, &config.policies);
        if cmd.maximum_previous_maars > fit && cmd.maximum_previous_maars <= 22 {
            let reason = format!(
                "at most {fit} fit into an answer of 2048 octets, with this cmd.tunnel and these policies"
            );
            findings.add("cmd.maximum_previous_maars", cmd.maximum_previous_maars, reason);
        }
        findings.range("cmd.maximum_bindings", cmd.maximum_bindings, 1, 100_000_000, "");
        findings.range("cmd.relocate_after_s", cmd.relocate_after_s, 0, 31_536_000, "s");
        findings.range("cmd.maximum_relocations", cmd.maximum_relocations, 1, 65_536, "");
    }
    access(config, findings);
    timers(config, findings);
}

fn tunnel(it: &Tunnel, findings: &mut Findings) {
    findings.range("tunnel.dscp", it.dscp, 0, 63, "");
    if it.copy_dscp && it.dscp != 0 {
        let reason = "with tunnel.copy_dscp outer packets have that of the packet within";
        findings.add("tunnel.dscp", it.dscp, reason);
    }
    findings.range("tunnel.hop_limit", it.hop_limit, 1, 255, "");
    if let Some(mtu) = it.mtu {
        findings.range("tunnel.mtu", mtu, 1280, 65_535, "octets");
    }
}

fn access(config: &Config, findings: &mut Findings) {
    let access = &config.access;
    if !access.router_link_local_address.is_unicast_link_local() {
        let key = "access.router_link_local_address";
        findings.add(key, access.router_link_local_address, "must be in fe80::/10");
    }
    if !is_link_layer_address(&access.router_link_layer_address) {
        let value = format!("{:?}", access.router_link_layer_address);
        findings.add(
            "access.router_link_layer_address",
            value,
            "must be a unicast address such as 00:00:5e:00:52:13",
        );
    }
    findings.range(
        "access.preferred_lifetime",
        access.preferred_lifetime,
        1,
        u32::MAX,
        "seconds",
    );
    if access.valid_lifetime < access.preferred_lifetime {
        let reason = format!(
            "must be at least access.preferred_lifetime = {}",
            access.preferred_lifetime
        );
        findings.add("access.valid_lifetime", access.valid_lifetime, reason);
    }
    findings.range(
        "access.router_lifetime",
        access.router_lifetime,
        1,
        9000,
        "seconds",
    );
    findings.range(
        "access.advertisement_interval",
        access.advertisement_interval,
        4,
        1800,
        "seconds",
    );
    if access.router_lifetime < access.advertisement_interval {
        let reason = format!(
            "must be at least access.advertisement_interval = {}",
            access.advertisement_interval
        );
        findings.add("access.router_lifetime", access.router_lifetime, reason);
    }
    findings.range(
        "access.access_technology_type",
        access.access_technology_type,
        1,
        255,
        "",
    );
}

fn timers(config: &Config, findings: &mut Findings) {
    let timers = &config.timers;
    let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let lifetime = ms(timers.binding_lifetime);
    findings.range("timers.binding_lifetime_ms", lifetime, 4000, 262_140_000, "ms");
    if lifetime % 4000 != 0 {
        findings.add(
            "timers.binding_lifetime_ms",
            lifetime,
            "must be a multiple of 4000: its unit on the wire is 4 s",
        );
    }
    let (initial, maximum) = (ms(timers.initial_bindack_timeout), ms(timers.max_bindack_timeout));
    findings.range("timers.initial_bindack_timeout_ms", initial, 10, 60_000, "ms");
    findings.range("timers.max_bindack_timeout_ms", maximum, 10, 600_000, "ms");
    if maximum < initial {
        let reason = format!("must be at least timers.initial_bindack_timeout_ms = {initial}");
        findings.add("timers.max_bindack_timeout_ms", maximum, reason);
    }
    findings.range(
        "timers.timestamp_validity_window_ms",
        ms(timers.timestamp_validity_window),
        1,
        60_000,
        "ms",
    );
    findings.range(
        "timers.min_delay_before_bce_delete_ms",
        ms(timers.min_delay_before_bce_delete),
        0,
        600_000,
        "ms",
    );
    findings.range("timers.release_delay_ms", ms(timers.release_delay), 0, 1000, "ms");
    findings.range("timers.route_settle_ms", ms(timers.route_settle), 1, 10_000, "ms");
    findings.range("timers.uplink_settle_ms", ms(timers.uplink_settle), 0, 150, "ms");
    let echo = ms(timers.gtpu_echo_interval);
    if echo != 0 {
        findings.range("timers.gtpu_echo_interval_ms", echo, 60_000, 3_600_000, "ms");
    }
    let response = ms(timers.gtpu_t3_response);
    findings.range("timers.gtpu_t3_response_ms", response, 10, 60_000, "ms");
    let requests = u64::from(timers.gtpu_n3_requests);
    findings.range("timers.gtpu_n3_requests", requests, 1, 20, "requests");
}
