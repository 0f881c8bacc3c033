//! DPDK's packet buffers as frames.

use dpdk::Mbuf;

use crate::frame::{Frame, NoRoom};

impl Frame for Mbuf {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.data()
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.data_mut()
    }

    #[inline]
    fn prepend(&mut self, count: usize) -> Result<(), NoRoom> {
        Mbuf::prepend(self, count).map(|_| ()).map_err(|_| NoRoom)
    }

    #[inline]
    fn strip(&mut self, count: usize) -> Result<(), NoRoom> {
        Mbuf::strip(self, count).map(|_| ()).map_err(|_| NoRoom)
    }

    #[inline]
    fn truncate(&mut self, length: usize) {
        Mbuf::truncate(self, length);
    }

    #[inline]
    fn extend(&mut self, octets: &[u8]) -> Result<(), NoRoom> {
        Mbuf::extend_from_slice(self, octets).map_err(|_| NoRoom)
    }

    #[inline]
    fn sibling(&self) -> Option<Self> {
        Mbuf::sibling(self)
    }

    #[inline]
    fn prefetch(&self) {
        Mbuf::prefetch(self);
    }
}
