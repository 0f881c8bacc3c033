//! The least that any forwarder does, on DPDK's table.

use dpdk::Eal;
use dpdk::peers::{Fib6, FibLookup, RoutesConfig};

use super::{BURST, Packets};
use crate::fib::shapes::Prefix;
use crate::peer_memory::PeerMemory;

/// MiB for the table: 100,000 /64s take 512.
const MEMORY_MIB: u32 = 768;
/// Most groups that fit in that.
const MOST_GROUPS: u32 = 600_000;
/// Octets of a buffer.
const BUFFER: usize = 384;

/// DPDK.
pub(super) struct Minimal(PeerMemory);

/// One table, and buffers for a burst.
pub(super) struct Table<'a> {
    fib: Fib6,
    buffers: Vec<[u8; BUFFER]>,
    _of: &'a Minimal,
}

impl Minimal {
    pub(super) fn start() -> anyhow::Result<Self> {
        PeerMemory::start(MEMORY_MIB).map(Self)
    }

    /// DPDK itself.
    pub(super) fn eal(&self) -> Eal {
        self.0.eal().clone()
    }

    /// A table with these prefixes, if it can hold them.
    pub(super) fn table(&self, prefixes: &[Prefix]) -> Option<Table<'_>> {
        let count = u32::try_from(prefixes.len()).ok()?;
        let groups = count.checked_mul(5)?.saturating_add(64);
        if groups > MOST_GROUPS {
            return None;
        }
        let config = RoutesConfig {
            name: "minimal".to_owned(),
            max_routes: count + 1,
            tbl8s: groups,
            numa_node: None,
        };
        let mut fib = Fib6::new(self.0.eal(), &config).ok()?;
        for (next_hop, (bits, length)) in (1..).zip(prefixes) {
            fib.add(*bits, *length, next_hop).ok()?;
        }
        // Without AVX-512 its own choice stays.
        let _ = fib.select(FibLookup::Avx512);
        Some(Table {
            fib,
            buffers: vec![[0; BUFFER]; 4 * BURST],
            _of: self,
        })
    }
}

impl Table<'_> {
    /// So many bursts; cycles per packet.
    pub(super) fn turn(&mut self, packets: &Packets, bursts: usize) -> f64 {
        let mut cycles = 0;
        for batch in 0..bursts / 4 {
            for (at, buffers) in self.buffers.chunks_exact_mut(BURST).enumerate() {
                for (buffer, octets) in buffers.iter_mut().zip(packets.burst(batch * 4 + at)) {
                    if let Some(to) = buffer.get_mut(128..128 + octets.len()) {
                        to.copy_from_slice(octets);
                    }
                }
            }
            for buffers in self.buffers.chunks_exact_mut(BURST) {
                let start = dpdk::cycles();
                forward(&self.fib, buffers);
                cycles += dpdk::cycles() - start;
            }
        }
        cycles as f64 / (bursts / 4 * 4 * BURST) as f64
    }
}

fn forward(fib: &Fib6, buffers: &mut [[u8; BUFFER]]) {
    let mut addresses = [[0u8; 16]; BURST];
    for (address, buffer) in addresses.iter_mut().zip(buffers.iter()) {
        if let Some(destination) = buffer.get(128 + 38..).and_then(|rest| rest.first_chunk()) {
            *address = *destination;
        }
    }
    let mut next_hops = [0u64; BURST];
    // Both have one length.
    let _ = fib.lookup_burst(&addresses, &mut next_hops);
    for (buffer, next_hop) in buffers.iter_mut().zip(next_hops) {
        let Some(header) = buffer.get_mut(128..128 + 54) else {
            continue;
        };
        if let [d0, d1, d2, d3, d4, d5, rest @ ..] = header
            && let [s0, s1, s2, s3, s4, s5, ..] = rest
        {
            [*d0, *d1, *d2, *d3, *d4, *d5] = [2, 0, 0, 0, 0, next_hop as u8];
            [*s0, *s1, *s2, *s3, *s4, *s5] = [2, 0, 0, 0, 0, 1];
        }
        if let Some(hop_limit) = header.get_mut(21) {
            *hop_limit = hop_limit.wrapping_sub(1);
        }
    }
}
