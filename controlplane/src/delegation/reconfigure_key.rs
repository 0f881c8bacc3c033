//! How a client knows that a Reconfigure is of its server: the Reconfigure Key Authentication Protocol
//! (RFC 8415 section 20.4).
//!
//! The key goes to the client once, in clear, in a Reply; it proves only that who asks for a Renew is who
//! delegated. HMAC-MD5 is what the RFC has.

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;

use super::wire::{Authentication, Message, WireError};

/// A Reconfigure key.
pub type Key = [u8; 16];

const PROTOCOL: u8 = 3;
const ALGORITHM: u8 = 1;
const MONOTONIC_COUNTER: u8 = 0;
/// First octet of the authentication information (RFC 8415 section 20.4).
const KEY: u8 = 1;
const DIGEST: u8 = 2;
const DIGEST_OCTETS: usize = 16;

/// HMAC-MD5 of `octets`.
#[must_use]
pub fn hmac_md5(key: &Key, octets: &[u8]) -> [u8; DIGEST_OCTETS] {
    // A key of any length would do.
    let Ok(mut mac) = Hmac::<Md5>::new_from_slice(key) else {
        return [0; DIGEST_OCTETS];
    };
    mac.update(octets);
    mac.finalize().into_bytes().into()
}

fn option(replay: u64, kind: u8, value: &[u8; 16]) -> Authentication {
    let mut information = vec![kind];
    information.extend(value);
    Authentication {
        protocol: PROTOCOL,
        algorithm: ALGORITHM,
        method: MONOTONIC_COUNTER,
        replay,
        information,
    }
}

/// The option of a Reply that gives the client its key.
#[must_use]
pub fn giving(key: &Key, replay: u64) -> Authentication {
    option(replay, KEY, key)
}

/// The key in a Reply, if there is one.
#[must_use]
pub fn given(message: &Message) -> Option<Key> {
    information(message, KEY).map(|(_, key)| key)
}

/// Replay counter and value, if the option is of this protocol and kind.
fn information(message: &Message, kind: u8) -> Option<(u64, [u8; 16])> {
    let it = message.authentication.as_ref()?;
    let of_protocol = (it.protocol, it.algorithm, it.method) == (PROTOCOL, ALGORITHM, MONOTONIC_COUNTER);
    let (found, value) = it.information.split_first()?;
    let value = value.try_into().ok()?;
    (of_protocol && *found == kind).then_some((it.replay, value))
}

/// The octets of `message` with a digest over all of it.
///
/// # Errors
/// That of [`Message::emit`].
pub fn signed(mut message: Message, key: &Key, replay: u64) -> Result<Vec<u8>, WireError> {
    message.authentication = Some(option(replay, DIGEST, &[0; DIGEST_OCTETS]));
    let mut octets = message.emit()?;
    let digest = hmac_md5(key, &octets);
    // The option is the last of a message, and the digest the end of it.
    let begin = octets.len().saturating_sub(DIGEST_OCTETS);
    octets.truncate(begin);
    octets.extend(digest);
    Ok(octets)
}

/// The replay counter of a message whose digest is right; `None` if it is not, or there is none.
///
/// `octets` are those that `message` was read from. The counter has to be compared by the caller.
#[must_use]
pub fn verified(octets: &[u8], message: &Message, key: &Key) -> Option<u64> {
    let (replay, digest) = information(message, DIGEST)?;
    // A digest that is there twice is not the one.
    let mut places = octets
        .windows(DIGEST_OCTETS)
        .enumerate()
        .filter(|(_, window)| *window == digest);
    let (place, _) = places.next()?;
    let (before, after) = octets.split_at_checked(place)?;
    let mut zeroed = before.to_vec();
    zeroed.extend([0; DIGEST_OCTETS]);
    zeroed.extend(after.get(DIGEST_OCTETS..)?);
    let right = hmac_md5(key, &zeroed);
    // Each octet is compared, so that time tells nothing of the first wrong one.
    let difference = right.iter().zip(digest).fold(0, |sum, (a, b)| sum | (a ^ b));
    (places.next().is_none() && difference == 0).then_some(replay)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delegation::wire::{Duid, MessageType};

    /// RFC 2202 section 2, test case 1.
    #[test]
    fn the_digest_is_that_of_the_rfc() {
        let digest = hmac_md5(&[0x0b; 16], b"Hi There");
        assert_eq!(
            digest,
            [
                0x92, 0x94, 0x72, 0x7a, 0x36, 0x38, 0xbb, 0x1c, 0x13, 0xf4, 0x8e, 0xf8, 0x15, 0x8b, 0xfc,
                0x9d
            ]
        );
    }

    #[test]
    fn what_is_signed_is_verified_and_nothing_else() {
        let key = [7; 16];
        let mut message = Message::new(MessageType::Reconfigure, 0);
        message.server = Some(Duid::new(&[0, 3, 0, 1, 2]).unwrap());
        message.reconfigure_message = Some(5);
        let octets = signed(message, &key, 9).unwrap();
        let read = Message::parse(&octets).unwrap();
        assert_eq!(verified(&octets, &read, &key), Some(9));
        assert_eq!(verified(&octets, &read, &[8; 16]), None);
        for at in 0..octets.len() {
            let mut changed = octets.clone();
            changed[at] ^= 1;
            if let Ok(read) = Message::parse(&changed) {
                assert_eq!(verified(&changed, &read, &key), None, "octet {at}");
            }
        }
        assert_eq!(given(&read), None);
    }
}
