//! Vendor-Specific Mobility Options (RFC 5094 section 3) of Kedge's own: which there are.

use super::{
    AnchorRelocation, PrefixLifetimes, PrefixMobility, TunnelEndpoint, attachment_time, context,
    prefix_lifetimes, prefix_mobility, relocation, tunnel_endpoint,
};

/// SMI enterprise number. This one is for documentation (RFC 5612): before a release that is to work
/// across operators, Kedge has to get one of its own from IANA, and all gateways change together.
pub(super) const VENDOR: u32 = 32473;

/// Why the data of an option of ours cannot be read.
pub(super) struct Malformed {
    /// Which part of it.
    pub(super) what: &'static str,
    /// The value found.
    pub(super) value: u64,
}

impl Malformed {
    pub(super) fn length(value: u64) -> Self {
        Self {
            what: "length",
            value,
        }
    }
}

/// What such an option says.
pub(super) enum Vendor {
    /// Sub-type 1.
    TunnelEndpoint(TunnelEndpoint),
    /// Sub-type 2.
    AnchorRelocation(AnchorRelocation),
    /// Sub-type 5.
    PrefixMobility(PrefixMobility),
    /// Sub-types 3 and 4.
    Context(context::Parsed),
    /// Sub-type 7.
    PrefixLifetimes(PrefixLifetimes),
    /// Sub-type 8: when the node attached.
    AttachmentTime(u64),
}

/// Reads the data of a Vendor-Specific Mobility Option. `None`: it is not for us, being another
/// vendor's, or of a sub-type or a version that is not known here.
pub(super) fn parse(data: &[u8]) -> Result<Option<Vendor>, Malformed> {
    let length = data.len() as u64;
    let Some((vendor, rest)) = data.split_first_chunk::<4>() else {
        return Err(Malformed::length(length));
    };
    if u32::from_be_bytes(*vendor) != VENDOR {
        return Ok(None);
    }
    match rest {
        []
        | [
            tunnel_endpoint::SUB_TYPE
            | relocation::SUB_TYPE
            | prefix_mobility::SUB_TYPE
            | context::USAGE
            | context::FILTER
            | prefix_lifetimes::SUB_TYPE
            | attachment_time::SUB_TYPE,
        ] => Err(Malformed::length(length)),
        [tunnel_endpoint::SUB_TYPE, version, rest @ ..] if *version <= tunnel_endpoint::VERSION_1 => {
            let endpoint = tunnel_endpoint::parse(*version, rest, length)?;
            Ok(Some(Vendor::TunnelEndpoint(endpoint)))
        }
        [relocation::SUB_TYPE, relocation::VERSION, rest @ ..] => {
            let relocation = relocation::parse(rest, length)?;
            Ok(Some(Vendor::AnchorRelocation(relocation)))
        }
        [prefix_mobility::SUB_TYPE, prefix_mobility::VERSION, rest @ ..] => {
            let mobility = prefix_mobility::parse(rest, length)?;
            Ok(Some(Vendor::PrefixMobility(mobility)))
        }
        [
            sub_type @ (context::USAGE | context::FILTER),
            context::VERSION,
            rest @ ..,
        ] => {
            let context = context::parse(*sub_type, rest, length)?;
            Ok(Some(Vendor::Context(context)))
        }
        [prefix_lifetimes::SUB_TYPE, prefix_lifetimes::VERSION, rest @ ..] => {
            let lifetimes = prefix_lifetimes::parse(rest, length)?;
            Ok(Some(Vendor::PrefixLifetimes(lifetimes)))
        }
        [attachment_time::SUB_TYPE, attachment_time::VERSION, rest @ ..] => {
            let time = attachment_time::parse(rest, length)?;
            Ok(Some(Vendor::AttachmentTime(time)))
        }
        _ => Ok(None),
    }
}
