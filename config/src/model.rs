//! The configuration as a value. Field docs are the reference of the file's keys.
//!
//! Where a key takes addresses of both IP versions, an IPv4 address is its IPv4-mapped form here
//! (RFC 4291 section 2.5.5.2), as in the tables of the data plane; [`shown`] gives it as it was written.

mod access;
mod address;
mod dataplane;
mod roles;
mod timers;
mod tunnel;

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::Ipv6Net;
use serde::Deserialize;

pub use access::{Access, UnknownNodes};
pub(crate) use address::some_prefix;
pub use address::{mapped, shown};
pub use dataplane::{
    Dataplane, Hold, HoldOverflow, HugePages, InnerIpv4, Ipv4Fragments, MeterShare, MssClamping, PollMode,
    Redistribute, ZeroChecksums,
};
pub use roles::{
    Cmd, CmdMode, Dpn, Ipv4Binding, Ipv6Binding, KnownDpn, KnownMaar, Maar, PduType, Peer, TunnelBinding,
    TunnelEnd, TunnelType,
};
pub use timers::Timers;
pub use tunnel::Tunnel;

use address::{address, addresses, prefix};
pub(crate) use timers::milliseconds;

use crate::announce::Announce;
use crate::flow::{FilterRule, Meter};
use crate::policy::PolicyRule;

/// An interface address with its prefix length, such as `2001:db8::1/64` or `192.0.2.1/24`.
pub type Address = Ipv6Net;

/// One node's whole configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this node is.
    pub node: Node,
    /// The user plane; required for roles `maar` and `dpn`, refused for role `cmd`.
    pub dataplane: Option<Dataplane>,
    /// DPDK ports, at least one core port for roles `maar` and `dpn`.
    #[serde(default, rename = "port")]
    pub ports: Vec<Port>,
    /// Static routes toward the core.
    #[serde(default, rename = "route")]
    pub routes: Vec<Route>,
    /// Settings of role `maar`; required for it, refused for others.
    pub maar: Option<Maar>,
    /// Settings of role `cmd`; required for it, refused for others.
    pub cmd: Option<Cmd>,
    /// Settings of role `dpn`; required for it, refused for others.
    pub dpn: Option<Dpn>,
    /// What outer packets are like (roles `maar` and `dpn`).
    #[serde(default)]
    pub tunnel: Tunnel,
    /// What the access side offers its nodes (roles `maar` and `dpn`).
    #[serde(default)]
    pub access: Access,
    /// Flows of nodes that are treated in another way (role `maar`).
    #[serde(default, rename = "filter")]
    pub filters: Vec<FilterRule>,
    /// Rates that filters name (role `maar`).
    #[serde(default, rename = "meter")]
    pub meters: Vec<Meter>,
    /// How much mobility nodes and prefixes get (role `cmd`).
    #[serde(default, rename = "policy")]
    pub policies: Vec<PolicyRule>,
    /// Routes to what is anchored here (role `maar`); absent = nothing is announced.
    pub announce: Option<Announce>,
    /// Protocol timers; the defaults are those of RFC 5213 and RFC 6275.
    #[serde(default)]
    pub timers: Timers,
}

/// `[node]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// 1..=63 of `a-z A-Z 0-9 - _`; names files, metrics and events.
    pub name: String,
    /// What this node does.
    pub role: Role,
    /// The global unicast address of signalling and, at a MAAR or DPN, of its tunnels' end.
    pub address: Ipv6Addr,
    /// Directory of the Unix sockets. Default `/run/kedge/NAME`.
    pub run_directory: Option<PathBuf>,
    /// Directory of the binding store. Default `/var/lib/kedge/NAME`.
    pub state_directory: Option<PathBuf>,
    /// Where the control plane serves `/metrics`, e.g. `[::1]:9110`; absent = nowhere.
    pub metrics: Option<SocketAddr>,
}

/// `node.role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Mobility anchor and access router (RFC 8885 section 2).
    Maar,
    /// Central mobility database (RFC 8885 section 2).
    Cmd,
    /// Forwarding switch below a MAAR, its DPA: a mobile access gateway (RFC 8818 section 4.2.2, RFC 5213).
    Dpn,
}

/// `[[port]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// 1..=31 of `a-z A-Z 0-9 - _`; distinct.
    pub name: String,
    /// A DPDK device: `net_af_packet0,iface=eth1`, `net_tap0,...`, `net_virtio_user0,...`,
    /// `net_vhost0,...`, `net_memif0,...` or a PCI address `0000:01:00.0`.
    pub device: String,
    /// Where it leads.
    pub side: Side,
    /// Largest IPv6 packet in octets, 1280..=9600. Default 1500. Packet buffers are made for the largest of all ports, so
    /// `memory_mib` has to have room for `packet_buffers` of them. An interface of Linux has to have this MTU itself.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
    /// Name of the TAP interface by which the kernel sees this port, 1..=15 characters, distinct. Absent: nothing is handed to the kernel.
    pub exception: Option<String>,
    /// Link-layer address to set; absent = the device's own.
    pub link_layer_address: Option<String>,
    /// VLAN identifier 1..=4094 of every frame on this port; absent = untagged.
    pub vlan: Option<u16>,
    /// Receive and transmit queues; absent = one for each worker, as far as the device has them.
    pub queues: Option<u16>,
    /// Addresses of the exception interface, set by the control plane; global ones are on-link prefixes too. At a core
    /// port there may be IPv4 ones, such as `192.0.2.2/24`.
    #[serde(default, deserialize_with = "addresses")]
    pub addresses: Vec<Address>,
}

/// `port.side`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Mobile nodes are here; sources are checked.
    Access,
    /// The network of the other gateways and of the Internet is here.
    Core,
}

/// `[[route]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Destination; no host bits. IPv4 too, such as `0.0.0.0/0`: for what this node itself sends and for its tunnels.
    #[serde(deserialize_with = "prefix")]
    pub prefix: Ipv6Net,
    /// A core port's name.
    pub port: String,
    /// Next hop on that port, of the same IP version as the prefix.
    #[serde(deserialize_with = "address")]
    pub gateway: Ipv6Addr,
}

impl Config {
    /// Directory of the Unix sockets.
    #[must_use]
    pub fn run_directory(&self) -> PathBuf {
        self.node
            .run_directory
            .clone()
            .unwrap_or_else(|| PathBuf::from("/run/kedge").join(&self.node.name))
    }

    /// Directory of the binding store.
    #[must_use]
    pub fn state_directory(&self) -> PathBuf {
        self.node
            .state_directory
            .clone()
            .unwrap_or_else(|| PathBuf::from("/var/lib/kedge").join(&self.node.name))
    }

    /// Socket of the data plane's API.
    #[must_use]
    pub fn dataplane_socket(&self) -> PathBuf {
        self.run_directory().join("dataplane.sock")
    }

    /// Socket of the control plane's northbound API.
    #[must_use]
    pub fn controlplane_socket(&self) -> PathBuf {
        self.run_directory().join("controlplane.sock")
    }
}

fn default_mtu() -> u16 {
    1500
}
