//! Update Notification and its acknowledgement (RFC 7077 section 4).

use super::MobilityOptions;

/// MH type 19: an anchor asks a gateway to do something about a node's registration (RFC 7077 section 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateNotification {
    /// The same in each transmission; correlates the acknowledgement.
    pub sequence: u16,
    /// What is to be done; see [`notification_reason`].
    pub reason: u16,
    /// All 16 flag bits; see [`notification_flags`].
    pub flags: u16,
    /// The Mobile Node Identifier, or the identifier of a group, at least.
    pub options: MobilityOptions,
}

/// Group identifier of all nodes that the receiver has registered with the sender (RFC 6602 section 4.3).
pub const ALL_SESSIONS: u32 = 1;
/// Sub-type of groups for messages about many nodes at once (RFC 6602 section 4.3).
pub(super) const BULK_BINDING_UPDATE_GROUP: u8 = 1;

/// MH type 20 (RFC 7077 section 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateNotificationAcknowledgement {
    /// That of the notification.
    pub sequence: u16,
    /// Below 128: done; see [`notification_status`].
    pub status: u8,
    /// The Mobile Node Identifier at least.
    pub options: MobilityOptions,
}

/// Notification Reason (RFC 7077 section 4.1).
pub mod notification_reason {
    /// Register the node again; the update is the answer.
    pub const FORCE_RE_REGISTRATION: u16 = 1;
}

/// Flag bits of an Update Notification (16 bits at offset 10).
pub mod notification_flags {
    /// An acknowledgement is wanted.
    pub const ACKNOWLEDGE: u16 = 0x8000;
    /// It was sent before.
    pub const RETRANSMISSION: u16 = 0x4000;
}

/// Status of an acknowledgement (RFC 7077 section 4.2).
pub mod notification_status {
    /// It was done, or is being done.
    pub const SUCCESS: u8 = 0;
    /// It was not.
    pub const FAILED: u8 = 128;
    /// The node is not on a link here.
    pub const NODE_NOT_ATTACHED: u8 = 132;
}
