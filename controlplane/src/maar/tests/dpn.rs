//! What a DPA answers its DPNs.

use super::*;
use crate::wire::mobility::{PrefixLifetimes, UpdateNotification, notification_flags, notification_reason};

const DPN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xe1, 0, 0, 0, 0, 1);
const OTHER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xe2, 0, 0, 0, 0, 1);

fn dpa() -> Maar {
    maar(|settings| settings.dpns = vec![DPN, OTHER])
}

/// What a DPN sends of a node that attaches.
fn asked(number: u8, now: Time) -> ProxyBindingUpdate {
    ProxyBindingUpdate {
        sequence: 1,
        flags: update_flags::ACKNOWLEDGE | update_flags::PROXY,
        lifetime: 150,
        options: MobilityOptions {
            mobile_node_identifier: Some(identifier(number)),
            home_network_prefixes: vec!["::/0".parse().unwrap()],
            handoff_indicator: Some(4),
            access_technology_type: Some(4),
            timestamp: Some(timestamp_from_time(now)),
            link_layer_identifier: Some(vec![2, 0, 0, 0, 10, number]),
            ..MobilityOptions::default()
        },
    }
}

fn ask(maar: &mut Maar, from: Ipv6Addr, update: ProxyBindingUpdate, now: Time) -> Vec<Output> {
    let message = MobilityMessage::ProxyBindingUpdate(update);
    maar.process(Input::Message { from, message }, now)
}

/// What a gateway is answered.
fn answered(outputs: &[Output], who: Ipv6Addr) -> Option<ProxyBindingAcknowledgement> {
    outputs.iter().find_map(|output| match output {
        Output::Send {
            to,
            message: MobilityMessage::ProxyBindingAcknowledgement(answer),
        }
        | Output::SendWhenSaved {
            to,
            message: MobilityMessage::ProxyBindingAcknowledgement(answer),
        } if *to == who => Some(answer.clone()),
        _ => None,
    })
}

fn to_cmd(outputs: &[Output]) -> Option<ProxyBindingUpdate> {
    outputs.iter().find_map(|output| match output {
        Output::Send {
            to: CMD,
            message: MobilityMessage::ProxyBindingUpdate(update),
        } => Some(update.clone()),
        _ => None,
    })
}

fn notified(outputs: &[Output]) -> Vec<(Ipv6Addr, UpdateNotification)> {
    let sent = outputs.iter().filter_map(|output| match output {
        Output::Send {
            to,
            message: MobilityMessage::UpdateNotification(it),
        } => Some((*to, it.clone())),
        _ => None,
    });
    sent.collect()
}

/// The oldest prefixes go where an answer has no room for all, and it is told.
#[test]
fn an_answer_has_room_for_so_many_prefixes() {
    let mut dpa = dpa();
    let outputs = ask(&mut dpa, DPN, asked(1, NOW), NOW);
    let update = to_cmd(&outputs).unwrap();
    let mut answer = acknowledge(&update, Status::ACCEPTED, 150, NOW);
    answer.options.previous_maars = (0..60)
        .map(|number| PreviousMaarOption {
            address: PEER,
            home_network_prefix: format!("2001:db8:200:{number:x}::/64").parse().unwrap(),
            logical_interface: LogicalInterface::default(),
        })
        .collect();
    let outputs = tell(&mut dpa, CMD, answer);
    let answer = answered(&outputs, DPN).unwrap();
    assert!(crate::proxy_binding::fits(&answer));
    let has = &answer.options.home_network_prefixes;
    assert_eq!(has.len(), answer.options.prefix_lifetimes.len());
    assert!((30..60).contains(&has.len()), "{}", has.len());
    assert_eq!(has[0], dpa.state().nodes[&identifier(1)].home_network_prefix);
    assert_eq!(*has.last().unwrap(), "2001:db8:200:3b::/64".parse().unwrap());
    let left_out = dpa.counters().get("dpn_prefixes_left_out");
    assert_eq!(left_out, 61 - has.len() as u64);
}

/// A node at the first DPN, and what the DPN was answered.
fn served() -> (Maar, ProxyBindingAcknowledgement) {
    let mut dpa = dpa();
    let outputs = ask(&mut dpa, DPN, asked(1, NOW), NOW);
    assert_eq!(answered(&outputs, DPN), None, "the CMD has to answer first");
    let update = to_cmd(&outputs).unwrap();
    let outputs = tell(&mut dpa, CMD, acknowledge(&update, Status::ACCEPTED, 150, NOW));
    let answer = answered(&outputs, DPN).unwrap();
    (dpa, answer)
}

#[test]
fn a_node_is_answered_for_when_the_cmd_has_answered() {
    let (dpa, answer) = served();
    assert_eq!((answer.status, answer.sequence), (Status::ACCEPTED, 1));
    assert!(!answer.is_distributed());
    let prefix = dpa.state().nodes[&identifier(1)].home_network_prefix;
    assert_eq!(answer.options.home_network_prefixes, [prefix]);
    let lifetimes = answer.options.prefix_lifetimes[0];
    assert_eq!(
        (lifetimes.prefix, lifetimes.preferred, lifetimes.valid),
        (prefix, u32::MAX, u32::MAX)
    );
}

#[test]
fn what_cannot_be_is_refused_with_its_status() {
    type Change = fn(&mut ProxyBindingUpdate);
    let cases: [(Change, Status); 10] = [
        (
            |it| it.options.mobile_node_identifier = None,
            Status::MISSING_MN_IDENTIFIER_OPTION,
        ),
        (|it| it.options.timestamp = None, Status::TIMESTAMP_MISMATCH),
        (|it| it.options.timestamp = Some(1), Status::TIMESTAMP_MISMATCH),
        (
            |it| it.options.home_network_prefixes.clear(),
            Status::MISSING_HOME_NETWORK_PREFIX_OPTION,
        ),
        (
            |it| it.options.handoff_indicator = None,
            Status::MISSING_HANDOFF_INDICATOR_OPTION,
        ),
        (
            |it| it.options.access_technology_type = None,
            Status::MISSING_ACCESS_TECH_TYPE_OPTION,
        ),
        (
            |it| it.options.home_network_prefixes = vec!["2001:db8:100:9::/64".parse().unwrap()],
            Status::NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX,
        ),
        // Nobody has attached it.
        (
            |it| it.options.handoff_indicator = Some(5),
            Status::NOT_LMA_FOR_THIS_MOBILE_NODE,
        ),
        (|it| it.lifetime = 0, Status::ACCEPTED),
        // With D it means to be a CMD.
        (
            |it| it.flags = UPDATE_FLAGS,
            Status::MAG_NOT_AUTHORIZED_FOR_PROXY_REG,
        ),
    ];
    for (at, (change, status)) in cases.into_iter().enumerate() {
        let mut dpa = dpa();
        let mut update = asked(1, NOW);
        change(&mut update);
        let answer = answered(&ask(&mut dpa, DPN, update, NOW), DPN).unwrap();
        assert_eq!(answer.status, status, "{at}");
        assert!(dpa.state().nodes.is_empty());
    }
    // Who is not named.
    let mut nobody = maar(|_| {});
    let answer = answered(&ask(&mut nobody, DPN, asked(1, NOW), NOW), DPN).unwrap();
    assert_eq!(answer.status, Status::MAG_NOT_AUTHORIZED_FOR_PROXY_REG);
    // Two prefixes are all that there are.
    let mut dpa = dpa();
    for number in [1, 2] {
        assert_eq!(answered(&ask(&mut dpa, DPN, asked(number, NOW), NOW), DPN), None);
    }
    let answer = answered(&ask(&mut dpa, DPN, asked(3, NOW), NOW), DPN).unwrap();
    assert_eq!(answer.status, Status::INSUFFICIENT_RESOURCES);
}

#[test]
fn the_cmds_refusal_is_passed_on() {
    let mut dpa = dpa();
    let update = to_cmd(&ask(&mut dpa, DPN, asked(1, NOW), NOW)).unwrap();
    let refusal = acknowledge(&update, Status::ADMINISTRATIVELY_PROHIBITED, 0, NOW);
    let answer = answered(&tell(&mut dpa, CMD, refusal), DPN).unwrap();
    assert_eq!(answer.status, Status::ADMINISTRATIVELY_PROHIBITED);
    assert_eq!(dpa.state().nodes[&identifier(1)].dpn, None);
}

#[test]
fn a_renewal_moves_no_node_and_names_no_foreign_prefix() {
    let (mut dpa, answer) = served();
    let later = NOW.after(Duration::from_secs(1));
    let mut renewal = asked(1, later);
    renewal.options.handoff_indicator = Some(5);
    let of_other = answered(&ask(&mut dpa, OTHER, renewal.clone(), later), OTHER).unwrap();
    assert_eq!(of_other.status, Status::NOT_LMA_FOR_THIS_MOBILE_NODE);
    let outputs = ask(&mut dpa, DPN, renewal.clone(), later);
    let again = answered(&outputs, DPN).unwrap();
    assert_eq!(
        again.options.home_network_prefixes,
        answer.options.home_network_prefixes
    );
    assert_eq!(to_cmd(&outputs), None, "it is nothing new to the CMD");
    let last = later.after(Duration::from_secs(1));
    renewal.options.timestamp = Some(timestamp_from_time(last));
    renewal.options.home_network_prefixes = vec!["2001:db8:100:9::/64".parse().unwrap()];
    let refused = answered(&ask(&mut dpa, DPN, renewal, last), DPN).unwrap();
    assert_eq!(refused.status, Status::BCE_PBU_PREFIX_SET_DO_NOT_MATCH);
}

#[test]
fn an_old_update_brings_no_node_back() {
    let (mut dpa, _) = served();
    let later = NOW.after(Duration::from_secs(2));
    let mut moved = asked(1, later);
    moved.options.attachment_time = Some(timestamp_from_time(later));
    let outputs = ask(&mut dpa, OTHER, moved, later);
    assert!(answered(&outputs, OTHER).unwrap().status.is_accepted());
    // The first DPN, which is told, had sent something before, and sends it again.
    assert_eq!(notified(&outputs)[0].0, DPN);
    let last = later.after(Duration::from_secs(1));
    let mut late = asked(1, last);
    late.options.attachment_time = Some(timestamp_from_time(NOW));
    let answer = answered(&ask(&mut dpa, DPN, late, last), DPN).unwrap();
    assert_eq!(answer.status, Status::NOT_LMA_FOR_THIS_MOBILE_NODE);
    let node = &dpa.state().nodes[&identifier(1)];
    assert_eq!(node.dpn.as_ref().unwrap().address, OTHER);
    // By its timestamp alone, if it is older.
    let mut old = asked(1, later);
    old.options.timestamp = Some(timestamp_from_time(later) - 1);
    let answer = answered(&ask(&mut dpa, DPN, old, later), DPN).unwrap();
    assert_eq!(answer.status, Status::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED);
}

#[test]
fn a_dpn_that_has_lost_a_tunnel_is_asked_to_register_again() {
    let mut dpa = maar(|settings| {
        settings.dpns = vec![DPN];
        settings.tunnel = TunnelType::GtpU;
    });
    let mut update = asked(1, NOW);
    let endpoint = TunnelEndpoint::gtpu(DPN, 0xfeed.try_into().unwrap());
    update.options.tunnel_endpoints = vec![endpoint];
    let update = to_cmd(&ask(&mut dpa, DPN, update, NOW)).unwrap();
    let outputs = tell(&mut dpa, CMD, acknowledge(&update, Status::ACCEPTED, 150, NOW));
    let answer = answered(&outputs, DPN).unwrap();
    assert!(answer.options.only_endpoint(OWN).is_some());
    let (peer, teid) = (DPN, 0xfeed);
    let outputs = dpa.process(Input::TunnelRefused { peer, teid }, NOW);
    assert_eq!(notified(&outputs)[0].0, DPN);
    assert_eq!(to_cmd(&outputs), None);
}

#[test]
fn a_dpn_is_notified_until_it_asks_or_for_a_minute() {
    let (mut dpa, _) = served();
    let detached = Input::Detached {
        identifier: identifier(1),
        deregister: true,
    };
    let outputs = dpa.process(detached, NOW);
    let [(DPN, first)] = &notified(&outputs)[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(first.reason, notification_reason::FORCE_RE_REGISTRATION);
    assert_eq!(first.flags, 0);
    let (mut now, mut again) = (NOW, Vec::new());
    while let Some(at) = dpa
        .next_deadline()
        .filter(|at| *at <= NOW.after(Duration::from_secs(120)))
    {
        now = now.max(at);
        again.extend(notified(&dpa.process(Input::Tick, now)));
    }
    assert_eq!(again.len(), 5);
    for (to, it) in &again {
        assert_eq!((*to, it.sequence), (DPN, first.sequence));
        assert_eq!(it.flags, notification_flags::RETRANSMISSION);
    }
    // Asked, it asks no more.
    let (mut dpa, _) = served();
    let detached = Input::Detached {
        identifier: identifier(1),
        deregister: true,
    };
    dpa.process(detached, NOW);
    let later = NOW.after(Duration::from_millis(10));
    let mut renewal = asked(1, later);
    renewal.options.handoff_indicator = Some(5);
    let answer = answered(&ask(&mut dpa, DPN, renewal, later), DPN).unwrap();
    assert_eq!(answer.status, Status::NOT_LMA_FOR_THIS_MOBILE_NODE);
    assert!(dpa.notification_deadlines.next().is_none());
}

#[test]
fn what_is_new_to_a_dpn_is_saved_first_and_packets_follow_when_it_has_left() {
    let mut dpa = dpa();
    let update = to_cmd(&ask(&mut dpa, DPN, asked(1, NOW), NOW)).unwrap();
    let outputs = tell(&mut dpa, CMD, acknowledge(&update, Status::ACCEPTED, 150, NOW));
    let durable = |outputs: &[Output]| {
        let is_durable = |it: &Output| matches!(it, Output::SendWhenSaved { to: DPN, .. });
        outputs.iter().any(is_durable)
    };
    assert!(durable(&outputs));
    // Asked again before that has left: it says the same, and waits as well.
    let mut later = NOW.after(Duration::from_millis(500));
    assert!(durable(&ask(&mut dpa, DPN, asked(1, later), later)));
    let release_at = |dpa: &Maar| dpa.state().nodes[&identifier(1)].release_at;
    assert_eq!(release_at(&dpa), Some(NOW.after(Duration::from_secs(1))));
    let answered = |to| Input::Answered {
        to,
        identifier: identifier(1),
    };
    dpa.process(answered(OTHER), later);
    assert_eq!(release_at(&dpa), Some(NOW.after(Duration::from_secs(1))));
    dpa.process(answered(DPN), later);
    assert_eq!(release_at(&dpa), Some(later.after(Duration::from_millis(28))));
    // A renewal that says nothing new waits for nothing.
    later = later.after(Duration::from_secs(1));
    dpa.process(Input::Tick, later);
    let mut renewal = asked(1, later);
    renewal.options.handoff_indicator = Some(5);
    assert!(!durable(&ask(&mut dpa, DPN, renewal, later)));
    dpa.process(answered(DPN), later);
    assert_eq!(release_at(&dpa), None);
}

#[test]
fn a_dpn_that_tells_once_more_brings_back_only_who_is_not_elsewhere() {
    // A DPA that has lost its store takes the node as it was.
    let mut lost = dpa();
    let later = NOW.after(Duration::from_secs(9));
    let mut again = asked(1, later);
    again.options.attachment_time = Some(timestamp_from_time(NOW));
    assert!(to_cmd(&ask(&mut lost, DPN, again.clone(), later)).is_some());
    assert_eq!(
        lost.state().nodes[&identifier(1)].attached_at,
        timestamp_from_time(NOW)
    );
    // Where the session was ended, and where the node has gone on, it does not.
    for gone in [true, false] {
        let (mut dpa, _) = served();
        let since = dpa.state().nodes[&identifier(1)].attached_at;
        let mut again = again.clone();
        again.options.attachment_time = Some(since);
        if gone {
            let (identifier, deregister) = (identifier(1), true);
            dpa.process(
                Input::Detached {
                    identifier,
                    deregister,
                },
                NOW,
            );
        } else {
            let update = told(&dpa);
            assert_eq!(status_of(&mut dpa, CMD, update), Some(Status::ACCEPTED));
        }
        let phase = dpa.state().nodes[&identifier(1)].phase.clone();
        let answer = answered(&ask(&mut dpa, DPN, again.clone(), later), DPN).unwrap();
        assert_eq!(answer.status, Status::NOT_LMA_FOR_THIS_MOBILE_NODE);
        assert_eq!(dpa.state().nodes[&identifier(1)].phase, phase);
    }
}

#[test]
fn what_a_dpn_withholds_is_told() {
    let (mut dpa, _) = served();
    let later = NOW.after(Duration::from_secs(1));
    let mut renewal = asked(1, later);
    renewal.options.handoff_indicator = Some(5);
    renewal.options.prefix_lifetimes = vec![PrefixLifetimes {
        prefix: "2001:db8:100:1::/64".parse().unwrap(),
        preferred: 0,
        valid: 0,
    }];
    let outputs = ask(&mut dpa, DPN, renewal, later);
    let told = |it: &Output| matches!(it, Output::Event(event) if event.kind == "dpn_prefix_withheld");
    assert!(outputs.iter().any(told));
    let counted = dpa
        .counters()
        .iter()
        .find(|(name, _)| *name == "dpn_prefixes_withheld");
    assert_eq!(counted.unwrap().1, 1);
}
