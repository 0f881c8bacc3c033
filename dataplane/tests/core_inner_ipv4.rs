//! IPv4 carried in tunnels of every type: in, out, between two, cut, on hold, filtered.
//! What is refused is in `core_inner_ipv4_refused.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;
#[path = "core_support/moving.rs"]
mod moving;

use std::net::Ipv4Addr;

use arrayvec::ArrayVec;
use core_support::inner_ipv4::*;
use core_support::*;
use kedge_dataplane::counters::{Stage, Traffic};
use kedge_dataplane::drops::DropReason;
use kedge_dataplane::frame::{Frame, HeapFrame};
use kedge_dataplane::pipeline::{BURST, Output};
use kedge_dataplane::reassembly;
use kedge_dataplane::snapshot::{Hop, Snapshot};
use kedge_dataplane::stage::checksum::Sum;
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::{
    Filter, FilterAction, Meter, MeterRates, NextHop, PortRange, PrefixEntry, Selector, Yellow,
};

#[test]
fn what_comes_from_the_core_goes_into_the_tunnel_of_its_prefix() {
    let mut gateway = Gateway::carrying_ipv4();
    for (tunnel, to) in (1..).zip(CARRIED) {
        for (length, options) in [(0, &[][..]), (7, &[148, 4, 0, 0][..])] {
            let packet = ipv4(REMOTE4, to, 6, options, &vec![7; 20 + length]);
            let packet = ipv4_changed(&packet, 1, &[0b1011_1011]);
            let out = gateway.frame(CORE, &to_core4(&packet));
            let [(CORE, frame)] = &out.transmit[..] else {
                panic!("{tunnel}: {out:?}")
            };
            let (inner, ecn) = inside(tunnel, frame);
            assert_eq!(inner, hop4(&packet));
            assert_eq!(ecn, 0b11, "congestion goes outside (RFC 6040), DSCP does not");
        }
    }
    assert_eq!(gateway.pipeline.counters.stages(Stage::Encapsulated), 12);
    // It is counted for its prefix.
    let passed = passed(&gateway.snapshot, CARRIED[0]);
    assert_eq!((passed.to_packets, passed.to_bytes), (2, 40 + 51));
    // Ports tell flows apart outside, as they do of IPv6.
    let mut label = |port| {
        let packet = ipv4(REMOTE4, CARRIED[0], 17, &[], &[0, port, 0, 9, 0, 8, 0, 0]);
        gateway.frame(CORE, &to_core4(&packet)).transmit[0].1[15..18].to_vec()
    };
    assert_eq!(label(1), label(1));
    assert_ne!(label(1), label(2));
}

/// What has been counted of the prefix of a node behind a tunnel.
fn passed(snapshot: &Snapshot, address: &str) -> Traffic {
    let route = snapshot.routes.get(snapshot.fib.lookup(mapped(address).into()));
    let common = match route.hop().tunnel() {
        Some(tunnel) if route.is_common(Hop::by_tunnel(tunnel)) => snapshot.common_traffic.read(tunnel),
        _ => Traffic::default(),
    };
    snapshot.passing_traffic.read(route.counter()).plus(common)
}

#[test]
fn what_comes_out_of_a_tunnel_goes_to_a_router_of_ipv4_or_into_another_tunnel() {
    for (tunnel, from) in (1..).zip(CARRIED) {
        let mut gateway = Gateway::carrying_ipv4();
        let packet = udp4(from, REMOTE4);
        let out = gateway.frame(CORE, &from_peer(tunnel, &packet));
        assert_eq!(
            out.transmit,
            [(CORE, to_router4(&hop4(&packet)))],
            "{tunnel}: {out:?}"
        );
        let passed = passed(&gateway.snapshot, from);
        assert_eq!((passed.from_packets, passed.from_bytes), (1, 32));
        // To a node behind another tunnel, or the same.
        for (other, to) in (1..).zip(CARRIED) {
            let packet = udp4(from, to);
            let out = gateway.frame(CORE, &from_peer(tunnel, &packet));
            let [(CORE, frame)] = &out.transmit[..] else {
                panic!("{tunnel} to {other}: {out:?}")
            };
            assert_eq!(inside(other, frame).0, hop4(&packet));
        }
        assert_eq!(gateway.pipeline.counters.stages(Stage::Decapsulated), 7);
        assert_eq!(gateway.pipeline.counters.stages(Stage::Routed), 1);
    }
}

#[test]
fn behind_extension_headers_and_in_outer_fragments_it_is_found_too() {
    let mut gateway = Gateway::carrying_ipv4();
    let packet = udp4(CARRIED[0], REMOTE4);
    let options = [&[4, 0, 4, 1, 4, 1, 1, 0][..], &packet].concat();
    let out = gateway.one(CORE, &ipv6(PEER, OWN, 60, 64, &options));
    assert_eq!(out.transmit, [(CORE, to_router4(&hop4(&packet)))]);
    // Fragments of the outer packet.
    let packet = sized4(CARRIED[0], REMOTE4, 1400, true);
    let mut output: Output<HeapFrame> = Output::default().reassembling(reassembly::Bounds {
        fragments: 8,
        cycles_per_second: CYCLES,
        seed: 1,
    });
    for (header, part) in [([4, 0, 0, 1], &packet[..800]), ([4, 0, 3, 32], &packet[800..])] {
        let payload = [&header[..], &[0, 0, 0, 9], part].concat();
        let frame = ethernet(CORE_MAC, ROUTER_MAC, &ipv6(PEER, OWN, 44, 64, &payload));
        let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
        burst.push(HeapFrame::new(&frame));
        gateway
            .pipeline
            .process(&gateway.snapshot, CORE, 1, &mut burst, &mut output);
    }
    let sent: Vec<_> = output.transmit[CORE]
        .iter()
        .map(|it| it.bytes().to_vec())
        .collect();
    assert_eq!(sent, [to_router4(&hop4(&packet))]);
}

#[test]
fn a_node_between_two_gateways_is_passed_on_both_ways() {
    let mut gateway = Gateway::carrying_ipv4();
    let packet = udp4(CARRIED_BETWEEN, REMOTE4);
    let out = gateway.frame(CORE, &from_peer(3, &packet));
    assert_eq!(inside(1, &out.transmit[0].1).0, hop4(&packet));
    let packet = udp4(REMOTE4, CARRIED_BETWEEN);
    let out = gateway.frame(CORE, &from_peer(1, &packet));
    assert_eq!(inside(3, &out.transmit[0].1).0, hop4(&packet));
}

#[test]
fn congestion_marks_come_in_and_the_checksum_stays_right() {
    let mark = |ecn: u8, outer: u8| {
        let packet = ipv4_changed(&udp4(CARRIED[0], REMOTE4), 1, &[0xb8 | ecn]);
        let mut frame = from_peer(1, &packet);
        frame[15] = outer << 4;
        let out = Gateway::carrying_ipv4().frame(CORE, &frame);
        match &out.transmit[..] {
            [(CORE, sent)] => {
                assert!(Sum::default().octets(&sent[14..34]).is_right());
                Ok(sent[15])
            }
            _ => Err(out.drops),
        }
    };
    assert_eq!(mark(0b10, 0b11), Ok(0xbb));
    assert_eq!(mark(0b10, 0b01), Ok(0xb9));
    assert_eq!(mark(0b10, 0b00), Ok(0xba));
    assert_eq!(
        mark(0b00, 0b11),
        Err(vec![(DropReason::TunnelCongestionExperienced, 1)])
    );
}

#[test]
fn what_does_not_fit_and_may_be_cut_goes_in_fragments() {
    let mut gateway = Gateway::carrying_ipv4();
    for (tunnel, to) in (1..).zip(CARRIED) {
        let room = if tunnel == 2 {
            1260
        } else {
            1500 - OVERHEADS[tunnel - 1]
        };
        let whole = sized4(REMOTE4, to, room, false);
        assert_eq!(
            gateway.frame(CORE, &to_core4(&whole)).transmit.len(),
            1,
            "{tunnel}"
        );
        let packet = sized4(REMOTE4, to, 1500, false);
        let before = gateway.pipeline.counters.stages(Stage::Encapsulated);
        let out = gateway.frame(CORE, &to_core4(&packet));
        assert_eq!(out.drops, [], "{tunnel}");
        let mut payload = Vec::new();
        for (at, (_, frame)) in out.transmit.iter().enumerate() {
            assert!(frame.len() <= 14 + 1500);
            let (inner, _) = inside(tunnel, frame);
            assert!(inner.len() <= room);
            assert!(Sum::default().octets(&inner[..20]).is_right());
            let word = u16::from_be_bytes([inner[6], inner[7]]);
            let more = if at == 0 { 0x2000 } else { 0 };
            assert_eq!(word, more | (payload.len() / 8) as u16);
            assert_eq!((inner[8], &inner[4..6]), (60, &[0x12, 0x34][..]));
            payload.extend_from_slice(&inner[20..]);
        }
        assert_eq!(payload, packet[20..]);
        assert_eq!(gateway.pipeline.counters.stages(Stage::Encapsulated), before + 2);
    }
    assert_eq!(gateway.pipeline.counters.stages(Stage::Fragmented), 6);
    // A fragment is carried as it is, and cut again.
    let packet = ipv4_changed(&sized4(REMOTE4, CARRIED[1], 1300, false), 6, &[0x20, 100]);
    let out = gateway.frame(CORE, &to_core4(&packet));
    let words: Vec<_> = out
        .transmit
        .iter()
        .map(|it| inside(2, &it.1).0[6..8].to_vec())
        .collect();
    assert_eq!(words, [vec![0x20, 100], vec![0x20, 100 + 155]]);
    // Out of a port that takes less.
    let mut ports = ports();
    ports[CORE].mtu = 600;
    gateway.snapshot.ports = ports.into();
    let packet = sized4(CARRIED[0], REMOTE4, 1400, false);
    let out = gateway.frame(CORE, &from_peer(1, &packet));
    assert_eq!(
        out.transmit.iter().map(|it| it.1.len() - 14).collect::<Vec<_>>(),
        [596, 596, 248]
    );
    // In a tunnel that has no room for eight octets.
    let entry = gateway.compiler.tables().tunnels[&2].clone();
    gateway.apply(&Transaction {
        put_tunnels: vec![(2, kedge_dataplane_api::model::Tunnel { mtu: 27, ..entry })],
        ..Transaction::default()
    });
    let out = gateway.frame(CORE, &to_core4(&sized4(REMOTE4, CARRIED[1], 60, false)));
    assert_eq!(out.drops, [(DropReason::TunnelMtuTooSmall, 1)]);
}

#[test]
fn a_neighbour_that_says_it_has_a_nodes_address_does_not_get_its_packets() {
    let mut gateway = Gateway::carrying_ipv4();
    let of_nodes = [CARRIED[0].parse::<Ipv4Addr>().unwrap().to_ipv6_mapped()];
    let of_nodes = of_nodes
        .into_iter()
        .chain([ANCHORED, NODE].map(|it| it.parse().unwrap()));
    gateway.apply(&Transaction {
        put_neighbours: of_nodes
            .map(|it| (("core".to_owned(), it), NEIGHBOUR_MAC))
            .collect(),
        ..Transaction::default()
    });
    let packet = udp4(REMOTE4, CARRIED[0]);
    let out = gateway.frame(CORE, &to_core4(&packet));
    assert_eq!(inside(1, &out.transmit[0].1).0, hop4(&packet));
    let packet = udp(REMOTE, ANCHORED, 64);
    let out = gateway.one(CORE, &packet);
    assert_eq!(out.transmit[0].1[14 + 40..], hop(&packet)[..]);
    let packet = udp(REMOTE, NODE, 64);
    let out = gateway.one(CORE, &packet);
    assert_eq!(
        out.transmit,
        [(ACCESS, ethernet(NODE_MAC, ACCESS_MAC, &hop(&packet)))]
    );
}

/// A whole burst of one packet: what goes out by the core port.
fn burst_of(gateway: &mut Gateway, packet: &[u8]) -> Vec<Vec<u8>> {
    let mut output: Box<Output<HeapFrame>> = Box::default();
    let mut burst: ArrayVec<HeapFrame, BURST> =
        std::iter::repeat_n(HeapFrame::new(&to_core4(packet)), BURST).collect();
    gateway
        .pipeline
        .process(&gateway.snapshot, CORE, 0, &mut burst, &mut output);
    let frames = output.transmit[CORE].iter();
    frames.map(|frame| frame.bytes().to_vec()).collect()
}

#[test]
fn a_burst_that_is_cut_into_as_many_fragments_as_may_be_is_not_lost() {
    let mut gateway = Gateway::carrying_ipv4();
    let path = (PEER.parse().unwrap(), 1280, std::time::Instant::now());
    gateway.snapshot = gateway.compiler.learn_path_mtu(path.0, path.1, path.2).unwrap();
    // What a jumbo port brings, with the longest header there is, all of which goes into each fragment.
    let options = [&[148, 40][..], &[0; 38]].concat();
    for (options, length, each) in [(&options[..], 9600, 9), (&[][..], 9600, 8), (&[][..], 2500, 3)] {
        let payload: Vec<u8> = (0..length - 20 - options.len())
            .map(|at| (at * 5 / 3) as u8)
            .collect();
        let packet = ipv4(REMOTE4, CARRIED[2], 17, options, &payload);
        let frames = burst_of(&mut gateway, &packet);
        assert_eq!(gateway.drops(DropReason::OutputFull), 0);
        assert_eq!(frames.len(), each * BURST);
        for fragments in frames.chunks(each) {
            let inner = fragments.iter().map(|frame| inside(3, frame).0);
            let joined: Vec<u8> = inner.flat_map(|it| it[20 + options.len()..].to_vec()).collect();
            assert_eq!(joined, payload);
        }
    }
    assert!(DropReason::ALL.iter().all(|reason| gateway.drops(*reason) == 0));
    // A tunnel that is made to take so little that it would be more: all of a packet goes, or nothing.
    let entry = gateway.compiler.tables().tunnels[&3].clone();
    gateway.apply(&Transaction {
        put_tunnels: vec![(3, kedge_dataplane_api::model::Tunnel { mtu: 600, ..entry })],
        ..Transaction::default()
    });
    let frames = burst_of(&mut gateway, &sized4(REMOTE4, CARRIED[2], 1500, false));
    assert_eq!(frames.len(), 3 * BURST);
    let frames = burst_of(&mut gateway, &sized4(REMOTE4, CARRIED[2], 9600, false));
    assert_eq!(frames.len(), 0);
    assert_eq!(gateway.drops(DropReason::TunnelMtuTooSmall), BURST as u64);
}

/// Who makes up the MTU of a path over IPv4 makes packets smaller, and stops none, not the largest either.
#[test]
fn on_a_path_that_somebody_says_is_narrow_the_largest_is_cut_too() {
    let mut gateway = Gateway::carrying_ipv4();
    let peer = PEER4.parse::<Ipv4Addr>().unwrap().to_ipv6_mapped();
    let heard = gateway
        .compiler
        .learn_unproven_path_mtu(peer, 620, std::time::Instant::now());
    gateway.snapshot = heard.unwrap();
    for (length, each, most) in [(1500, 3, 620), (5000, 9, 620), (6000, 5, 1324), (9600, 8, 1324)] {
        let out = gateway.frame(CORE, &to_core4(&sized4(REMOTE4, CARRIED[3], length, false)));
        assert_eq!((out.drops.len(), out.transmit.len()), (0, each), "{length}");
        assert!(
            out.transmit.iter().all(|(_, frame)| frame.len() <= 14 + most),
            "{length}"
        );
    }
    let out = gateway.frame(CORE, &to_core4(&sized4(REMOTE4, CARRIED[3], 1500, true)));
    assert_eq!(out.drops, [(DropReason::PacketTooBig, 1)]);
    assert_eq!(
        out.transmit[0].1[34..42],
        [&[3, 4], &out.transmit[0].1[36..40], &584u16.to_be_bytes()[..]].concat()
    );
}

#[test]
fn a_neighbour_that_is_not_known_is_asked_for() {
    let mut gateway = Gateway::carrying_ipv4();
    let out = gateway.frame(CORE, &from_peer(1, &udp4(CARRIED[0], "192.0.2.77")));
    assert_eq!(out.drops, [(DropReason::NeighbourUnresolved, 1)]);
    assert_eq!(out.missing, [(CORE, mapped("192.0.2.77"))]);
    let key = ("core".to_owned(), mapped("192.0.2.77"));
    gateway.apply(&Transaction {
        put_neighbours: vec![(key, NEIGHBOUR_MAC)],
        ..Transaction::default()
    });
    let packet = udp4(CARRIED[0], "192.0.2.77");
    let out = gateway.frame(CORE, &from_peer(1, &packet));
    assert_eq!(
        out.transmit,
        [(CORE, ethernet4(NEIGHBOUR_MAC, CORE_MAC, &hop4(&packet)))]
    );
}

#[test]
fn what_is_for_a_prefix_on_hold_waits_and_goes_on_in_order() {
    let mut gateway = moving::Moving::new(moving::BOUNDS);
    gateway.compiler = compiler_with_ipv4();
    gateway.snapshot = gateway.compiler.snapshot();
    let packet = |number: u8| ipv4(REMOTE4, CARRIED_HELD, 17, &[], &[number; 12]);
    let arrive = |gateway: &mut moving::Moving, frame: &[u8]| {
        let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
        burst.push(HeapFrame::new(frame));
        let (now, snapshot) = (gateway.now, gateway.snapshot.clone());
        gateway
            .pipeline
            .process(&snapshot, CORE, now, &mut burst, &mut gateway.output);
    };
    for number in 0..3 {
        arrive(&mut gateway, &to_core4(&packet(number)));
    }
    // Out of a tunnel too.
    let last = ipv4(CARRIED[0], CARRIED_HELD, 17, &[], &[3; 12]);
    arrive(&mut gateway, &from_peer(1, &last));
    assert_eq!(gateway.output.held().0, 4);
    let entry = PrefixEntry {
        next_hop: NextHop::Tunnel(5),
        source: None,
    };
    let put = Transaction {
        put_prefixes: vec![(mapped_net(&format!("{CARRIED_HELD}/32")), entry)],
        ..Transaction::default()
    };
    gateway.snapshot = gateway.compiler.apply(&put).unwrap();
    for _ in 0..100 {
        gateway.now += 1000;
        gateway.tend();
    }
    let sent = &gateway.output.transmit[CORE];
    let numbers: Vec<u8> = sent.iter().map(|it| inside(5, it.bytes()).0[20]).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
    assert_eq!(gateway.all_drops(), 0);
}

#[test]
fn filters_and_meters_see_it() {
    let to_port = |port| Selector {
        protocol: Some(17),
        destination_ports: Some(PortRange {
            first: port,
            last: port,
        }),
        ..Selector::default()
    };
    let filter = |scope: Option<&str>, selector, action| Filter {
        name: String::new(),
        scope: scope.map(mapped_net),
        priority: 1,
        selector,
        action,
        idle_timeout: 0,
        lifetime: 0,
        except_tunnel: None,
    };
    let meter = Meter {
        rates: MeterRates::Rfc2698 {
            cir: 1,
            cbs: 1280,
            pir: 1000,
            pbs: 10_000,
        },
        colour_aware: false,
        yellow: Yellow::Mark(10),
        fill: None,
    };
    let by_source = Selector {
        source: mapped_net("198.51.100.0/24"),
        ..to_port(53)
    };
    let gateway = |filters: Vec<Filter>| {
        let mut gateway = Gateway::carrying_ipv4();
        gateway.apply(&Transaction {
            put_filters: (1..).zip(filters).collect(),
            put_meters: vec![(1, meter)],
            ..Transaction::default()
        });
        gateway
    };
    let packet = |port: u8| {
        ipv4(
            REMOTE4,
            CARRIED[0],
            17,
            &[148, 4, 0, 0],
            &[0x30, 0x39, 0, port, 0, 9, 0, 0, 7],
        )
    };
    // Of the whole domain, and of one prefix; by port and by address.
    let prefix = format!("{}/32", CARRIED[0]);
    for scope in [None, Some(prefix.as_str())] {
        let mut gateway = gateway(vec![
            filter(scope, to_port(9), FilterAction::Drop),
            filter(scope, by_source.clone(), FilterAction::Tunnel(5)),
        ]);
        let out = gateway.frame(CORE, &to_core4(&packet(9)));
        assert_eq!(out.drops, [(DropReason::FlowFiltered, 1)], "{scope:?}");
        let out = gateway.frame(CORE, &to_core4(&packet(10)));
        assert_eq!(inside(1, &out.transmit[0].1).0, hop4(&packet(10)));
        let out = gateway.frame(CORE, &to_core4(&packet(53)));
        assert_eq!(inside(5, &out.transmit[0].1).0, hop4(&packet(53)));
        // A node may answer by the way of its own filters.
        let answer = ipv4(CARRIED[0], REMOTE4, 1, &[], &[8, 0, 0, 0, 0, 0, 0, 0]);
        let answered = gateway.frame(CORE, &from_peer(5, &answer)).transmit.len();
        assert_eq!(answered, usize::from(scope.is_some()));
    }
    let mut gateway = gateway(vec![filter(None, to_port(9), FilterAction::Meter(1))]);
    let large = sized4(REMOTE4, CARRIED[0], 1400, true);
    let large = [&large[..20], &[0x30, 0x39, 0, 9], &large[24..]].concat();
    let out = gateway.frame(CORE, &to_core4(&large));
    assert_eq!(
        inside(1, &out.transmit[0].1).0,
        ipv4_changed(&hop4(&large), 1, &[10 << 2])
    );
    assert_eq!(gateway.pipeline.counters.stages(Stage::Remarked), 1);
}

#[test]
fn tcp_is_told_what_fits_where_that_is_wanted() {
    let syn = |source, destination| {
        let tcp = [
            0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 9, 9, 0, 0, 0, 0, 2, 4, 5, 180,
        ];
        ipv4(source, destination, 6, &[], &tcp)
    };
    let mut gateway = Gateway::carrying_and_clamping();
    let out = gateway.frame(CORE, &to_core4(&syn(REMOTE4, CARRIED[0])));
    assert_eq!(inside(1, &out.transmit[0].1).0[42..44], 1420u16.to_be_bytes());
    let out = gateway.frame(CORE, &from_peer(5, &syn(CARRIED[4], REMOTE4)));
    assert_eq!(out.transmit[0].1[56..58], 1412u16.to_be_bytes());
}

#[test]
fn what_routers_say_of_packets_in_tunnels_is_told_in_the_words_of_ipv4() {
    const ROUTER: &str = "2001:db8:ca::1";
    for tunnel in [1, 3, 5] {
        let mut gateway = Gateway::carrying_ipv4();
        let to = CARRIED[tunnel - 1];
        let overhead = OVERHEADS[tunnel - 1];
        let packet = sized4(REMOTE4, to, 1400, true);
        let outer = gateway.frame(CORE, &to_core4(&packet)).transmit[0].1[14..].to_vec();
        let quoted = &outer[..outer.len().min(1232)];
        let out = gateway.one(CORE, &icmpv6(ROUTER, OWN, [2, 0, 0, 0, 0, 0, 0x05, 0x14], quoted));
        assert_eq!(out.too_big, [(PEER.parse().unwrap(), 1300)]);
        let [(CORE, frame)] = &out.transmit[..] else {
            panic!("{tunnel}: {out:?}")
        };
        let (kind, mtu, quotes) = told4(&frame[14..], REMOTE4);
        assert_eq!((kind, usize::from(mtu)), ([3, 4], 1300 - overhead), "{tunnel}");
        assert_eq!(quotes, hop4(&packet)[..548]);
        for header in [[1, 3, 0, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0, 0, 0]] {
            let out = gateway.one(CORE, &icmpv6(ROUTER, OWN, header, quoted));
            assert_eq!(told4(&out.transmit[0].1[14..], REMOTE4).0, [3, 1]);
        }
        assert_eq!(gateway.pipeline.counters.stages(Stage::TunnelErrorTranslated), 3);
        // What may be cut is not told.
        let packet = sized4(REMOTE4, to, 1400, false);
        let outer = gateway.frame(CORE, &to_core4(&packet)).transmit[0].1[14..].to_vec();
        let quoted = &outer[..outer.len().min(1232)];
        let out = gateway.one(CORE, &icmpv6(ROUTER, OWN, [2, 0, 0, 0, 0, 0, 0x05, 0x14], quoted));
        assert_eq!((out.transmit.len(), out.too_big.len()), (0, 1));
        assert_eq!(gateway.pipeline.counters.stages(Stage::TunnelErrorTaken), 1);
        // Somebody who does not know what was sent is not believed.
        let mut wrong = quoted.to_vec();
        let at = if tunnel == 1 { 39 } else { overhead + 19 };
        wrong[at] ^= 0x55;
        let out = gateway.one(CORE, &icmpv6(ROUTER, OWN, [2, 0, 0, 0, 0, 0, 0x05, 0x14], &wrong));
        assert_eq!(out.drops, [(DropReason::TunnelErrorInvalid, 1)], "{tunnel}");
    }
}
