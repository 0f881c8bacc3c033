//! The numbers of the Mobility Header: types, options, alignments, and their names.

/// IPv6 next header of the Mobility Header (RFC 6275 section 6.1).
pub const NEXT_HEADER: u8 = 135;

/// The largest message: Header Len is 8 bits, in units of 8 octets, the first 8 not counted.
pub const MAXIMUM_OCTETS: usize = 2048;

/// Payload Proto: nothing follows (RFC 6275 section 6.1.1).
pub(super) const NO_NEXT_HEADER: u8 = 59;
/// Octets that every message has.
pub(super) const HEADER_OCTETS: usize = 8;
/// The fixed part of an update, of a notification, and of their acknowledgements: where their options begin.
pub(super) const BINDING_OCTETS: usize = 12;
/// The fixed part of a Binding Error.
pub(super) const BINDING_ERROR_OCTETS: usize = 24;
/// Where the checksum is.
pub(super) const CHECKSUM_AT: usize = 4;

/// MH types (RFC 6275 section 6.1).
pub mod mh_type {
    /// Binding Update.
    pub const BINDING_UPDATE: u8 = 5;
    /// Binding Acknowledgement.
    pub const BINDING_ACKNOWLEDGEMENT: u8 = 6;
    /// Binding Error.
    pub const BINDING_ERROR: u8 = 7;
    /// Update Notification (RFC 7077).
    pub const UPDATE_NOTIFICATION: u8 = 19;
    /// Update Notification Acknowledgement (RFC 7077).
    pub const UPDATE_NOTIFICATION_ACKNOWLEDGEMENT: u8 = 20;
}

/// Status values of a Binding Error (RFC 6275 section 6.1.9).
pub mod binding_error_status {
    /// No binding for the Home Address destination option.
    pub const UNKNOWN_BINDING: u8 = 1;
    /// The MH type is not known here.
    pub const UNRECOGNISED_MH_TYPE: u8 = 2;
}

/// Mobility option types.
pub(super) mod option {
    pub(crate) const PAD_1: u8 = 0;
    pub(crate) const PAD_N: u8 = 1;
    pub(crate) const ALTERNATE_CARE_OF_ADDRESS: u8 = 3;
    pub(crate) const MOBILE_NODE_IDENTIFIER: u8 = 8;
    pub(crate) const VENDOR_SPECIFIC: u8 = 19;
    pub(crate) const HOME_NETWORK_PREFIX: u8 = 22;
    pub(crate) const HANDOFF_INDICATOR: u8 = 23;
    pub(crate) const ACCESS_TECHNOLOGY_TYPE: u8 = 24;
    pub(crate) const LINK_LAYER_IDENTIFIER: u8 = 25;
    pub(crate) const LINK_LOCAL_ADDRESS: u8 = 26;
    pub(crate) const TIMESTAMP: u8 = 27;
    pub(crate) const GRE_KEY: u8 = 33;
    pub(crate) const MOBILE_NODE_GROUP_IDENTIFIER: u8 = 50;
    pub(crate) const DELEGATED_MOBILE_NETWORK_PREFIX: u8 = 55;
    pub(crate) const ANCHORED_PREFIX: u8 = 65;
    pub(crate) const LOCAL_PREFIX: u8 = 66;
    pub(crate) const PREVIOUS_MAAR: u8 = 67;
    pub(crate) const SERVING_MAAR: u8 = 68;
    pub(crate) const DLIF_LINK_LOCAL_ADDRESS: u8 = 69;
    pub(crate) const DLIF_LINK_LAYER_ADDRESS: u8 = 70;
}

/// Where an option's type octet has to be: `x`n+`y`, counted from the start of the header.
#[derive(Clone, Copy)]
pub(super) struct Alignment {
    /// A power of two.
    pub(super) x: usize,
    pub(super) y: usize,
}

impl Alignment {
    /// Of the end of the header, which is a multiple of 8 octets long.
    pub(super) const END: Alignment = Alignment { x: 8, y: 0 };

    /// What a sender keeps to (RFC 6275 section 6.2, RFC 5094 section 3, RFC 5213 section 8, RFC 5845 section 6.1, RFC 8885
    /// section 4).
    pub(super) fn of(option: u8) -> Alignment {
        let (x, y) = match option {
            option::ALTERNATE_CARE_OF_ADDRESS
            | option::LINK_LOCAL_ADDRESS
            | option::SERVING_MAAR
            | option::DLIF_LINK_LOCAL_ADDRESS => (8, 6),
            option::HOME_NETWORK_PREFIX
            | option::ANCHORED_PREFIX
            | option::LOCAL_PREFIX
            | option::PREVIOUS_MAAR => (8, 4),
            // As RFC 7148 section 4.1 says, though its prefix is then at 6.
            option::TIMESTAMP | option::DELEGATED_MOBILE_NETWORK_PREFIX => (8, 2),
            option::VENDOR_SPECIFIC => (4, 2),
            // "On a natural boundary": the address, which is at +4, begins a 32-bit word.
            option::LINK_LAYER_IDENTIFIER | option::DLIF_LINK_LAYER_ADDRESS | option::GRE_KEY => (4, 0),
            _ => (1, 0),
        };
        Alignment { x, y }
    }

    /// Octets of padding that go before an option at `offset`.
    pub(super) fn padding(self, offset: usize) -> usize {
        self.y.wrapping_sub(offset) & (self.x - 1)
    }
}

/// The registry's name of an MH type, as in the IANA Mobility Header Types.
#[must_use]
pub fn mh_type_name(mh_type: u8) -> &'static str {
    match mh_type {
        0 => "Binding Refresh Request",
        1 => "Home Test Init",
        2 => "Care-of Test Init",
        3 => "Home Test",
        4 => "Care-of Test",
        mh_type::BINDING_UPDATE => "Binding Update",
        mh_type::BINDING_ACKNOWLEDGEMENT => "Binding Acknowledgement",
        mh_type::BINDING_ERROR => "Binding Error",
        8 => "Fast Binding Update",
        9 => "Fast Binding Acknowledgement",
        10 => "Fast Neighbor Advertisement",
        11 => "Experimental Mobility Header",
        12 => "Home Agent Switch",
        13 => "Heartbeat",
        14 => "Handover Initiate",
        15 => "Handover Acknowledge",
        16 => "Binding Revocation",
        17 => "Localized Routing Initiation",
        18 => "Localized Routing Acknowledgement",
        mh_type::UPDATE_NOTIFICATION => "Update Notification",
        mh_type::UPDATE_NOTIFICATION_ACKNOWLEDGEMENT => "Update Notification Acknowledgement",
        21 => "Flow Binding",
        22 => "Subscription Query",
        23 => "Subscription Response",
        _ => "Unassigned",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_brings_an_option_to_its_place() {
        for option in 0..=u8::MAX {
            let alignment = Alignment::of(option);
            for offset in 12..64 {
                let padding = alignment.padding(offset);
                assert!(padding < alignment.x);
                assert_eq!(
                    (offset + padding) % alignment.x,
                    alignment.y,
                    "option {option} at {offset}"
                );
            }
        }
    }
}
