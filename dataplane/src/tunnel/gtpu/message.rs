//! Reading a GTP-U message (sections 5 and 7).

use super::{
    CONTAINER, EXTENSION, HEADER, OPTIONAL, PDU_SESSION_CONTAINER, PORT, SEQUENCE, UDP_HEADER, VERSION,
};

/// Message types (section 6.1).
pub mod message_type {
    /// Asks whether the path is up.
    pub const ECHO_REQUEST: u8 = 1;
    /// Says that it is.
    pub const ECHO_RESPONSE: u8 = 2;
    /// A TEID was not known.
    pub const ERROR_INDICATION: u8 = 26;
    /// Which extension headers the sender knows.
    pub const SUPPORTED_EXTENSION_HEADERS_NOTIFICATION: u8 = 31;
    /// About one tunnel.
    pub const TUNNEL_STATUS: u8 = 253;
    /// Nothing follows in this tunnel.
    pub const END_MARKER: u8 = 254;
    /// User traffic.
    pub const G_PDU: u8 = 255;
}

/// Version and protocol type.
const VERSION_BITS: u8 = 0xf0;
/// E, S and PN: with any of them, four more octets are there.
const OPTIONAL_BITS: u8 = 0x07;

/// A message that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// One of [`message_type`], or another.
    pub kind: u8,
    /// Tunnel Endpoint Identifier; 0 in messages about the path.
    pub teid: u32,
    /// Where there is one.
    pub sequence: Option<u16>,
    /// Of the UDP header.
    pub source_port: u16,
    /// Where what is behind all headers begins, octets from the UDP header.
    pub offset: usize,
    /// Where it ends.
    pub end: usize,
}

/// Why a message is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The UDP header does not fit the packet.
    UdpMalformed,
    /// GTP', or another version.
    VersionUnsupported,
    /// Its lengths do not fit each other.
    Malformed,
    /// An extension header of this message has to be understood (section 5.2.1) and is not.
    ExtensionUnsupported(Message),
}

/// The TEID of a packet for [`PORT`], G-PDU or not, without looking any closer: `octets` begin with its UDP header.
#[must_use]
#[inline]
pub fn peek_teid(octets: &[u8]) -> Option<u32> {
    let [_, _, p0, p1, _, _, _, _, _, _, _, _, t0, t1, t2, t3] = *octets.first_chunk()?;
    (u16::from_be_bytes([p0, p1]) == PORT).then_some(u32::from_be_bytes([t0, t1, t2, t3]))
}

/// Of a G-PDU that may have been cut short, as we make them: its TEID, its UDP source port, and where the
/// inner packet begins, octets from the UDP header. `octets` begin with that; `None` if it is anything else.
#[must_use]
pub fn peek_g_pdu(octets: &[u8]) -> Option<(u32, u16, usize)> {
    let teid = peek_teid(octets)?;
    let [s0, s1, ..] = *octets else { return None };
    let [flags, kind] = *octets.get(UDP_HEADER..)?.first_chunk()?;
    if flags & VERSION_BITS != VERSION || kind != message_type::G_PDU {
        return None;
    }
    let offset = match flags & OPTIONAL_BITS {
        0 => UDP_HEADER + HEADER,
        SEQUENCE => UDP_HEADER + HEADER + OPTIONAL,
        flags if flags & !SEQUENCE == EXTENSION => {
            let container = UDP_HEADER + HEADER + OPTIONAL;
            let [next, length] = *octets.get(container - 1..)?.first_chunk()?;
            if (next, length) != (PDU_SESSION_CONTAINER, 1) {
                return None;
            }
            container + CONTAINER
        }
        _ => return None,
    };
    Some((teid, u16::from_be_bytes([s0, s1]), offset))
}

/// Reads a message; `octets` begin with its UDP header and end where the IPv6 packet ends.
///
/// # Errors
/// See [`Problem`].
#[inline]
pub fn read(octets: &[u8]) -> Result<Message, Problem> {
    let udp = octets.first_chunk::<UDP_HEADER>().ok_or(Problem::UdpMalformed)?;
    let length = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
    if length < UDP_HEADER || length > octets.len() {
        return Err(Problem::UdpMalformed);
    }
    let octets = octets.get(..length).unwrap_or_default();
    let fixed = octets
        .get(UDP_HEADER..)
        .and_then(|octets| octets.first_chunk::<HEADER>())
        .ok_or(Problem::Malformed)?;
    let [flags, kind, l0, l1, t0, t1, t2, t3] = *fixed;
    if flags & VERSION_BITS != VERSION {
        return Err(Problem::VersionUnsupported);
    }
    // The length counts what is behind the fixed part.
    let end = UDP_HEADER + HEADER + usize::from(u16::from_be_bytes([l0, l1]));
    if end > octets.len() {
        return Err(Problem::Malformed);
    }
    let mut message = Message {
        kind,
        teid: u32::from_be_bytes([t0, t1, t2, t3]),
        sequence: None,
        source_port: u16::from_be_bytes([udp[0], udp[1]]),
        offset: UDP_HEADER + HEADER,
        end,
    };
    if flags & OPTIONAL_BITS == 0 {
        return Ok(message);
    }
    let octets = octets.get(..end).unwrap_or_default();
    let optional = octets
        .get(message.offset..)
        .and_then(|octets| octets.first_chunk::<OPTIONAL>())
        .ok_or(Problem::Malformed)?;
    message.offset += OPTIONAL;
    if flags & SEQUENCE != 0 {
        message.sequence = Some(u16::from_be_bytes([optional[0], optional[1]]));
    }
    // The type of the next header has a meaning with E only.
    let mut next = if flags & EXTENSION == 0 { 0 } else { optional[3] };
    while next != 0 {
        if is_required(next) && next != PDU_SESSION_CONTAINER {
            return Err(Problem::ExtensionUnsupported(message));
        }
        // In units of four octets; zero would never end.
        let length = 4 * usize::from(*octets.get(message.offset).ok_or(Problem::Malformed)?);
        if length == 0 || message.offset + length > end {
            return Err(Problem::Malformed);
        }
        message.offset += length;
        next = *octets.get(message.offset - 1).ok_or(Problem::Malformed)?;
    }
    Ok(message)
}

/// Whether the end of a tunnel has to understand an extension header of this type (section 5.2.1, figure 5.2.1-2).
fn is_required(kind: u8) -> bool {
    kind & 0x80 != 0
}
