//! Router Advertisement (RFC 4861 section 4.2) with its Prefix Information and MTU options.

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;

use super::message::{
    Options, ROUTER_ADVERTISEMENT, RawOption, check, option, push_link_layer_address, write_checksum,
};
use super::{NeighbourDiscoveryError, PrefixInformation, RouterAdvertisement};

/// Up to the retransmit timer.
const FIXED_OCTETS: usize = 16;
/// Flags of a Prefix Information option.
const ON_LINK: u8 = 0x80;
const AUTONOMOUS: u8 = 0x40;

/// Why an advertisement has no octets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmitError {
    /// A duration that its field cannot hold: too long, or no whole number of the unit.
    #[error("{field} of {value:?} is not 0..={limit} whole {unit}")]
    Duration {
        /// Which field.
        field: &'static str,
        /// What was to be sent.
        value: Duration,
        /// What its field counts.
        unit: &'static str,
        /// The largest number.
        limit: u32,
    },
    /// RFC 4861 section 6.2.1 forbids it, and a host would ignore the prefix.
    #[error("{prefix}: preferred lifetime {preferred} exceeds valid lifetime {valid}")]
    Lifetimes {
        /// The prefix.
        prefix: Ipv6Net,
        /// Seconds.
        preferred: u32,
        /// Seconds.
        valid: u32,
    },
    /// An advertisement is sent from a link-local address only.
    #[error("the source {0} of an advertisement is not link-local")]
    SourceNotLinkLocal(Ipv6Addr),
}

impl RouterAdvertisement {
    /// Reads the ICMPv6 message `octets` of a packet with these addresses and hop limit.
    ///
    /// Makes the checks of RFC 4861 section 6.1.2. Ignored are options of other
    /// types, the flags of the header, and prefixes that a host ignores: longer
    /// than 128 bits, or preferred longer than valid (RFC 4862 section 5.5.3).
    /// Bits of a prefix behind its length are cleared (RFC 4861 section 4.6.2).
    ///
    /// # Errors
    /// A [`NeighbourDiscoveryError`] that says which check failed: the message is to be dropped.
    pub fn parse(
        source: Ipv6Addr,
        destination: Ipv6Addr,
        hop_limit: u8,
        octets: &[u8],
    ) -> Result<Self, NeighbourDiscoveryError> {
        let &[
            _,
            _,
            _,
            _,
            current_hop_limit,
            _,
            r0,
            r1,
            e0,
            e1,
            e2,
            e3,
            t0,
            t1,
            t2,
            t3,
        ] = check::<FIXED_OCTETS>(ROUTER_ADVERTISEMENT, source, destination, hop_limit, octets)?;
        if !source.is_unicast_link_local() {
            return Err(NeighbourDiscoveryError::SourceNotLinkLocal(source));
        }
        let mut advertisement = Self {
            current_hop_limit,
            router_lifetime: Duration::from_secs(u64::from(u16::from_be_bytes([r0, r1]))),
            reachable_time: Duration::from_millis(u64::from(u32::from_be_bytes([e0, e1, e2, e3]))),
            retransmit_timer: Duration::from_millis(u64::from(u32::from_be_bytes([t0, t1, t2, t3]))),
            source_link_layer_address: None,
            mtu: None,
            prefixes: Vec::new(),
        };
        for option in Options::new(octets, FIXED_OCTETS) {
            advertisement.add(option?)?;
        }
        Ok(advertisement)
    }

    fn add(&mut self, option: RawOption<'_>) -> Result<(), NeighbourDiscoveryError> {
        match option.option {
            option::SOURCE_LINK_LAYER_ADDRESS => {
                self.source_link_layer_address
                    .get_or_insert(option.link_layer_address()?);
            }
            option::MTU => {
                let [_, _, mtu @ ..] = option.array::<6>()?;
                self.mtu.get_or_insert(u32::from_be_bytes(mtu));
            }
            option::PREFIX_INFORMATION => self.prefixes.extend(PrefixInformation::read(option.array()?)),
            _ => {}
        }
        Ok(())
    }

    /// The octets in a packet from `source` to `destination`, checksum included.
    /// Options go in the order source link-layer address, MTU, prefixes.
    ///
    /// # Errors
    /// An [`EmitError`] where a value does not go into its field.
    pub fn emit(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Result<Vec<u8>, EmitError> {
        if !source.is_unicast_link_local() {
            return Err(EmitError::SourceNotLinkLocal(source));
        }
        let router_lifetime = self.router_lifetime_field()?;
        let reachable_time = milliseconds("reachable time", self.reachable_time)?;
        let retransmit_timer = milliseconds("retransmit timer", self.retransmit_timer)?;

        let mut octets = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, self.current_hop_limit, 0];
        octets.extend(router_lifetime.to_be_bytes());
        octets.extend(reachable_time.to_be_bytes());
        octets.extend(retransmit_timer.to_be_bytes());
        push_link_layer_address(&mut octets, self.source_link_layer_address);
        if let Some(mtu) = self.mtu {
            octets.extend([option::MTU, 1, 0, 0]);
            octets.extend(mtu.to_be_bytes());
        }
        for prefix in &self.prefixes {
            prefix.write(&mut octets)?;
        }
        write_checksum(source, destination, &mut octets);
        Ok(octets)
    }

    fn router_lifetime_field(&self) -> Result<u16, EmitError> {
        let value = self.router_lifetime;
        u16::try_from(value.as_secs())
            .ok()
            .filter(|_| value.subsec_nanos() == 0)
            .ok_or(EmitError::Duration {
                field: "router lifetime",
                value,
                unit: "seconds",
                limit: u32::from(u16::MAX),
            })
    }
}

fn milliseconds(field: &'static str, value: Duration) -> Result<u32, EmitError> {
    u32::try_from(value.as_millis())
        .ok()
        .filter(|_| value.subsec_nanos().is_multiple_of(1_000_000))
        .ok_or(EmitError::Duration {
            field,
            value,
            unit: "milliseconds",
            limit: u32::MAX,
        })
}

impl PrefixInformation {
    /// From what follows type and length; `None` if a host ignores the option.
    fn read(option: [u8; 30]) -> Option<Self> {
        let [
            prefix_len,
            flags,
            v0,
            v1,
            v2,
            v3,
            p0,
            p1,
            p2,
            p3,
            _,
            _,
            _,
            _,
            prefix @ ..,
        ] = option;
        let prefix = Ipv6Net::new(Ipv6Addr::from(prefix), prefix_len).ok()?.trunc();
        let valid_lifetime = u32::from_be_bytes([v0, v1, v2, v3]);
        let preferred_lifetime = u32::from_be_bytes([p0, p1, p2, p3]);
        (preferred_lifetime <= valid_lifetime).then_some(Self {
            prefix,
            on_link: flags & ON_LINK != 0,
            autonomous: flags & AUTONOMOUS != 0,
            valid_lifetime,
            preferred_lifetime,
        })
    }

    fn write(&self, octets: &mut Vec<u8>) -> Result<(), EmitError> {
        if self.preferred_lifetime > self.valid_lifetime {
            return Err(EmitError::Lifetimes {
                prefix: self.prefix,
                preferred: self.preferred_lifetime,
                valid: self.valid_lifetime,
            });
        }
        let on_link = if self.on_link { ON_LINK } else { 0 };
        let autonomous = if self.autonomous { AUTONOMOUS } else { 0 };
        octets.extend([
            option::PREFIX_INFORMATION,
            4,
            self.prefix.prefix_len(),
            on_link | autonomous,
        ]);
        octets.extend(self.valid_lifetime.to_be_bytes());
        octets.extend(self.preferred_lifetime.to_be_bytes());
        octets.extend([0; 4]);
        octets.extend(self.prefix.network().octets());
        Ok(())
    }
}
