//! Configuration of a Kedge node: one TOML file in, one validated value out.
//!
//! Both daemons of a node read the same file. [`Config::load`] is the only
//! I/O. Whatever is wrong is reported together, each error with the key, the
//! value and the reason; an unknown key is an error, never a warning.
//!
//! ```toml
//! [node]
//! name = "maar1"
//! role = "maar"
//! address = "2001:db8:a::1"
//!
//! [dataplane]
//! workers = [1]
//!
//! [[port]]
//! name = "core"
//! device = "net_af_packet0,iface=core"
//! side = "core"
//! exception = "kcore"
//! addresses = ["2001:db8:ca::2/64"]
//!
//! [[route]]
//! prefix = "::/0"
//! port = "core"
//! gateway = "2001:db8:ca::1"
//!
//! [maar]
//! cmd = ["2001:db8:c::1"]
//! prefix_pools = ["2001:db8:100::/48"]
//! ```

mod announce;
mod delegation;
mod error;
mod flow;
mod model;
mod policy;
mod validate;

pub use announce::{Announce, Announced, Community, Gobgp, GobgpEndpoint, KernelTable, RoutingDaemon};
pub use delegation::{CmdDelegation, DelegationPool, MaarDelegation, MobileRouters};
pub use error::{ConfigError, ConfigErrors};
pub use flow::{
    AppliesTo, FilterAction, FilterRule, FlowDirection, Meter, Ports, SecondRate, protocol_number,
};
pub use model::{
    Access, Address, Cmd, CmdMode, Config, Dataplane, Dpn, Hold, HoldOverflow, HugePages, InnerIpv4,
    Ipv4Binding, Ipv4Fragments, Ipv6Binding, KnownDpn, KnownMaar, Maar, MeterShare, MssClamping, Node,
    PduType, Peer, PollMode, Port, Redistribute, Role, Route, Side, Timers, Tunnel, TunnelBinding, TunnelEnd,
    TunnelType, UnknownNodes, ZeroChecksums, mapped, shown,
};
pub use policy::{Mobility, PolicyRule, previous_maars_that_fit};
