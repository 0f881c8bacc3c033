//! `[announce]`: how the network learns which prefixes are anchored at a MAAR.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::model::milliseconds;
use crate::validate::{Findings, is_global_unicast};
use crate::{Config, Side};

/// `[announce]`: routes to the prefixes anchored at this MAAR, through a routing daemon that runs beside it. Absent:
/// the network has been told by other means.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announce {
    /// Who announces.
    pub daemon: RoutingDaemon,
    /// What is announced. Default `pools`.
    #[serde(default)]
    pub what: Announced,
    /// With `daemon = "gobgp"`: the next hop of every route. Default: the first global address of the first core port
    /// that has one.
    pub next_hop: Option<Ipv6Addr>,
    /// With `daemon = "gobgp"`: communities (RFC 1997, RFC 8092) of every route, such as `"65001:100"`,
    /// `"65001:1:2"`, `"no-export"`.
    #[serde(default)]
    pub communities: Vec<Community>,
    /// With `daemon = "gobgp"`: LOCAL_PREF of every route, as peers in the same AS see it; absent = the daemon's.
    pub local_preference: Option<u32>,
    /// With `daemon = "gobgp"`: MULTI_EXIT_DISC of every route; absent = none.
    pub med: Option<u32>,
    /// Between two withdrawals of one prefix, 0..=3600000 ms: one that comes sooner is held back, so that a prefix
    /// that comes and goes is not taken for a flapping one (RFC 2439). Nothing holds an announcement back, nor the
    /// withdrawal of a prefix that another anchor has now. Default 5000.
    #[serde(
        rename = "minimum_withdrawal_interval_ms",
        default = "default_minimum_withdrawal_interval",
        deserialize_with = "milliseconds"
    )]
    pub minimum_withdrawal_interval: Duration,
    /// How long other routers may take to learn a route that the daemon has accepted, 0..=60000 ms. A prefix counts as
    /// announced after that, and only then does another anchor withdraw it. Default 100.
    #[serde(
        rename = "propagation_ms",
        default = "default_propagation",
        deserialize_with = "milliseconds"
    )]
    pub propagation: Duration,
    /// How often what the daemon has is compared with what it should have, 1000..=86400000 ms; 0: only when it
    /// was connected to, or has refused something. Default 300000.
    #[serde(
        rename = "resync_interval_ms",
        default = "default_resync_interval",
        deserialize_with = "milliseconds"
    )]
    pub resync_interval: Duration,
    /// Most changes that the daemon is given at a time, 1..=65536. Default 1024.
    #[serde(default = "default_batch")]
    pub batch: u32,
    /// With `daemon = "gobgp"`.
    pub gobgp: Option<Gobgp>,
    /// With `daemon = "kernel"`.
    pub kernel: Option<KernelTable>,
}

/// `announce.daemon`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoutingDaemon {
    /// GoBGP 3, by its gRPC API.
    Gobgp,
    /// Any that redistributes routes of the kernel, such as BIRD and FRR.
    Kernel,
}

impl RoutingDaemon {
    /// As in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gobgp => "gobgp",
            Self::Kernel => "kernel",
        }
    }
}

/// `announce.what`. A prefix of another MAAR's pool that has moved here is announced by itself in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Announced {
    /// The pools as a whole: as many routes as there are pools, whatever nodes do.
    #[default]
    Pools,
    /// Each home network prefix of a node that is registered.
    Prefixes,
}

/// `[announce.gobgp]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gobgp {
    /// Its API: `http://HOST:PORT` or `unix:///PATH`. Default `http://127.0.0.1:50051`.
    pub endpoint: GobgpEndpoint,
    /// Path identifier (RFC 7911) by which this MAAR knows its own routes there, 1..=4294967295; peers do not see it. What
    /// has another one, or none, is never touched. Default 5213.
    pub path_identifier: u32,
}

impl Default for Gobgp {
    fn default() -> Self {
        Self {
            endpoint: GobgpEndpoint::Http("http://127.0.0.1:50051".to_owned()),
            path_identifier: 5213,
        }
    }
}

/// `[announce.kernel]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KernelTable {
    /// Routing table, 1..=4294967295. FRR reads only the default; BIRD reads any. Default 254 (main): what this node
    /// itself sends to its nodes' prefixes is then refused by the kernel.
    pub table: u32,
    /// Routing protocol number of this MAAR's routes, 5..=255 without those of other daemons (11, 12, 186..=192). Routes with
    /// another one are never touched. Default 213.
    pub protocol: u8,
}

impl Default for KernelTable {
    fn default() -> Self {
        Self {
            table: 254,
            protocol: 213,
        }
    }
}

/// Where GoBGP's API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GobgpEndpoint {
    /// `http://HOST:PORT`.
    Http(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl FromStr for GobgpEndpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} is neither http://HOST:PORT nor unix:///PATH");
        if let Some(path) = text.strip_prefix("unix://") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Self::Unix(path))
            } else {
                Err(refused())
            };
        }
        let authority = text.strip_prefix("http://").ok_or_else(refused)?;
        let (host, port) = authority.rsplit_once(':').ok_or_else(refused)?;
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .is_some_and(|host| host.parse::<Ipv6Addr>().is_ok());
        let named = !host.is_empty()
            && host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
        let port = port.parse::<u16>().is_ok_and(|port| port != 0);
        if (bracketed || named) && port {
            Ok(Self::Http(text.to_owned()))
        } else {
            Err(refused())
        }
    }
}

impl fmt::Display for GobgpEndpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(text) => formatter.write_str(text),
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for GobgpEndpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A community of a BGP route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Community {
    /// RFC 1997.
    Standard(u32),
    /// RFC 8092: global administrator, local data 1 and 2.
    Large(u32, u32, u32),
}

/// RFC 1997 section 2, RFC 3765.
const WELL_KNOWN: [(&str, u32); 4] = [
    ("no-export", 0xffff_ff01),
    ("no-advertise", 0xffff_ff02),
    ("no-export-subconfed", 0xffff_ff03),
    ("no-peer", 0xffff_ff04),
];

impl FromStr for Community {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, value)) = WELL_KNOWN.iter().find(|(name, _)| *name == text) {
            return Ok(Self::Standard(*value));
        }
        let refused = || {
            format!(
                "{text:?} is no community: neither two numbers to 65535, nor three to 4294967295, nor a name such as no-export"
            )
        };
        let parts: Option<Vec<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
        match parts.as_deref() {
            Some(&[high, low]) if high <= 0xffff && low <= 0xffff => Ok(Self::Standard(high << 16 | low)),
            Some(&[administrator, first, second]) => Ok(Self::Large(administrator, first, second)),
            _ => Err(refused()),
        }
    }
}

impl<'de> Deserialize<'de> for Community {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Config {
    /// The next hop of what a MAAR announces by BGP: `announce.next_hop`, or an address of a core port.
    #[must_use]
    pub fn announced_next_hop(&self) -> Option<Ipv6Addr> {
        let given = self.announce.as_ref().and_then(|announce| announce.next_hop);
        let core = self.ports.iter().filter(|port| port.side == Side::Core);
        let mut addresses = core
            .flat_map(|port| &port.addresses)
            .map(|address| address.addr());
        given.or_else(|| addresses.find(|address| is_global_unicast(*address)))
    }
}

pub(crate) fn check(config: &Config, findings: &mut Findings) {
    let Some(announce) = &config.announce else {
        return;
    };
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    for (key, span, most) in [
        (
            "announce.minimum_withdrawal_interval_ms",
            announce.minimum_withdrawal_interval,
            3_600_000,
        ),
        ("announce.propagation_ms", announce.propagation, 60_000),
    ] {
        findings.range(key, millis(span), 0, most, "ms");
    }
    let resync = millis(announce.resync_interval);
    if resync != 0 {
        findings.range("announce.resync_interval_ms", resync, 1000, 86_400_000, "ms");
    }
    findings.range("announce.batch", announce.batch, 1, 65_536, "");
    match announce.daemon {
        RoutingDaemon::Gobgp => by_gobgp(config, announce, findings),
        RoutingDaemon::Kernel => by_kernel(announce, findings),
    }
}

fn by_gobgp(config: &Config, announce: &Announce, findings: &mut Findings) {
    if announce.kernel.is_some() {
        findings.add("announce.kernel", "", "goes with announce.daemon = \"kernel\"");
    }
    if let Some(gobgp) = &announce.gobgp {
        findings.range(
            "announce.gobgp.path_identifier",
            gobgp.path_identifier,
            1,
            u32::MAX,
            "",
        );
    }
    match config.announced_next_hop() {
        Some(next_hop) if !is_global_unicast(next_hop) => {
            findings.add("announce.next_hop", next_hop, "must be a global unicast address");
        }
        Some(_) => {}
        None => findings.add(
            "announce.next_hop",
            "",
            "is required: no core port has a global IPv6 address",
        ),
    }
}

/// Protocol numbers of the kernel's own, of zebra, BIRD, and FRR's daemons.
fn is_taken(protocol: u8) -> bool {
    matches!(protocol, 0..=4 | 11 | 12 | 186..=192)
}

fn by_kernel(announce: &Announce, findings: &mut Findings) {
    if announce.gobgp.is_some() {
        findings.add("announce.gobgp", "", "goes with announce.daemon = \"gobgp\"");
    }
    let kernel = announce.kernel.unwrap_or_default();
    if kernel.table == 0 || kernel.table == 255 {
        let reason = "must be 1 to 4294967295, and not 255, the table of local addresses";
        findings.add("announce.kernel.table", kernel.table, reason);
    }
    if is_taken(kernel.protocol) {
        let reason = "must be 5 to 255, and not of another daemon: 11, 12, 186 to 192";
        findings.add("announce.kernel.protocol", kernel.protocol, reason);
    }
    let reason = "goes with announce.daemon = \"gobgp\"; others set it by their own configuration";
    if let Some(next_hop) = announce.next_hop {
        findings.add("announce.next_hop", next_hop, reason);
    }
    if !announce.communities.is_empty() {
        findings.add("announce.communities", announce.communities.len(), reason);
    }
    for (key, value) in [
        ("announce.local_preference", announce.local_preference),
        ("announce.med", announce.med),
    ] {
        if let Some(value) = value {
            findings.add(key, value, reason);
        }
    }
}

fn default_minimum_withdrawal_interval() -> Duration {
    Duration::from_secs(5)
}
fn default_propagation() -> Duration {
    Duration::from_millis(100)
}
fn default_resync_interval() -> Duration {
    Duration::from_secs(300)
}
fn default_batch() -> u32 {
    1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities() {
        let standard = |value| Ok(Community::Standard(value));
        assert_eq!("65001:100".parse(), standard(0xfde9_0064));
        assert_eq!("no-export".parse(), standard(0xffff_ff01));
        assert_eq!(
            "4200000000:1:2".parse(),
            Ok(Community::Large(4_200_000_000, 1, 2))
        );
        for wrong in ["", "1", "65536:1", "1:65536", "1:2:3:4", "a:b", "no-such", "-1:1"] {
            let error = wrong.parse::<Community>().unwrap_err();
            assert!(error.starts_with(&format!("{wrong:?}")), "{error}");
        }
    }

    #[test]
    fn endpoints() {
        for right in [
            "http://127.0.0.1:50051",
            "http://[::1]:50051",
            "http://gobgp.example.net:1",
            "unix:///run/gobgpd.sock",
        ] {
            assert_eq!(right.parse::<GobgpEndpoint>().unwrap().to_string(), right);
        }
        for wrong in [
            "",
            "127.0.0.1:50051",
            "https://127.0.0.1:50051",
            "http://127.0.0.1",
            "http://127.0.0.1:0",
            "http://:50051",
            "http://::1:50051",
            "http://a/b:1",
            "unix://run/gobgpd.sock",
        ] {
            let error = wrong.parse::<GobgpEndpoint>().unwrap_err();
            assert!(error.starts_with(&format!("{wrong:?}")), "{error}");
        }
    }
}
