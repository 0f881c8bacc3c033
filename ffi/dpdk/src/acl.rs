//! `rte_acl`: which of many rules is the first that a packet matches.
//!
//! A classifier is built once, with all its rules, and never changes. It takes
//! its memory from what EAL was started with. Which instructions it uses is
//! DPDK's choice: the widest of the processor that EAL may use
//! ([`EalConfig::max_simd_bits`](crate::EalConfig::max_simd_bits)).

use std::ffi::CString;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::eal::Eal;
use crate::errno::Errno;

/// Most keys classified at once.
pub const MOST_KEYS: usize = dpdk_sys::DPDK_ACL_MOST_KEYS as usize;
/// Most rules of a classifier.
pub const MOST_RULES: usize = dpdk_sys::DPDK_ACL_MOST_RULES as usize;

/// What a packet is.
#[derive(Clone, Copy, Debug, Default)]
#[repr(transparent)]
pub struct Key(dpdk_sys::dpdk_acl_key);

impl Key {
    /// A packet from `source` to `destination`. What the bits of `word` mean is the caller's business.
    #[inline]
    #[must_use]
    pub fn new(source: u128, destination: u128, protocol: u8, ports: (u16, u16), word: u32) -> Self {
        Self(dpdk_sys::dpdk_acl_key {
            protocol,
            unused: [0; 3],
            source: source.to_be_bytes(),
            destination: destination.to_be_bytes(),
            source_port: ports.0.to_be(),
            destination_port: ports.1.to_be(),
            word: word.to_be(),
        })
    }
}

/// What a packet has to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Address and prefix length, 0..=128.
    pub source: (Ipv6Addr, u8),
    /// Address and prefix length, 0..=128.
    pub destination: (Ipv6Addr, u8),
    /// Value and mask.
    pub protocol: (u8, u8),
    /// Not empty.
    pub source_ports: RangeInclusive<u16>,
    /// Not empty.
    pub destination_ports: RangeInclusive<u16>,
    /// Value and mask.
    pub word: (u32, u32),
}

/// Why there is no classifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AclError {
    /// None, or too many.
    #[error("a classifier has 1 to {MOST_RULES} rules, not {0}")]
    Count(usize),
    /// A prefix longer than 128 bits, or a range whose first port is above its last.
    #[error("rule {0} has a prefix length above 128 or an empty range of ports")]
    Rule(usize),
    /// The memory that DPDK was started with does not suffice.
    #[error("no memory for a classifier of {0} rules")]
    NoMemory(usize),
    /// DPDK refused for another reason.
    #[error("DPDK refuses a classifier of {rules} rules: {reason}")]
    Refused {
        /// How many it was given.
        rules: usize,
        /// What it says.
        reason: Errno,
    },
}

/// A classifier.
#[derive(Debug)]
pub struct Acl {
    acl: NonNull<dpdk_sys::rte_acl_ctx>,
    rules: usize,
    eal: Eal,
}

// SAFETY: a classifier belongs to no thread, and this is the only pointer to it.
unsafe impl Send for Acl {}
// SAFETY: through `&Acl` one can only classify, which only reads what was built.
unsafe impl Sync for Acl {}

/// Classifiers have names in DPDK, which have to differ.
static NAMES: AtomicU64 = AtomicU64::new(0);

impl Acl {
    /// A classifier with these rules, the first of which comes first.
    ///
    /// # Errors
    /// See [`AclError`].
    pub fn build(eal: &Eal, rules: &[Rule]) -> Result<Self, AclError> {
        let count = u32::try_from(rules.len())
            .ok()
            .filter(|_| (1..=MOST_RULES).contains(&rules.len()))
            .ok_or(AclError::Count(rules.len()))?;
        let translated = rules
            .iter()
            .enumerate()
            .map(|(at, rule)| rule.translate().ok_or(AclError::Rule(at)))
            .collect::<Result<Vec<_>, _>>()?;
        let name = format!("kedge-acl-{}", NAMES.fetch_add(1, Ordering::Relaxed));
        let name = CString::new(name).unwrap_or_default();
        let mut error = 0;
        let control = eal.control();
        // SAFETY: EAL is initialised (`eal`), the lock keeps other control operations out, the rules
        // are `count` valid ones and are copied, as is the name.
        let acl = unsafe {
            dpdk_sys::dpdk_acl_build(
                name.as_ptr(),
                translated.as_ptr(),
                count,
                ANY_NODE,
                &raw mut error,
            )
        };
        drop(control);
        let Some(acl) = NonNull::new(acl) else {
            let reason = Errno::check(-error).err().unwrap_or(Errno::INVALID);
            return Err(match reason {
                Errno::NO_MEMORY => AclError::NoMemory(rules.len()),
                reason => AclError::Refused {
                    rules: rules.len(),
                    reason,
                },
            });
        };
        Ok(Self {
            acl,
            rules: rules.len(),
            eal: eal.clone(),
        })
    }

    /// How many rules it has.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.rules
    }

    /// For each key the number of the first rule that it matches, counted from 1; 0: none. Of more than
    /// [`MOST_KEYS`] keys, or than there are results for, the rest is left alone.
    #[inline]
    pub fn classify(&self, keys: &[Key], results: &mut [u32]) {
        let count = keys.len().min(results.len()).min(MOST_KEYS);
        // SAFETY: the classifier is valid while `self` is, and is only read. `Key` is a transparent
        // `dpdk_acl_key`, of which `count` can be read and for which as many results can be written.
        // It fails only for counts of keys or categories that are wrong.
        let _ = unsafe {
            dpdk_sys::dpdk_acl_classify(
                self.acl.as_ptr(),
                keys.as_ptr().cast(),
                results.as_mut_ptr(),
                count as u32,
            )
        };
    }
}

const ANY_NODE: i32 = -1;

impl Rule {
    fn translate(&self) -> Option<dpdk_sys::dpdk_acl_rule> {
        let valid = self.source.1 <= 128
            && self.destination.1 <= 128
            && !self.source_ports.is_empty()
            && !self.destination_ports.is_empty();
        valid.then(|| dpdk_sys::dpdk_acl_rule {
            source: self.source.0.octets(),
            destination: self.destination.0.octets(),
            source_length: self.source.1,
            destination_length: self.destination.1,
            protocol: self.protocol.0,
            protocol_mask: self.protocol.1,
            source_port_first: *self.source_ports.start(),
            source_port_last: *self.source_ports.end(),
            destination_port_first: *self.destination_ports.start(),
            destination_port_last: *self.destination_ports.end(),
            word: self.word.0,
            word_mask: self.word.1,
        })
    }
}

impl Drop for Acl {
    fn drop(&mut self) {
        let _control = self.eal.control();
        // SAFETY: made by dpdk_acl_build and freed only here; nobody else has a pointer to it. EAL runs
        // while `self.eal` lives.
        unsafe { dpdk_sys::dpdk_acl_free(self.acl.as_ptr()) }
    }
}
