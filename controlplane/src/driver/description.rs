//! A Mobility Header message as an event: one line for people, the same values for programs.

use std::net::Ipv6Addr;

use crate::event::Event;
use crate::proxy_binding::lifetime_span;
use crate::wire::mobility::{ALL_SESSIONS, GreKey, MobilityMessage, MobilityOptions, TunnelType};

/// The event of a message that was sent (`message_sent`) or received (`message_received`).
#[must_use]
pub fn describe(
    kind: &'static str,
    message: &MobilityMessage,
    from: Ipv6Addr,
    to: Ipv6Addr,
    octets: usize,
) -> Event {
    let short = short_name(message);
    let mut text = format!("{short} {from} -> {to}");
    let mut event = Event::new(kind, String::new())
        .with("message", short)
        .with("from", from)
        .with("to", to)
        .with("octets", octets);
    match message {
        MobilityMessage::ProxyBindingUpdate(update) => {
            text.push_str(&format!(" seq {}", update.sequence));
            event = options(
                event.with("sequence", update.sequence),
                &mut text,
                &update.options,
            );
            let lifetime = lifetime_span(update.lifetime).as_secs();
            text.push_str(&format!(" lifetime {lifetime} s"));
            event = event.with("lifetime", lifetime);
        }
        MobilityMessage::ProxyBindingAcknowledgement(acknowledgement) => {
            let status = acknowledgement.status;
            text.push_str(&format!(" seq {} status {status}", acknowledgement.sequence));
            event = event
                .with("sequence", acknowledgement.sequence)
                .with("status", status.0);
            event = options(event, &mut text, &acknowledgement.options);
            let lifetime = lifetime_span(acknowledgement.lifetime).as_secs();
            text.push_str(&format!(" lifetime {lifetime} s"));
            event = event.with("lifetime", lifetime);
        }
        MobilityMessage::BindingError(error) => {
            text.push_str(&format!(" status {}", error.status));
            event = event.with("status", error.status);
        }
        MobilityMessage::UpdateNotification(notification) => {
            let (sequence, reason) = (notification.sequence, notification.reason);
            text.push_str(&format!(" seq {sequence} reason {reason}"));
            event = event.with("sequence", sequence).with("reason", reason);
            event = options(event, &mut text, &notification.options);
        }
        MobilityMessage::UpdateNotificationAcknowledgement(acknowledgement) => {
            let (sequence, status) = (acknowledgement.sequence, acknowledgement.status);
            text.push_str(&format!(" seq {sequence} status {status}"));
            event = event.with("sequence", sequence).with("status", status);
            event = options(event, &mut text, &acknowledgement.options);
        }
        MobilityMessage::Other(mh_type) => {
            text.push_str(&format!(" type {mh_type}"));
            event = event.with("mh_type", mh_type);
        }
    }
    event.text = text;
    event
}

fn options(mut event: Event, text: &mut String, options: &MobilityOptions) -> Event {
    if let Some(identifier) = &options.mobile_node_identifier {
        text.push_str(&format!(" {identifier}"));
        event = event.with("identifier", identifier);
    }
    match options.mobile_node_group_identifier {
        Some(ALL_SESSIONS) => text.push_str(" every node"),
        Some(group) => text.push_str(&format!(" group {group}")),
        None => {}
    }
    let prefixes: Vec<_> = options
        .session_prefixes()
        .iter()
        .map(ToString::to_string)
        .collect();
    if !prefixes.is_empty() {
        text.push_str(&format!(" HNP {}", prefixes.join(", ")));
        event = event.with("prefixes", prefixes.join(","));
    }
    if let Some(serving) = options.serving_maar {
        text.push_str(&format!(" serving MAAR {serving}"));
        event = event.with("serving_maar", serving);
    }
    let previous: Vec<_> = options
        .previous_maars
        .iter()
        .map(|previous| format!("{} via {}", previous.home_network_prefix, previous.address))
        .collect();
    if !previous.is_empty() {
        text.push_str(&format!(" previous {}", previous.join(", ")));
        event = event.with("previous_maars", previous.join(","));
    }
    let endpoints: Vec<_> = options
        .tunnel_endpoints
        .iter()
        .map(|endpoint| match endpoint.tunnel_type {
            TunnelType::Ipv6InIpv6 => format!("{} IPv6-in-IPv6", endpoint.address),
            TunnelType::GtpU { teid, ipv4: None } => format!("{} GTP-U TEID {teid:#010x}", endpoint.address),
            TunnelType::Gre { key } => format!("{} GRE key {key:#010x}", endpoint.address),
            TunnelType::GtpU {
                teid,
                ipv4: Some(ipv4),
            } => format!("{} GTP-U at {ipv4} TEID {teid:#010x}", endpoint.address),
        })
        .collect();
    if let Some(GreKey(key)) = options.gre_key {
        let shown = key.map_or_else(|| "none".to_owned(), |key| format!("{key:#010x}"));
        text.push_str(&format!(" GRE key {shown}"));
        event = event.with("gre_key", shown);
    }
    if !endpoints.is_empty() {
        text.push_str(&format!(" endpoint {}", endpoints.join(", ")));
        event = event.with("tunnel_endpoints", endpoints.join(","));
    }
    event
}

/// PBU, PBA, UPN, UPA, or the name in full.
pub(super) fn short_name(message: &MobilityMessage) -> &'static str {
    match message {
        MobilityMessage::ProxyBindingUpdate(_) => "PBU",
        MobilityMessage::ProxyBindingAcknowledgement(_) => "PBA",
        MobilityMessage::UpdateNotification(_) => "UPN",
        MobilityMessage::UpdateNotificationAcknowledgement(_) => "UPA",
        MobilityMessage::BindingError(_) | MobilityMessage::Other(_) => message.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::MobileNodeIdentifier;
    use crate::wire::mobility::{ProxyBindingAcknowledgement, ProxyBindingUpdate, Status, TunnelEndpoint};

    #[test]
    fn an_update_and_its_answer() {
        let (maar, cmd) = ("2001:db8:a::1".parse().unwrap(), "2001:db8:d::1".parse().unwrap());
        let shared = MobilityOptions {
            mobile_node_identifier: Some(MobileNodeIdentifier::nai("mn1@example.net")),
            home_network_prefixes: vec!["2001:db8:100::/64".parse().unwrap()],
            ..MobilityOptions::default()
        };
        let update = MobilityMessage::ProxyBindingUpdate(ProxyBindingUpdate {
            sequence: 7,
            flags: 0,
            lifetime: 150,
            options: shared.clone(),
        });
        let event = describe("message_sent", &update, maar, cmd, 96);
        assert_eq!(
            event.text,
            "PBU 2001:db8:a::1 -> 2001:db8:d::1 seq 7 mn1@example.net HNP 2001:db8:100::/64 lifetime 600 s"
        );
        assert_eq!(event.field("message"), Some("PBU"));
        assert_eq!(event.field("prefixes"), Some("2001:db8:100::/64"));
        assert_eq!(event.field("lifetime"), Some("600"));
        let offering = MobilityOptions {
            tunnel_endpoints: vec![TunnelEndpoint::gtpu(maar, 0xfeed.try_into().unwrap())],
            ..shared.clone()
        };
        let update = MobilityMessage::ProxyBindingUpdate(ProxyBindingUpdate {
            sequence: 8,
            flags: 0,
            lifetime: 150,
            options: offering,
        });
        let event = describe("message_sent", &update, maar, cmd, 128);
        assert!(
            event
                .text
                .contains(" endpoint 2001:db8:a::1 GTP-U TEID 0x0000feed lifetime"),
            "{}",
            event.text
        );
        assert_eq!(
            event.field("tunnel_endpoints"),
            Some("2001:db8:a::1 GTP-U TEID 0x0000feed")
        );
        let answer = MobilityMessage::ProxyBindingAcknowledgement(ProxyBindingAcknowledgement {
            status: Status::TIMESTAMP_MISMATCH,
            flags: 0,
            sequence: 7,
            lifetime: 0,
            options: shared,
        });
        let event = describe("message_received", &answer, cmd, maar, 96);
        assert!(event.text.contains("status 156"), "{}", event.text);
        assert_eq!(event.field("status"), Some("156"));
    }
}
