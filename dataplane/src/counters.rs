//! Counters of one worker: plain memory that it alone writes and anyone reads.
//!
//! A relaxed load and a relaxed store are ordinary instructions, without a lock
//! prefix; a reader may see a value a moment old, never a torn one.

mod banks;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use banks::{Bank, Charge, TimedBank, Traffic};

use crate::drops::DropReason;

/// What a worker did with a packet, beside dropping it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[allow(missing_docs, reason = "the name of each says it")]
pub enum Stage {
    Parsed,
    Decapsulated,
    SourceChecked,
    Encapsulated,
    Delivered,
    Routed,
    Punted,
    FromKernel,
    Icmpv6ErrorSent,
    Icmpv6ErrorSuppressed,
    GtpuEchoResponseSent,
    GtpuErrorIndicationSent,
    GtpuSupportedExtensionHeadersNotificationSent,
    GtpuErrorSuppressed,
    Held,
    Released,
    TunnelErrorTaken,
    TunnelErrorTranslated,
    /// A filter said where it goes.
    Filtered,
    /// It met filters, without ports for them.
    FilteredLaterFragment,
    /// It met filters, and its extension headers could not be read.
    FilteredUnreadable,
    MeteredGreen,
    MeteredYellow,
    /// It was yellow, and got another DSCP.
    Remarked,
    Fragmented,
    FragmentReceived,
    Reassembled,
    PathEnded,
    Icmpv4ErrorSent,
    Icmpv4ErrorSuppressed,
}

impl Stage {
    /// All of them, in the order of their numbers.
    pub const ALL: [Stage; 30] = [
        Stage::Parsed,
        Stage::Decapsulated,
        Stage::SourceChecked,
        Stage::Encapsulated,
        Stage::Delivered,
        Stage::Routed,
        Stage::Punted,
        Stage::FromKernel,
        Stage::Icmpv6ErrorSent,
        Stage::Icmpv6ErrorSuppressed,
        Stage::GtpuEchoResponseSent,
        Stage::GtpuErrorIndicationSent,
        Stage::GtpuSupportedExtensionHeadersNotificationSent,
        Stage::GtpuErrorSuppressed,
        Stage::Held,
        Stage::Released,
        Stage::TunnelErrorTaken,
        Stage::TunnelErrorTranslated,
        Stage::Filtered,
        Stage::FilteredLaterFragment,
        Stage::FilteredUnreadable,
        Stage::MeteredGreen,
        Stage::MeteredYellow,
        Stage::Remarked,
        Stage::Fragmented,
        Stage::FragmentReceived,
        Stage::Reassembled,
        Stage::PathEnded,
        Stage::Icmpv4ErrorSent,
        Stage::Icmpv4ErrorSuppressed,
    ];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stage::Parsed => "parsed",
            Stage::Decapsulated => "decapsulated",
            Stage::SourceChecked => "source_checked",
            Stage::Encapsulated => "encapsulated",
            Stage::Delivered => "delivered",
            Stage::Routed => "routed",
            Stage::Punted => "punted",
            Stage::FromKernel => "from_kernel",
            Stage::Icmpv6ErrorSent => "icmpv6_error_sent",
            Stage::Icmpv6ErrorSuppressed => "icmpv6_error_suppressed",
            Stage::GtpuEchoResponseSent => "gtpu_echo_response_sent",
            Stage::GtpuErrorIndicationSent => "gtpu_error_indication_sent",
            Stage::GtpuSupportedExtensionHeadersNotificationSent => {
                "gtpu_supported_extension_headers_notification_sent"
            }
            Stage::GtpuErrorSuppressed => "gtpu_error_suppressed",
            Stage::Held => "held",
            Stage::Released => "released",
            Stage::TunnelErrorTaken => "tunnel_error_taken",
            Stage::TunnelErrorTranslated => "tunnel_error_translated",
            Stage::Filtered => "filtered",
            Stage::FilteredLaterFragment => "filtered_later_fragment",
            Stage::FilteredUnreadable => "filtered_unreadable",
            Stage::MeteredGreen => "metered_green",
            Stage::MeteredYellow => "metered_yellow",
            Stage::Remarked => "remarked",
            Stage::Fragmented => "fragmented",
            Stage::FragmentReceived => "fragment_received",
            Stage::Reassembled => "reassembled",
            Stage::PathEnded => "path_ended",
            Stage::Icmpv4ErrorSent => "icmpv4_error_sent",
            Stage::Icmpv4ErrorSuppressed => "icmpv4_error_suppressed",
        }
    }
}

#[derive(Debug)]
#[repr(align(128))]
struct Block {
    drops: [AtomicU64; DropReason::COUNT],
    stages: [AtomicU64; Stage::ALL.len()],
}

/// The counters of one worker. Clones are the same counters; only the worker writes.
#[derive(Clone, Debug)]
pub struct Counters {
    block: Arc<Block>,
}

impl Default for Counters {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        let block = Block {
            drops: std::array::from_fn(|_| zero()),
            stages: std::array::from_fn(|_| zero()),
        };
        Self {
            block: Arc::new(block),
        }
    }
}

impl Counters {
    /// Counts `count` dropped packets.
    #[inline]
    pub fn add_drops(&self, reason: DropReason, count: u64) {
        if let Some(counter) = self.block.drops.get(reason as usize) {
            add(counter, count);
        }
    }

    /// Counts `count` packets through a stage.
    #[inline]
    pub fn stage(&self, stage: Stage, count: u64) {
        if let Some(counter) = self.block.stages.get(stage as usize) {
            add(counter, count);
        }
    }

    /// Packets dropped so far.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.block
            .drops
            .get(reason as usize)
            .map_or(0, |it| it.load(Ordering::Relaxed))
    }

    /// Packets through a stage so far.
    #[must_use]
    pub fn stages(&self, stage: Stage) -> u64 {
        self.block
            .stages
            .get(stage as usize)
            .map_or(0, |it| it.load(Ordering::Relaxed))
    }
}

/// Adds without a locked instruction: there is one writer.
#[inline]
fn add(counter: &AtomicU64, count: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(count),
        Ordering::Relaxed,
    );
}
