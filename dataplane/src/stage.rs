//! The steps of a packet's way, one file each.

pub mod checksum;
pub mod fragment;
pub mod icmpv4_error;
pub mod icmpv6_error;
pub mod ipv4;
pub mod ipv4_fragment;
pub mod ipv4_outer_fragment;
pub mod limit;
pub mod mss;
pub mod parse;
