//! Which worker takes a tunnelled packet.
//!
//! A device spreads packets over its receive queues by their outer addresses. All
//! packets of one tunnel have the same, and so all would be one worker's, however
//! many nodes are behind it. Here the worker that received a tunnelled packet
//! looks at the inner one, and the packet belongs to the worker that its flow
//! hashes to. Packets that are not tunnelled stay where the device put them.
//!
//! A flow is what RFC 6437 section 2 says: source, destination and flow label.
//! Where the label is zero, so that its sender does not tell flows apart, the
//! ports of TCP do. Those of UDP do not: a sender may cut one datagram into
//! fragments (RFC 8200 section 4.5), of which only the first has ports, and send
//! the next one whole; by their ports they would take different ways and
//! overtake each other. TCP sends segments that fit. So all packets of a flow
//! have one hash, fragments or not, for as long as its sender labels it alike.
//! Of IPv4, which has no label and which any router may cut, addresses and protocol
//! are all that the packets of a flow have in common for certain.
//!
//! Of a tunnelled packet that was cut into fragments on its way, the inner packet is
//! not there yet. Its fragments belong to the worker that their outer addresses and flow
//! label hash to, over IPv4 the addresses alone, which puts them together and goes on with what comes out. So the
//! packets of a flow that were cut stay in order among themselves; others of the same flow may overtake
//! them, as on any path on which large packets wait for their second half.
//!
//! The choice depends on the packet alone (and a seed that all workers share), so
//! a flow that arrives on one queue goes through one worker, or through one and
//! then, by one ring, through one other: in order. A flow that a device spreads
//! over several queues has lost its order before it comes here.

use arrayvec::ArrayVec;

use crate::frame::Frame;
use crate::pipeline::BURST;
use crate::snapshot::{Hop, Snapshot};
use crate::stage::ipv4;
use crate::stage::parse::{self, ETHERNET_HEADER, IPV6_HEADER, VLAN_TAG};
use crate::tunnel::{gre, gtpu, ip6_in_ip6};

const TCP: u8 = 6;
/// Odd, with about as many ones as zeros in no pattern.
const MULTIPLIERS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];

/// Chooses for one of several workers.
#[derive(Clone, Debug)]
pub struct Spreader {
    worker: usize,
    workers: usize,
    seed: u64,
    /// Whether the last tunnelled packet was to an address of this node: generation of the snapshot,
    /// address, answer. Tunnels end at one address, most often.
    last_local: (u64, u128, bool),
}

impl Spreader {
    /// For worker number `worker` of `workers`; `seed` must be the same for all of them. It keeps
    /// outsiders from making flows that all become one worker's.
    #[must_use]
    pub fn new(worker: usize, workers: usize, seed: u64) -> Self {
        Self {
            worker,
            workers,
            seed,
            last_local: (u64::MAX, 0, false),
        }
    }

    /// Takes the frames of other workers out of `burst`, all of which came in by port number `port`,
    /// and gives each to `give` with its worker's number, always another than this one. Both those
    /// and the ones that stay keep their order. Frames are whole, as they came in.
    #[inline]
    pub fn split<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        port: usize,
        burst: &mut ArrayVec<F, BURST>,
        mut give: impl FnMut(usize, F),
    ) {
        let Some(description) = snapshot.ports.get(port) else {
            return;
        };
        for frame in burst.iter() {
            frame.prefetch();
        }
        let header = ETHERNET_HEADER + description.vlan.map_or(0, |_| VLAN_TAG);
        let owners: ArrayVec<usize, BURST> = burst
            .iter()
            .map(|frame| self.owner(snapshot, frame.bytes().get(header..).unwrap_or_default()))
            .collect();
        if owners.iter().all(|owner| *owner == self.worker) {
            return;
        }
        for (frame, owner) in burst.take().into_iter().zip(owners) {
            if owner == self.worker {
                // There is room: it came from here.
                burst.push(frame);
            } else {
                give(owner, frame);
            }
        }
    }

    /// The worker that the packet in `octets` belongs to; padding may follow it.
    #[inline]
    fn owner(&mut self, snapshot: &Snapshot, octets: &[u8]) -> usize {
        match tunnelled(octets) {
            Some((destination, inner)) if self.is_local(snapshot, destination) => {
                flow_hash(inner, self.seed).map_or(self.worker, |hash| share(hash, self.workers))
            }
            _ => self.worker,
        }
    }

    #[inline]
    fn is_local(&mut self, snapshot: &Snapshot, address: u128) -> bool {
        let (generation, last, local) = self.last_local;
        if generation == snapshot.generation && last == address {
            return local;
        }
        let route = snapshot.routes.get(snapshot.fib.lookup(address));
        let local = route.hop() == Hop::LOCAL;
        self.last_local = (snapshot.generation, address, local);
        local
    }
}

/// The destination of a packet that has another one within (RFC 2473, GRE, or a G-PDU), and that one's octets; as
/// the pipeline sees it, with extension headers in between.
#[inline]
fn tunnelled(octets: &[u8]) -> Option<(u128, &[u8])> {
    let header = octets.first_chunk::<IPV6_HEADER>()?;
    if header[0] >> 4 == 4 {
        return tunnelled_in_ipv4(octets);
    }
    let upper = parse::upper_layer(octets, header[6]).ok()?;
    let destination = u128::from_be_bytes(*header.last_chunk()?);
    if upper.fragment {
        // Fragments go by the outer packet, which has the flow within as its flow label (RFC 6438): all of a
        // packet, and all fragments of a flow, to one worker.
        let of_tunnel = matches!(
            upper.next_header,
            ip6_in_ip6::NEXT_HEADER | ip6_in_ip6::NEXT_HEADER_IPV4 | gre::NEXT_HEADER | gtpu::UDP
        );
        return of_tunnel.then_some((destination, octets));
    }
    let inner = octets.get(upper.offset..)?;
    match upper.next_header {
        ip6_in_ip6::NEXT_HEADER | ip6_in_ip6::NEXT_HEADER_IPV4 => Some((destination, inner)),
        gtpu::UDP => Some((destination, in_g_pdu(inner)?)),
        gre::NEXT_HEADER => Some((destination, inner.get(gre::peek(inner).ok()?.offset..)?)),
        _ => None,
    }
}

/// The same of an IPv4 packet, which may have a G-PDU within, or be a fragment of one that has.
fn tunnelled_in_ipv4(octets: &[u8]) -> Option<(u128, &[u8])> {
    let packet = ipv4::read(octets).ok()?;
    if packet.next_header != gtpu::UDP {
        return None;
    }
    let (is_fragment, _) = ipv4::fragment(octets);
    if is_fragment {
        // By the two ends alone: there is no more that all fragments of a packet have in common but its number.
        return Some((packet.destination, octets));
    }
    let udp = octets.get(ipv4::header_length(octets)..packet.length)?;
    Some((packet.destination, in_g_pdu(udp)?))
}

/// What a G-PDU carries; `octets` begin with its UDP header.
#[inline]
fn in_g_pdu(octets: &[u8]) -> Option<&[u8]> {
    gtpu::peek_teid(octets)?;
    let message = gtpu::read(octets).ok()?;
    let inner = octets.get(message.offset..message.end)?;
    (message.kind == gtpu::message_type::G_PDU).then_some(inner)
}

/// A hash of the flow that the packet in `inner` is of; `None` if that is no packet.
///
/// The same for all packets of a flow, their fragments included: see above.
#[must_use]
#[inline]
pub fn flow_hash(inner: &[u8], seed: u64) -> Option<u64> {
    if inner.first().is_some_and(|first| first >> 4 == 4) {
        return flow_hash_ipv4(inner, seed);
    }
    let (header, rest) = inner.split_first_chunk::<IPV6_HEADER>()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let label = u32::from_be_bytes(*header.first_chunk()?) & 0x000f_ffff;
    let told_apart = match rest.first_chunk::<4>() {
        Some(ports) if label == 0 && header[6] == TCP => u64::from(u32::from_be_bytes(*ports)) << 20,
        _ => u64::from(label),
    };
    let mut hash = seed;
    let mut mix = |word: u64| hash = (hash ^ word).wrapping_mul(MULTIPLIERS[0]).rotate_left(29);
    for word in header[8..].chunks_exact(8) {
        mix(u64::from_be_bytes(word.try_into().ok()?));
    }
    mix(told_apart);
    Some(mixed_down(hash))
}

/// The same of an IPv4 packet, which has no flow label: of its addresses and its protocol. A router may have cut it, and not the next
/// one of its flow, so ports do not tell; nor does it whether it may be cut, for senders change that within a flow.
#[inline(never)]
fn flow_hash_ipv4(inner: &[u8], seed: u64) -> Option<u64> {
    let (header, _) = inner.split_first_chunk::<{ ipv4::HEADER }>()?;
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    let mut hash = seed;
    for word in [
        u64::from_be_bytes([s0, s1, s2, s3, d0, d1, d2, d3]),
        u64::from(header[9]),
    ] {
        hash = (hash ^ word).wrapping_mul(MULTIPLIERS[0]).rotate_left(29);
    }
    Some(mixed_down(hash))
}

/// The product's upper half depends on all bits; mixed down, both halves do.
#[inline]
fn mixed_down(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 32)).wrapping_mul(MULTIPLIERS[1]);
    hash ^ (hash >> 32)
}

/// Shares hashes out evenly: 0 to `workers` - 1.
#[inline]
fn share(hash: u64, workers: usize) -> usize {
    (((hash & 0xffff_ffff) * workers as u64) >> 32) as usize
}
