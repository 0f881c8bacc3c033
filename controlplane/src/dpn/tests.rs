//! The machine alone: inputs in, outputs out.

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;
use kedge_config::{Access, Timers, TunnelType};

use super::{Dpn, Input, Output, Phase, Settings, State};
use crate::identity::{LinkLayerAddress, MobileNodeIdentifier};
use crate::proxy_binding::{acknowledge, lifetime_units};
use crate::time::Time;
use crate::wire::mobility::{
    MobilityMessage, MobilityOptions, PrefixLifetimes, ProxyBindingAcknowledgement, ProxyBindingUpdate,
    Status, UpdateNotification, notification_flags, notification_reason, notification_status,
    timestamp_from_time,
};

const OWN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xe1, 0, 0, 0, 0, 1);
const DPA: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1);
const STRANGER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x666, 0, 0, 0, 0, 1);
const NOW: Time = Time(Duration::from_secs(1_700_000_000));
const NEW: &str = "2001:db8:100:1::/64";
const OLD: &str = "2001:db8:200:1::/64";

fn dpn() -> Dpn {
    let settings = Settings {
        address: OWN,
        dpa: DPA,
        tunnel: TunnelType::Ipv6InIpv6,
        maximum_nodes: 2,
        access: Access::default(),
        timers: Timers::default(),
    };
    Dpn::new(settings, State::default(), 7, NOW)
}

fn identifier(number: u8) -> MobileNodeIdentifier {
    MobileNodeIdentifier::nai(&format!("mn{number}@example.net"))
}

fn link_layer_address(number: u8) -> LinkLayerAddress {
    LinkLayerAddress([2, 0, 0, 0, 10, number])
}

/// The update among some outputs, if there is one.
fn update(outputs: &[Output]) -> Option<ProxyBindingUpdate> {
    outputs.iter().find_map(|output| match output {
        Output::Send {
            to: DPA,
            message: MobilityMessage::ProxyBindingUpdate(update),
        } => Some(update.clone()),
        _ => None,
    })
}

/// What a node is advertised: prefix, preferred and valid lifetime.
fn advertised(outputs: &[Output]) -> Option<Vec<(Ipv6Net, u32, u32)>> {
    outputs.iter().find_map(|output| match output {
        Output::Advertise { prefixes, .. } => Some(
            prefixes
                .iter()
                .map(|it| (it.prefix, it.preferred_lifetime, it.valid_lifetime))
                .collect(),
        ),
        _ => None,
    })
}

fn net(text: &str) -> Ipv6Net {
    text.parse().unwrap()
}

fn attach(dpn: &mut Dpn, number: u8, now: Time) -> Vec<Output> {
    let input = Input::Attached {
        identifier: identifier(number),
        port: "access".to_owned(),
        link_layer_address: link_layer_address(number),
        link_local_address: link_layer_address(number).link_local(),
    };
    dpn.process(input, now)
}

/// What the DPA answers: prefixes, each with preferred and valid lifetime.
fn accept(
    update: &ProxyBindingUpdate,
    prefixes: &[(&str, u32, u32)],
    now: Time,
) -> ProxyBindingAcknowledgement {
    let mut answer = acknowledge(update, Status::ACCEPTED, update.lifetime, now);
    answer.options.home_network_prefixes = prefixes.iter().map(|(prefix, ..)| net(prefix)).collect();
    let lifetimes = prefixes.iter().map(|(prefix, preferred, valid)| PrefixLifetimes {
        prefix: net(prefix),
        preferred: *preferred,
        valid: *valid,
    });
    answer.options.prefix_lifetimes = lifetimes.collect();
    answer
}

fn hear(dpn: &mut Dpn, from: Ipv6Addr, answer: ProxyBindingAcknowledgement, now: Time) -> Vec<Output> {
    let message = MobilityMessage::ProxyBindingAcknowledgement(answer);
    dpn.process(Input::Message { from, message }, now)
}

/// A node with one prefix.
fn served(number: u8) -> (Dpn, ProxyBindingUpdate) {
    let mut dpn = dpn();
    let update = update(&attach(&mut dpn, number, NOW)).unwrap();
    let answer = accept(&update, &[(NEW, u32::MAX, u32::MAX)], NOW);
    hear(&mut dpn, DPA, answer, NOW);
    (dpn, update)
}

fn phase(dpn: &Dpn, number: u8) -> Option<Phase> {
    let node = dpn.state().nodes.get(&identifier(number))?;
    Some(node.phase.clone())
}

/// Lets time pass; gives everything that was to be done, and when the last of it was.
fn pass(dpn: &mut Dpn, mut now: Time, span: Duration) -> (Vec<Output>, Time) {
    let end = now.after(span);
    let mut outputs = Vec::new();
    while let Some(at) = dpn.next_deadline().filter(|at| *at <= end) {
        now = now.max(at);
        outputs.extend(dpn.process(Input::Tick, now));
    }
    (outputs, end)
}

fn notify(dpn: &mut Dpn, from: Ipv6Addr, number: u8, reason: u16) -> Vec<Output> {
    let message = MobilityMessage::UpdateNotification(UpdateNotification {
        sequence: 77,
        reason,
        flags: notification_flags::ACKNOWLEDGE,
        options: MobilityOptions {
            mobile_node_identifier: Some(identifier(number)),
            ..MobilityOptions::default()
        },
    });
    dpn.process(Input::Message { from, message }, NOW)
}

/// The status of a notification's acknowledgement.
fn status(outputs: &[Output]) -> Option<u8> {
    outputs.iter().find_map(|output| match output {
        Output::Send {
            message: MobilityMessage::UpdateNotificationAcknowledgement(it),
            ..
        } if it.sequence == 77 => Some(it.status),
        _ => None,
    })
}

#[test]
fn a_node_is_registered_and_told_what_it_gets() {
    let mut dpn = dpn();
    let sent = update(&attach(&mut dpn, 1, NOW)).unwrap();
    assert!(!sent.is_distributed() && sent.asks_for_acknowledgement());
    assert_eq!(sent.lifetime, lifetime_units(Timers::default().binding_lifetime));
    let options = &sent.options;
    assert_eq!(options.home_network_prefixes, [Ipv6Net::default()]);
    assert_eq!(options.handoff_indicator, Some(4));
    assert_eq!(options.access_technology_type, Some(4));
    assert_eq!(options.attachment_time, Some(timestamp_from_time(NOW)));
    assert_eq!(
        options.link_layer_identifier,
        Some(link_layer_address(1).0.to_vec())
    );
    let answer = accept(&sent, &[(NEW, u32::MAX, 3600), (OLD, 0, u32::MAX)], NOW);
    let outputs = hear(&mut dpn, DPA, answer, NOW);
    let told = [(net(NEW), 1800, 3600), (net(OLD), 0, 7200)];
    assert_eq!(advertised(&outputs).unwrap(), told);
    assert_eq!(phase(&dpn, 1), Some(Phase::Attached));
    // 60 % of the shorter of the two: the lifetime of the binding.
    let (outputs, _) = pass(&mut dpn, NOW, Duration::from_secs(361));
    let renewal = update(&outputs).unwrap();
    assert_eq!(renewal.options.handoff_indicator, Some(5));
    assert_eq!(renewal.options.attachment_time, None);
    // Advertisements count down to the end of what was told.
    let last = outputs
        .iter()
        .rev()
        .find_map(|it| advertised(std::slice::from_ref(it)));
    assert_eq!(last.unwrap()[0], (net(NEW), 1800, 3240));
}

#[test]
fn a_gateway_that_knows_no_lifetimes_has_all_prefixes_preferred() {
    let mut dpn = dpn();
    let sent = update(&attach(&mut dpn, 1, NOW)).unwrap();
    let mut answer = accept(&sent, &[(NEW, 0, 0), (OLD, 0, 0)], NOW);
    answer.options.prefix_lifetimes.clear();
    let outputs = hear(&mut dpn, DPA, answer, NOW);
    let told = [(net(NEW), 1800, 7200), (net(OLD), 1800, 7200)];
    assert_eq!(advertised(&outputs).unwrap(), told);
}

#[test]
fn lifetimes_that_end_are_renewed_before() {
    let mut dpn = dpn();
    let sent = update(&attach(&mut dpn, 1, NOW)).unwrap();
    hear(&mut dpn, DPA, accept(&sent, &[(NEW, 100, 200)], NOW), NOW);
    let (outputs, now) = pass(&mut dpn, NOW, Duration::from_secs(60));
    let renewal = update(&outputs).unwrap();
    let answer = accept(&renewal, &[(NEW, 1000, 2000)], now);
    hear(&mut dpn, DPA, answer, now);
    // However short they are, it is not asked all the time.
    let (outputs, now) = pass(&mut dpn, now, Duration::from_secs(360));
    let renewal = update(&outputs).unwrap();
    hear(&mut dpn, DPA, accept(&renewal, &[(NEW, 1, 1)], now), now);
    let (outputs, _) = pass(&mut dpn, now, Duration::from_millis(1900));
    assert_eq!(update(&outputs), None);
}

#[test]
fn what_is_not_an_answer_changes_nothing() {
    let mut dpn = dpn();
    let sent = update(&attach(&mut dpn, 1, NOW)).unwrap();
    let right = || accept(&sent, &[(NEW, u32::MAX, u32::MAX)], NOW);
    let mut wrong = right();
    wrong.sequence += 1;
    assert!(hear(&mut dpn, DPA, wrong, NOW).is_empty());
    let mut wrong = right();
    wrong.options.handoff_indicator = Some(3);
    assert!(hear(&mut dpn, DPA, wrong, NOW).is_empty());
    assert!(hear(&mut dpn, STRANGER, right(), NOW).is_empty());
    let late = acknowledge(&sent, Status::TIMESTAMP_MISMATCH, 0, NOW);
    assert!(hear(&mut dpn, DPA, late, NOW).is_empty());
    for counter in ["unmatched", "mismatched", "stranger"] {
        let name = format!("acknowledgements_{counter}");
        let counted = dpn.counters().iter().find(|(it, _)| *it == name);
        assert_eq!(counted.unwrap().1, 1, "{name}");
    }
    assert_eq!(phase(&dpn, 1), Some(Phase::Registering));
    // Retransmissions go on, with their own numbers and timestamps.
    let (outputs, _) = pass(&mut dpn, NOW, Duration::from_secs(1));
    let again = update(&outputs).unwrap();
    assert_eq!(again.sequence, sent.sequence + 1);
    assert!(again.options.timestamp > sent.options.timestamp);
    assert_eq!(again.options.attachment_time, sent.options.attachment_time);
    hear(&mut dpn, DPA, right(), NOW);
    assert_eq!(phase(&dpn, 1), Some(Phase::Attached));
}

#[test]
fn prefixes_that_cannot_be_are_not_taken() {
    let (mut dpn, _) = served(1);
    let sent = update(&attach(&mut dpn, 2, NOW)).unwrap();
    // Ours, none at all; of that of the other node below.
    let wrong = [
        ("2001:db8:e1::/64", u32::MAX, u32::MAX),
        ("::/0", 0, 0),
        ("fe80::/64", 0, 0),
    ];
    hear(&mut dpn, DPA, accept(&sent, &wrong, NOW), NOW);
    assert!(matches!(phase(&dpn, 2), Some(Phase::Refused { .. })));
    let counted = dpn
        .counters()
        .iter()
        .find(|(it, _)| *it == "prefixes_not_permitted");
    assert_eq!(counted.unwrap().1, 3);
    // With nothing but another's it goes on asking.
    let later = NOW.after(Duration::from_secs(2));
    let sent = update(&attach(&mut dpn, 2, later)).unwrap();
    hear(
        &mut dpn,
        DPA,
        accept(&sent, &[(NEW, u32::MAX, u32::MAX)], later),
        later,
    );
    assert_eq!(phase(&dpn, 2), Some(Phase::Registering));
    let (outputs, _) = pass(&mut dpn, later, Duration::from_secs(1));
    let updates = outputs.iter().filter_map(|it| update(std::slice::from_ref(it)));
    let mut its = updates.filter(|it| it.options.mobile_node_identifier == Some(identifier(2)));
    assert_eq!(its.next().unwrap().options.prefix_lifetimes[0].prefix, net(NEW));
}

#[test]
fn notifications() {
    let (mut dpn, _) = served(1);
    let force = notification_reason::FORCE_RE_REGISTRATION;
    assert!(notify(&mut dpn, STRANGER, 1, force).is_empty());
    assert_eq!(
        status(&notify(&mut dpn, DPA, 2, force)),
        Some(notification_status::NODE_NOT_ATTACHED)
    );
    assert_eq!(
        status(&notify(&mut dpn, DPA, 1, 5)),
        Some(notification_status::FAILED)
    );
    let outputs = notify(&mut dpn, DPA, 1, force);
    assert_eq!(status(&outputs), Some(notification_status::SUCCESS));
    let first = update(&outputs).unwrap();
    assert_eq!(first.options.handoff_indicator, Some(5));
    // Once more while that is on its way: its answer may be of before.
    let outputs = notify(&mut dpn, DPA, 1, force);
    assert_eq!(update(&outputs), None);
    let answer = accept(&first, &[(NEW, u32::MAX, u32::MAX), (OLD, 0, u32::MAX)], NOW);
    let outputs = hear(&mut dpn, DPA, answer, NOW);
    assert_eq!(advertised(&outputs).unwrap().len(), 2);
    let second = update(&outputs).unwrap();
    // One has gone, one has ended elsewhere: both are withdrawn.
    let mut answer = accept(&second, &[(NEW, u32::MAX, u32::MAX)], NOW);
    answer.options.prefix_lifetimes.push(PrefixLifetimes {
        prefix: net("2001:db8:300:1::/64"),
        preferred: 0,
        valid: 0,
    });
    let outputs = hear(&mut dpn, DPA, answer, NOW);
    let told = advertised(&outputs).unwrap();
    assert_eq!(told[0], (net(NEW), 1800, 7200));
    assert_eq!(told[1..], [(net(OLD), 0, 0), (net("2001:db8:300:1::/64"), 0, 0)]);
    assert_eq!(update(&outputs), None);
}

#[test]
fn a_node_that_is_elsewhere_is_forgotten() {
    let (mut dpn, _) = served(1);
    let force = notification_reason::FORCE_RE_REGISTRATION;
    let asked = update(&notify(&mut dpn, DPA, 1, force)).unwrap();
    let refusal = acknowledge(&asked, Status::NOT_LMA_FOR_THIS_MOBILE_NODE, 0, NOW);
    let outputs = hear(&mut dpn, DPA, refusal, NOW);
    assert_eq!(advertised(&outputs).unwrap(), [(net(NEW), 0, 0)]);
    assert_eq!((phase(&dpn, 1), dpn.next_deadline()), (None, None));
    // It may be back at once.
    assert!(update(&attach(&mut dpn, 1, NOW)).is_some());
}

#[test]
fn a_refused_node_waits_and_one_too_many_is_not_served() {
    let mut dpn = dpn();
    let sent = update(&attach(&mut dpn, 1, NOW)).unwrap();
    let refusal = acknowledge(&sent, Status::INSUFFICIENT_RESOURCES, 0, NOW);
    hear(&mut dpn, DPA, refusal, NOW);
    assert_eq!(update(&attach(&mut dpn, 1, NOW)), None);
    let later = NOW.after(Duration::from_secs(2));
    assert!(update(&attach(&mut dpn, 1, later)).is_some());
    attach(&mut dpn, 2, NOW);
    assert_eq!(update(&attach(&mut dpn, 3, NOW)), None);
    assert_eq!(phase(&dpn, 3), None);
}

#[test]
fn a_node_that_leaves_gets_what_is_on_its_way() {
    let (mut dpn, _) = served(1);
    let sent = update(&dpn.process(Input::Detached(identifier(1)), NOW)).unwrap();
    assert_eq!((sent.lifetime, sent.options.attachment_time), (0, None));
    assert_eq!(dpn.state().nodes[&identifier(1)].prefixes.len(), 1);
    let answer = acknowledge(&sent, Status::ACCEPTED, 0, NOW);
    hear(&mut dpn, DPA, answer, NOW);
    assert_eq!(phase(&dpn, 1), Some(Phase::Deregistering));
    pass(&mut dpn, NOW, Duration::from_millis(500));
    assert_eq!(phase(&dpn, 1), None);
    // Nobody answers: three times, and then it is forgotten all the same.
    let (mut dpn, _) = served(1);
    dpn.process(Input::Detached(identifier(1)), NOW);
    let (outputs, _) = pass(&mut dpn, NOW, Duration::from_secs(60));
    let again = outputs
        .iter()
        .filter(|it| update(std::slice::from_ref(it)).is_some());
    assert_eq!((again.count(), phase(&dpn, 1)), (2, None));
}

#[test]
fn a_silent_dpa_ends_the_binding() {
    let (mut dpn, _) = served(1);
    let (outputs, now) = pass(&mut dpn, NOW, Duration::from_secs(600));
    let withdrawn = outputs
        .iter()
        .rev()
        .find_map(|it| advertised(std::slice::from_ref(it)));
    assert_eq!(withdrawn.unwrap(), [(net(NEW), 0, 0)]);
    assert_eq!(phase(&dpn, 1), Some(Phase::Registering));
    pass(&mut dpn, now, Duration::from_secs(601));
    assert_eq!((phase(&dpn, 1), dpn.next_deadline()), (None, None));
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let (dpn, _) = served(1);
    let stored = serde_json::to_string(dpn.state()).unwrap();
    let settings = dpn.settings.clone();
    let mut again = Dpn::new(settings, serde_json::from_str(&stored).unwrap(), 7, NOW);
    let (outputs, _) = pass(&mut again, NOW, Duration::ZERO);
    assert_eq!(advertised(&outputs).unwrap(), [(net(NEW), 1800, 7200)]);
    assert!(again.other_owner(&net(NEW), &identifier(2)).is_some());
}

/// What the node of the DPN is refused, and what the DPN says to that.
fn refuse(dpn: &mut Dpn, asked: &ProxyBindingUpdate, status: Status, now: Time) -> Vec<Output> {
    hear(dpn, DPA, acknowledge(asked, status, 0, now), now)
}

#[test]
fn a_dpa_that_does_not_know_the_node_at_its_renewal_is_told_once_more_when_it_came() {
    let (mut dpn, first) = served(1);
    let (outputs, now) = pass(&mut dpn, NOW, Duration::from_secs(360));
    let renewal = update(&outputs).unwrap();
    assert_eq!(renewal.options.handoff_indicator, Some(5));
    let outputs = refuse(&mut dpn, &renewal, Status::NOT_LMA_FOR_THIS_MOBILE_NODE, now);
    let again = update(&outputs).unwrap();
    assert_eq!(again.options.handoff_indicator, Some(4));
    assert_eq!(again.options.attachment_time, first.options.attachment_time);
    // Its packets go on meanwhile.
    assert_eq!(advertised(&outputs), None);
    assert_eq!(dpn.state().nodes[&identifier(1)].prefixes.len(), 1);
    let mut known = dpn.clone();
    let answer = accept(&again, &[(NEW, u32::MAX, u32::MAX)], now);
    assert_eq!(update(&hear(&mut known, DPA, answer, now)), None);
    assert_eq!(phase(&known, 1), Some(Phase::Attached));
    // It is elsewhere.
    let outputs = refuse(&mut dpn, &again, Status::NOT_LMA_FOR_THIS_MOBILE_NODE, now);
    assert_eq!(update(&outputs), None);
    assert_eq!(advertised(&outputs).unwrap(), [(net(NEW), 0, 0)]);
    assert_eq!(phase(&dpn, 1), None);
}

#[test]
fn who_was_asked_for_by_the_dpa_and_is_refused_is_over() {
    let (mut dpn, _) = served(1);
    let (outputs, now) = pass(&mut dpn, NOW, Duration::from_secs(360));
    let renewal = update(&outputs).unwrap();
    // The notification comes while the renewal is on its way.
    notify(&mut dpn, DPA, 1, notification_reason::FORCE_RE_REGISTRATION);
    let outputs = refuse(&mut dpn, &renewal, Status::NOT_LMA_FOR_THIS_MOBILE_NODE, now);
    assert_eq!((update(&outputs), phase(&dpn, 1)), (None, None));
}

#[test]
fn what_another_node_has_here_is_asked_for_until_it_is_free() {
    let mut dpn = served(1).0;
    let kind = |outputs: &[Output], kind: &str| {
        let is = |it: &&Output| matches!(it, Output::Event(event) if event.kind == kind);
        outputs.iter().filter(is).count()
    };
    let sent = update(&attach(&mut dpn, 2, NOW)).unwrap();
    assert_eq!(sent.options.prefix_lifetimes, []);
    let answer = |update: &ProxyBindingUpdate, now| accept(update, &[(OLD, 1800, 7200), (NEW, 0, 7200)], now);
    let outputs = hear(&mut dpn, DPA, answer(&sent, NOW), NOW);
    assert_eq!(kind(&outputs, "prefix_of_another"), 1);
    assert_eq!(advertised(&outputs).unwrap(), [(net(OLD), 1800, 7200)]);
    // Who has it is asked for.
    let asked = update(&outputs).unwrap();
    assert_eq!(asked.options.mobile_node_identifier, Some(identifier(1)));
    assert_eq!(asked.options.handoff_indicator, Some(5));
    // The other says what it does not get, soon and then less often.
    let (outputs, now) = pass(&mut dpn, NOW, Duration::from_millis(2100));
    let mine = |it: &ProxyBindingUpdate| it.options.mobile_node_identifier == Some(identifier(2));
    let updates = outputs.iter().filter_map(|it| update(std::slice::from_ref(it)));
    let [told] = &updates.filter(mine).collect::<Vec<_>>()[..] else {
        panic!("{outputs:?}")
    };
    let withheld = PrefixLifetimes {
        prefix: net(NEW),
        preferred: 0,
        valid: 0,
    };
    assert_eq!(told.options.prefix_lifetimes, [withheld]);
    let outputs = hear(&mut dpn, DPA, answer(told, now), now);
    assert_eq!(kind(&outputs, "prefix_of_another"), 0, "it is nothing new");
    let (outputs, now) = pass(&mut dpn, now, Duration::from_millis(9900));
    let updates = outputs.iter().filter_map(|it| update(std::slice::from_ref(it)));
    assert_eq!(updates.filter(mine).count(), 0);
    // The one that had it has lost it.
    let asked = dpn.state().nodes[&identifier(1)].exchange.clone().unwrap();
    let mut lost = accept(&sent, &[("2001:db8:300:1::/64", 1800, 7200)], now);
    lost.sequence = *asked.sequences.last().unwrap();
    lost.options.mobile_node_identifier = Some(identifier(1));
    lost.options.handoff_indicator = Some(asked.handoff_indicator);
    lost.options.link_layer_identifier = None;
    hear(&mut dpn, DPA, lost, now);
    let (outputs, now) = pass(&mut dpn, now, Duration::from_millis(200));
    let told = update(&outputs).unwrap();
    assert!(mine(&told));
    hear(&mut dpn, DPA, answer(&told, now), now);
    assert_eq!(dpn.state().nodes[&identifier(2)].prefixes.len(), 2);
    let (outputs, _) = pass(&mut dpn, now, Duration::from_secs(400));
    let mut updates = outputs.iter().filter_map(|it| update(std::slice::from_ref(it)));
    let next = updates.find(mine).unwrap();
    assert_eq!(next.options.prefix_lifetimes, []);
}
