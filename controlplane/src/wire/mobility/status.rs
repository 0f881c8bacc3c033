//! The text of each status of a Binding Acknowledgement.

use std::fmt;

use super::Status;

impl Status {
    /// The registry's text, or `None` for a value that RFCs up to 9354 do not assign.
    #[must_use]
    pub fn text(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "Binding Update accepted",
            1 => "Accepted but prefix discovery necessary",
            2 => "GRE_KEY_OPTION_NOT_REQUIRED",
            3 => "GRE_TUNNELING_BUT_TLV_HEADER_NOT_SUPPORTED",
            4 => "MCOA NOTCOMPLETE",
            5 => "MCOA RETURNHOME WO/NDP",
            6 => "PBU_ACCEPTED_TB_IGNORED_SETTINGSMISMATCH",
            128 => "Reason unspecified",
            129 => "Administratively prohibited",
            130 => "Insufficient resources",
            131 => "Home registration not supported",
            132 => "Not home subnet",
            133 => "Not home agent for this mobile node",
            134 => "Duplicate Address Detection failed",
            135 => "Sequence number out of window",
            136 => "Expired home nonce index",
            137 => "Expired care-of nonce index",
            138 => "Expired nonces",
            139 => "Registration type change disallowed",
            140 => "Mobile Router Operation not permitted",
            141 => "Invalid Prefix",
            142 => "Not Authorized for Prefix",
            143 => "Forwarding Setup failed",
            144 => "MIPV6-ID-MISMATCH",
            145 => "MIPV6-MESG-ID-REQD",
            146 => "MIPV6-AUTH-FAIL",
            147 => "Permanent home keygen token unavailable",
            148 => "CGA and signature verification failed",
            149 => "Permanent home keygen token exists",
            150 => "Non-null home nonce index expected",
            151 => "SERVICE_AUTHORIZATION_FAILED",
            152 => "PROXY_REG_NOT_ENABLED",
            153 => "NOT_LMA_FOR_THIS_MOBILE_NODE",
            154 => "MAG_NOT_AUTHORIZED_FOR_PROXY_REG",
            155 => "NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX",
            156 => "TIMESTAMP_MISMATCH",
            157 => "TIMESTAMP_LOWER_THAN_PREV_ACCEPTED",
            158 => "MISSING_HOME_NETWORK_PREFIX_OPTION",
            159 => "BCE_PBU_PREFIX_SET_DO_NOT_MATCH",
            160 => "MISSING_MN_IDENTIFIER_OPTION",
            161 => "MISSING_HANDOFF_INDICATOR_OPTION",
            162 => "MISSING_ACCESS_TECH_TYPE_OPTION",
            163 => "GRE_KEY_OPTION_REQUIRED",
            164 => "MCOA MALFORMED",
            165 => "MCOA NON-MCOA BINDING EXISTS",
            166 => "MCOA PROHIBITED",
            167 => "MCOA UNKNOWN COA",
            168 => "MCOA BULK REGISTRATION PROHIBITED",
            169 => "MCOA SIMULTANEOUS HOME AND FOREIGN PROHIBITED",
            170 => "NOT_AUTHORIZED_FOR_IPV4_MOBILITY_SERVICE",
            171 => "NOT_AUTHORIZED_FOR_IPV4_HOME_ADDRESS",
            172 => "NOT_AUTHORIZED_FOR_IPV6_MOBILITY_SERVICE",
            173 => "MULTIPLE_IPV4_HOME_ADDRESS_ASSIGNMENT_NOT_SUPPORTED",
            174 => "Invalid Care-of Address",
            175 => "INVALID_MOBILE_NODE_GROUP_IDENTIFIER",
            176 => "REINIT_SA_WITH_HAC",
            177 => "NOT_AUTHORIZED_FOR_DELEGATED_MNP",
            178 => "REQUESTED_DMNP_IN_USE",
            179 => "CANNOT_MEET_QOS_SERVICE_REQUEST",
            180 => "CANNOT_SUPPORT_MULTIPATH_BINDING",
            _ => return None,
        })
    }
}

/// The number, then its text: `156 TIMESTAMP_MISMATCH`.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.text().unwrap_or("(unassigned)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_with_number_and_text() {
        assert_eq!(Status::ACCEPTED.to_string(), "0 Binding Update accepted");
        assert_eq!(Status::TIMESTAMP_MISMATCH.to_string(), "156 TIMESTAMP_MISMATCH");
        assert_eq!(Status(255).to_string(), "255 (unassigned)");
    }

    #[test]
    fn each_text_belongs_to_one_status() {
        let mut texts: Vec<_> = (0..=u8::MAX).filter_map(|value| Status(value).text()).collect();
        let count = texts.len();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), count);
        assert_eq!(count, 7 + 53);
        assert!(Status(127).is_accepted() && !Status(128).is_accepted());
    }
}
