//! What a MAAR does about the packets that are still on the way of before a move.

use super::*;
use crate::maar::{Arriving, Previous};

const THIRD: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 1);

fn permitted() -> Maar {
    maar(|settings| {
        settings.tunnel = TunnelType::GtpU;
        settings.peers = Some(vec![PEER, THIRD]);
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
