//! Pure codecs: octets in, validated values out, and back.
//!
//! Each message is a value whose `parse` never panics, whatever the octets,
//! and whose `emit` writes exactly what `parse` of a conforming peer reads.
//! A receiver is lenient where the RFCs say so (any alignment, unknown options
//! skipped); a sender is strict (alignment, order, padding).

mod checksum;
pub mod gtpu;
pub mod mobility;
pub mod neighbour_discovery;
