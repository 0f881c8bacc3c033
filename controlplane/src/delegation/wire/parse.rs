//! Octets as a message.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::message::{
    Authentication, DelegatedPrefix, IdentityAssociation, Message, MessageType, OtherAssociation, StatusCode,
    option,
};
use super::{Duid, WireError};

/// The options in a stretch of octets, by code and data.
pub(super) struct Options<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = Result<(u16, &'a [u8]), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let octets = std::mem::take(&mut self.0);
        if octets.is_empty() {
            return None;
        }
        let Some(([c0, c1, l0, l1], rest)) = octets.split_first_chunk() else {
            return Some(Err(WireError::Remainder { octets: octets.len() }));
        };
        let option = u16::from_be_bytes([*c0, *c1]);
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let Some((data, rest)) = rest.split_at_checked(length) else {
            return Some(Err(WireError::Option {
                option,
                length,
                left: rest.len(),
            }));
        };
        self.0 = rest;
        Some(Ok((option, data)))
    }
}

/// What may be there once.
fn once<T>(slot: &mut Option<T>, option: u16, value: T) -> Result<(), WireError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(WireError::Twice { option }),
    }
}

fn exactly<const N: usize>(option: u16, data: &[u8], expected: &'static str) -> Result<[u8; N], WireError> {
    data.try_into().map_err(|_| WireError::Length {
        option,
        length: data.len(),
        expected,
    })
}

fn empty(slot: &mut bool, option: u16, data: &[u8]) -> Result<(), WireError> {
    exactly::<0>(option, data, "none")?;
    if std::mem::replace(slot, true) {
        return Err(WireError::Twice { option });
    }
    Ok(())
}

impl Message {
    /// Reads a message of a client or a server.
    ///
    /// # Errors
    /// A [`WireError`] that names what is wrong.
    pub fn parse(octets: &[u8]) -> Result<Self, WireError> {
        let Some(([code, x, y, z], rest)) = octets.split_first_chunk() else {
            return Err(WireError::Header {
                octets: octets.len(),
                needed: 4,
            });
        };
        let message_type = MessageType::from_code(*code).ok_or(WireError::MessageType(*code))?;
        let mut message = Self::new(message_type, u32::from_be_bytes([0, *x, *y, *z]));
        let mut requested = None;
        for item in Options(rest) {
            let (code, data) = match item {
                // Up to three zeros at the end say nothing. dhcpcd sends them where it has been told of an excluded prefix.
                Err(WireError::Remainder { octets }) if rest.iter().rev().take(octets).all(|it| *it == 0) => {
                    break;
                }
                item => item?,
            };
            message.take(code, data, &mut requested)?;
        }
        message.option_request = requested.unwrap_or_default();
        Ok(message)
    }

    fn take(&mut self, code: u16, data: &[u8], requested: &mut Option<Vec<u16>>) -> Result<(), WireError> {
        let duid = || Duid::new(data).map_err(|source| WireError::Duid { option: code, source });
        match code {
            option::CLIENT_ID => once(&mut self.client, code, duid()?),
            option::SERVER_ID => once(&mut self.server, code, duid()?),
            option::IA_PD => {
                self.delegations.push(delegation(data)?);
                Ok(())
            }
            option::IA_NA | option::IA_TA => {
                self.others.push(other(code, data)?);
                Ok(())
            }
            option::OPTION_REQUEST => {
                let (pairs, rest) = data.as_chunks();
                if !rest.is_empty() {
                    return Err(WireError::Length {
                        option: code,
                        length: data.len(),
                        expected: "an even number",
                    });
                }
                once(
                    requested,
                    code,
                    pairs.iter().map(|it| u16::from_be_bytes(*it)).collect(),
                )
            }
            option::PREFERENCE => {
                let [value] = exactly(code, data, "1")?;
                once(&mut self.preference, code, value)
            }
            option::ELAPSED_TIME => {
                let value = u16::from_be_bytes(exactly(code, data, "2")?);
                once(&mut self.elapsed, code, value)
            }
            option::AUTHENTICATION => once(&mut self.authentication, code, authentication(data)?),
            option::SERVER_UNICAST => {
                let value: [u8; 16] = exactly(code, data, "16")?;
                once(&mut self.server_unicast, code, value.into())
            }
            option::STATUS_CODE => once(&mut self.status, code, status(data)?),
            option::RAPID_COMMIT => empty(&mut self.rapid_commit, code, data),
            option::RECONFIGURE_ACCEPT => empty(&mut self.reconfigure_accept, code, data),
            option::RECONFIGURE_MESSAGE => {
                let [value] = exactly(code, data, "1")?;
                once(&mut self.reconfigure_message, code, value)
            }
            option::SOL_MAX_RT => {
                let value = u32::from_be_bytes(exactly(code, data, "4")?);
                once(&mut self.solicit_maximum, code, value)
            }
            _ => Ok(()),
        }
    }
}

fn short(option: u16, data: &[u8], expected: &'static str) -> WireError {
    WireError::Length {
        option,
        length: data.len(),
        expected,
    }
}

/// The text may be what it likes: it is for people, and shown as far as it is UTF-8.
fn status(data: &[u8]) -> Result<StatusCode, WireError> {
    let (code, text) = data
        .split_first_chunk()
        .ok_or_else(|| short(option::STATUS_CODE, data, "2 or more"))?;
    Ok(StatusCode {
        code: u16::from_be_bytes(*code),
        text: String::from_utf8_lossy(text).into_owned(),
    })
}

fn authentication(data: &[u8]) -> Result<Authentication, WireError> {
    let bad = || short(option::AUTHENTICATION, data, "11 or more");
    let ([protocol, algorithm, method], rest) = data.split_first_chunk().ok_or_else(bad)?;
    let (replay, information) = rest.split_first_chunk().ok_or_else(bad)?;
    Ok(Authentication {
        protocol: *protocol,
        algorithm: *algorithm,
        method: *method,
        replay: u64::from_be_bytes(*replay),
        information: information.to_vec(),
    })
}

fn delegation(data: &[u8]) -> Result<IdentityAssociation, WireError> {
    let bad = || short(option::IA_PD, data, "12 or more");
    let (iaid, rest) = data.split_first_chunk().ok_or_else(bad)?;
    let (t1, rest) = rest.split_first_chunk().ok_or_else(bad)?;
    let (t2, rest) = rest.split_first_chunk().ok_or_else(bad)?;
    let mut association = IdentityAssociation {
        iaid: u32::from_be_bytes(*iaid),
        t1: u32::from_be_bytes(*t1),
        t2: u32::from_be_bytes(*t2),
        ..IdentityAssociation::default()
    };
    for item in Options(rest) {
        match item? {
            (option::IA_PREFIX, data) => association.prefixes.push(prefix(data)?),
            (code @ option::STATUS_CODE, data) => once(&mut association.status, code, status(data)?)?,
            _ => {}
        }
    }
    Ok(association)
}

fn prefix(data: &[u8]) -> Result<DelegatedPrefix, WireError> {
    let bad = || short(option::IA_PREFIX, data, "25 or more");
    let (preferred, rest) = data.split_first_chunk().ok_or_else(bad)?;
    let (valid, rest) = rest.split_first_chunk().ok_or_else(bad)?;
    let ([length], rest) = rest.split_first_chunk().ok_or_else(bad)?;
    let (address, rest) = rest.split_first_chunk::<16>().ok_or_else(bad)?;
    let net =
        Ipv6Net::new(Ipv6Addr::from(*address), *length).map_err(|_| WireError::PrefixLength(*length))?;
    let mut it = DelegatedPrefix {
        preferred: u32::from_be_bytes(*preferred),
        valid: u32::from_be_bytes(*valid),
        // Bits behind the length mean nothing (RFC 8415 section 21.22).
        prefix: net.trunc(),
        exclude: None,
        status: None,
    };
    for item in Options(rest) {
        match item? {
            (code @ option::PD_EXCLUDE, data) => once(&mut it.exclude, code, excluded(it.prefix, data)?)?,
            (code @ option::STATUS_CODE, data) => once(&mut it.status, code, status(data)?)?,
            _ => {}
        }
    }
    Ok(it)
}

/// RFC 6603 section 4.2: the excluded length, then the bits behind the delegated length.
fn excluded(delegated: Ipv6Net, data: &[u8]) -> Result<Ipv6Net, WireError> {
    let from = delegated.prefix_len();
    let length_error = || short(option::PD_EXCLUDE, data, "2 to 17, as its prefix length says");
    let ([length], subnet) = data.split_first_chunk().ok_or_else(length_error)?;
    let length_of = |bits: u8| usize::from(bits.div_ceil(8));
    let bits = length
        .checked_sub(from)
        .filter(|bits| *bits > 0 && *length <= 128);
    let bits = bits.ok_or(WireError::Exclude {
        excluded: *length,
        delegated: from,
    })?;
    if subnet.len() != length_of(bits) {
        return Err(length_error());
    }
    let mut octets = [0; 16];
    for (to, from) in octets.iter_mut().zip(subnet) {
        *to = *from;
    }
    // More than 0 bits follow, so `from` is below 128.
    let address = u128::from(delegated.network()) | u128::from_be_bytes(octets) >> from;
    let net = Ipv6Net::new(address.into(), *length).map_err(|_| WireError::PrefixLength(*length))?;
    Ok(net.trunc())
}

fn other(code: u16, data: &[u8]) -> Result<OtherAssociation, WireError> {
    let (head, expected) = if code == option::IA_NA {
        (12, "12 or more")
    } else {
        (4, "4 or more")
    };
    let bad = || short(code, data, expected);
    let (iaid, _) = data.split_first_chunk().ok_or_else(bad)?;
    let (_, rest) = data.split_at_checked(head).ok_or_else(bad)?;
    let mut it = OtherAssociation {
        option: code,
        iaid: u32::from_be_bytes(*iaid),
        status: None,
    };
    for item in Options(rest) {
        if let (code @ option::STATUS_CODE, data) = item? {
            once(&mut it.status, code, status(data)?)?;
        }
    }
    Ok(it)
}
