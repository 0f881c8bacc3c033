//! The frames that the generator replays, as pcap files.

use std::io::Write;
use std::net::Ipv6Addr;
use std::path::Path;

use anyhow::Context;

/// Frames in one file: as many flows, over as many destinations.
pub(crate) const FLOWS: u16 = 256;
/// Octets of a plain frame, without checksum: what CSIT uses for IPv6.
pub(crate) const PLAIN_FRAME: usize = 78;

/// What the addresses of a run are. The gateway sees all of them on one port.
pub(crate) struct Plan {
    /// The port of the gateway.
    pub(crate) gateway: [u8; 6],
    /// Packets go to `destination | flow`.
    pub(crate) destination: Ipv6Addr,
    /// Packets come from here.
    pub(crate) source: Ipv6Addr,
    /// Outer source and destination, where there is a tunnel.
    pub(crate) outer: Option<(Ipv6Addr, Ipv6Addr)>,
}

/// Writes [`FLOWS`] frames.
pub(crate) fn write(path: &Path, plan: &Plan) -> anyhow::Result<()> {
    let mut file = std::io::BufWriter::new(
        std::fs::File::create(path).with_context(|| format!("{} cannot be written", path.display()))?,
    );
    // pcap, microseconds, Ethernet.
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65535, 1] {
        file.write_all(&word.to_le_bytes())?;
    }
    for flow in 0..FLOWS {
        let frame = frame(plan, flow);
        let length = u32::try_from(frame.len())?;
        for word in [0, 0, length, length] {
            file.write_all(&word.to_le_bytes())?;
        }
        file.write_all(&frame)?;
    }
    Ok(file.flush()?)
}

fn frame(plan: &Plan, flow: u16) -> Vec<u8> {
    let mut destination = plan.destination.octets();
    destination[6..8].copy_from_slice(&flow.to_be_bytes());
    let mut packet = Vec::new();
    let payload = vec![0x4b; PLAIN_FRAME - 14 - 40 - 8];
    let udp_length = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    packet.extend_from_slice(&ipv6(17, udp_length, plan.source.octets(), destination));
    for word in [10_000 + flow, 9, udp_length, 0] {
        packet.extend_from_slice(&word.to_be_bytes());
    }
    packet.extend_from_slice(&payload);
    if let Some((source, destination)) = plan.outer {
        let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
        let mut outer = ipv6(41, length, source.octets(), destination.octets()).to_vec();
        outer.append(&mut packet);
        packet = outer;
    }
    let mut frame = plan.gateway.to_vec();
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 0x99, 0x86, 0xdd]);
    frame.append(&mut packet);
    frame
}

fn ipv6(next_header: u8, length: u16, source: [u8; 16], destination: [u8; 16]) -> [u8; 40] {
    let mut header = [0; 40];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&length.to_be_bytes());
    header[6] = next_header;
    header[7] = 64;
    header[8..24].copy_from_slice(&source);
    header[24..40].copy_from_slice(&destination);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_stated_size_and_differ_by_flow() {
        let plan = Plan {
            gateway: [2; 6],
            destination: "2001:db8:f::1".parse().unwrap(),
            source: "2001:db8:e::1".parse().unwrap(),
            outer: None,
        };
        let plain = frame(&plan, 1);
        assert_eq!(plain.len(), PLAIN_FRAME);
        assert_ne!(plain, frame(&plan, 2));
        let outer = Some(("2001:db8:b::1".parse().unwrap(), "2001:db8:a::1".parse().unwrap()));
        let tunnelled = frame(&Plan { outer, ..plan }, 1);
        assert_eq!(tunnelled.len(), PLAIN_FRAME + 40);
        assert_eq!(tunnelled[54..], plain[14..]);
    }
}
