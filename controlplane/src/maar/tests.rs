//! What a MAAR refuses or ignores. (What it does: `tests/domain.rs`.)

mod charging;
mod delegated;
mod dpn;
mod moves;

use std::net::Ipv6Addr;
use std::time::Duration;

use kedge_config::{Access, Timers, TunnelType};

use super::{Input, Maar, Output, Phase, Settings, State};
use crate::identity::{LinkLayerAddress, MobileNodeIdentifier};
use crate::proxy_binding::{UPDATE_FLAGS, acknowledge};
use crate::time::Time;
use crate::wire::mobility::{
    self, LogicalInterface, MobilityMessage, MobilityOptions, PreviousMaarOption,
    ProxyBindingAcknowledgement, ProxyBindingUpdate, Status, TunnelEndpoint, acknowledgement_flags,
    timestamp_from_time, update_flags,
};

const NOW: Time = Time(Duration::from_secs(1_700_000_000));
const CMD: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xd, 0, 0, 0, 0, 1);
const OWN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1);
const KEY: u64 = 0x0123_4567_89ab_cdef;
const PEER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 1);

fn maar(change: impl FnOnce(&mut Settings)) -> Maar {
    let mut settings = Settings {
        mobile_routers: None,
        filters: Vec::new(),
        meters: Vec::new(),
        address: OWN,
        cmds: vec![CMD],
        prefix_pools: vec!["2001:db8:100::/63".parse().unwrap()],
        peers: Some(vec![PEER]),
        gtpu_ipv4_address: None,
        tunnel: TunnelType::Ipv6InIpv6,
        tunnelled_pools: Vec::new(),
        reserved_teids: Vec::new(),
        dpns: Vec::new(),
        maximum_nodes: 10,
        access: Access::default(),
        timers: Timers::default(),
        announces: false,
    };
    change(&mut settings);
    Maar::new(settings, State::default(), KEY, NOW)
}

fn identifier(number: u8) -> MobileNodeIdentifier {
    MobileNodeIdentifier::nai(&format!("mn{number}@example.net"))
}

/// Attaches a node; gives the update that this sends, if any.
fn attach(maar: &mut Maar, number: u8) -> Option<ProxyBindingUpdate> {
    let link_layer_address = LinkLayerAddress([2, 0, 0, 0, 10, number]);
    let input = Input::Attached {
        identifier: identifier(number),
        port: "access".to_owned(),
        link_layer_address,
        link_local_address: link_layer_address.link_local(),
    };
    maar.process(input, NOW)
        .into_iter()
        .find_map(|output| match output {
            Output::Send {
                message: MobilityMessage::ProxyBindingUpdate(update),
                ..
            } => Some(update),
            _ => None,
        })
}

fn tell(maar: &mut Maar, from: Ipv6Addr, answer: ProxyBindingAcknowledgement) -> Vec<Output> {
    maar.process(
        Input::Message {
            from,
            message: MobilityMessage::ProxyBindingAcknowledgement(answer),
        },
        NOW,
    )
}

fn phase(maar: &Maar, number: u8) -> Phase {
    maar.state().nodes[&identifier(number)].phase.clone()
}

fn attached() -> Maar {
    let mut maar = maar(|_| {});
    let update = attach(&mut maar, 1).unwrap();
    tell(&mut maar, CMD, acknowledge(&update, Status::ACCEPTED, 150, NOW));
    assert_eq!(phase(&maar, 1), Phase::Attached);
    maar
}

#[test]
fn an_answer_that_does_not_fit_does_not_attach() {
    type Change = fn(&mut ProxyBindingAcknowledgement);
    let cases: [(&str, Change, Phase); 7] = [
        (
            "acknowledgements_unmatched",
            |it| it.sequence += 1,
            Phase::Registering,
        ),
        (
            "acknowledgements_unmatched",
            |it| it.options.mobile_node_identifier = None,
            Phase::Registering,
        ),
        (
            "acknowledgements_not_distributed",
            |it| it.flags &= !acknowledgement_flags::DISTRIBUTED,
            Phase::Refused {
                status: Status::REASON_UNSPECIFIED,
            },
        ),
        (
            "acknowledgements_mismatched",
            |it| it.options.handoff_indicator = Some(1),
            Phase::Refused {
                status: Status::REASON_UNSPECIFIED,
            },
        ),
        (
            "acknowledgements_mismatched",
            |it| it.options.home_network_prefixes = vec!["2001:db8:100:9::/64".parse().unwrap()],
            Phase::Refused {
                status: Status::REASON_UNSPECIFIED,
            },
        ),
        (
            "registrations_refused",
            |it| it.status = Status(129),
            Phase::Refused { status: Status(129) },
        ),
        (
            "registrations_refused",
            |it| it.status = Status::TIMESTAMP_MISMATCH,
            Phase::Registering,
        ),
    ];
    for (counter, change, expected) in cases {
        let mut maar = maar(|_| {});
        let update = attach(&mut maar, 1).unwrap();
        let mut answer = acknowledge(&update, Status::ACCEPTED, 150, NOW);
        change(&mut answer);
        let outputs = tell(&mut maar, CMD, answer);
        assert_eq!(maar.counters().get(counter), 1, "{counter}");
        assert_eq!(phase(&maar, 1), expected, "{counter}");
        assert!(
            !outputs.iter().any(|it| matches!(it, Output::Advertise { .. })),
            "{counter}: nothing is offered"
        );
    }
}

#[test]
fn an_answer_from_a_stranger_is_ignored() {
    let mut maar = maar(|_| {});
    let update = attach(&mut maar, 1).unwrap();
    assert!(tell(&mut maar, PEER, acknowledge(&update, Status::ACCEPTED, 150, NOW)).is_empty());
    assert_eq!(maar.counters().get("acknowledgements_stranger"), 1);
    assert_eq!(phase(&maar, 1), Phase::Registering);
}

#[test]
fn a_refused_node_is_withdrawn_and_may_try_again_after_a_second() {
    let mut maar = attached();
    let renewal = maar.process(Input::Tick, NOW.after(Duration::from_secs(360)));
    let update = renewal.into_iter().find_map(|output| match output {
        Output::Send {
            message: MobilityMessage::ProxyBindingUpdate(update),
            ..
        } => Some(update),
        _ => None,
    });
    let answer = acknowledge(&update.unwrap(), Status(129), 0, NOW);
    let outputs = tell(&mut maar, CMD, answer);
    let withdrawn = outputs.iter().find_map(|output| match output {
        Output::Advertise { prefixes, .. } => Some(prefixes.iter().all(|it| it.valid_lifetime == 0)),
        _ => None,
    });
    assert_eq!(withdrawn, Some(true));
    assert!(attach(&mut maar, 1).is_none(), "not at once");
}

#[test]
fn nodes_and_prefixes_run_out() {
    let mut maar = maar(|settings| settings.maximum_nodes = 3);
    assert!(attach(&mut maar, 1).is_some());
    assert!(attach(&mut maar, 2).is_some());
    assert!(attach(&mut maar, 3).is_none(), "a /63 has two prefixes");
    assert_eq!(maar.counters().get("attachments_refused_no_prefix"), 1);
    let mut maar = self::maar(|settings| settings.maximum_nodes = 1);
    assert!(attach(&mut maar, 1).is_some());
    assert!(attach(&mut maar, 2).is_none());
    assert_eq!(maar.counters().get("attachments_refused_full"), 1);
}

#[test]
fn previous_maars_must_be_permitted_peers_with_prefixes_of_their_own() {
    let mut maar = maar(|_| {});
    let update = attach(&mut maar, 1).unwrap();
    let mut answer = acknowledge(&update, Status::ACCEPTED, 150, NOW);
    let option = |address, prefix: &str| PreviousMaarOption {
        address,
        home_network_prefix: prefix.parse().unwrap(),
        logical_interface: LogicalInterface::default(),
    };
    answer.options.previous_maars = vec![
        option(PEER, "2001:db8:200::/64"),
        option(PEER, "2001:db8:200::/64"),
        option(OWN, "2001:db8:200:1::/64"),
        option(CMD, "2001:db8:200:2::/64"),
        option(PEER, "2001:db8:100:1::/64"),
        option(PEER, "::/0"),
    ];
    tell(&mut maar, CMD, answer);
    let previous = &maar.state().nodes[&identifier(1)].previous;
    assert_eq!(previous.len(), 1);
    assert_eq!(maar.counters().get("previous_maars_not_permitted"), 4);
    assert_eq!(maar.state().tunnel_ids.len(), 1);
}

/// The CMD says that node 1 is at `PEER`.
fn told(maar: &Maar) -> ProxyBindingUpdate {
    ProxyBindingUpdate {
        sequence: 3,
        flags: UPDATE_FLAGS,
        lifetime: 100,
        options: MobilityOptions {
            mobile_node_identifier: Some(identifier(1)),
            home_network_prefixes: vec![maar.state().nodes[&identifier(1)].home_network_prefix],
            handoff_indicator: Some(3),
            access_technology_type: Some(4),
            timestamp: Some(timestamp_from_time(NOW)),
            serving_maar: Some(PEER),
            ..MobilityOptions::default()
        },
    }
}

fn status_of(maar: &mut Maar, from: Ipv6Addr, update: ProxyBindingUpdate) -> Option<Status> {
    let message = MobilityMessage::ProxyBindingUpdate(update);
    maar.process(Input::Message { from, message }, NOW)
        .into_iter()
        .find_map(|output| match output {
            Output::Send {
                message: MobilityMessage::ProxyBindingAcknowledgement(answer),
                ..
            }
            | Output::SendWhenSaved {
                message: MobilityMessage::ProxyBindingAcknowledgement(answer),
                ..
            } => Some(answer.status),
            _ => None,
        })
}

#[test]
fn each_update_that_is_refused_has_its_status_and_changes_nothing() {
    type Change = fn(&mut ProxyBindingUpdate);
    let cases: [(&str, Change, u8); 13] = [
        (
            "no identifier",
            |it| it.options.mobile_node_identifier = None,
            160,
        ),
        (
            "unknown node",
            |it| it.options.mobile_node_identifier = Some(identifier(2)),
            153,
        ),
        ("no D flag", |it| it.flags &= !update_flags::DISTRIBUTED, 129),
        (
            "stale",
            |it| it.options.timestamp = it.options.timestamp.map(|it| it - 65536),
            156,
        ),
        ("no prefix", |it| it.options.home_network_prefixes.clear(), 158),
        ("no handoff", |it| it.options.handoff_indicator = None, 161),
        (
            "no access type",
            |it| it.options.access_technology_type = None,
            162,
        ),
        (
            "wrong prefix",
            |it| it.options.home_network_prefixes = vec!["2001:db8:900::/64".parse().unwrap()],
            155,
        ),
        ("no serving MAAR", |it| it.options.serving_maar = None, 128),
        (
            "a serving MAAR that is no peer",
            |it| it.options.serving_maar = Some(CMD),
            129,
        ),
        ("itself", |it| it.options.serving_maar = Some(OWN), 129),
        (
            "release of a node that is here",
            |it| (it.lifetime, it.options.serving_maar) = (0, None),
            129,
        ),
        (
            "the same, and it says so",
            |it| (it.lifetime, it.options.serving_maar) = (0, Some(OWN)),
            129,
        ),
    ];
    for (what, change, status) in cases {
        let mut maar = attached();
        let before = maar.state().clone();
        let mut update = told(&maar);
        change(&mut update);
        assert_eq!(status_of(&mut maar, CMD, update), Some(Status(status)), "{what}");
        assert_eq!(maar.state(), &before, "{what}");
        assert_eq!(maar.counters().get("updates_refused"), 1, "{what}");
    }
    let mut maar = attached();
    let before = maar.state().clone();
    let update = told(&maar);
    assert_eq!(
        status_of(&mut maar, PEER, update),
        Some(Status::MAG_NOT_AUTHORIZED_FOR_PROXY_REG)
    );
    assert_eq!(maar.state(), &before);
}

#[test]
fn an_update_is_followed_once() {
    let mut maar = attached();
    let update = told(&maar);
    assert_eq!(status_of(&mut maar, CMD, update.clone()), Some(Status::ACCEPTED));
    assert_eq!(phase(&maar, 1), Phase::Anchored { serving: PEER });
    assert_eq!(
        status_of(&mut maar, CMD, update),
        Some(Status::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED)
    );
    let mut release = told(&maar);
    release.lifetime = 0;
    release.options.timestamp = release.options.timestamp.map(|it| it + 1);
    assert_eq!(status_of(&mut maar, CMD, release), Some(Status::ACCEPTED));
    assert!(maar.state().nodes.is_empty());
}

fn teid_of(tunnel: mobility::TunnelType) -> u32 {
    match tunnel {
        mobility::TunnelType::GtpU { teid, .. } => teid.get(),
        other => panic!("{other:?}"),
    }
}

fn with_gtpu() -> Maar {
    let mut maar = maar(|settings| settings.tunnel = TunnelType::GtpU);
    let update = attach(&mut maar, 1).unwrap();
    let teid = maar.state().nodes[&identifier(1)].teid.unwrap();
    assert_eq!(update.options.tunnel_endpoints, [TunnelEndpoint::gtpu(OWN, teid)]);
    tell(&mut maar, CMD, acknowledge(&update, Status::ACCEPTED, 150, NOW));
    assert_eq!(phase(&maar, 1), Phase::Attached);
    maar
}

fn endpoint(address: Ipv6Addr, teid: u32) -> TunnelEndpoint {
    TunnelEndpoint::gtpu(address, teid.try_into().unwrap())
}

#[test]
fn no_endpoint_is_offered_unless_configured() {
    let mut maar = maar(|_| {});
    assert_eq!(attach(&mut maar, 1).unwrap().options.tunnel_endpoints, []);
    assert_eq!(maar.state().nodes[&identifier(1)].teid, None);
    // And one that comes all the same leads nowhere: nothing could come back.
    let mut maar = attached();
    let mut update = told(&maar);
    update.options.tunnel_endpoints = vec![endpoint(PEER, 7)];
    assert_eq!(status_of(&mut maar, CMD, update), Some(Status::ACCEPTED));
    assert!(maar.state().nodes[&identifier(1)].tunnels.is_empty());
}

#[test]
fn an_endpoint_counts_for_its_own_maar_only() {
    let third = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 1);
    for (address, expected) in [(PEER, Some(7)), (third, None), (OWN, None), (CMD, None)] {
        let mut maar = with_gtpu();
        let teid = maar.state().nodes[&identifier(1)].teid.unwrap();
        let mut update = told(&maar);
        update.options.tunnel_endpoints = vec![endpoint(address, 7)];
        let message = MobilityMessage::ProxyBindingUpdate(update);
        let outputs = maar.process(Input::Message { from: CMD, message }, NOW);
        let answer = outputs.iter().find_map(|output| match output {
            Output::Send {
                message: MobilityMessage::ProxyBindingAcknowledgement(answer),
                ..
            } => Some(answer),
            _ => None,
        });
        // It answers with its own.
        assert_eq!(
            answer.unwrap().options.tunnel_endpoints,
            [TunnelEndpoint::gtpu(OWN, teid)]
        );
        let tunnels = &maar.state().nodes[&identifier(1)].tunnels;
        let found = tunnels.get(&PEER).map(|tunnel| teid_of(tunnel.remote));
        assert_eq!(found, expected, "{address}");
        assert_eq!(tunnels.len(), usize::from(expected.is_some()));
    }
}

#[test]
fn an_update_that_is_refused_is_answered_without_an_endpoint() {
    let mut maar = with_gtpu();
    let before = maar.state().clone();
    let mut update = told(&maar);
    update.options.tunnel_endpoints = vec![endpoint(PEER, 7)];
    update.options.serving_maar = None;
    let message = MobilityMessage::ProxyBindingUpdate(update);
    let outputs = maar.process(Input::Message { from: CMD, message }, NOW);
    assert!(outputs.iter().any(|output| matches!(
        output,
        Output::Send { message: MobilityMessage::ProxyBindingAcknowledgement(answer), .. }
            if answer.options.tunnel_endpoints.is_empty()
    )));
    assert_eq!(maar.state(), &before);
}

#[test]
fn a_changed_teid_of_a_peer_keeps_the_tunnels_id() {
    let mut maar = with_gtpu();
    let mut ids = Vec::new();
    for (number, teids) in [(1, vec![7]), (2, vec![8]), (3, vec![]), (4, vec![8])] {
        let mut update = told(&maar);
        update.options.timestamp = update.options.timestamp.map(|it| it + number);
        update.options.tunnel_endpoints = teids.iter().map(|teid| endpoint(PEER, *teid)).collect();
        assert_eq!(status_of(&mut maar, CMD, update), Some(Status::ACCEPTED));
        let tunnel = maar.state().nodes[&identifier(1)].tunnels.get(&PEER).copied();
        assert_eq!(
            tunnel.map(|it| teid_of(it.remote)),
            teids.first().copied(),
            "{number}"
        );
        ids.push(tunnel.map(|tunnel| tunnel.id));
    }
    assert!(ids[0].is_some() && ids[0] == ids[1]);
    assert!(ids[3] > ids[0], "an id that was given up does not come again");
}

#[test]
fn a_key_is_taken_once() {
    let maar = with_gtpu();
    let settings = maar.settings.clone();
    let stored = serde_json::to_string(maar.state()).unwrap();
    let again = |key| {
        let state = serde_json::from_str(&stored).unwrap();
        let mut maar = Maar::new(settings.clone(), state, key, NOW);
        attach(&mut maar, 2).unwrap().options.tunnel_endpoints
    };
    assert_eq!(again(1), again(2), "that of the state counts");
    let fresh = |key| {
        let mut maar = Maar::new(settings.clone(), State::default(), key, NOW);
        attach(&mut maar, 2).unwrap().options.tunnel_endpoints
    };
    assert_ne!(fresh(1), fresh(2));
}

/// The CMD answers each transmission; by the last one it may have learnt of an anchor's endpoint, and
/// has told the anchor so.
#[test]
fn a_later_answer_to_the_same_update_counts_for_tunnels() {
    let mut maar = maar(|settings| settings.tunnel = TunnelType::GtpU);
    let update = attach(&mut maar, 1).unwrap();
    let mut answer = acknowledge(&update, Status::ACCEPTED, 150, NOW);
    answer.options.previous_maars = vec![PreviousMaarOption {
        address: PEER,
        home_network_prefix: "2001:db8:200::/64".parse().unwrap(),
        logical_interface: LogicalInterface::default(),
    }];
    let mut teids = Vec::new();
    for endpoints in [vec![], vec![endpoint(PEER, 7)], vec![]] {
        answer.options.tunnel_endpoints = endpoints;
        tell(&mut maar, CMD, answer.clone());
        let node = &maar.state().nodes[&identifier(1)];
        assert_eq!(node.previous.len(), 1);
        teids.push(node.tunnels.get(&PEER).map(|tunnel| teid_of(tunnel.remote)));
    }
    assert_eq!(teids, [None, Some(7), None]);
}
