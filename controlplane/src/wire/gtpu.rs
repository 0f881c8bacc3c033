//! GTP-U messages about paths and tunnels (3GPP TS 29.281 section 7), as the control plane sends and gets them.
//!
//! User traffic, and the answers that need no memory (Echo Response, Error Indication, Supported Extension
//! Headers Notification), are the data plane's. Unknown information elements are skipped (section 8.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

/// UDP port of GTP-U (section 4.4.2).
pub const PORT: u16 = 2152;

const VERSION_BITS: u8 = 0xf0;
const VERSION: u8 = 0x30;
const EXTENSION: u8 = 0x04;
const SEQUENCE: u8 = 0x02;
const OPTIONAL_BITS: u8 = 0x07;
const HEADER: usize = 8;
const OPTIONAL: usize = 4;

const ECHO_REQUEST: u8 = 1;
const ECHO_RESPONSE: u8 = 2;
const ERROR_INDICATION: u8 = 26;
const SUPPORTED_EXTENSION_HEADERS_NOTIFICATION: u8 = 31;
const END_MARKER: u8 = 254;
const G_PDU: u8 = 255;

/// Information elements (section 8.1): below 128 type and value, from there on type, length, value.
const RECOVERY: u8 = 14;
const TEID_DATA_I: u8 = 16;
const FIRST_WITH_LENGTH: u8 = 128;
const GTPU_PEER_ADDRESS: u8 = 133;
const EXTENSION_HEADER_TYPE_LIST: u8 = 141;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Is the path up? (section 7.2.1)
    EchoRequest {
        /// Of the request.
        sequence: u16,
    },
    /// It is (section 7.2.2).
    EchoResponse {
        /// Of the request that it answers.
        sequence: u16,
    },
    /// A G-PDU came with a TEID that nobody has there (section 7.3.1).
    ErrorIndication {
        /// That TEID.
        teid: u32,
        /// Where the G-PDU had been sent to.
        peer: IpAddr,
    },
    /// An extension header was not understood; these are (section 7.2.3).
    SupportedExtensionHeadersNotification {
        /// Types of extension headers.
        types: Vec<u8>,
    },
    /// Nothing follows in this tunnel (section 7.3.2).
    EndMarker {
        /// Of the tunnel, at its receiver.
        teid: u32,
    },
}

/// Why octets are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends before it says.
    #[error("{octets} octets: it ends within {within}")]
    Short {
        /// How many there are.
        octets: usize,
        /// In what.
        within: &'static str,
    },
    /// GTP', or another version.
    #[error("flags {flags:#04x}: neither version 1 nor GTP")]
    Version {
        /// The first octet.
        flags: u8,
    },
    /// None that is known here.
    #[error("message type {kind}: not one that is for the control plane")]
    Type {
        /// The message type.
        kind: u8,
    },
    /// An information element that the message needs is not there.
    #[error("information element {element} is missing")]
    Missing {
        /// Its type.
        element: u8,
    },
    /// An information element has a length that it cannot have.
    #[error("information element {element}: {length} octets")]
    Length {
        /// Its type.
        element: u8,
        /// The length it has.
        length: usize,
    },
}

/// A packet as a G-PDU (section 5.1), without sequence number and extension headers.
#[must_use]
pub fn g_pdu(teid: NonZeroU32, packet: &[u8]) -> Vec<u8> {
    // What is sent by this is a few octets long.
    let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    let mut octets = vec![VERSION, G_PDU];
    octets.extend_from_slice(&length.to_be_bytes());
    octets.extend_from_slice(&teid.get().to_be_bytes());
    octets.extend_from_slice(packet);
    octets
}

/// The information elements that are used here.
#[derive(Default)]
struct Elements {
    teid: Option<u32>,
    peer: Option<IpAddr>,
    types: Option<Vec<u8>>,
}

impl Message {
    /// The UDP payload.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let with_sequence = |kind: u8, sequence: u16, elements: &[u8]| {
            // No message of these is long.
            let [l0, l1] = ((OPTIONAL + elements.len()) as u16).to_be_bytes();
            let [s0, s1] = sequence.to_be_bytes();
            let mut octets = vec![VERSION | SEQUENCE, kind, l0, l1, 0, 0, 0, 0, s0, s1, 0, 0];
            octets.extend_from_slice(elements);
            octets
        };
        match self {
            Self::EchoRequest { sequence } => with_sequence(ECHO_REQUEST, *sequence, &[]),
            // The restart counter is not used, and zero.
            Self::EchoResponse { sequence } => with_sequence(ECHO_RESPONSE, *sequence, &[RECOVERY, 0]),
            Self::ErrorIndication { teid, peer } => {
                let address = match peer {
                    IpAddr::V4(address) => address.octets().to_vec(),
                    IpAddr::V6(address) => address.octets().to_vec(),
                };
                let mut elements = vec![TEID_DATA_I];
                elements.extend_from_slice(&teid.to_be_bytes());
                elements.extend_from_slice(&[GTPU_PEER_ADDRESS, 0, address.len() as u8]);
                elements.extend_from_slice(&address);
                with_sequence(ERROR_INDICATION, 0, &elements)
            }
            Self::SupportedExtensionHeadersNotification { types } => {
                // There are no more types than 255.
                let types = types.get(..types.len().min(255)).unwrap_or_default();
                let mut elements = vec![EXTENSION_HEADER_TYPE_LIST, types.len() as u8];
                elements.extend_from_slice(types);
                with_sequence(SUPPORTED_EXTENSION_HEADERS_NOTIFICATION, 0, &elements)
            }
            Self::EndMarker { teid } => {
                let mut octets = vec![VERSION, END_MARKER, 0, 0];
                octets.extend_from_slice(&teid.to_be_bytes());
                octets
            }
        }
    }

    /// Reads a UDP payload; what is behind the message in it is no part of it.
    ///
    /// # Errors
    /// It is none of these messages, or breaks their rules.
    pub fn parse(octets: &[u8]) -> Result<Self, Malformed> {
        let short = |within| Malformed::Short {
            octets: octets.len(),
            within,
        };
        let header = octets.first_chunk::<HEADER>().ok_or(short("the header"))?;
        let [flags, kind, l0, l1, t0, t1, t2, t3] = *header;
        if flags & VERSION_BITS != VERSION {
            return Err(Malformed::Version { flags });
        }
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let mut rest = octets.get(HEADER..HEADER + length).ok_or(short("the message"))?;
        let mut sequence = 0;
        if flags & OPTIONAL_BITS != 0 {
            let (optional, behind) = rest
                .split_first_chunk::<OPTIONAL>()
                .ok_or(short("the optional part of the header"))?;
            sequence = u16::from_be_bytes([optional[0], optional[1]]);
            rest = behind;
            let mut next = if flags & EXTENSION == 0 { 0 } else { optional[3] };
            while next != 0 {
                let length = 4 * usize::from(*rest.first().ok_or(short("an extension header"))?);
                // A length of zero would never end.
                let header = rest
                    .get(..length)
                    .filter(|header| !header.is_empty())
                    .ok_or(short("an extension header"))?;
                next = header.last().copied().unwrap_or(0);
                rest = rest.get(length..).unwrap_or_default();
            }
        }
        match kind {
            ECHO_REQUEST => Ok(Self::EchoRequest { sequence }),
            ECHO_RESPONSE => Ok(Self::EchoResponse { sequence }),
            ERROR_INDICATION => {
                let elements = elements(rest)?;
                let missing = |element| Malformed::Missing { element };
                Ok(Self::ErrorIndication {
                    teid: elements.teid.ok_or(missing(TEID_DATA_I))?,
                    peer: elements.peer.ok_or(missing(GTPU_PEER_ADDRESS))?,
                })
            }
            SUPPORTED_EXTENSION_HEADERS_NOTIFICATION => {
                let element = EXTENSION_HEADER_TYPE_LIST;
                let types = elements(rest)?.types.ok_or(Malformed::Missing { element })?;
                Ok(Self::SupportedExtensionHeadersNotification { types })
            }
            END_MARKER => Ok(Self::EndMarker {
                teid: u32::from_be_bytes([t0, t1, t2, t3]),
            }),
            kind => Err(Malformed::Type { kind }),
        }
    }
}

fn elements(mut rest: &[u8]) -> Result<Elements, Malformed> {
    let mut found = Elements::default();
    while let Some((element, behind)) = rest.split_first() {
        let element = *element;
        let short = Malformed::Short {
            octets: behind.len(),
            within: "an information element",
        };
        // Those without a length whose length is not known end what can be read.
        let (value, behind) = match element {
            RECOVERY => behind.split_at_checked(1).ok_or(short)?,
            TEID_DATA_I => behind.split_at_checked(4).ok_or(short)?,
            ..FIRST_WITH_LENGTH => break,
            // The only one whose length is one octet.
            EXTENSION_HEADER_TYPE_LIST => {
                let (length, behind) = behind.split_first().ok_or(short)?;
                behind.split_at_checked(usize::from(*length)).ok_or(short)?
            }
            _ => {
                let (length, behind) = behind.split_first_chunk::<2>().ok_or(short)?;
                let length = usize::from(u16::from_be_bytes(*length));
                behind.split_at_checked(length).ok_or(short)?
            }
        };
        match element {
            TEID_DATA_I => found.teid = value.try_into().ok().map(u32::from_be_bytes),
            GTPU_PEER_ADDRESS => {
                let v4 = <[u8; 4]>::try_from(value).map(|it| IpAddr::V4(Ipv4Addr::from(it)));
                let v6 = || <[u8; 16]>::try_from(value).map(|it| IpAddr::V6(Ipv6Addr::from(it)));
                let length = value.len();
                let address = v4.or_else(|_| v6());
                found.peer = Some(address.map_err(|_| Malformed::Length { element, length })?);
            }
            EXTENSION_HEADER_TYPE_LIST => found.types = Some(value.to_vec()),
            _ => {}
        }
        rest = behind;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn messages() -> impl Strategy<Value = Message> {
        prop_oneof![
            any::<u16>().prop_map(|sequence| Message::EchoRequest { sequence }),
            any::<u16>().prop_map(|sequence| Message::EchoResponse { sequence }),
            (any::<u32>(), any::<IpAddr>()).prop_map(|(teid, peer)| Message::ErrorIndication { teid, peer }),
            prop::collection::vec(any::<u8>(), 0..9)
                .prop_map(|types| Message::SupportedExtensionHeadersNotification { types }),
            any::<u32>().prop_map(|teid| Message::EndMarker { teid }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(message in messages(), behind in prop::collection::vec(any::<u8>(), 0..5)) {
            let mut octets = message.emit();
            octets.extend(behind);
            prop_assert_eq!(Message::parse(&octets), Ok(message));
        }

        #[test]
        fn no_octets_are_too_strange(octets in prop::collection::vec(any::<u8>(), 0..60), kind in 0u8..32) {
            let _ = Message::parse(&octets);
            let header = [0x36, kind, 0, octets.len() as u8];
            let _ = Message::parse(&[&header[..], &[0; 4], &octets].concat());
        }
    }

    #[test]
    fn octet_by_octet() {
        let emit = |message: Message| message.emit();
        assert_eq!(
            emit(Message::EchoRequest { sequence: 0x1234 }),
            [0x32, 1, 0, 4, 0, 0, 0, 0, 0x12, 0x34, 0, 0]
        );
        assert_eq!(
            emit(Message::EchoResponse { sequence: 7 }),
            [0x32, 2, 0, 6, 0, 0, 0, 0, 0, 7, 0, 0, 14, 0]
        );
        assert_eq!(
            emit(Message::EndMarker { teid: 0xdead_beef }),
            [0x30, 254, 0, 0, 0xde, 0xad, 0xbe, 0xef]
        );
        // As our own data plane says it: with the UDP port in an extension header.
        let mut octets = vec![
            0x36, 26, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0x40, 1, 0xc1, 0x23, 0, 16, 1, 2, 3, 4, 133, 0, 16,
        ];
        octets.extend_from_slice(&[0x20; 16]);
        let peer = IpAddr::V6([0x20; 16].into());
        let teid = 0x0102_0304;
        assert_eq!(
            Message::parse(&octets),
            Ok(Message::ErrorIndication { teid, peer })
        );
        let list = [0x32, 31, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 141, 1, 0x85];
        let types = vec![0x85];
        assert_eq!(
            Message::parse(&list),
            Ok(Message::SupportedExtensionHeadersNotification { types })
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let said = |octets: &[u8]| Message::parse(octets).map_err(|it| it.to_string());
        let error = |text: &str| Err(text.to_owned());
        assert_eq!(said(&[0x32]), error("1 octets: it ends within the header"));
        assert_eq!(
            said(&[0x30, 1, 0, 1, 0, 0, 0, 0]),
            error("8 octets: it ends within the message")
        );
        assert_eq!(
            said(&[0x4f, 1, 0, 0, 0, 0, 0, 0]),
            error("flags 0x4f: neither version 1 nor GTP")
        );
        // 253 is Tunnel Status.
        for kind in [99, 253] {
            let other = error(&format!(
                "message type {kind}: not one that is for the control plane"
            ));
            assert_eq!(said(&[0x30, kind, 0, 0, 0, 0, 0, 0]), other);
        }
        let bare = [0x32, 26, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(said(&bare), error("information element 16 is missing"));
        let short = [0x32, 26, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 1, 133, 0, 4];
        assert_eq!(
            said(&short),
            error("2 octets: it ends within an information element")
        );
        let length = [
            0x30, 26, 0, 13, 0, 0, 0, 0, 16, 0, 0, 0, 1, 133, 0, 5, 1, 2, 3, 4, 5,
        ];
        assert_eq!(said(&length), error("information element 133: 5 octets"));
        let endless = [0x36, 2, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0x20];
        assert_eq!(
            said(&endless),
            error("16 octets: it ends within an extension header")
        );
    }
}
