//! The few functions of the installed DPDK that the crate `dpdk` calls.
//!
//! Two sources: functions that DPDK exports, by bindgen from its headers; and
//! `dpdk_*`, C shims (shims.c, flows.c, peers.c) for functions that DPDK defines inline and
//! for structures whose layout changes between releases. Nothing here is safe,
//! and nothing here decides anything.
//!
//! [`dpdk_mbuf`] stands for `struct rte_mbuf`. Its layout is checked twice when
//! this crate is compiled: bindgen's assertions tie the Rust structure to the C
//! one, and assertions in shims.c tie that one to the installed `rte_mbuf`.

#![no_std]

#[allow(
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]
mod bindings {
    /// A pool of mbufs: pointed to, never looked into.
    #[repr(C)]
    pub struct rte_mempool {
        octets: [u8; 0],
        // Neither Send, Sync nor Unpin may be assumed of what is behind a pointer to it.
        marker: core::marker::PhantomData<(*mut u8, core::marker::PhantomPinned)>,
    }

    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;

// A received packet's first cache line is all that a worker reads of an mbuf.
const _: () = {
    assert!(size_of::<dpdk_mbuf>() == 128);
    assert!(align_of::<dpdk_mbuf>() == 64);
    assert!(core::mem::offset_of!(dpdk_mbuf, buf_addr) == 0);
    assert!(core::mem::offset_of!(dpdk_mbuf, data_off) == 16);
    assert!(core::mem::offset_of!(dpdk_mbuf, refcnt) == 18);
    assert!(core::mem::offset_of!(dpdk_mbuf, nb_segs) == 20);
    assert!(core::mem::offset_of!(dpdk_mbuf, ol_flags) == 24);
    assert!(core::mem::offset_of!(dpdk_mbuf, pkt_len) == 36);
    assert!(core::mem::offset_of!(dpdk_mbuf, data_len) == 40);
    assert!(core::mem::offset_of!(dpdk_mbuf, rss) == 44);
    assert!(core::mem::offset_of!(dpdk_mbuf, buf_len) == 54);
    assert!(core::mem::offset_of!(dpdk_mbuf, pool) == 56);
};
