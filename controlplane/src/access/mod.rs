//! The access side: who is on a link, and what it is told there.

mod link;
mod policy;
mod rate;
mod routers;

pub use link::{AccessLink, Advertiser, Solicitation, advertisement};
pub use policy::{Identity, Policy, PolicyError};
pub use rate::RateOfNodes;
pub use routers::{RouterLink, RouterMessage};
