//! Octets to a [`MobilityMessage`].

use std::net::Ipv6Addr;

use super::options::{Options, options};
use super::registry::{
    BINDING_ERROR_OCTETS, BINDING_OCTETS, CHECKSUM_AT, HEADER_OCTETS, NEXT_HEADER, NO_NEXT_HEADER, mh_type,
};
use super::{
    BindingError, MobilityError, MobilityMessage, ProxyBindingAcknowledgement, ProxyBindingUpdate, Status,
    UpdateNotification, UpdateNotificationAcknowledgement, acknowledgement_flags, update_flags,
};
use crate::wire::checksum::PseudoHeader;

/// Reads the Mobility Header `octets` of a packet from `source` to `destination`.
///
/// Checks in the order of RFC 6275 section 9.2: checksum, MH type (one that is
/// not processed is [`MobilityMessage::Other`], whatever else is in it),
/// Payload Proto, Header Len, then the options. A Header Len that is not the
/// length of the packet comes next to the minimum; that order is ours.
///
/// Lenient where the RFCs are: any alignment, any order, unknown options
/// skipped, of several options where one is allowed the first counts. An
/// update without the D flag (RFC 8885) is read as any other, so that a CMD
/// can refuse it with a status.
///
/// The size of a header bounds how often an option may repeat: at most 101 prefixes.
///
/// # Errors
/// A [`MobilityError`] that says which check failed, and on what value.
pub fn parse(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    octets: &[u8],
) -> Result<MobilityMessage, MobilityError> {
    let Some((&[payload_proto, header_len, mh_type, ..], _)) = octets.split_first_chunk::<HEADER_OCTETS>()
    else {
        return Err(MobilityError::Truncated {
            octets: octets.len(),
            needed: HEADER_OCTETS,
        });
    };
    PseudoHeader {
        source,
        destination,
        next_header: NEXT_HEADER,
    }
    .verify(octets, CHECKSUM_AT)
    .map_err(|mismatch| MobilityError::Checksum {
        found: mismatch.found,
        expected: mismatch.expected,
    })?;
    let minimum = match mh_type {
        mh_type::BINDING_UPDATE
        | mh_type::BINDING_ACKNOWLEDGEMENT
        | mh_type::UPDATE_NOTIFICATION
        | mh_type::UPDATE_NOTIFICATION_ACKNOWLEDGEMENT => 1,
        mh_type::BINDING_ERROR => 2,
        other => return Ok(MobilityMessage::Other(other)),
    };
    if payload_proto != NO_NEXT_HEADER {
        return Err(MobilityError::PayloadProto(payload_proto));
    }
    if header_len < minimum {
        return Err(MobilityError::HeaderLen {
            header_len,
            minimum,
            mh_type,
        });
    }
    let needed = (usize::from(header_len) + 1) * 8;
    if octets.len() < needed {
        return Err(MobilityError::Truncated {
            octets: octets.len(),
            needed,
        });
    }
    if octets.len() > needed {
        return Err(MobilityError::Oversized {
            octets: octets.len(),
            header_len: needed,
        });
    }
    let truncated = MobilityError::Truncated {
        octets: octets.len(),
        needed,
    };
    match mh_type {
        mh_type::BINDING_UPDATE => update(octets).unwrap_or(Err(truncated)),
        mh_type::BINDING_ACKNOWLEDGEMENT => acknowledgement(octets).unwrap_or(Err(truncated)),
        mh_type::UPDATE_NOTIFICATION => notification(octets).unwrap_or(Err(truncated)),
        mh_type::UPDATE_NOTIFICATION_ACKNOWLEDGEMENT => {
            notification_acknowledgement(octets).unwrap_or(Err(truncated))
        }
        _ => binding_error(octets).unwrap_or(Err(truncated)),
    }
}

/// `None` where the fixed part is not all there.
type Parsed = Option<Result<MobilityMessage, MobilityError>>;

fn update(octets: &[u8]) -> Parsed {
    let (fixed, _) = octets.split_first_chunk::<BINDING_OCTETS>()?;
    let &[
        _,
        _,
        mh_type,
        _,
        _,
        _,
        sequence_0,
        sequence_1,
        flags_0,
        flags_1,
        lifetime_0,
        lifetime_1,
    ] = fixed;
    let flags = u16::from_be_bytes([flags_0, flags_1]);
    if flags & update_flags::PROXY == 0 {
        return Some(Err(MobilityError::NotProxy { mh_type }));
    }
    Some(options(octets, BINDING_OCTETS).map(|options| {
        MobilityMessage::ProxyBindingUpdate(ProxyBindingUpdate {
            sequence: u16::from_be_bytes([sequence_0, sequence_1]),
            flags,
            lifetime: u16::from_be_bytes([lifetime_0, lifetime_1]),
            options,
        })
    }))
}

fn acknowledgement(octets: &[u8]) -> Parsed {
    let (fixed, _) = octets.split_first_chunk::<BINDING_OCTETS>()?;
    let &[
        _,
        _,
        mh_type,
        _,
        _,
        _,
        status,
        flags,
        sequence_0,
        sequence_1,
        lifetime_0,
        lifetime_1,
    ] = fixed;
    if flags & acknowledgement_flags::PROXY == 0 {
        return Some(Err(MobilityError::NotProxy { mh_type }));
    }
    Some(options(octets, BINDING_OCTETS).map(|options| {
        MobilityMessage::ProxyBindingAcknowledgement(ProxyBindingAcknowledgement {
            status: Status(status),
            flags,
            sequence: u16::from_be_bytes([sequence_0, sequence_1]),
            lifetime: u16::from_be_bytes([lifetime_0, lifetime_1]),
            options,
        })
    }))
}

fn notification(octets: &[u8]) -> Parsed {
    let (fixed, _) = octets.split_first_chunk::<BINDING_OCTETS>()?;
    let &[_, _, _, _, _, _, s0, s1, r0, r1, f0, f1] = fixed;
    Some(options(octets, BINDING_OCTETS).map(|options| {
        MobilityMessage::UpdateNotification(UpdateNotification {
            sequence: u16::from_be_bytes([s0, s1]),
            reason: u16::from_be_bytes([r0, r1]),
            flags: u16::from_be_bytes([f0, f1]),
            options,
        })
    }))
}

fn notification_acknowledgement(octets: &[u8]) -> Parsed {
    let (fixed, _) = octets.split_first_chunk::<BINDING_OCTETS>()?;
    let &[_, _, _, _, _, _, s0, s1, status, _, _, _] = fixed;
    Some(options(octets, BINDING_OCTETS).map(|options| {
        MobilityMessage::UpdateNotificationAcknowledgement(UpdateNotificationAcknowledgement {
            sequence: u16::from_be_bytes([s0, s1]),
            status,
            options,
        })
    }))
}

fn binding_error(octets: &[u8]) -> Parsed {
    let (&[_, _, _, _, _, _, status, _], body) = octets.split_first_chunk::<HEADER_OCTETS>()?;
    let (home_address, _) = body.split_first_chunk::<16>()?;
    let message = BindingError {
        status,
        home_address: Ipv6Addr::from(*home_address),
    };
    // No option of this message is used, but they have to be well-formed.
    let walked = Options::new(octets, BINDING_ERROR_OCTETS).try_for_each(|option| option.map(drop));
    Some(walked.map(|()| MobilityMessage::BindingError(message)))
}
