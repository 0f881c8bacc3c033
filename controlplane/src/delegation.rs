//! DHCPv6 prefix delegation (RFC 8415, RFC 6603, RFC 8987): a requesting router for role `maar`, a delegating server for
//! role `cmd`, both pure state machines, and the drivers that give them sockets and timers.
//!
//! ```text
//!   requesting::Requesting ──► UDP 546, or in Relay-forwards from 547 ──► a server (Kea, or the one below)
//!   delegating::Delegating ──► UDP 547 ──► requesting routers (ours, dhcpcd, dhcp6c, dibbler), relays
//! ```
//!
//! Rule by rule, with the test of each: `controlplane/DELEGATION.md`.

pub mod delegating;
pub mod reconfigure_key;
pub mod requesting;
pub mod wire;
