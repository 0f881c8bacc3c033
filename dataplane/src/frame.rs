//! A packet buffer with room in front: what the stages need of one.
//!
//! Two implementations: `dpdk::Mbuf` in workers, [`HeapFrame`] in tests and
//! fuzzers. Decisions are made on octets and a snapshot; only encapsulation,
//! decapsulation and error generation touch the frame itself.

/// A contiguous packet buffer.
pub trait Frame {
    /// The packet, from the first octet of the Ethernet header.
    fn bytes(&self) -> &[u8];
    /// The packet, to write.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Adds `count` octets of unspecified content in front.
    ///
    /// # Errors
    /// There is not that much headroom; the frame is as before.
    fn prepend(&mut self, count: usize) -> Result<(), NoRoom>;
    /// Takes `count` octets off the front.
    ///
    /// # Errors
    /// The frame is shorter; it is as before.
    fn strip(&mut self, count: usize) -> Result<(), NoRoom>;
    /// Cuts the frame to its first `length` octets; no effect if it is shorter.
    fn truncate(&mut self, length: usize);
    /// Adds a copy of `octets` behind.
    ///
    /// # Errors
    /// There is not that much room behind the packet; the frame is as before.
    fn extend(&mut self, octets: &[u8]) -> Result<(), NoRoom>;
    /// An empty frame from where this one came from, with as much room; `None`: there is none left.
    fn sibling(&self) -> Option<Self>
    where
        Self: Sized;
    /// Asks the processor to fetch the start of the packet.
    fn prefetch(&self);
}

/// The frame has not that much room, or not that many octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room in the frame")]
pub struct NoRoom;

/// A frame on the heap, with 128 octets of headroom. As small as a packet buffer is for who moves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapFrame(Box<Heap>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Heap {
    buffer: Vec<u8>,
    start: usize,
    /// Octets that it grows to.
    room: usize,
}

impl HeapFrame {
    const HEADROOM: usize = 128;
    /// Octets that a frame grows to that was made with fewer, as in a packet buffer.
    const ROOM: usize = 2048;

    /// A frame that holds a copy of `octets`.
    #[must_use]
    pub fn new(octets: &[u8]) -> Self {
        Self::with_room(octets, octets.len().max(Self::ROOM))
    }

    fn with_room(octets: &[u8], room: usize) -> Self {
        let mut buffer = vec![0xa5; Self::HEADROOM];
        buffer.extend_from_slice(octets);
        Self(Box::new(Heap {
            buffer,
            start: Self::HEADROOM,
            room,
        }))
    }
}

impl Frame for HeapFrame {
    fn bytes(&self) -> &[u8] {
        self.0.buffer.get(self.0.start..).unwrap_or_default()
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        let Heap { buffer, start, .. } = &mut *self.0;
        buffer.get_mut(*start..).unwrap_or_default()
    }
    fn prepend(&mut self, count: usize) -> Result<(), NoRoom> {
        self.0.start = self.0.start.checked_sub(count).ok_or(NoRoom)?;
        Ok(())
    }
    fn strip(&mut self, count: usize) -> Result<(), NoRoom> {
        if count > self.bytes().len() {
            return Err(NoRoom);
        }
        self.0.start += count;
        Ok(())
    }
    fn truncate(&mut self, length: usize) {
        let end = self.0.start.saturating_add(length);
        self.0.buffer.truncate(end);
    }
    fn extend(&mut self, octets: &[u8]) -> Result<(), NoRoom> {
        if self.0.buffer.len() + octets.len() > Self::HEADROOM + self.0.room {
            return Err(NoRoom);
        }
        self.0.buffer.extend_from_slice(octets);
        Ok(())
    }
    fn sibling(&self) -> Option<Self> {
        Some(Self::with_room(&[], self.0.room))
    }
    fn prefetch(&self) {}
}
