//! What a worker says itself, without the control plane, so that a gateway whose control plane is being
//! restarted is still there for its peers. Made in the frame of the message that it is about.

use super::{
    EXTENSION, Message, PDU_SESSION_CONTAINER, PORT, SEQUENCE, UDP, UDP_HEADER, VERSION, message_type, outer,
};
use crate::frame::Frame;
use crate::stage::checksum::Sum;
use crate::stage::ipv4;
use crate::stage::parse::{ETHERNET_HEADER, IPV6_HEADER};

const HOP_LIMIT: u8 = 64;
/// Types of information elements (section 8.1).
const RECOVERY: u8 = 14;
const TEID_DATA_I: u8 = 16;
const GTPU_PEER_ADDRESS: u8 = 133;
const EXTENSION_HEADER_TYPE_LIST: u8 = 141;
/// Type of the extension header with the UDP port of what an Error Indication is about (section 5.2.2.1).
const UDP_PORT: u8 = 0x40;

/// An answer to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To an Echo Request (section 7.2.2).
    EchoResponse,
    /// To a G-PDU with a TEID that nobody has (section 7.3.1).
    ErrorIndication,
    /// To an extension header that we should understand (section 7.2.3).
    SupportedExtensionHeadersNotification,
}

impl Answer {
    /// The GTP-U message: header and information elements.
    fn message(self, to: &Message, destination: u128) -> arrayvec::ArrayVec<u8, 40> {
        let mut octets = arrayvec::ArrayVec::new();
        let mut put = |part: &[u8]| {
            // The longest there is has 40 octets.
            let _ = octets.try_extend_from_slice(part);
        };
        let [s0, s1] = to.sequence.unwrap_or(0).to_be_bytes();
        match self {
            // The restart counter is not used, and zero (section 7.2.2).
            Self::EchoResponse => {
                put(&[
                    VERSION | SEQUENCE,
                    message_type::ECHO_RESPONSE,
                    0,
                    6,
                    0,
                    0,
                    0,
                    0,
                    s0,
                    s1,
                    0,
                    0,
                ]);
                put(&[RECOVERY, 0]);
            }
            Self::ErrorIndication => {
                put(&[
                    VERSION | SEQUENCE | EXTENSION,
                    message_type::ERROR_INDICATION,
                    0,
                    if ipv4::is_mapped(destination) { 20 } else { 32 },
                ]);
                put(&[0, 0, 0, 0, 0, 0, 0, UDP_PORT]);
                let [p0, p1] = to.source_port.to_be_bytes();
                put(&[1, p0, p1, 0, TEID_DATA_I]);
                put(&to.teid.to_be_bytes());
                // Section 8.4: 4 or 16 octets.
                if ipv4::is_mapped(destination) {
                    put(&[GTPU_PEER_ADDRESS, 0, 4]);
                    put(&ipv4::unmapped(destination));
                } else {
                    put(&[GTPU_PEER_ADDRESS, 0, 16]);
                    put(&destination.to_be_bytes());
                }
            }
            Self::SupportedExtensionHeadersNotification => {
                let kind = message_type::SUPPORTED_EXTENSION_HEADERS_NOTIFICATION;
                put(&[VERSION | SEQUENCE, kind, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
                put(&[EXTENSION_HEADER_TYPE_LIST, 1, PDU_SESSION_CONTAINER]);
            }
        }
        octets
    }

    /// Where it goes: an answer to a request back to where that came from, others to the peer's GTP-U port.
    fn port(self, to: &Message) -> u16 {
        match self {
            Self::EchoResponse => to.source_port,
            Self::ErrorIndication | Self::SupportedExtensionHeadersNotification => PORT,
        }
    }
}

/// Turns `frame`, an Ethernet header and the packet from `source` to `destination` that `message` was
/// read from, into one with the answer to it. `false`: there is no room; the frame is to be dropped.
#[must_use]
pub fn answer<F: Frame>(
    frame: &mut F,
    answer: Answer,
    message: &Message,
    source: u128,
    destination: u128,
) -> bool {
    let gtpu = answer.message(message, destination);
    let length = UDP_HEADER + gtpu.len();
    // IPv4 packets are answered by IPv4 ones.
    let over_ipv4 = ipv4::is_mapped(destination);
    let ip_header = if over_ipv4 { ipv4::HEADER } else { IPV6_HEADER };
    let whole = ETHERNET_HEADER + ip_header + length;
    let have = frame.bytes().len();
    if have < whole && frame.prepend(whole - have).is_err() {
        return false;
    }
    frame.truncate(whole);
    let packet = frame.bytes_mut().get_mut(ETHERNET_HEADER..);
    let Some((ip, udp)) = packet.and_then(|packet| packet.split_at_mut_checked(ip_header)) else {
        return false;
    };
    let mut header = [0; UDP_HEADER];
    header[0..2].copy_from_slice(&PORT.to_be_bytes());
    header[2..4].copy_from_slice(&answer.port(message).to_be_bytes());
    header[4..6].copy_from_slice(&(length as u16).to_be_bytes());
    let sum = Sum::default()
        .number(length as u64)
        .number(u64::from(UDP))
        .octets(&header)
        .octets(&gtpu);
    let sum = if over_ipv4 {
        let (from, to) = (ipv4::unmapped(destination), ipv4::unmapped(source));
        let Some(outer) = ipv4::header(from, to, HOP_LIMIT, UDP, 0, length) else {
            return false;
        };
        ip.copy_from_slice(&outer);
        sum.octets(&from).octets(&to)
    } else {
        let (from, to) = (destination.to_be_bytes(), source.to_be_bytes());
        // At most 48 octets.
        ip.copy_from_slice(&outer::ipv6(&from, &to, HOP_LIMIT, UDP, 0, 0, length as u16));
        sum.octets(&from).octets(&to)
    };
    header[6..8].copy_from_slice(&sum.udp_checksum().to_be_bytes());
    let Some((place, rest)) = udp.split_first_chunk_mut::<UDP_HEADER>() else {
        return false;
    };
    *place = header;
    rest.copy_from_slice(&gtpu);
    true
}
