//! Frames of anything through the packet path: none is lost, none is made, nothing panics.
//!
//! The first octet chooses the port and whether the addresses of the frame are made right, so that
//! the fuzzer gets past the Ethernet header; the rest is the frame.
#![no_main]

use std::net::Ipv6Addr;
use std::sync::LazyLock;

use arrayvec::ArrayVec;
use kedge_dataplane::counters::Stage;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane::frame::HeapFrame;
use kedge_dataplane::hold;
use kedge_dataplane::pipeline::{BURST, Ipv4Fragments, Limits, Output, Pipeline};
use kedge_dataplane::reassembly::Bounds;
use kedge_dataplane::snapshot::Snapshot;
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::{Filter, FilterAction, NextHop, PortRange, PrefixEntry, Selector};
use libfuzzer_sys::fuzz_target;

#[path = "../../../dataplane/tests/core_support/mod.rs"]
#[allow(clippy::unwrap_used)]
mod core_support;

/// Tunnels carry IPv4.
static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| core_support::compiler_with_ipv4().snapshot());

/// With a filter that every packet meets, so that what filters look at is read.
static FILTERED: LazyLock<Snapshot> = LazyLock::new(|| {
    let filter = Filter {
        name: String::new(),
        scope: None,
        priority: 1,
        selector: Selector { destination_ports: Some(PortRange { first: 9, last: 9 }), ..Selector::default() },
        action: FilterAction::Drop,
        idle_timeout: 0,
        lifetime: 0,
        except_tunnel: None,
    };
    let put = Transaction { put_filters: vec![(1, filter)], ..Transaction::default() };
    core_support::compiler_with_ipv4().apply(&put).expect("a filter of everything")
});

/// Where packets wait, for another next hop or for the end of an old way.
static HOLDING: LazyLock<Snapshot> = LazyLock::new(|| {
    let mut compiler = core_support::compiler_with_ipv4();
    let hold = |_| NextHop::Hold { maximum_ms: 0 };
    let after = |then| NextHop::After { tunnel: 1, maximum_ms: 0, then: Box::new(then) };
    let cases: [(&str, fn(NextHop) -> NextHop); 3] =
        [(core_support::ANCHORED, hold), (core_support::OLD, hold), (core_support::NODE, after)];
    let put_prefixes = cases.into_iter().map(|(address, waits)| {
        let address: Ipv6Addr = address.parse().expect("an address");
        let mut entries = compiler.tables().prefixes.iter();
        let its = entries.find(|(prefix, _)| prefix.prefix_len() == 64 && prefix.contains(&address));
        let (prefix, entry) = its.expect("its prefix");
        let mut entry: PrefixEntry = entry.clone();
        entry.next_hop = waits(entry.next_hop);
        (*prefix, entry)
    });
    // And flows of a prefix that does not.
    let filter = Filter {
        name: String::new(),
        scope: Some("2001:db8:200:5::/64".parse().expect("a prefix")),
        priority: 1,
        selector: Selector { destination_ports: Some(PortRange { first: 9, last: 9 }), ..Selector::default() },
        action: FilterAction::Hold,
        idle_timeout: 0,
        lifetime: 600,
        except_tunnel: None,
    };
    let put_filters = vec![(1, filter)];
    let put = Transaction { put_prefixes: put_prefixes.collect(), put_filters, ..Transaction::default() };
    compiler.apply(&put).expect("prefixes and flows that wait")
});

fuzz_target!(|octets: &[u8]| {
    let Some((choice, frame)) = octets.split_first() else { return };
    let port = usize::from(choice & 3);
    let mut frame = frame.to_vec();
    if choice & 4 != 0
        && let Some(header) = frame.get_mut(..14)
    {
        header[..6].copy_from_slice(&SNAPSHOT.ports[port].link_layer_address);
        header[6..12].copy_from_slice(&core_support::NODE_MAC);
        if SNAPSHOT.ports[port].vlan.is_none() {
            header[12..].copy_from_slice(if choice & 16 == 0 { &[0x86, 0xdd] } else { &[0x08, 0x00] });
        }
    }
    let limits = Limits {
        icmpv6_errors_per_second: 100,
        punts_per_second: 100,
        accept_zero_checksums: choice & 8 != 0,
        ipv4_fragments: Ipv4Fragments::Taken,
        clamp_mss: choice & 32 != 0,
        workers: 1,
        identification_seed: 1,
        cycles_per_second: 1_000_000,
    };
    let mut pipeline = Pipeline::new(0, limits);
    let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
    burst.push(HeapFrame::new(&frame));
    let bounds = Bounds { fragments: 10, cycles_per_second: 1_000_000, seed: 1 };
    let room = hold::Bounds {
        packets: 4,
        packets_per_prefix: 4,
        octets_per_prefix: 1 << 16,
        age: 100,
        ..hold::Bounds::default()
    };
    let holding = choice & 128 != 0;
    let mut output = if holding { Output::holding(room, room) } else { Output::default() }.reassembling(bounds);
    let snapshot = match (holding, choice & 64 == 0) {
        (true, _) => &HOLDING,
        (false, true) => &SNAPSHOT,
        (false, false) => &FILTERED,
    };
    pipeline.process(snapshot, port, 1, &mut burst, &mut output);
    // Whatever waits goes on, or is too old.
    pipeline.tend(&SNAPSHOT, 50, &mut output);
    pipeline.tend(&SNAPSHOT, 1000, &mut output);
    assert_eq!(output.held(), (0, 0));
    let out: usize = output.transmit.iter().chain(&output.punt).map(ArrayVec::len).sum();
    let dropped: u64 = DropReason::ALL.iter().map(|reason| pipeline.counters.drops(*reason)).sum();
    // A fragment waits; an error about what is in a tunnel may have nobody to be told to.
    let ended = output.fragments() as u64
        + pipeline.counters.stages(Stage::TunnelErrorTaken)
        + pipeline.counters.stages(Stage::PathEnded);
    // Frames of our own: errors, and second fragments.
    let made = [
        Stage::Fragmented,
        Stage::Icmpv6ErrorSent,
        Stage::Icmpv4ErrorSent,
        Stage::GtpuErrorIndicationSent,
        Stage::GtpuSupportedExtensionHeadersNotificationSent,
    ];
    let made: u64 = made.map(|stage| pipeline.counters.stages(stage)).iter().sum();
    assert_eq!(1 + made, out as u64 + dropped + ended);
});
