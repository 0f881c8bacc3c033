//! To the kernel.
//!
//! The interface to it takes no more than [`EXCEPTION_MTU`] octets, on ports with jumbo frames too. It is the last link of the way of
//! what is larger: so that is told of it, or, where it is IPv4 that may be cut, goes in fragments, which the kernel puts together.

use super::decide::{Refusal, write_ethernet};
use super::limits::Punt;
use super::{Lane, Origin, Output, Pipeline};
use crate::counters::Stage;
use crate::drops::DropReason;
use crate::frame::Frame;
use crate::snapshot::{EXCEPTION_MTU, PortDescription, Snapshot};
use crate::stage::icmpv6_error::Icmpv6Error;
use crate::stage::parse::{ETHERNET_HEADER, ETHERTYPE_IPV4};
use crate::stage::{ipv4, ipv4_fragment};

impl Pipeline {
    /// Hands a packet that [`too_big_for_kernel`] has nothing against to the kernel.
    pub(super) fn punt<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        now: u64,
        mut lane: Lane<'_, F>,
        output: &mut Output<F>,
    ) {
        let Some(description) = snapshot.ports.get(lane.port).filter(|port| port.exception) else {
            return self.counters.add_drops(DropReason::NoExceptionInterface, 1);
        };
        let kind = Punt::of(lane.view(), description);
        if matches!(lane.origin, Origin::Tunnel(_)) {
            // As if it had come in so.
            let (own, from) = (description.link_layer_address, lane.source_link_layer);
            let ethertype = lane.ethertype;
            write_ethernet(&mut lane.frame, &own, &from, ethertype);
        }
        let (mtu, port) = (mtu(description), lane.port);
        let mut frame = lane.frame;
        while frame.bytes().len() > ETHERNET_HEADER + mtu {
            // All of them have its Ethernet header.
            let rest = match ipv4_fragment::split(&mut frame, mtu) {
                Ok(rest) => rest,
                Err(reason) => return self.counters.add_drops(reason, 1),
            };
            self.counters.stage(Stage::Fragmented, 1);
            self.punt_frame(port, kind, now, frame, output);
            frame = rest;
        }
        self.punt_frame(port, kind, now, frame, output);
    }

    fn punt_frame<F: Frame>(&mut self, port: usize, kind: Punt, now: u64, frame: F, output: &mut Output<F>) {
        if !self.punts.take(kind, now) {
            return self.counters.add_drops(DropReason::PuntRateLimited, 1);
        }
        if output
            .punt
            .get_mut(port)
            .is_some_and(|burst| burst.try_push(frame).is_ok())
        {
            self.counters.stage(Stage::Punted, 1);
        } else {
            self.counters.add_drops(DropReason::OutputFull, 1);
        }
    }
}

/// Why a packet does not go to the kernel that its interface does not take, and may not be cut: its sender is told what it takes.
pub(super) fn too_big_for_kernel<F: Frame>(snapshot: &Snapshot, lane: &Lane<'_, F>) -> Option<Refusal> {
    let description = snapshot.ports.get(lane.port).filter(|port| port.exception)?;
    let mtu = mtu(description);
    let may_be_cut = || lane.ethertype == ETHERTYPE_IPV4 && !ipv4::dont_fragment(lane.view().octets);
    if lane.packet.length <= mtu || may_be_cut() {
        return None;
    }
    // At most 1500.
    let error = Icmpv6Error::PacketTooBig(mtu as u16);
    Some(Refusal(DropReason::PacketTooBig, Some(error.into())))
}

/// Largest packet that the interface to the kernel takes, octets.
fn mtu(port: &PortDescription) -> usize {
    usize::from(port.mtu.min(EXCEPTION_MTU))
}
