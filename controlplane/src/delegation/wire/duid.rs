//! Who a client or server is: the DHCP Unique Identifier (RFC 8415 section 11).

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::identity::LinkLayerAddress;

/// Octets with the type; peers compare them and nothing else (RFC 8415 section 11).
const LONGEST: usize = 130;
const SHORTEST: usize = 3;
/// Types of RFC 8415 section 11.4 and RFC 6355.
const LINK_LAYER: u16 = 3;
const UUID: u16 = 4;
const ETHERNET: u16 = 1;

/// A DUID, shown as `00:03:00:01:02:00:00:00:0a:01`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Duid(Vec<u8>);

/// Octets or a text that are no DUID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DuidError {
    /// Too few or too many octets.
    #[error("a DUID has 3 to 130 octets, this one {0}")]
    Length(usize),
    /// Not hexadecimal octets with colons between them.
    #[error("{0:?} is not a DUID: expected octets such as 00:03:00:01:02:00:00:00:0a:01")]
    Text(String),
}

impl Duid {
    /// A DUID as it came.
    ///
    /// # Errors
    /// [`DuidError::Length`].
    pub fn new(octets: &[u8]) -> Result<Self, DuidError> {
        if (SHORTEST..=LONGEST).contains(&octets.len()) {
            Ok(Self(octets.to_vec()))
        } else {
            Err(DuidError::Length(octets.len()))
        }
    }

    /// DUID-LL of an Ethernet interface (RFC 8415 section 11.4).
    #[must_use]
    pub fn link_layer(address: LinkLayerAddress) -> Self {
        let mut octets = LINK_LAYER.to_be_bytes().to_vec();
        octets.extend(ETHERNET.to_be_bytes());
        octets.extend(address.0);
        Self(octets)
    }

    /// DUID-UUID (RFC 6355): for a node whose interfaces may change.
    #[must_use]
    pub fn uuid(uuid: [u8; 16]) -> Self {
        let mut octets = UUID.to_be_bytes().to_vec();
        octets.extend(uuid);
        Self(octets)
    }

    /// The DUID of the Kedge node with that `node.address`: a name-based UUID (RFC 9562 section 5.3), so that a CMD knows
    /// those of its MAARs.
    #[must_use]
    pub fn of_node(address: Ipv6Addr) -> Self {
        use md5::{Digest, Md5};
        // A UUID made for this purpose names the space of the names.
        let space = 0x6f3c_1d52_90ab_4e7b_a4c8_2b5d_7701_93e6_u128;
        let digest = Md5::new()
            .chain_update(space.to_be_bytes())
            .chain_update(address.octets());
        let hash = u128::from_be_bytes(digest.finalize().into());
        let version = 0xf << 76;
        let variant = 0b11 << 62;
        let uuid = (hash & !version & !variant) | (3 << 76) | (0b10 << 62);
        Self::uuid(uuid.to_be_bytes())
    }

    /// Type and identifier.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Duid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, octet) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(":")?;
            }
            write!(f, "{octet:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Duid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Duid {
    type Err = DuidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || DuidError::Text(text.to_owned());
        let mut octets = Vec::new();
        for part in text.split([':', '-']) {
            let two = part.len() == 2 && part.bytes().all(|it| it.is_ascii_hexdigit());
            let octet = u8::from_str_radix(part, 16).ok().filter(|_| two);
            octets.push(octet.ok_or_else(bad)?);
        }
        Self::new(&octets)
    }
}

impl TryFrom<String> for Duid {
    type Error = DuidError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Duid> for String {
    fn from(duid: Duid) -> Self {
        duid.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let duid = Duid::link_layer("02:00:00:00:0a:01".parse().unwrap());
        assert_eq!(duid.to_string(), "00:03:00:01:02:00:00:00:0a:01");
        assert_eq!(duid.to_string().parse::<Duid>().unwrap(), duid);
        assert_eq!(Duid::uuid([7; 16]).octets().len(), 18);
        let node = Duid::of_node("2001:db8:a::1".parse().unwrap());
        let octets = node.octets();
        assert_eq!((octets[1], octets[8] >> 4, octets[10] >> 6), (4, 3, 0b10));
        assert_ne!(node, Duid::of_node("2001:db8:a::2".parse().unwrap()));
        for bad in ["", "00:03", "00:03:0", "00:03:+1", "zz:00:00"] {
            assert!(bad.parse::<Duid>().is_err(), "{bad:?}");
        }
        assert_eq!(Duid::new(&[0; 131]), Err(DuidError::Length(131)));
    }
}
