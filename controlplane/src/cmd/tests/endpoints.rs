//! Tunnel endpoints, relayed between MAARs.

use super::*;

/// The node registers at MAAR 1 and moves to MAAR 2, each with these endpoints; gives what the CMD tells
/// MAAR 2 in its answer and MAAR 1 in its update.
fn moved(
    tunnel: TunnelType,
    first: Vec<TunnelEndpoint>,
    second: Vec<TunnelEndpoint>,
) -> (Cmd, [Vec<TunnelEndpoint>; 2]) {
    let mut cmd = cmd();
    cmd.settings.tunnel = tunnel;
    let mut here = update(1);
    here.options.tunnel_endpoints = first;
    // The first MAAR has no one to reach, so nothing is relayed to it: not its own endpoint either.
    let answer = answers(&mut cmd, maar(1), here, NOW).remove(0);
    assert_eq!(answer.options.tunnel_endpoints, []);
    let later = NOW.after(Duration::from_millis(10));
    let mut there = update(1);
    there.options.tunnel_endpoints = second;
    there.options.home_network_prefixes = vec!["2001:db8:200:1::/64".parse().unwrap()];
    there.options.timestamp = Some(timestamp_from_time(later));
    let message = MobilityMessage::ProxyBindingUpdate(there);
    let outputs = cmd.process(
        Input::Message {
            from: maar(2),
            message,
        },
        later,
    );
    let mut told = [Vec::new(), Vec::new()];
    for output in outputs {
        match output {
            Output::Send {
                to,
                message: MobilityMessage::ProxyBindingAcknowledgement(answer),
            } => {
                assert_eq!(to, maar(2));
                told[0] = answer.options.tunnel_endpoints;
            }
            Output::Send {
                to,
                message: MobilityMessage::ProxyBindingUpdate(update),
            } => {
                assert_eq!(to, maar(1));
                told[1] = update.options.tunnel_endpoints;
            }
            _ => {}
        }
    }
    (cmd, told)
}

#[test]
fn endpoints_are_relayed_both_ways_or_not_at_all() {
    let (one, two) = (endpoint(maar(1), 11), endpoint(maar(2), 22));
    let (cmd, told) = moved(TunnelType::GtpU, vec![one], vec![two]);
    assert_eq!(told, [vec![one], vec![two]]);
    let binding = cmd.state().bindings.values().next().unwrap();
    assert_eq!(binding.offered_endpoints.len(), 2);
    // The CMD's own configuration, a MAAR without, and endpoints that are not the sender's.
    let foreign = endpoint(maar(3), 33);
    let plain = TunnelEndpoint {
        address: maar(2),
        tunnel_type: crate::wire::mobility::TunnelType::Ipv6InIpv6,
    };
    for (tunnel, first, second) in [
        (TunnelType::Ipv6InIpv6, vec![one], vec![two]),
        (TunnelType::GtpU, vec![], vec![two]),
        (TunnelType::GtpU, vec![one], vec![]),
        (TunnelType::GtpU, vec![one], vec![plain]),
        (TunnelType::GtpU, vec![foreign], vec![two]),
        (TunnelType::GtpU, vec![one], vec![foreign, one]),
    ] {
        let what = format!("{tunnel:?} {first:?} {second:?}");
        let (_, told) = moved(tunnel, first, second);
        assert_eq!(told, [vec![], vec![]], "{what}");
    }
}

/// A retransmission says the same again; a release tells no endpoint.
#[test]
fn retransmissions_repeat_the_endpoint_and_releases_have_none() {
    let (one, two) = (endpoint(maar(1), 11), endpoint(maar(2), 22));
    let (mut cmd, _) = moved(TunnelType::GtpU, vec![one], vec![two]);
    let updates = |cmd: &mut Cmd| -> Vec<ProxyBindingUpdate> {
        let now = cmd.next_deadline().unwrap();
        let outputs = cmd.process(Input::Tick, now);
        let updates = outputs.into_iter().filter_map(|output| match output {
            Output::Send {
                message: MobilityMessage::ProxyBindingUpdate(update),
                ..
            } => Some(update),
            _ => None,
        });
        updates.collect()
    };
    assert_eq!(updates(&mut cmd)[0].options.tunnel_endpoints, [two]);
    let mut released = false;
    for _ in 0..60 {
        for update in updates(&mut cmd) {
            let expected: &[_] = if update.lifetime == 0 { &[] } else { &[two] };
            assert_eq!(update.options.tunnel_endpoints, expected);
            released |= update.lifetime == 0;
        }
        if released {
            break;
        }
    }
    assert!(released, "the session ends");
}
