//! `[tunnel]`.

use serde::Deserialize;

/// `[tunnel]`: what the outer packets of this gateway are like, of all types of tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tunnel {
    /// Differentiated services code point of outer packets, 0..=63 (RFC 2474). Default 0: nodes do not choose what the network between
    /// gateways does with their packets. ECN goes in and out in any case (RFC 6040).
    pub dscp: u16,
    /// Whether outer packets have the code point of the packet within instead (RFC 2473 section 6.4; the uniform model of RFC 2983):
    /// for networks that mark at their edge, with meters' `yellow_dscp` for one. Default false.
    pub copy_dscp: bool,
    /// Hop limit, or time to live, of outer packets, 1..=255. Default 64.
    pub hop_limit: u16,
    /// Largest packet that goes into a tunnel, 1280..=65535 octets, where that is less than what the port and the path leave.
    /// The path is found out (RFC 8201, over IPv4 RFC 1191); this is for one whose routers do not say what they take. Absent: no limit.
    pub mtu: Option<u32>,
}

impl Default for Tunnel {
    fn default() -> Self {
        Self {
            dscp: 0,
            copy_dscp: false,
            hop_limit: 64,
            mtu: None,
        }
    }
}
