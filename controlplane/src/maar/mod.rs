//! Role MAAR: mobility anchor and access router (RFC 8885 section 2).
//!
//! [`Maar`] is the pure state machine; `driver` holds the sockets and timers.
//! A node is in one [`Phase`] here. The serving MAAR (S-MAAR) of a node is
//! where it is `Attached`; a MAAR that has it `Anchored` is a previous one
//! (P-MAAR), which keeps the prefix it gave and tunnels it to the S-MAAR.
//!
//! ```text
//!              Attached            PBA accepted                  PBU with Serving MAAR
//!   (none) ─────────────► Registering ─────────► Attached ──────────────────────────► Anchored
//!                          │  ▲  PBA ≥ 128         │   ▲                                 │  ▲
//!                          ▼  │                    ▼   │ Attached                Attached│  │PBU
//!                        Refused                Detached                               ▼  │
//!                                                  │ lifetime over               Registering
//!                                                  ▼
//!                                             Deregistering ──► (none)
//! ```
//!
//! One file for each kind of input: `attachment`, `acknowledgement` (what the
//! CMD answers), `update` (what the CMD tells), `relocation` (prefixes whose anchor moves), `flows` (what operators want of
//! filters), `handing` (filters that go with a prefix), `refused` (what a peer's user plane says), `delegated` (pools that come and go), `charging` (what was counted), `dpn` (nodes
//! at forwarding switches of ours), `timers`. What they share: `registration` (what the CMD is asked), `advertisement` (what nodes are
//! told), `pool` (prefixes), `teid` and `tunnels`.

mod acknowledgement;
mod advertisement;
mod attachment;
mod charging;
mod delegated;
mod detour;
mod dpn;
pub mod driver;
mod end_markers;
mod flows;
mod fsm;
mod handing;
mod io;
mod network;
mod notified;
mod pool;
mod refused;
mod registration;
mod relocation;
mod settings;
mod state;
mod teid;
mod timers;
mod tunnels;
mod unheard;
mod unused;
mod update;

#[cfg(test)]
mod tests;

pub(crate) use charging::message as record_message;
pub use charging::{Charged, Charging, CountOf, Counted, FilterCounted, Former, LastReading, Reading};
pub use dpn::DpnBinding;
pub(crate) use flows::MOST_FILTERS;
pub use fsm::{Counters, Input, Maar, Output};
pub use network::MobileRouters;
pub use settings::Settings;
pub use state::{
    Adopted, Arriving, Asked, DelegatedPool, MeterFill, Node, NodeTunnel, Phase, Previous, State, Yielded,
};
pub use teid::TeidSequence;
