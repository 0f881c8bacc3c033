//! The options of a Mobility Header, read (RFC 6275 section 6.2, RFC 5094 section 3, RFC 5213 section 8, RFC 8885 section 4).

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::context;
use super::notification::BULK_BINDING_UPDATE_GROUP;
use super::registry::option;
use super::vendor::{self, Vendor};
use super::{GreKey, LogicalInterface, MobilityError, MobilityOptions, PreviousMaarOption};
use crate::identity::MobileNodeIdentifier;

/// One option as it stands in a header, of whatever type.
#[derive(Clone, Copy)]
pub(super) struct RawOption<'a> {
    option: u8,
    /// Of its type octet, from the start of the header.
    offset: usize,
    data: &'a [u8],
}

/// The options from an offset to the end of the header, without padding.
pub(super) struct Options<'a> {
    octets: &'a [u8],
    offset: usize,
}

impl<'a> Options<'a> {
    /// The options of the header `octets` from `offset` on.
    pub(super) fn new(octets: &'a [u8], offset: usize) -> Self {
        Options {
            octets: octets.get(offset..).unwrap_or_default(),
            offset,
        }
    }

    fn advance(&mut self, rest: &'a [u8]) {
        self.offset += self.octets.len() - rest.len();
        self.octets = rest;
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<RawOption<'a>, MobilityError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&option, rest) = self.octets.split_first()?;
            if option == option::PAD_1 {
                self.advance(rest);
                continue;
            }
            let offset = self.offset;
            let split = rest
                .split_first()
                .and_then(|(&length, rest)| rest.split_at_checked(usize::from(length)));
            let Some((data, rest)) = split else {
                // Nothing behind it can be told apart any more.
                self.octets = &[];
                return Some(Err(MobilityError::OptionOverrun { option, offset }));
            };
            self.advance(rest);
            if option != option::PAD_N {
                return Some(Ok(RawOption { option, offset, data }));
            }
        }
    }
}

impl RawOption<'_> {
    fn invalid(self, what: &'static str, value: u64) -> MobilityError {
        MobilityError::OptionInvalid {
            option: self.option,
            offset: self.offset,
            what,
            value,
        }
    }

    fn invalid_length(self) -> MobilityError {
        self.invalid("length", self.data.len() as u64)
    }

    fn array<const N: usize>(self) -> Result<[u8; N], MobilityError> {
        self.data.try_into().map_err(|_| self.invalid_length())
    }

    fn address(self) -> Result<Ipv6Addr, MobilityError> {
        self.array::<16>().map(Ipv6Addr::from)
    }

    /// Reserved octet, then a number.
    fn number(self) -> Result<u8, MobilityError> {
        self.array::<2>().map(|[_, number]| number)
    }

    /// Two reserved octets, then a link-layer address, which may have no octets.
    fn link_layer(self) -> Result<Vec<u8>, MobilityError> {
        match self.data {
            [_, _, address @ ..] => Ok(address.to_vec()),
            _ => Err(self.invalid_length()),
        }
    }

    /// Reserved octet, prefix length, prefix.
    fn prefix(self) -> Result<Ipv6Net, MobilityError> {
        let [_, length, prefix @ ..] = self.array::<18>()?;
        self.checked_prefix(length, prefix)
    }

    fn checked_prefix(self, length: u8, prefix: [u8; 16]) -> Result<Ipv6Net, MobilityError> {
        let prefix = Ipv6Net::new(Ipv6Addr::from(prefix), length)
            .map_err(|_| self.invalid("prefix length", u64::from(length)))?;
        if prefix.network() != prefix.addr() {
            return Err(self.invalid("set bits behind prefix length", u64::from(length)));
        }
        Ok(prefix)
    }

    /// Subtype, then at least nothing: the answer to an update without identifier has none.
    fn mobile_node_identifier(self) -> Result<MobileNodeIdentifier, MobilityError> {
        match self.data {
            [subtype, octets @ ..] => Ok(MobileNodeIdentifier {
                subtype: *subtype,
                octets: octets.to_vec(),
            }),
            [] => Err(self.invalid_length()),
        }
    }

    /// Sub-type, reserved octet, number of the group; `None`: a group of another kind (RFC 6602 section 4.3).
    fn group(self) -> Result<Option<u32>, MobilityError> {
        let [subtype, _, group @ ..] = self.array::<6>()?;
        Ok((subtype == BULK_BINDING_UPDATE_GROUP).then_some(u32::from_be_bytes(group)))
    }

    /// Two reserved octets, and a key or none.
    fn gre_key(self) -> Result<GreKey, MobilityError> {
        match self.data {
            [_, _] => Ok(GreKey(None)),
            &[_, _, a, b, c, d] => Ok(GreKey(Some(u32::from_be_bytes([a, b, c, d])))),
            _ => Err(self.invalid_length()),
        }
    }

    /// Reserved octet, length of the prefix, address of the MAAR, prefix.
    fn previous_maar(self) -> Result<PreviousMaarOption, MobilityError> {
        let [_, length, both @ ..] = self.array::<34>()?;
        let (address, prefix) = both.split_at(16);
        let (Ok(address), Ok(prefix)) = (<[u8; 16]>::try_from(address), <[u8; 16]>::try_from(prefix)) else {
            return Err(self.invalid_length());
        };
        Ok(PreviousMaarOption {
            address: Ipv6Addr::from(address),
            home_network_prefix: self.checked_prefix(length, prefix)?,
            logical_interface: LogicalInterface::default(),
        })
    }

    /// V and seven reserved bits, prefix length, prefix; with V an IPv4 prefix: `None` (RFC 7148 section 4.1).
    fn delegated_prefix(self) -> Result<Option<Ipv6Net>, MobilityError> {
        const IPV4: u8 = 0x80;
        match self.data {
            [flags, length, _, _, _, _] if flags & IPV4 != 0 => match length {
                0..=32 => Ok(None),
                _ => Err(self.invalid("prefix length", u64::from(*length))),
            },
            [flags, ..] if flags & IPV4 != 0 => Err(self.invalid_length()),
            _ => self.prefix().map(Some),
        }
    }

    /// `None`: an option of another vendor, or one of ours that is newer than this program.
    fn vendor(self) -> Result<Option<Vendor>, MobilityError> {
        vendor::parse(self.data).map_err(|malformed| self.invalid(malformed.what, malformed.value))
    }
}

/// Reads all options of the header `octets` from `offset` on.
pub(super) fn options(octets: &[u8], offset: usize) -> Result<MobilityOptions, MobilityError> {
    let mut all = MobilityOptions::default();
    for option in Options::new(octets, offset) {
        all.add(option?)?;
    }
    Ok(all)
}

impl MobilityOptions {
    fn add(&mut self, option: RawOption<'_>) -> Result<(), MobilityError> {
        match option.option {
            option::ALTERNATE_CARE_OF_ADDRESS => {
                keep_first(&mut self.alternate_care_of_address, option.address()?);
            }
            option::MOBILE_NODE_IDENTIFIER => {
                keep_first(&mut self.mobile_node_identifier, option.mobile_node_identifier()?);
            }
            option::HOME_NETWORK_PREFIX => self.home_network_prefixes.push(option.prefix()?),
            option::HANDOFF_INDICATOR => keep_first(&mut self.handoff_indicator, option.number()?),
            option::ACCESS_TECHNOLOGY_TYPE => keep_first(&mut self.access_technology_type, option.number()?),
            option::LINK_LAYER_IDENTIFIER => {
                keep_first(&mut self.link_layer_identifier, option.link_layer()?)
            }
            option::LINK_LOCAL_ADDRESS => keep_first(&mut self.link_local_address, option.address()?),
            option::GRE_KEY => keep_first(&mut self.gre_key, option.gre_key()?),
            option::MOBILE_NODE_GROUP_IDENTIFIER => match option.group()? {
                Some(group) => keep_first(&mut self.mobile_node_group_identifier, group),
                None => self.unknown = self.unknown.saturating_add(1),
            },
            option::TIMESTAMP => keep_first(&mut self.timestamp, u64::from_be_bytes(option.array()?)),
            option::DELEGATED_MOBILE_NETWORK_PREFIX => match option.delegated_prefix()? {
                Some(prefix) => self.delegated_prefixes.push(prefix),
                // Of IPv4, which no node has here.
                None => self.unknown = self.unknown.saturating_add(1),
            },
            option::ANCHORED_PREFIX => self.anchored_prefixes.push(option.prefix()?),
            option::LOCAL_PREFIX => self.local_prefixes.push(option.prefix()?),
            option::PREVIOUS_MAAR => self.previous_maars.push(option.previous_maar()?),
            option::SERVING_MAAR => keep_first(&mut self.serving_maar, option.address()?),
            option::DLIF_LINK_LOCAL_ADDRESS => {
                keep_first(
                    &mut self.described_interface().link_local_address,
                    option.address()?,
                );
            }
            option::DLIF_LINK_LAYER_ADDRESS => {
                keep_first(
                    &mut self.described_interface().link_layer_address,
                    option.link_layer()?,
                );
            }
            option::VENDOR_SPECIFIC => match option.vendor()? {
                Some(Vendor::TunnelEndpoint(endpoint)) => self.tunnel_endpoints.push(endpoint),
                Some(Vendor::AnchorRelocation(relocation)) => {
                    keep_first(&mut self.anchor_relocation, relocation);
                }
                Some(Vendor::PrefixMobility(mobility)) => self.prefix_mobilities.push(mobility),
                Some(Vendor::Context(context::Parsed::Transfer(transfer))) => {
                    keep_first(&mut self.context_transfer, *transfer);
                }
                Some(Vendor::Context(context::Parsed::Meter(meter))) => {
                    keep_first(&mut self.transferred_meter, meter);
                }
                Some(Vendor::AttachmentTime(time)) => keep_first(&mut self.attachment_time, time),
                Some(Vendor::PrefixLifetimes(lifetimes)) => self.prefix_lifetimes.push(lifetimes),
                None => self.unknown = self.unknown.saturating_add(1),
            },
            _ => self.unknown = self.unknown.saturating_add(1),
        }
        Ok(())
    }

    /// The logical interface that an option 69 or 70 at this point describes.
    ///
    /// RFC 8885 does not say which Previous MAAR they belong to when there are
    /// several. Here: to the one before them, and to the sender where there is
    /// none before them, so one pass over the options decides it.
    fn described_interface(&mut self) -> &mut LogicalInterface {
        match self.previous_maars.last_mut() {
            Some(previous) => &mut previous.logical_interface,
            None => &mut self.logical_interface,
        }
    }
}

fn keep_first<T>(kept: &mut Option<T>, value: T) {
    kept.get_or_insert(value);
}
