//! A message as octets.

use ipnet::Ipv6Net;

use super::WireError;
use super::message::{DelegatedPrefix, IdentityAssociation, Message, OtherAssociation, StatusCode, option};

/// Appends an option whose data `write` appends.
pub(super) fn put(
    octets: &mut Vec<u8>,
    code: u16,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let mut data = Vec::new();
    write(&mut data)?;
    let length = u16::try_from(data.len()).map_err(|_| WireError::TooLong {
        option: code,
        length: data.len(),
    })?;
    octets.extend(code.to_be_bytes());
    octets.extend(length.to_be_bytes());
    octets.extend(data);
    Ok(())
}

fn plain(octets: &mut Vec<u8>, code: u16, data: &[u8]) -> Result<(), WireError> {
    put(octets, code, |it| {
        it.extend(data);
        Ok(())
    })
}

impl Message {
    /// As it goes on the wire.
    ///
    /// # Errors
    /// [`WireError::TooLong`], [`WireError::Exclude`].
    pub fn emit(&self) -> Result<Vec<u8>, WireError> {
        let [_, transaction @ ..] = self.transaction.to_be_bytes();
        let mut octets = vec![self.message_type as u8];
        octets.extend(transaction);
        let out = &mut octets;
        if let Some(duid) = &self.client {
            plain(out, option::CLIENT_ID, duid.octets())?;
        }
        if let Some(duid) = &self.server {
            plain(out, option::SERVER_ID, duid.octets())?;
        }
        if let Some(elapsed) = self.elapsed {
            plain(out, option::ELAPSED_TIME, &elapsed.to_be_bytes())?;
        }
        if let Some(preference) = self.preference {
            plain(out, option::PREFERENCE, &[preference])?;
        }
        if self.rapid_commit {
            plain(out, option::RAPID_COMMIT, &[])?;
        }
        if self.reconfigure_accept {
            plain(out, option::RECONFIGURE_ACCEPT, &[])?;
        }
        if let Some(kind) = self.reconfigure_message {
            plain(out, option::RECONFIGURE_MESSAGE, &[kind])?;
        }
        if let Some(status) = &self.status {
            put_status(out, status)?;
        }
        if !self.option_request.is_empty() {
            let codes: Vec<u8> = self
                .option_request
                .iter()
                .flat_map(|it| it.to_be_bytes())
                .collect();
            plain(out, option::OPTION_REQUEST, &codes)?;
        }
        if let Some(address) = self.server_unicast {
            plain(out, option::SERVER_UNICAST, &address.octets())?;
        }
        if let Some(seconds) = self.solicit_maximum {
            plain(out, option::SOL_MAX_RT, &seconds.to_be_bytes())?;
        }
        for association in &self.delegations {
            put_delegation(out, association)?;
        }
        for association in &self.others {
            put_other(out, association)?;
        }
        if let Some(it) = &self.authentication {
            put(out, option::AUTHENTICATION, |data| {
                data.extend([it.protocol, it.algorithm, it.method]);
                data.extend(it.replay.to_be_bytes());
                data.extend(&it.information);
                Ok(())
            })?;
        }
        Ok(octets)
    }
}

fn put_status(out: &mut Vec<u8>, status: &StatusCode) -> Result<(), WireError> {
    put(out, option::STATUS_CODE, |data| {
        data.extend(status.code.to_be_bytes());
        data.extend(status.text.as_bytes());
        Ok(())
    })
}

fn put_delegation(out: &mut Vec<u8>, association: &IdentityAssociation) -> Result<(), WireError> {
    put(out, option::IA_PD, |data| {
        data.extend(association.iaid.to_be_bytes());
        data.extend(association.t1.to_be_bytes());
        data.extend(association.t2.to_be_bytes());
        for prefix in &association.prefixes {
            put_prefix(data, prefix)?;
        }
        association.status.iter().try_for_each(|it| put_status(data, it))
    })
}

fn put_prefix(out: &mut Vec<u8>, it: &DelegatedPrefix) -> Result<(), WireError> {
    put(out, option::IA_PREFIX, |data| {
        data.extend(it.preferred.to_be_bytes());
        data.extend(it.valid.to_be_bytes());
        data.push(it.prefix.prefix_len());
        data.extend(it.prefix.network().octets());
        if let Some(exclude) = it.exclude {
            put_exclude(data, it.prefix, exclude)?;
        }
        it.status.iter().try_for_each(|status| put_status(data, status))
    })
}

/// The bits of the excluded prefix behind the delegated length, from the first bit on (RFC 6603 section 4.2).
fn put_exclude(out: &mut Vec<u8>, delegated: Ipv6Net, excluded: Ipv6Net) -> Result<(), WireError> {
    let (from, to) = (delegated.prefix_len(), excluded.prefix_len());
    let bits = to.checked_sub(from).filter(|bits| *bits > 0);
    let bits = bits.filter(|_| delegated.contains(&excluded));
    let bits = bits.ok_or(WireError::Exclude {
        excluded: to,
        delegated: from,
    })?;
    // More than 0 bits follow, so `from` is below 128.
    let subnet = u128::from(excluded.network()) << from;
    put(out, option::PD_EXCLUDE, |data| {
        data.push(to);
        data.extend(subnet.to_be_bytes().iter().take(usize::from(bits.div_ceil(8))));
        Ok(())
    })
}

fn put_other(out: &mut Vec<u8>, it: &OtherAssociation) -> Result<(), WireError> {
    put(out, it.option, |data| {
        data.extend(it.iaid.to_be_bytes());
        if it.option == option::IA_NA {
            data.extend([0; 8]);
        }
        it.status.iter().try_for_each(|status| put_status(data, status))
    })
}
