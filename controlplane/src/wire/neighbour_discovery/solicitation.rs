//! Router Solicitation (RFC 4861 section 4.1).

use std::net::Ipv6Addr;

use super::message::{Options, ROUTER_SOLICITATION, check, option, push_link_layer_address, write_checksum};
use super::{NeighbourDiscoveryError, RouterSolicitation};

/// Type, code, checksum, reserved.
const FIXED_OCTETS: usize = 8;

impl RouterSolicitation {
    /// Reads the ICMPv6 message `octets` of a packet with these addresses and hop limit.
    ///
    /// Makes the checks of RFC 4861 section 6.1.1. Options of other types are
    /// ignored; of several source link-layer addresses the first counts.
    ///
    /// # Errors
    /// A [`NeighbourDiscoveryError`] that says which check failed: the message is to be dropped.
    pub fn parse(
        source: Ipv6Addr,
        destination: Ipv6Addr,
        hop_limit: u8,
        octets: &[u8],
    ) -> Result<Self, NeighbourDiscoveryError> {
        check::<FIXED_OCTETS>(ROUTER_SOLICITATION, source, destination, hop_limit, octets)?;
        let mut source_link_layer_address = None;
        for option in Options::new(octets, FIXED_OCTETS) {
            let option = option?;
            if option.option == option::SOURCE_LINK_LAYER_ADDRESS {
                source_link_layer_address.get_or_insert(option.link_layer_address()?);
            }
        }
        if source.is_unspecified() && source_link_layer_address.is_some() {
            return Err(NeighbourDiscoveryError::Source(source));
        }
        Ok(Self {
            source_link_layer_address,
        })
    }

    /// The octets in a packet from `source` to `destination`, checksum included.
    ///
    /// From `::` the source link-layer address is left out, which RFC 4861 section 4.1 demands.
    #[must_use]
    pub fn emit(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        let mut octets = vec![ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
        if !source.is_unspecified() {
            push_link_layer_address(&mut octets, self.source_link_layer_address);
        }
        write_checksum(source, destination, &mut octets);
        octets
    }
}
