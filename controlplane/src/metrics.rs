//! `/metrics` for Prometheus. The event loop owns what is counted; a scrape asks it.

use std::convert::Infallible;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use crate::driver::MessageCount;
use crate::northbound::Request;

/// From the first update to the CMD's answer, seconds: half a millisecond to a minute.
const HANDOVER_BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];

/// What accumulates between scrapes.
#[derive(Clone, Debug)]
pub struct Accumulated {
    registry: Registry,
    registration: Histogram,
    route: Histogram,
}

/// What is read at the moment of a scrape.
#[derive(Clone, Debug, Default)]
pub struct Snapshot<'a> {
    /// `node.name`.
    pub node: &'a str,
    /// `maar`, `cmd` or `dpn`.
    pub role: &'a str,
    /// Counters by name, of the state machine and of the driver.
    pub counters: Vec<(&'static str, u64)>,
    /// Messages by direction, name, result.
    pub messages: Vec<(MessageCount, u64)>,
    /// Bindings (at a MAAR: nodes) by state.
    pub bindings: Vec<(&'static str, i64)>,
    /// Whether the data plane is connected; `None` without one.
    pub dataplane_connected: Option<bool>,
    /// Settings that the data plane has too, and whether it has another value; none without one.
    pub dataplane_mismatches: Vec<(&'static str, bool)>,
    /// Prefixes delegated by DHCPv6, at a CMD by it and at a MAAR to it; `None` where that is not configured.
    pub delegations: Option<usize>,
    /// GTP-U paths by peer: whether the last Echo Request was answered.
    pub paths: Vec<(Ipv6Addr, bool)>,
    /// What is announced; `None` where nothing is.
    pub routes: Option<RouteFigures>,
    /// What the data plane has no room for, by the limit; empty without one.
    pub left_out: Vec<(&'static str, i64)>,
    /// What the meters of each name have counted.
    pub meters: Vec<MeterFigures>,
}

/// Of all meters of one name.
#[derive(Clone, Debug, Default)]
pub struct MeterFigures {
    /// The name.
    pub name: String,
    /// Packets that were green, yellow and red, then octets of those.
    pub colours: [u64; 6],
}

/// Of the routes that a MAAR announces.
#[derive(Clone, Debug, Default)]
pub struct RouteFigures {
    /// By whom.
    pub daemon: &'static str,
    /// Whether it is there, and what it has is known.
    pub connected: bool,
    /// How many routes are in each state.
    pub states: Vec<(&'static str, i64)>,
}

impl Accumulated {
    /// Nothing yet.
    ///
    /// # Errors
    /// A name that Prometheus does not accept; cannot happen with those used here.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let registration = Histogram::with_opts(
            HistogramOpts::new(
                "kedge_controlplane_registration_duration_seconds",
                "From the first Proxy Binding Update of a registration to its acknowledgement",
            )
            .buckets(HANDOVER_BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(registration.clone()))?;
        let route = Histogram::with_opts(
            HistogramOpts::new(
                "kedge_controlplane_route_announcement_duration_seconds",
                "From when a route was wanted to when the routing daemon has taken it",
            )
            .buckets(HANDOVER_BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(route.clone()))?;
        Ok(Self {
            registry,
            registration,
            route,
        })
    }

    /// A route that the routing daemon has taken so long after it was wanted.
    pub fn route_announced(&self, after: Duration) {
        self.route.observe(after.as_secs_f64());
    }

    /// A registration that took `micros` microseconds.
    pub fn registration(&self, micros: u64) {
        self.registration.observe(micros as f64 / 1e6);
    }

    /// The text of a scrape.
    ///
    /// # Errors
    /// That of the encoder.
    pub fn render(&self, snapshot: &Snapshot<'_>) -> Result<String, prometheus::Error> {
        let now = Registry::new();
        let events = IntCounterVec::new(
            Opts::new("kedge_controlplane_events_total", "What happened, by name"),
            &["event"],
        )?;
        for (name, value) in &snapshot.counters {
            events.with_label_values(&[name]).inc_by(*value);
        }
        let messages = IntCounterVec::new(
            Opts::new(
                "kedge_controlplane_mobility_messages_total",
                "Mobility Header messages; result is that of an acknowledgement",
            ),
            &["direction", "message", "result"],
        )?;
        for ((direction, message, result), value) in &snapshot.messages {
            messages
                .with_label_values(&[direction, message, result])
                .inc_by(*value);
        }
        let bindings = IntGaugeVec::new(
            Opts::new("kedge_controlplane_bindings", "Mobile nodes known, by state"),
            &["state"],
        )?;
        for (state, value) in &snapshot.bindings {
            bindings.with_label_values(&[state]).set(*value);
        }
        let info = IntGaugeVec::new(
            Opts::new("kedge_controlplane_build_info", "Always 1"),
            &["version", "node", "role"],
        )?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION"), snapshot.node, snapshot.role])
            .set(1);
        now.register(Box::new(events))?;
        now.register(Box::new(messages))?;
        now.register(Box::new(bindings))?;
        now.register(Box::new(info))?;
        if let Some(connected) = snapshot.dataplane_connected {
            let gauge = prometheus::IntGauge::new(
                "kedge_controlplane_dataplane_connected",
                "1 while the data plane takes transactions",
            )?;
            gauge.set(connected.into());
            now.register(Box::new(gauge))?;
        }
        if !snapshot.dataplane_mismatches.is_empty() {
            let gauge = IntGaugeVec::new(
                Opts::new(
                    "kedge_controlplane_dataplane_mismatch",
                    "1 while the data plane was started with another value of this setting",
                ),
                &["setting"],
            )?;
            for (setting, differs) in &snapshot.dataplane_mismatches {
                gauge.with_label_values(&[setting]).set((*differs).into());
            }
            now.register(Box::new(gauge))?;
        }
        if let Some(delegations) = snapshot.delegations {
            let gauge = prometheus::IntGauge::new(
                "kedge_controlplane_delegations",
                "Prefixes delegated by DHCPv6: by a cmd, to a maar",
            )?;
            gauge.set(i64::try_from(delegations).unwrap_or(i64::MAX));
            now.register(Box::new(gauge))?;
        }
        if !snapshot.paths.is_empty() {
            let up = IntGaugeVec::new(
                Opts::new(
                    "kedge_controlplane_gtpu_path_up",
                    "1 while the peer answers Echo Requests (3GPP TS 29.281)",
                ),
                &["peer"],
            )?;
            for (peer, is_up) in &snapshot.paths {
                up.with_label_values(&[peer.to_canonical().to_string()])
                    .set((*is_up).into());
            }
            now.register(Box::new(up))?;
        }
        if !snapshot.left_out.is_empty() {
            let left_out = IntGaugeVec::new(
                Opts::new(
                    "kedge_controlplane_left_out",
                    "Filters, meters and tunnels that the data plane has no room for, by the limit that they are beyond",
                ),
                &["limit"],
            )?;
            for (limit, count) in &snapshot.left_out {
                left_out.with_label_values(&[limit]).set(*count);
            }
            now.register(Box::new(left_out))?;
        }
        if !snapshot.meters.is_empty() {
            for registered in meters(&snapshot.meters)? {
                now.register(Box::new(registered))?;
            }
        }
        if let Some(routes) = &snapshot.routes {
            let connected = IntGaugeVec::new(
                Opts::new(
                    "kedge_controlplane_announcer_connected",
                    "1 while the routing daemon is there, and what it has is known",
                ),
                &["daemon"],
            )?;
            connected
                .with_label_values(&[routes.daemon])
                .set(routes.connected.into());
            now.register(Box::new(connected))?;
            let states = IntGaugeVec::new(
                Opts::new("kedge_controlplane_routes", "Routes to announce, by state"),
                &["state"],
            )?;
            for (state, count) in &routes.states {
                states.with_label_values(&[state]).set(*count);
            }
            now.register(Box::new(states))?;
        }
        let mut text = Vec::new();
        for registry in [&self.registry, &now] {
            TextEncoder::new().encode(&registry.gather(), &mut text)?;
        }
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

/// Packets and octets by meter and colour.
fn meters(figures: &[MeterFigures]) -> Result<[IntCounterVec; 2], prometheus::Error> {
    let labels = &["meter", "colour"];
    let packets = Opts::new(
        "kedge_controlplane_meter_packets_total",
        "Packets of all meters of a name, as of the last reading; red ones were dropped",
    );
    let bytes = Opts::new(
        "kedge_controlplane_meter_bytes_total",
        "Octets of those, IPv6 header included",
    );
    let (packets, bytes) = (
        IntCounterVec::new(packets, labels)?,
        IntCounterVec::new(bytes, labels)?,
    );
    for MeterFigures { name, colours } in figures {
        let [a, b, c, d, e, f] = *colours;
        for (colour, number, octets) in [("green", a, d), ("yellow", b, e), ("red", c, f)] {
            packets.with_label_values(&[name, colour]).inc_by(number);
            bytes.with_label_values(&[name, colour]).inc_by(octets);
        }
    }
    Ok([packets, bytes])
}

/// Listens at `address` and serves `/metrics` until the returned task is aborted.
///
/// # Errors
/// That of the operating system, such as an address in use.
pub async fn serve(
    address: SocketAddr,
    requests: mpsc::Sender<Request>,
) -> std::io::Result<tokio::task::JoinHandle<()>> {
    let listener = TcpListener::bind(address).await?;
    Ok(tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(connection(stream, requests.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "accepting a scrape failed");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }))
}

async fn connection(stream: TcpStream, requests: mpsc::Sender<Request>) {
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let requests = requests.clone();
        async move {
            let answer = match (request.method(), request.uri().path()) {
                (&Method::GET, "/metrics") => scrape(requests).await,
                (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned()),
                _ => (StatusCode::NOT_FOUND, "only /metrics is here\n".to_owned()),
            };
            Ok::<_, Infallible>(response(answer))
        }
    });
    if let Err(error) = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!(%error, "a scrape ended early");
    }
}

fn response((status, text): (StatusCode, String)) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(prometheus::TEXT_FORMAT);
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    response
}

async fn scrape(requests: mpsc::Sender<Request>) -> (StatusCode, String) {
    let (reply, answer) = oneshot::channel();
    let sent = requests.send(Request::Metrics(reply)).await.is_ok();
    match answer.await {
        Ok(Ok(text)) if sent => (StatusCode::OK, text),
        Ok(Err(status)) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{}\n", status.message()),
        ),
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the control plane is stopping\n".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_has_every_part() {
        let accumulated = Accumulated::new().unwrap();
        accumulated.registration(1500);
        accumulated.route_announced(Duration::from_millis(2));
        let text = accumulated
            .render(&Snapshot {
                node: "maar1",
                role: "maar",
                counters: vec![("attachments", 3)],
                messages: vec![(("sent", "PBU", ""), 2)],
                bindings: vec![("attached", 1)],
                dataplane_connected: Some(true),
                dataplane_mismatches: vec![("inner_ipv4", true)],
                delegations: Some(2),
                paths: vec![("2001:db8::1".parse().unwrap(), true)],
                routes: Some(RouteFigures {
                    daemon: "gobgp",
                    connected: true,
                    states: vec![("announced", 2)],
                }),
                left_out: vec![("maximum_filters", 4)],
                meters: vec![MeterFigures {
                    name: "gold".to_owned(),
                    colours: [1, 2, 3, 4, 5, 6],
                }],
            })
            .unwrap();
        for line in [
            "kedge_controlplane_events_total{event=\"attachments\"} 3",
            "kedge_controlplane_mobility_messages_total{direction=\"sent\",message=\"PBU\",result=\"\"} 2",
            "kedge_controlplane_bindings{state=\"attached\"} 1",
            "kedge_controlplane_dataplane_connected 1",
            "kedge_controlplane_dataplane_mismatch{setting=\"inner_ipv4\"} 1",
            "kedge_controlplane_delegations 2",
            "kedge_controlplane_gtpu_path_up{peer=\"2001:db8::1\"} 1",
            "kedge_controlplane_left_out{limit=\"maximum_filters\"} 4",
            "kedge_controlplane_announcer_connected{daemon=\"gobgp\"} 1",
            "kedge_controlplane_routes{state=\"announced\"} 2",
            "kedge_controlplane_meter_packets_total{colour=\"red\",meter=\"gold\"} 3",
            "kedge_controlplane_meter_bytes_total{colour=\"yellow\",meter=\"gold\"} 5",
            "kedge_controlplane_route_announcement_duration_seconds_bucket{le=\"0.0025\"} 1",
            "kedge_controlplane_route_announcement_duration_seconds_bucket{le=\"0.001\"} 0",
            "kedge_controlplane_registration_duration_seconds_bucket{le=\"0.0025\"} 1",
            "kedge_controlplane_registration_duration_seconds_bucket{le=\"0.001\"} 0",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
