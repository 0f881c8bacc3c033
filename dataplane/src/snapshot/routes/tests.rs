//! Routes: both halves, and who shares them.

use super::*;

#[test]
fn every_route_survives_packing() {
    let link_layer_address = [0xfe, 2, 3, 4, 5, 0xff];
    let next_hops = [
        NextHop::None,
        NextHop::Deliver {
            port: 15,
            link_layer_address,
        },
        NextHop::Tunnel(u32::MAX),
        NextHop::Adjacency(7),
        NextHop::OnLink { port: 3 },
        NextHop::Local,
        NextHop::NodeAbsent,
        NextHop::Unallocated,
        NextHop::Prohibited,
        NextHop::Hold,
        NextHop::HoldExpired,
        NextHop::After(9),
    ];
    let sources = [
        SourceRule::Refused,
        SourceRule::Native {
            port: 1,
            link_layer_address,
        },
        SourceRule::Tunnel {
            port: 255,
            link_layer_address,
            tunnel: u32::MAX,
        },
        SourceRule::Behind {
            tunnel: u32::MAX - 1,
            onward: None,
        },
        SourceRule::Behind {
            tunnel: u32::MAX - 1,
            onward: Some(u32::MAX),
        },
        SourceRule::Behind {
            tunnel: u32::MAX,
            onward: None,
        },
    ];
    for next_hop in next_hops {
        let hop = Hop::from(next_hop);
        let kinds = [
            (
                hop.tunnel().is_some(),
                matches!(next_hop, NextHop::Tunnel(u32::MAX)),
            ),
            (hop.after() == Some(9), matches!(next_hop, NextHop::After(_))),
            (
                hop.goes_on(),
                matches!(
                    next_hop,
                    NextHop::Deliver { .. } | NextHop::Tunnel(_) | NextHop::Adjacency(_)
                ),
            ),
            (
                hop.may_wait(),
                matches!(next_hop, NextHop::Hold | NextHop::After(_)),
            ),
            (hop == Hop::LOCAL, next_hop == NextHop::Local),
            (hop == Hop::HOLD, next_hop == NextHop::Hold),
            (
                hop == Hop::by_tunnel(u32::MAX),
                matches!(next_hop, NextHop::Tunnel(_)),
            ),
        ];
        for (at, (is, should)) in kinds.into_iter().enumerate() {
            assert_eq!(is, should, "{next_hop:?}, {at}");
        }
        assert_eq!(hop.held_by(), None);
        let is_tunnel = matches!(next_hop, NextHop::Tunnel(_));
        for (source, common) in sources.into_iter().flat_map(|it| [(it, false), (it, is_tunnel)]) {
            let both = Route {
                next_hop,
                source,
                counter: 0x8765_4321,
                common,
            };
            let (entry, half) = halves(both);
            assert_eq!(route(entry, half), both);
            assert_eq!(
                (
                    entry.is_common(Hop::by_tunnel(u32::MAX)),
                    entry.is_common(Hop::by_tunnel(7))
                ),
                (common, false)
            );
            assert_eq!(
                entry.is_common_alone(Hop::by_tunnel(u32::MAX)),
                common && !entry.is_behind()
            );
            let goes = [sources[2], sources[4]].contains(&source);
            assert_eq!(
                (entry.goes_by(u32::MAX), entry.way_of_source() != 0),
                (goes, goes)
            );
            assert!(!entry.goes_by(0));
            assert_eq!(half.comes_by(u32::MAX - 1), sources[3..5].contains(&source));
            assert_eq!(half.comes_by(u32::MAX), source == sources[5]);
            // Of the last one the next hop says it, if it leads into that tunnel.
            let behind =
                sources[3..5].contains(&source) || source == sources[5] && hop != Hop::by_tunnel(u32::MAX);
            assert!(!half.comes_by(0));
            assert_eq!(half.onward().is_some(), source == sources[4]);
            assert_eq!(
                (entry.hop(), entry.is_behind(), entry.onward()),
                (hop, behind, half.onward())
            );
            assert_eq!(half.is_refused(), source == sources[0]);
        }
    }
}

#[test]
fn a_hop_of_one_packet_is_no_route() {
    let hop = Hop::flow_hold(u32::MAX);
    assert_eq!(hop.held_by(), Some(u32::MAX));
    assert!(hop.may_wait() && !hop.goes_on() && hop.tunnel().is_none() && hop.after().is_none());
    assert_eq!(hop.unpack(), NextHop::None);
}

#[test]
fn an_index_is_used_again_only_when_nobody_can_read_it() {
    let mut writer = RouteWriter::new();
    let to = |index| Route {
        next_hop: NextHop::Tunnel(index),
        ..Route::default()
    };
    let first = writer.add(to(1), List::default(), Place::Beside(NO_MATCH));
    let held = writer.commit();
    writer.retire(first);
    let mut taken = Vec::new();
    for number in 2..20 {
        taken.push(writer.add(to(number), List::default(), Place::Beside(NO_MATCH)));
        writer.commit();
    }
    assert!(!taken.contains(&first));
    assert_eq!(held.route(first), to(1));
    drop(held);
    writer.commit();
    assert_eq!(
        writer.add(to(99), List::default(), Place::Beside(NO_MATCH)),
        first
    );
    let (routes, never) = (writer.commit(), if cfg!(miri) { 99 } else { 9_999_999 });
    assert_eq!(routes.route(never), Route::default());
}
