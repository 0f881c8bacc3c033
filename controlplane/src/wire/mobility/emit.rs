//! A [`MobilityMessage`] to octets.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::notification::BULK_BINDING_UPDATE_GROUP;
use super::registry::{Alignment, CHECKSUM_AT, MAXIMUM_OCTETS, NEXT_HEADER, NO_NEXT_HEADER, mh_type, option};
use super::{
    BindingError, GreKey, LogicalInterface, MobilityMessage, MobilityOptions, ProxyBindingAcknowledgement,
    ProxyBindingUpdate, UpdateNotification, UpdateNotificationAcknowledgement, acknowledgement_flags,
    attachment_time, context, prefix_lifetimes, prefix_mobility, relocation, tunnel_endpoint, update_flags,
};
use crate::wire::checksum::PseudoHeader;

/// Why a message has no octets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmitError {
    /// Header Len cannot say how long it is.
    #[error("the message has {octets} octets, at most {MAXIMUM_OCTETS} fit")]
    MessageTooLong {
        /// With its padding.
        octets: usize,
    },
    /// The option's Length cannot say how long it is.
    #[error("option {option} has {octets} octets of data, at most 255 fit")]
    OptionTooLong {
        /// Its type.
        option: u8,
        /// What it would hold.
        octets: usize,
    },
    /// Bits are set behind the prefix length, so a receiver would refuse it.
    #[error("option {option}: {prefix} has bits set behind its prefix length")]
    Prefix {
        /// Its type.
        option: u8,
        /// The prefix.
        prefix: Ipv6Net,
    },
    /// An update or acknowledgement without the P flag.
    #[error("MH type {mh_type} without the P flag is no proxy registration")]
    NotProxy {
        /// 5 or 6.
        mh_type: u8,
    },
    /// A type that Kedge does not send.
    #[error("MH type {0} is not sent")]
    Type(u8),
}

/// The octets of `message` in a packet from `source` to `destination`, checksum included.
///
/// The options go in the order of [`MobilityOptions`], each where its alignment
/// puts it, the whole padded to 8 octets.
///
/// # Errors
/// An [`EmitError`] where the message does not fit its fields.
pub fn emit(
    message: &MobilityMessage,
    source: Ipv6Addr,
    destination: Ipv6Addr,
) -> Result<Vec<u8>, EmitError> {
    let mut writer = match message {
        MobilityMessage::ProxyBindingUpdate(update) => update_octets(update)?,
        MobilityMessage::ProxyBindingAcknowledgement(acknowledgement) => {
            acknowledgement_octets(acknowledgement)?
        }
        MobilityMessage::BindingError(error) => binding_error_octets(error),
        MobilityMessage::UpdateNotification(notification) => notification_octets(notification)?,
        MobilityMessage::UpdateNotificationAcknowledgement(acknowledgement) => {
            notification_acknowledgement_octets(acknowledgement)?
        }
        MobilityMessage::Other(mh_type) => return Err(EmitError::Type(*mh_type)),
    };
    writer.align(Alignment::END);
    let mut octets = writer.octets;
    let too_long = EmitError::MessageTooLong { octets: octets.len() };
    let header_len = u8::try_from((octets.len() / 8).saturating_sub(1)).map_err(|_| too_long)?;
    if let Some(field) = octets.get_mut(1) {
        *field = header_len;
    }
    let checksum = PseudoHeader {
        source,
        destination,
        next_header: NEXT_HEADER,
    }
    .checksum(&octets, CHECKSUM_AT);
    if let Some(field) = octets.get_mut(CHECKSUM_AT..CHECKSUM_AT + 2) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
    Ok(octets)
}

fn update_octets(update: &ProxyBindingUpdate) -> Result<Writer, EmitError> {
    if update.flags & update_flags::PROXY == 0 {
        return Err(EmitError::NotProxy {
            mh_type: mh_type::BINDING_UPDATE,
        });
    }
    let mut writer = Writer::new(mh_type::BINDING_UPDATE);
    writer.octets.extend(update.sequence.to_be_bytes());
    writer.octets.extend(update.flags.to_be_bytes());
    writer.octets.extend(update.lifetime.to_be_bytes());
    writer.options(&update.options)?;
    Ok(writer)
}

fn acknowledgement_octets(acknowledgement: &ProxyBindingAcknowledgement) -> Result<Writer, EmitError> {
    if acknowledgement.flags & acknowledgement_flags::PROXY == 0 {
        return Err(EmitError::NotProxy {
            mh_type: mh_type::BINDING_ACKNOWLEDGEMENT,
        });
    }
    let mut writer = Writer::new(mh_type::BINDING_ACKNOWLEDGEMENT);
    writer
        .octets
        .extend([acknowledgement.status.0, acknowledgement.flags]);
    writer.octets.extend(acknowledgement.sequence.to_be_bytes());
    writer.octets.extend(acknowledgement.lifetime.to_be_bytes());
    writer.options(&acknowledgement.options)?;
    Ok(writer)
}

fn notification_octets(notification: &UpdateNotification) -> Result<Writer, EmitError> {
    let mut writer = Writer::new(mh_type::UPDATE_NOTIFICATION);
    for field in [notification.sequence, notification.reason, notification.flags] {
        writer.octets.extend(field.to_be_bytes());
    }
    writer.options(&notification.options)?;
    Ok(writer)
}

fn notification_acknowledgement_octets(
    acknowledgement: &UpdateNotificationAcknowledgement,
) -> Result<Writer, EmitError> {
    let mut writer = Writer::new(mh_type::UPDATE_NOTIFICATION_ACKNOWLEDGEMENT);
    writer.octets.extend(acknowledgement.sequence.to_be_bytes());
    writer.octets.extend([acknowledgement.status, 0, 0, 0]);
    writer.options(&acknowledgement.options)?;
    Ok(writer)
}

fn binding_error_octets(error: &BindingError) -> Writer {
    let mut writer = Writer::new(mh_type::BINDING_ERROR);
    writer.octets.extend([error.status, 0]);
    writer.octets.extend(error.home_address.octets());
    writer
}

struct Writer {
    octets: Vec<u8>,
}

impl Writer {
    /// A header whose Header Len and checksum are still zero.
    fn new(mh_type: u8) -> Self {
        let mut octets = Vec::with_capacity(128);
        octets.extend([NO_NEXT_HEADER, 0, mh_type, 0, 0, 0]);
        Writer { octets }
    }

    fn options(&mut self, options: &MobilityOptions) -> Result<(), EmitError> {
        // The identifier first: it has to come before any authentication option (RFC 4283 section 3.2).
        if let Some(identifier) = &options.mobile_node_identifier {
            self.option(
                option::MOBILE_NODE_IDENTIFIER,
                &[&[identifier.subtype], &identifier.octets],
            )?;
        }
        if let Some(group) = options.mobile_node_group_identifier {
            let kind = [BULK_BINDING_UPDATE_GROUP, 0];
            self.option(
                option::MOBILE_NODE_GROUP_IDENTIFIER,
                &[&kind, &group.to_be_bytes()],
            )?;
        }
        self.prefixes(option::HOME_NETWORK_PREFIX, &options.home_network_prefixes)?;
        if let Some(indicator) = options.handoff_indicator {
            self.option(option::HANDOFF_INDICATOR, &[&[0, indicator]])?;
        }
        if let Some(technology) = options.access_technology_type {
            self.option(option::ACCESS_TECHNOLOGY_TYPE, &[&[0, technology]])?;
        }
        if let Some(timestamp) = options.timestamp {
            self.option(option::TIMESTAMP, &[&timestamp.to_be_bytes()])?;
        }
        if let Some(identifier) = &options.link_layer_identifier {
            self.option(option::LINK_LAYER_IDENTIFIER, &[&[0, 0], identifier])?;
        }
        self.address(option::LINK_LOCAL_ADDRESS, options.link_local_address)?;
        if let Some(GreKey(key)) = options.gre_key {
            match key {
                Some(key) => self.option(option::GRE_KEY, &[&[0, 0], &key.to_be_bytes()])?,
                None => self.option(option::GRE_KEY, &[&[0, 0]])?,
            }
        }
        self.prefixes(
            option::DELEGATED_MOBILE_NETWORK_PREFIX,
            &options.delegated_prefixes,
        )?;
        self.prefixes(option::ANCHORED_PREFIX, &options.anchored_prefixes)?;
        self.prefixes(option::LOCAL_PREFIX, &options.local_prefixes)?;
        self.address(option::SERVING_MAAR, options.serving_maar)?;
        // Before every Previous MAAR, or it would be taken for that of one of them.
        self.logical_interface(&options.logical_interface)?;
        for previous in &options.previous_maars {
            let prefix = checked_prefix(option::PREVIOUS_MAAR, previous.home_network_prefix)?;
            let lengths = [0, prefix.prefix_len()];
            let (maar, prefix) = (previous.address.octets(), prefix.network().octets());
            self.option(option::PREVIOUS_MAAR, &[&lengths, &maar, &prefix])?;
            self.logical_interface(&previous.logical_interface)?;
        }
        for endpoint in &options.tunnel_endpoints {
            self.option(option::VENDOR_SPECIFIC, &[&tunnel_endpoint::data(endpoint)])?;
        }
        if let Some(relocation) = &options.anchor_relocation {
            self.option(option::VENDOR_SPECIFIC, &[&relocation::data(relocation)])?;
        }
        for mobility in &options.prefix_mobilities {
            checked_prefix(option::VENDOR_SPECIFIC, mobility.prefix)?;
            self.option(option::VENDOR_SPECIFIC, &[&prefix_mobility::data(mobility)])?;
        }
        if let Some(transfer) = &options.context_transfer {
            checked_prefix(option::VENDOR_SPECIFIC, transfer.prefix)?;
            self.option(option::VENDOR_SPECIFIC, &[&context::data(transfer)])?;
        }
        if let Some(meter) = &options.transferred_meter {
            self.option(option::VENDOR_SPECIFIC, &[&context::meter_data(meter)])?;
        }
        if let Some(time) = options.attachment_time {
            self.option(option::VENDOR_SPECIFIC, &[&attachment_time::data(time)])?;
        }
        for lifetimes in &options.prefix_lifetimes {
            checked_prefix(option::VENDOR_SPECIFIC, lifetimes.prefix)?;
            self.option(option::VENDOR_SPECIFIC, &[&prefix_lifetimes::data(lifetimes)])?;
        }
        self.address(
            option::ALTERNATE_CARE_OF_ADDRESS,
            options.alternate_care_of_address,
        )
    }

    fn logical_interface(&mut self, interface: &LogicalInterface) -> Result<(), EmitError> {
        self.address(option::DLIF_LINK_LOCAL_ADDRESS, interface.link_local_address)?;
        if let Some(address) = &interface.link_layer_address {
            self.option(option::DLIF_LINK_LAYER_ADDRESS, &[&[0, 0], address])?;
        }
        Ok(())
    }

    fn prefixes(&mut self, option: u8, prefixes: &[Ipv6Net]) -> Result<(), EmitError> {
        for &prefix in prefixes {
            let prefix = checked_prefix(option, prefix)?;
            self.option(option, &[&[0, prefix.prefix_len()], &prefix.network().octets()])?;
        }
        Ok(())
    }

    fn address(&mut self, option: u8, address: Option<Ipv6Addr>) -> Result<(), EmitError> {
        match address {
            Some(address) => self.option(option, &[&address.octets()]),
            None => Ok(()),
        }
    }

    fn option(&mut self, option: u8, data: &[&[u8]]) -> Result<(), EmitError> {
        let octets = data.iter().map(|part| part.len()).sum();
        let length = u8::try_from(octets).map_err(|_| EmitError::OptionTooLong { option, octets })?;
        self.align(Alignment::of(option));
        self.octets.extend([option, length]);
        for part in data {
            self.octets.extend_from_slice(part);
        }
        Ok(())
    }

    /// Pads with Pad1, or PadN of zeros (RFC 6275 sections 6.2.2, 6.2.3).
    fn align(&mut self, alignment: Alignment) {
        match alignment.padding(self.octets.len()) {
            0 => {}
            1 => self.octets.push(option::PAD_1),
            // Less than 8, so the length always fits.
            padding => {
                let length = padding - 2;
                self.octets.extend([option::PAD_N, length as u8]);
                self.octets.extend(std::iter::repeat_n(0, length));
            }
        }
    }
}

fn checked_prefix(option: u8, prefix: Ipv6Net) -> Result<Ipv6Net, EmitError> {
    if prefix.network() == prefix.addr() {
        Ok(prefix)
    } else {
        Err(EmitError::Prefix { option, prefix })
    }
}
