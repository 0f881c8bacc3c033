//! Tunnels, one folder for each type: header template, encapsulate, decapsulate.

pub mod error;
pub mod gre;
pub mod gtpu;
pub mod ip6_in_ip6;
pub mod outer;
