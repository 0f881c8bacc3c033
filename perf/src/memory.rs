//! Ports in memory: packets that need no device, and a worker's loop over them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrayvec::ArrayVec;
use kedge_dataplane::frame::{Frame, NoRoom};
use kedge_dataplane::pipeline::{BURST, Output};
use kedge_dataplane::snapshot::Subscriber;

use crate::gateway;
use crate::pipeline::Packets;

/// Room in front of a packet, and behind its start.
const HEADROOM: usize = 128;
const BUFFER: usize = 384;

/// A packet in a buffer that is used again and again.
#[derive(Debug)]
pub(crate) struct MemoryFrame {
    buffer: Box<[u8; BUFFER]>,
    start: u16,
    length: u16,
}

impl MemoryFrame {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self {
            buffer: Box::new([0; BUFFER]),
            start: HEADROOM as u16,
            length: 0,
        }
    }

    /// Makes it hold a copy of `octets`.
    #[inline]
    pub(crate) fn fill(&mut self, octets: &[u8]) {
        self.start = HEADROOM as u16;
        self.length = octets.len().min(BUFFER - HEADROOM) as u16;
        let count = usize::from(self.length);
        if let (Some(to), Some(from)) = (
            self.buffer.get_mut(HEADROOM..HEADROOM + count),
            octets.get(..count),
        ) {
            to.copy_from_slice(from);
        }
    }

    #[inline]
    fn range(&self) -> std::ops::Range<usize> {
        usize::from(self.start)..usize::from(self.start) + usize::from(self.length)
    }
}

impl Frame for MemoryFrame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.range()).unwrap_or_default()
    }
    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        let range = self.range();
        self.buffer.get_mut(range).unwrap_or_default()
    }
    #[inline]
    fn prepend(&mut self, count: usize) -> Result<(), NoRoom> {
        let count = u16::try_from(count).map_err(|_| NoRoom)?;
        self.start = self.start.checked_sub(count).ok_or(NoRoom)?;
        self.length += count;
        Ok(())
    }
    #[inline]
    fn strip(&mut self, count: usize) -> Result<(), NoRoom> {
        let count = u16::try_from(count).map_err(|_| NoRoom)?;
        self.length = self.length.checked_sub(count).ok_or(NoRoom)?;
        self.start += count;
        Ok(())
    }
    #[inline]
    fn truncate(&mut self, length: usize) {
        self.length = self.length.min(u16::try_from(length).unwrap_or(u16::MAX));
    }
    #[inline]
    fn extend(&mut self, octets: &[u8]) -> Result<(), NoRoom> {
        let end = self.range().end;
        let room = self.buffer.get_mut(end..end + octets.len()).ok_or(NoRoom)?;
        room.copy_from_slice(octets);
        self.length += octets.len() as u16;
        Ok(())
    }
    #[inline]
    fn sibling(&self) -> Option<Self> {
        Some(Self::new())
    }
    #[inline]
    fn prefetch(&self) {}
}

/// A place for the frames that are not on their way.
pub(crate) struct Pool(Vec<MemoryFrame>);

impl Pool {
    /// So many frames.
    pub(crate) fn new(frames: usize) -> Self {
        Self((0..frames).map(|_| MemoryFrame::new()).collect())
    }

    /// A burst of copies of `frames`.
    pub(crate) fn receive<'a>(
        &mut self,
        frames: impl Iterator<Item = &'a [u8]>,
        burst: &mut ArrayVec<MemoryFrame, BURST>,
    ) {
        for octets in frames.take(BURST) {
            let Some(mut frame) = self.0.pop() else { return };
            frame.fill(octets);
            burst.push(frame);
        }
    }

    /// Takes what was sent back; how many packets that were.
    pub(crate) fn sent(&mut self, output: &mut Output<MemoryFrame>) -> usize {
        let mut count = 0;
        for port in output.transmit.iter_mut().chain(&mut output.punt) {
            count += port.len();
            self.0.extend(port.drain(..));
        }
        output.events.clear();
        count
    }

    /// Replaces frames that were dropped on the way.
    pub(crate) fn refill(&mut self, frames: usize) {
        while self.0.len() < frames {
            self.0.push(MemoryFrame::new());
        }
    }
}

/// Forwards `packets` over and over as worker number `worker` until told to stop, one version for each
/// burst, as a worker does.
pub(crate) fn forward(
    mut subscriber: Subscriber,
    worker: usize,
    packets: &Packets,
    stop: &AtomicBool,
    count: &AtomicU64,
) {
    let mut pool = Pool::new(2 * BURST);
    let mut pipeline = gateway::pipeline(worker);
    let (mut burst, mut output) = (ArrayVec::new(), Output::default());
    let (mut at, mut sent) = (worker * 1000, 0);
    while !stop.load(Ordering::Relaxed) {
        pool.receive(packets.burst(at), &mut burst);
        at += 1;
        let reading = subscriber.read();
        pipeline.process(&reading, gateway::CORE, dpdk::cycles(), &mut burst, &mut output);
        drop(reading);
        sent += pool.sent(&mut output) as u64;
        pool.refill(2 * BURST);
    }
    count.store(sent, Ordering::Relaxed);
}
