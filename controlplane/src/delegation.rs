//! DHCPv6 prefix delegation (RFC 8415, RFC 6603, RFC 8987): a requesting router for role `maar`, a delegating server for
//! role `cmd`, both pure state machines, and the drivers that give them sockets and timers.
//!
//! ```text
//!   requesting::Requesting ──► UDP 546, or in Relay-forwards from 547 ──► a server (Kea, or the one below)
//!   delegating::Delegating ──► UDP 547 ──► requesting routers (ours, dhcpcd, dhcp6c, dibbler), relays
//! ```
//!
//! `client` and `server` are tasks of their own; the rest of a daemon has a handle of them, whose documentation says
//! how a relocation uses them. Rule by rule, with the test of each: `controlplane/DELEGATION.md`.

pub mod client;
pub mod delegating;
pub mod reconfigure_key;
pub mod requesting;
pub mod server;
pub(crate) mod socket;
pub mod wire;

use std::sync::Arc;

use tokio::sync::watch;

/// The next value that a task of delegation tells; never, where there is no such task.
pub async fn changed<T>(receiver: Option<&mut watch::Receiver<Arc<T>>>) -> Arc<T> {
    if let Some(receiver) = receiver
        && receiver.changed().await.is_ok()
    {
        return Arc::clone(&receiver.borrow_and_update());
    }
    std::future::pending().await
}
