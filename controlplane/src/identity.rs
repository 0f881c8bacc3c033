//! Who a mobile node is: the Mobile Node Identifier (RFC 4283, RFC 8371) and link-layer addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A mobile node's identifier: a subtype of RFC 4283 / RFC 8371 and its octets.
///
/// Shown as the text itself for a NAI (subtype 1), as `eui48:02-00-…` for
/// subtype 5, as `subtype:hex` for every other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MobileNodeIdentifier {
    /// 1 NAI, 2 IPv6 address, 3 IMSI, 5 EUI-48, 6 EUI-64, 8 DUID, ...
    pub subtype: u8,
    /// The identifier, 1..=254 octets (none only in an error answer).
    pub octets: Vec<u8>,
}

impl MobileNodeIdentifier {
    /// Subtype of a Network Access Identifier (RFC 4283 section 3.1).
    pub const NAI: u8 = 1;
    /// Subtype of an EUI-48 (RFC 8371).
    pub const EUI_48: u8 = 5;

    /// A Network Access Identifier such as `mn1@example.net`.
    #[must_use]
    pub fn nai(text: &str) -> Self {
        Self {
            subtype: Self::NAI,
            octets: text.as_bytes().to_vec(),
        }
    }

    /// That of a node of which nobody knows who it is: it has no octets.
    #[must_use]
    pub fn unknown() -> Self {
        Self::nai("")
    }

    /// The identifier of a node that is known by its link-layer address alone.
    #[must_use]
    pub fn eui_48(address: LinkLayerAddress) -> Self {
        Self {
            subtype: Self::EUI_48,
            octets: address.0.to_vec(),
        }
    }
}

impl fmt::Display for MobileNodeIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.subtype, std::str::from_utf8(&self.octets)) {
            (Self::NAI, Ok(text))
                if !text.is_empty() && !text.contains(':') && !text.chars().any(char::is_control) =>
            {
                f.write_str(text)
            }
            (Self::EUI_48, _) if self.octets.len() == 6 => {
                f.write_str("eui48:")?;
                write_hex(f, &self.octets, "-")
            }
            _ => {
                write!(f, "{}:", self.subtype)?;
                write_hex(f, &self.octets, "")
            }
        }
    }
}

impl fmt::Debug for MobileNodeIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}")]
pub struct IdentityError {
    text: String,
    what: &'static str,
}

impl FromStr for MobileNodeIdentifier {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || IdentityError {
            text: text.to_owned(),
            what: "mobile node identifier: expected a NAI such as mn1@example.net, eui48:02-00-00-00-00-01 or subtype:hex",
        };
        if let Some(rest) = text.strip_prefix("eui48:") {
            return rest.parse().map(Self::eui_48).map_err(|_| bad());
        }
        if let Some((subtype, hex)) = text.split_once(':') {
            let subtype = subtype.parse().map_err(|_| bad())?;
            let octets = parse_hex(hex).ok_or_else(bad)?;
            return if octets.len() <= 254 {
                Ok(Self { subtype, octets })
            } else {
                Err(bad())
            };
        }
        if text.is_empty() || text.len() > 254 || text.chars().any(char::is_control) {
            return Err(bad());
        }
        Ok(Self::nai(text))
    }
}

impl TryFrom<String> for MobileNodeIdentifier {
    type Error = IdentityError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MobileNodeIdentifier> for String {
    fn from(identifier: MobileNodeIdentifier) -> Self {
        identifier.to_string()
    }
}

/// An EUI-48 link-layer address, shown as `02:00:00:00:0a:01`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkLayerAddress(pub [u8; 6]);

impl LinkLayerAddress {
    /// A unicast address that is not all zero.
    #[must_use]
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }

    /// The link-local address with the modified EUI-64 of this address (RFC 4291 appendix A).
    #[must_use]
    pub fn link_local(self) -> std::net::Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        std::net::Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }
}

impl fmt::Display for LinkLayerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0, ":")
    }
}

impl fmt::Debug for LinkLayerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for LinkLayerAddress {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || IdentityError {
            text: text.to_owned(),
            what: "link-layer address: expected six hexadecimal octets such as 02:00:00:00:0a:01",
        };
        let mut address = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut address {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(bad)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            Err(bad())
        } else {
            Ok(Self(address))
        }
    }
}

impl TryFrom<String> for LinkLayerAddress {
    type Error = IdentityError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<LinkLayerAddress> for String {
    fn from(address: LinkLayerAddress) -> Self {
        address.to_string()
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, octets: &[u8], separator: &str) -> fmt::Result {
    for (index, octet) in octets.iter().enumerate() {
        if index > 0 {
            f.write_str(separator)?;
        }
        write!(f, "{octet:02x}")?;
    }
    Ok(())
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for text in ["mn1@example.net", "eui48:02-00-00-00-0a-01", "8:0001000a"] {
            let identifier: MobileNodeIdentifier = text.parse().unwrap();
            assert_eq!(identifier.to_string(), text);
            assert_eq!(serde_json::to_string(&identifier).unwrap(), format!("{text:?}"));
        }
        // A NAI that would read as another kind is shown in hexadecimal, and comes back the same.
        let odd = MobileNodeIdentifier::nai("a:b");
        assert_eq!(odd.to_string().parse::<MobileNodeIdentifier>().unwrap(), odd);
        for bad in ["", "eui48:1", "1:xyz", "\u{7}"] {
            assert!(bad.parse::<MobileNodeIdentifier>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn link_layer_addresses() {
        let address: LinkLayerAddress = "02:00:00:00:0a:01".parse().unwrap();
        assert_eq!(address.link_local().to_string(), "fe80::ff:fe00:a01");
        assert!(address.is_unicast());
        assert!(!LinkLayerAddress([1, 0, 0, 0, 0, 0]).is_unicast());
        assert!("02:00:00:00:0a".parse::<LinkLayerAddress>().is_err());
        assert!("02:00:00:00:0a:01:02".parse::<LinkLayerAddress>().is_err());
    }
}
