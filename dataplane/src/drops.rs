//! Why packets are dropped. Each reason has a name, a counter and a test.

/// A reason to drop a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "the name of each says it")]
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
    NoHeadroom,
    NoExceptionInterface,
    PuntRateLimited,
    OutputFull,
    TransmitQueueFull,
    MultiSegment,
    HandoverRingFull,
    UdpMalformed,
    UdpChecksumWrong,
    UdpChecksumZero,
    GtpuMalformed,
    GtpuVersionUnsupported,
    GtpuMessageUnknown,
    GtpuExtensionUnsupported,
    GtpuTeidUnknown,
    GtpuPeerMismatch,
    TunnelInnerIpv4,
    HoldPrefixFull,
    HoldFlowFull,
    HoldFull,
    HoldTooOld,
    HoldExpired,
    UnknownFull,
    Icmpv6ChecksumWrong,
    Icmpv4ChecksumWrong,
    TunnelErrorInvalid,
    Ipv4Malformed,
    Ipv4ChecksumWrong,
    Ipv4NotForUs,
    ArpNotForUs,
    TunnelFragment,
    FlowFiltered,
    MeteredRed,
    GreMalformed,
    GreVersionUnsupported,
    GreBitsUnsupported,
    GreChecksumWrong,
    GreTunnelUnknown,
    GreProtocolUnsupported,
    FragmentMalformed,
    FragmentOverlap,
    FragmentDuplicate,
    FragmentsTooMany,
    FragmentNoBuffer,
    ReassemblyFull,
    ReassemblyTimeout,
    ReassemblyTooLong,
    TunnelMtuTooSmall,
    TunnelEncapsulationLimit,
    PathEndUnexpected,
    /// For one address, in a frame to a group: link-layer broadcast or multicast.
    LinkLayerBroadcast,
    /// Out of a tunnel and for this node, though it is between neighbours, gateways or servers.
    TunnelInnerControl,
}

/// Each reason with its name in metrics, in the order of their numbers.
const NAMES: [(DropReason, &str); DropReason::COUNT] = {
    use DropReason::*;
    [
        (FrameTooShort, "frame_too_short"),
        (NotForUs, "not_for_us"),
        (VlanMismatch, "vlan_mismatch"),
        (EthertypeUnsupported, "ethertype_unsupported"),
        (Ipv6Malformed, "ipv6_malformed"),
        (ExtensionHeaderMalformed, "extension_header_malformed"),
        (ExtensionHeadersTooMany, "extension_headers_too_many"),
        (SourceInvalid, "source_invalid"),
        (SourceLinkLocal, "source_link_local"),
        (SourceNotBound, "source_not_bound"),
        (MulticastUnsupported, "multicast_unsupported"),
        (HopLimitExceeded, "hop_limit_exceeded"),
        (NoRoute, "no_route"),
        (NodeAbsent, "node_absent"),
        (PrefixUnallocated, "prefix_unallocated"),
        (Prohibited, "prohibited"),
        (NeighbourUnresolved, "neighbour_unresolved"),
        (TunnelUnknownPeer, "tunnel_unknown_peer"),
        (TunnelNested, "tunnel_nested"),
        (TunnelInnerMalformed, "tunnel_inner_malformed"),
        (TunnelInnerSourceInvalid, "tunnel_inner_source_invalid"),
        (TunnelCongestionExperienced, "tunnel_congestion_experienced"),
        (PacketTooBig, "packet_too_big"),
        (NoHeadroom, "no_headroom"),
        (NoExceptionInterface, "no_exception_interface"),
        (PuntRateLimited, "punt_rate_limited"),
        (OutputFull, "output_full"),
        (TransmitQueueFull, "transmit_queue_full"),
        (MultiSegment, "multi_segment"),
        (HandoverRingFull, "handover_ring_full"),
        (UdpMalformed, "udp_malformed"),
        (UdpChecksumWrong, "udp_checksum_wrong"),
        (UdpChecksumZero, "udp_checksum_zero"),
        (GtpuMalformed, "gtpu_malformed"),
        (GtpuVersionUnsupported, "gtpu_version_unsupported"),
        (GtpuMessageUnknown, "gtpu_message_unknown"),
        (GtpuExtensionUnsupported, "gtpu_extension_unsupported"),
        (GtpuTeidUnknown, "gtpu_teid_unknown"),
        (GtpuPeerMismatch, "gtpu_peer_mismatch"),
        (TunnelInnerIpv4, "tunnel_inner_ipv4"),
        (HoldPrefixFull, "hold_prefix_full"),
        (HoldFlowFull, "hold_flow_full"),
        (HoldFull, "hold_full"),
        (HoldTooOld, "hold_too_old"),
        (HoldExpired, "hold_expired"),
        (UnknownFull, "unknown_full"),
        (Icmpv6ChecksumWrong, "icmpv6_checksum_wrong"),
        (Icmpv4ChecksumWrong, "icmpv4_checksum_wrong"),
        (TunnelErrorInvalid, "tunnel_error_invalid"),
        (Ipv4Malformed, "ipv4_malformed"),
        (Ipv4ChecksumWrong, "ipv4_checksum_wrong"),
        (Ipv4NotForUs, "ipv4_not_for_us"),
        (ArpNotForUs, "arp_not_for_us"),
        (TunnelFragment, "tunnel_fragment"),
        (FlowFiltered, "flow_filtered"),
        (MeteredRed, "metered_red"),
        (GreMalformed, "gre_malformed"),
        (GreVersionUnsupported, "gre_version_unsupported"),
        (GreBitsUnsupported, "gre_bits_unsupported"),
        (GreChecksumWrong, "gre_checksum_wrong"),
        (GreTunnelUnknown, "gre_tunnel_unknown"),
        (GreProtocolUnsupported, "gre_protocol_unsupported"),
        (FragmentMalformed, "fragment_malformed"),
        (FragmentOverlap, "fragment_overlap"),
        (FragmentDuplicate, "fragment_duplicate"),
        (FragmentsTooMany, "fragments_too_many"),
        (FragmentNoBuffer, "fragment_no_buffer"),
        (ReassemblyFull, "reassembly_full"),
        (ReassemblyTimeout, "reassembly_timeout"),
        (ReassemblyTooLong, "reassembly_too_long"),
        (TunnelMtuTooSmall, "tunnel_mtu_too_small"),
        (TunnelEncapsulationLimit, "tunnel_encapsulation_limit"),
        (PathEndUnexpected, "path_end_unexpected"),
        (LinkLayerBroadcast, "link_layer_broadcast"),
        (TunnelInnerControl, "tunnel_inner_control"),
    ]
};

impl DropReason {
    /// How many there are.
    pub const COUNT: usize = DropReason::TunnelInnerControl as usize + 1;

    /// All of them, in the order of their numbers.
    pub const ALL: [DropReason; Self::COUNT] = {
        let mut all = [DropReason::FrameTooShort; Self::COUNT];
        let mut index = 0;
        while index < Self::COUNT {
            all[index] = NAMES[index].0;
            index += 1;
        }
        all
    };

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.get(self as usize).map_or("", |(_, name)| name)
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
