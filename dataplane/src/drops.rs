//! Why packets are dropped. Each reason has a name, a counter and a test.

/// A reason to drop a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
#[allow(
    missing_docs,
    reason = "the name of each says it; `explain` says it to operators"
)]
pub enum DropReason {
    FrameTooShort,
    NotForUs,
    VlanMismatch,
    EthertypeUnsupported,
    Ipv6Malformed,
    ExtensionHeaderMalformed,
    ExtensionHeadersTooMany,
    SourceInvalid,
    SourceLinkLocal,
    SourceNotBound,
    MulticastUnsupported,
    HopLimitExceeded,
    NoRoute,
    NodeAbsent,
    PrefixUnallocated,
    Prohibited,
    NeighbourUnresolved,
    TunnelUnknownPeer,
    TunnelNested,
    TunnelInnerMalformed,
    TunnelInnerSourceInvalid,
    TunnelCongestionExperienced,
    PacketTooBig,
    TunnelMtuTooSmall,
    NoHeadroom,
    NoExceptionInterface,
    PuntRateLimited,
    OutputFull,
    TransmitQueueFull,
    MultiSegment,
}

impl DropReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [DropReason; 30] = {
        use DropReason::*;
        [
            FrameTooShort,
            NotForUs,
            VlanMismatch,
            EthertypeUnsupported,
            Ipv6Malformed,
            ExtensionHeaderMalformed,
            ExtensionHeadersTooMany,
            SourceInvalid,
            SourceLinkLocal,
            SourceNotBound,
            MulticastUnsupported,
            HopLimitExceeded,
            NoRoute,
            NodeAbsent,
            PrefixUnallocated,
            Prohibited,
            NeighbourUnresolved,
            TunnelUnknownPeer,
            TunnelNested,
            TunnelInnerMalformed,
            TunnelInnerSourceInvalid,
            TunnelCongestionExperienced,
            PacketTooBig,
            TunnelMtuTooSmall,
            NoHeadroom,
            NoExceptionInterface,
            PuntRateLimited,
            OutputFull,
            TransmitQueueFull,
            MultiSegment,
        ]
    };

    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DropReason::FrameTooShort => "frame_too_short",
            DropReason::NotForUs => "not_for_us",
            DropReason::VlanMismatch => "vlan_mismatch",
            DropReason::EthertypeUnsupported => "ethertype_unsupported",
            DropReason::Ipv6Malformed => "ipv6_malformed",
            DropReason::ExtensionHeaderMalformed => "extension_header_malformed",
            DropReason::ExtensionHeadersTooMany => "extension_headers_too_many",
            DropReason::SourceInvalid => "source_invalid",
            DropReason::SourceLinkLocal => "source_link_local",
            DropReason::SourceNotBound => "source_not_bound",
            DropReason::MulticastUnsupported => "multicast_unsupported",
            DropReason::HopLimitExceeded => "hop_limit_exceeded",
            DropReason::NoRoute => "no_route",
            DropReason::NodeAbsent => "node_absent",
            DropReason::PrefixUnallocated => "prefix_unallocated",
            DropReason::Prohibited => "prohibited",
            DropReason::NeighbourUnresolved => "neighbour_unresolved",
            DropReason::TunnelUnknownPeer => "tunnel_unknown_peer",
            DropReason::TunnelNested => "tunnel_nested",
            DropReason::TunnelInnerMalformed => "tunnel_inner_malformed",
            DropReason::TunnelInnerSourceInvalid => "tunnel_inner_source_invalid",
            DropReason::TunnelCongestionExperienced => "tunnel_congestion_experienced",
            DropReason::PacketTooBig => "packet_too_big",
            DropReason::TunnelMtuTooSmall => "tunnel_mtu_too_small",
            DropReason::NoHeadroom => "no_headroom",
            DropReason::NoExceptionInterface => "no_exception_interface",
            DropReason::PuntRateLimited => "punt_rate_limited",
            DropReason::OutputFull => "output_full",
            DropReason::TransmitQueueFull => "transmit_queue_full",
            DropReason::MultiSegment => "multi_segment",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_distinct() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::COUNT);
    }
}
