//! Tunnels, one folder for each type: header template, encapsulate, decapsulate.

pub mod ip6_in_ip6;
