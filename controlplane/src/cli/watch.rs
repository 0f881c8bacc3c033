//! `kedge watch`: the events of both daemons of a node, as they happen.

use std::time::{SystemTime, UNIX_EPOCH};

use kedge_dataplane_api::proto as dataplane_proto;
use serde_json::{Value, json};
use tonic::Streaming;

use super::connect::{Failure, controlplane, dataplane};
use super::node::Node;
use super::output::Output;
use super::show::address;
use crate::dataplane_sync::prefix_text;
use crate::northbound::proto;

pub(super) async fn watch(node: &Node, output: Output) -> Result<(), Failure> {
    let mut client = controlplane(node).await?;
    let gateway = client.get_info(proto::GetInfoRequest {}).await?.into_inner().name;
    let mut control = client.watch(proto::WatchRequest {}).await?.into_inner();
    // A node of role cmd has no data plane; one that starts later is not followed.
    let mut data = match dataplane(node).await {
        Ok(client) => client.events().await.ok(),
        Err(_) => None,
    };
    loop {
        tokio::select! {
            event = control.message() => match event? {
                Some(event) => show(output, &event)?,
                None => return Err(Failure::Ended(format!("the control plane of {gateway} has ended"))),
            },
            event = next(&mut data) => match event {
                Some(event) => show(output, &as_control(&gateway, event))?,
                None => {
                    data = None;
                    let text = "the data plane has ended; its events end here".to_owned();
                    show(output, &own(&gateway, "dataplane_watch_ended", text, []))?;
                }
            },
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

async fn next(data: &mut Option<Streaming<dataplane_proto::Event>>) -> Option<dataplane_proto::Event> {
    match data {
        Some(events) => events.message().await.ok().flatten(),
        None => std::future::pending().await,
    }
}

fn show(output: Output, event: &proto::Event) -> Result<(), Failure> {
    if output.is_json() {
        return output.value(&value(event));
    }
    let text: String = event
        .text
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    output.text(&format!(
        "{}  {:<10} {:<22} {text}\n",
        clock(event.unix_us),
        event.gateway,
        event.kind
    ))
}

fn value(event: &proto::Event) -> Value {
    json!({
        "unix_us": event.unix_us,
        "gateway": event.gateway,
        "kind": event.kind,
        "text": event.text,
        "fields": event.fields.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<serde_json::Map<_, _>>(),
    })
}

/// UTC time of day to the microsecond; the date is of no use to somebody who watches.
fn clock(unix_us: u64) -> String {
    let (seconds, micros) = (unix_us / 1_000_000, unix_us % 1_000_000);
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{micros:06}Z", seconds % 60)
}

fn as_control(gateway: &str, event: dataplane_proto::Event) -> proto::Event {
    use dataplane_proto::event::Kind;
    match event.kind {
        Some(Kind::LinkChanged(link)) => {
            let up = if link.up { "up" } else { "down" };
            let text = format!("data plane: port {} is {up}", link.port);
            own(
                gateway,
                "dataplane_link_changed",
                text,
                [("port", link.port), ("up", link.up.to_string())],
            )
        }
        Some(Kind::UnknownNeighbour(unknown)) => {
            let address = address(&unknown.address);
            let text = format!("data plane: {address} on port {} is not resolved", unknown.port);
            own(
                gateway,
                "dataplane_unknown_neighbour",
                text,
                [("port", unknown.port), ("address", address)],
            )
        }
        Some(Kind::HoldExpired(hold)) => {
            let prefix = prefix_text(&hold.address, hold.length);
            let (what, filter) = match hold.filter {
                0 => (format!("packets to {prefix}"), String::new()),
                filter => (
                    format!("the flows of {prefix} that filter {filter} holds"),
                    filter.to_string(),
                ),
            };
            let text = format!("data plane: {what} waited for too long");
            let fields = [("prefix", prefix), ("filter", filter)];
            let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
            own(gateway, "dataplane_hold_expired", text, fields)
        }
        Some(Kind::PathEnded(end)) => {
            let prefix = prefix_text(&end.address, end.length);
            let why = if end.by_itself {
                "in time nobody said so"
            } else {
                "its end has come"
            };
            let text = format!(
                "data plane: packets to {prefix} by tunnel {} are all here after {} us: {why}",
                end.tunnel, end.waited_us
            );
            let fields = [
                ("prefix", prefix),
                ("tunnel", end.tunnel.to_string()),
                ("by_itself", end.by_itself.to_string()),
                ("waited_us", end.waited_us.to_string()),
            ];
            own(gateway, "dataplane_path_ended", text, fields)
        }
        Some(Kind::HeldDropped(dropped)) => {
            let text = format!(
                "data plane: {} packets that were to wait were dropped: {}",
                dropped.packets, dropped.reason
            );
            let packets = dropped.packets.to_string();
            own(
                gateway,
                "dataplane_held_dropped",
                text,
                [("reason", dropped.reason), ("packets", packets)],
            )
        }
        Some(Kind::FilterExpired(expired)) => {
            let why = match expired.why() {
                dataplane_proto::FilterExpiry::Idle => "no packet for its idle timeout",
                _ => "its lifetime has passed",
            };
            let text = format!("data plane: filter {} is no longer needed: {why}", expired.id);
            own(
                gateway,
                "dataplane_filter_expired",
                text,
                [("filter", expired.id.to_string())],
            )
        }
        Some(Kind::Overflow(overflow)) => {
            let text = format!("data plane: {} {} not reported", overflow.lost, overflow.what);
            own(
                gateway,
                "dataplane_overflow",
                text,
                [("what", overflow.what), ("lost", overflow.lost.to_string())],
            )
        }
        Some(Kind::PathMtuChanged(path)) => {
            let (peer, mtu) = (address(&path.remote), path.mtu);
            let text = if path.learned {
                format!("data plane: the path to {peer} takes packets of {mtu} octets, a router says")
            } else {
                format!("data plane: packets of {mtu} octets are tried again on the path to {peer}")
            };
            own(
                gateway,
                "dataplane_path_mtu_changed",
                text,
                [
                    ("peer", peer),
                    ("mtu", mtu.to_string()),
                    ("learned", path.learned.to_string()),
                ],
            )
        }
        None => own(
            gateway,
            "dataplane_event",
            "data plane: an event that this program does not know".to_owned(),
            [],
        ),
    }
}

fn own<'a>(
    gateway: &str,
    kind: &str,
    text: String,
    fields: impl IntoIterator<Item = (&'a str, String)>,
) -> proto::Event {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    proto::Event {
        unix_us: u64::try_from(now.as_micros()).unwrap_or(u64::MAX),
        gateway: gateway.to_owned(),
        kind: kind.to_owned(),
        text,
        fields: fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_same_keys_whatever_it_is() {
        let event = as_control(
            "maar1",
            dataplane_proto::Event {
                unix_ms: 5,
                kind: Some(dataplane_proto::event::Kind::UnknownNeighbour(
                    dataplane_proto::UnknownNeighbour {
                        port: "core".to_owned(),
                        address: vec![0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                    },
                )),
            },
        );
        let value = value(&event);
        assert_eq!(value["kind"], "dataplane_unknown_neighbour");
        assert_eq!(value["fields"]["address"], "2001:db8::1");
        assert_eq!(value.as_object().unwrap().len(), 5);
        assert_eq!(clock(1_700_000_000_000_042), "22:13:20.000042Z");
    }
}
