//! What a MAAR does about the packets that are still on the way of before a move.

use super::*;
use crate::maar::{Arriving, Previous};

const THIRD: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 1);
const FOURTH: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xe, 0, 0, 0, 0, 1);

fn permitted() -> Maar {
    maar(|settings| {
        settings.tunnel = TunnelType::GtpU;
        settings.peers = Some(vec![PEER, THIRD, FOURTH]);
    })
}

fn served_elsewhere(maar: &mut Maar, serving: Ipv6Addr, number: u64) -> Vec<Output> {
    let mut update = told(maar);
    update.options.serving_maar = Some(serving);
    update.options.timestamp = update.options.timestamp.map(|it| it + number);
    let message = MobilityMessage::ProxyBindingUpdate(update);
    maar.process(Input::Message { from: CMD, message }, NOW)
}

fn path_ends(outputs: &[Output]) -> Vec<Ipv6Addr> {
    let to = |output: &Output| match output {
        Output::EndPath { to, .. } => Some(*to),
        _ => None,
    };
    outputs.iter().filter_map(to).collect()
}

/// Attaches node 1, which has been at PEER before.
fn arrive(maar: &mut Maar) -> Vec<Output> {
    let update = attach(maar, 1).unwrap();
    let mut answer = acknowledge(&update, Status::ACCEPTED, 150, NOW);
    answer.options.previous_maars = vec![PreviousMaarOption {
        address: PEER,
        home_network_prefix: "2001:db8:200::/64".parse().unwrap(),
        logical_interface: LogicalInterface::default(),
    }];
    answer.options.tunnel_endpoints = vec![endpoint(PEER, 7)];
    tell(maar, CMD, answer)
}

fn node(maar: &Maar) -> &crate::maar::Node {
    &maar.state().nodes[&identifier(1)]
}

#[test]
fn an_anchor_ends_the_way_that_it_leaves_and_no_other() {
    let mut maar = permitted();
    let update = attach(&mut maar, 1).unwrap();
    tell(&mut maar, CMD, acknowledge(&update, Status::ACCEPTED, 150, NOW));
    // From its own link there was no way to end.
    assert!(path_ends(&served_elsewhere(&mut maar, PEER, 1)).is_empty());
    // The same said again changes nothing.
    assert!(path_ends(&served_elsewhere(&mut maar, PEER, 2)).is_empty());
    assert_eq!(path_ends(&served_elsewhere(&mut maar, THIRD, 3)), [PEER]);
    // It comes home: the way to where it was ends.
    let update = attach(&mut maar, 1).unwrap();
    let outputs = tell(&mut maar, CMD, acknowledge(&update, Status::ACCEPTED, 150, NOW));
    assert_eq!(path_ends(&outputs), [THIRD]);
    let arriving = node(&maar).arriving.unwrap();
    assert_eq!((arriving.from, arriving.home), (THIRD, true));
}

#[test]
fn packets_are_held_until_the_serving_maar_is_ready() {
    let mut maar = permitted();
    let update = attach(&mut maar, 1).unwrap();
    tell(&mut maar, CMD, acknowledge(&update, Status::ACCEPTED, 150, NOW));
    served_elsewhere(&mut maar, PEER, 1);
    let at = node(&maar).release_at.unwrap();
    assert_eq!(at, NOW.after(Timers::default().release_delay));
    assert_eq!(maar.next_deadline(), Some(at));
    maar.process(Input::Tick, at);
    assert_eq!(node(&maar).release_at, None);
}

#[test]
fn what_anchors_still_send_here_follows_the_node_for_a_while() {
    let mut maar = permitted();
    arrive(&mut maar);
    let previous = node(&maar).previous.clone();
    let from = Arriving {
        from: PEER,
        home: false,
        until: NOW.after(Duration::from_millis(500)),
    };
    assert_eq!(node(&maar).arriving, Some(from));
    served_elsewhere(&mut maar, THIRD, 1);
    assert_eq!((&node(&maar).leaving, node(&maar).arriving), (&previous, None));
    assert!(node(&maar).tunnels.contains_key(&PEER), "it comes by that tunnel");
    while let Some(at) = maar
        .next_deadline()
        .filter(|at| *at <= NOW.after(Duration::from_secs(1)))
    {
        maar.process(Input::Tick, at);
    }
    let nothing: Vec<Previous> = Vec::new();
    assert_eq!(node(&maar).leaving, nothing);
    assert!(!node(&maar).tunnels.contains_key(&PEER));
}

#[test]
fn an_end_marker_ends_the_wait() {
    let mut maar = permitted();
    arrive(&mut maar);
    let teid = node(&maar).teid.unwrap().get();
    for (from, teid) in [(THIRD, teid), (PEER, teid ^ 1)] {
        maar.process(Input::EndMarker { from, teid }, NOW);
        assert!(node(&maar).arriving.is_some());
    }
    maar.process(Input::EndMarker { from: PEER, teid }, NOW);
    assert_eq!(node(&maar).arriving, None);
    let counted = |name| maar.counters().get(name);
    assert_eq!(
        (counted("end_markers"), counted("end_markers_unexpected")),
        (1, 2)
    );
}

/// The times and outputs of all that is due until `until`.
fn passes(maar: &mut Maar, until: Duration) -> Vec<(Time, Output)> {
    let mut outputs = Vec::new();
    while let Some(at) = maar.next_deadline().filter(|at| *at <= NOW.after(until)) {
        let these = maar.process(Input::Tick, at);
        outputs.extend(these.into_iter().map(|output| (at, output)));
    }
    outputs
}

fn ends_of(outputs: Vec<(Time, Output)>) -> Vec<(Time, Output)> {
    let is_end = |output: &Output| matches!(output, Output::EndPath { .. });
    outputs.into_iter().filter(|(_, it)| is_end(it)).collect()
}

fn marked(maar: &mut Maar, from: Ipv6Addr) {
    let teid = node(maar).teid.unwrap().get();
    assert!(maar.process(Input::EndMarker { from, teid }, NOW).is_empty());
}

/// What an anchor ends here goes on to where the node is, with its end behind it: with a wait for its packets or without,
/// and whether the End Marker or the news of the node is first.
#[test]
fn an_end_marker_is_relayed_to_where_the_node_is() {
    let wait = Timers::default().release_delay;
    for (waits, first) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut maar = maar(|settings| {
            settings.tunnel = TunnelType::GtpU;
            settings.peers = Some(vec![PEER, THIRD]);
            if !waits {
                settings.timers.release_delay = Duration::ZERO;
            }
        });
        arrive(&mut maar);
        // The one that it waits for itself.
        marked(&mut maar, PEER);
        if first {
            marked(&mut maar, PEER);
        }
        let mut update = told(&maar);
        update.options.serving_maar = Some(THIRD);
        update.options.timestamp = update.options.timestamp.map(|it| it + 1);
        update.options.tunnel_endpoints = vec![endpoint(THIRD, 9)];
        let message = MobilityMessage::ProxyBindingUpdate(update);
        assert!(path_ends(&maar.process(Input::Message { from: CMD, message }, NOW)).is_empty());
        if !first {
            marked(&mut maar, PEER);
        }
        // Once more, and from one that had nothing to end.
        marked(&mut maar, PEER);
        marked(&mut maar, THIRD);
        let ends = ends_of(passes(&mut maar, Duration::from_millis(400)));
        let [(at, end)] = &ends[..] else {
            panic!("{ends:?}");
        };
        assert_eq!(*at > NOW.after(wait), waits, "behind what waited");
        let prefix = "2001:db8:200::/64".parse().unwrap();
        let by = node(&maar).way_to(THIRD);
        assert_eq!(
            *end,
            Output::EndPath {
                to: THIRD,
                prefix,
                by
            }
        );
        let teid = node(&maar).teid.unwrap().get();
        maar.process(Input::EndMarker { from: PEER, teid }, *at);
        let again = ends_of(passes(&mut maar, Duration::from_millis(450)));
        assert!(again.is_empty(), "it is said several times, and relayed once");
        let counted = |name| maar.counters().get(name);
        assert_eq!(
            (
                counted("end_markers"),
                counted("end_markers_relayed"),
                counted("end_markers_unexpected")
            ),
            (1, 1, 3)
        );
    }
}

/// Each is relayed once, however many anchors the node has.
#[test]
fn each_of_two_anchors_ends_its_own_way() {
    let mut maar = permitted();
    let update = attach(&mut maar, 1).unwrap();
    let mut answer = acknowledge(&update, Status::ACCEPTED, 150, NOW);
    let [first, second] = [(PEER, "2001:db8:200::/64"), (FOURTH, "2001:db8:201::/64")];
    answer.options.previous_maars = [first, second]
        .map(|(address, prefix)| PreviousMaarOption {
            address,
            home_network_prefix: prefix.parse().unwrap(),
            logical_interface: LogicalInterface::default(),
        })
        .to_vec();
    answer.options.tunnel_endpoints = vec![endpoint(PEER, 7), endpoint(FOURTH, 8)];
    tell(&mut maar, CMD, answer);
    served_elsewhere(&mut maar, THIRD, 1);
    let mut ends = Vec::new();
    for (from, prefix) in [first, second] {
        marked(&mut maar, from);
        marked(&mut maar, from);
        let these = ends_of(passes(&mut maar, Duration::from_millis(300)));
        ends.extend(these.into_iter().map(|(_, output)| match output {
            Output::EndPath { to, prefix, .. } => (to, prefix),
            other => panic!("{other:?}"),
        }));
        assert_eq!(ends.last(), Some(&(THIRD, prefix.parse().unwrap())));
    }
    assert_eq!(ends.len(), 2);
    assert_eq!(maar.counters().get("end_markers_relayed"), 2);
}

/// An anchor that ended its way long before the node left has sent by it since, or would not have it.
#[test]
fn what_ended_long_ago_is_not_relayed() {
    for (long, relayed) in [(Duration::from_secs(4), 1), (Duration::from_secs(6), 0)] {
        let mut maar = permitted();
        arrive(&mut maar);
        marked(&mut maar, PEER);
        marked(&mut maar, PEER);
        let later = NOW.after(long);
        let mut update = told(&maar);
        update.options.serving_maar = Some(THIRD);
        update.options.timestamp = Some(timestamp_from_time(later));
        let message = MobilityMessage::ProxyBindingUpdate(update);
        maar.process(Input::Message { from: CMD, message }, later);
        let ends = ends_of(passes(&mut maar, long + Duration::from_secs(1)));
        assert_eq!(ends.len(), relayed, "{long:?}");
    }
}

#[test]
fn what_ended_before_a_node_came_back_is_not_relayed() {
    let mut maar = permitted();
    arrive(&mut maar);
    marked(&mut maar, PEER);
    marked(&mut maar, PEER);
    served_elsewhere(&mut maar, THIRD, 1);
    arrive(&mut maar);
    served_elsewhere(&mut maar, THIRD, 2);
    assert!(ends_of(passes(&mut maar, Duration::from_secs(1))).is_empty());
    assert!(node(&maar).ended_by.is_empty() && node(&maar).relay_at.is_none());
}

/// Peers have an address of their own for GTP-U over IPv4.
#[test]
fn an_end_marker_over_ipv4_is_of_the_peer_that_has_that_address() {
    let mut maar = permitted();
    arrive(&mut maar);
    let address = std::net::Ipv4Addr::new(192, 0, 2, 2);
    let state = &mut maar.state;
    let tunnel = state
        .nodes
        .get_mut(&identifier(1))
        .unwrap()
        .tunnels
        .get_mut(&PEER);
    if let Some(crate::wire::mobility::TunnelType::GtpU { ipv4, .. }) = tunnel.map(|it| &mut it.remote) {
        *ipv4 = Some(address);
    }
    marked(&mut maar, std::net::Ipv4Addr::new(192, 0, 2, 3).to_ipv6_mapped());
    assert!(node(&maar).arriving.is_some());
    marked(&mut maar, address.to_ipv6_mapped());
    assert_eq!(node(&maar).arriving, None);
}
