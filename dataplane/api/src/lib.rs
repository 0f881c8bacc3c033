//! The contract between the control plane and a data plane (RFC 8818 FM:5).
//!
//! `proto` is what travels; [`model`] is what both sides compute with: typed,
//! validated, ordered tables. Conversion ([`convert`]) happens here and nowhere
//! else, so a bad octet string is refused at the edge with its field named.
//! [`client`] is the control plane's end of the wire.

/// The generated protobuf and gRPC types.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    reason = "generated code"
)]
pub mod proto {
    tonic::include_proto!("kedge.dataplane.v1");
}

pub mod client;
pub mod convert;
pub mod model;
pub mod path_end;

pub use client::{Client, ClientError, ReadBack};
pub use convert::{ConversionError, prefix_keys};
pub use model::{Tables, Transaction};

/// Largest gRPC message in octets that either side accepts: a full read-back
/// of some two million prefixes.
pub const MAXIMUM_MESSAGE: usize = 256 * 1024 * 1024;
