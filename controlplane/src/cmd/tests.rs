//! What the CMD refuses, and with which status. (What it accepts: `tests/domain.rs`.)

mod endpoints;
mod room;

use std::net::Ipv6Addr;
use std::time::Duration;

use kedge_config::{CmdMode, KnownMaar, PolicyRule, Timers, TunnelType, previous_maars_that_fit};

use super::{Cmd, Input, Output, PolicyError, Settings, State};
use crate::charging::Count;
use crate::identity::MobileNodeIdentifier;
use crate::proxy_binding::UPDATE_FLAGS;
use crate::time::Time;
use crate::wire::mobility::{
    Context, ContextTransfer, MobilityMessage, MobilityOptions, PrefixMobilityKind,
    ProxyBindingAcknowledgement, ProxyBindingUpdate, Status, TunnelEndpoint, acknowledgement_flags, emit,
    timestamp_from_time, update_flags,
};

const NOW: Time = Time(Duration::from_secs(1_700_000_000));

fn maar(index: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xa, index, 0, 0, 0, 1)
}

fn cmd() -> Cmd {
    let known = |index: u16| KnownMaar {
        address: maar(index),
        prefix_pools: vec![format!("2001:db8:{index}00::/48").parse().unwrap()],
    };
    let settings = Settings {
        maximum_relocations: 64,
        policies: Vec::new(),
        mode: CmdMode::Proxy,
        known_maars: vec![known(1), known(2)],
        tunnel: TunnelType::Ipv6InIpv6,
        maximum_previous_maars: 8,
        maximum_bindings: 2,
        relocate_after: None,
        router_link_local_address: "fe80::200:5eff:fe00:5213".parse().unwrap(),
        timers: Timers::default(),
    };
    Cmd::new(settings, State::default(), NOW)
}

fn endpoint(maar: Ipv6Addr, teid: u32) -> TunnelEndpoint {
    TunnelEndpoint::gtpu(maar, teid.try_into().unwrap())
}

fn update(number: u8) -> ProxyBindingUpdate {
    ProxyBindingUpdate {
        sequence: 7,
        flags: UPDATE_FLAGS,
        lifetime: 150,
        options: MobilityOptions {
            mobile_node_identifier: Some(MobileNodeIdentifier::nai(&format!("mn{number}@example.net"))),
            home_network_prefixes: vec![format!("2001:db8:100:{number}::/64").parse().unwrap()],
            handoff_indicator: Some(4),
            access_technology_type: Some(4),
            timestamp: Some(timestamp_from_time(NOW)),
            link_layer_identifier: Some(vec![2, 0, 0, 0, 10, number]),
            link_local_address: Some(Ipv6Addr::UNSPECIFIED),
            ..MobilityOptions::default()
        },
    }
}

fn answers(
    cmd: &mut Cmd,
    from: Ipv6Addr,
    update: ProxyBindingUpdate,
    now: Time,
) -> Vec<ProxyBindingAcknowledgement> {
    let message = MobilityMessage::ProxyBindingUpdate(update);
    let outputs = cmd.process(Input::Message { from, message }, now);
    let answers = outputs.into_iter().filter_map(|output| match output {
        Output::Send {
            to,
            message: MobilityMessage::ProxyBindingAcknowledgement(answer),
        } => {
            assert_eq!(to, from);
            Some(answer)
        }
        _ => None,
    });
    answers.collect()
}

/// The one answer to a changed update of a known MAAR.
fn answer(change: impl FnOnce(&mut ProxyBindingUpdate)) -> (Cmd, ProxyBindingAcknowledgement) {
    let mut cmd = cmd();
    let mut update = update(1);
    change(&mut update);
    let mut answers = answers(&mut cmd, maar(1), update, NOW);
    assert_eq!(answers.len(), 1);
    (cmd, answers.remove(0))
}

#[test]
fn a_registration_is_accepted_and_echoed() {
    let (cmd, answer) = answer(|_| {});
    assert_eq!(answer.status, Status::ACCEPTED);
    assert_eq!(
        answer.flags,
        acknowledgement_flags::PROXY | acknowledgement_flags::DISTRIBUTED
    );
    assert_eq!((answer.sequence, answer.lifetime), (7, 150));
    let asked = update(1).options;
    assert_eq!(
        answer.options.mobile_node_identifier,
        asked.mobile_node_identifier
    );
    assert_eq!(answer.options.home_network_prefixes, asked.home_network_prefixes);
    assert_eq!(answer.options.handoff_indicator, asked.handoff_indicator);
    assert_eq!(
        answer.options.access_technology_type,
        asked.access_technology_type
    );
    assert_eq!(answer.options.timestamp, asked.timestamp);
    assert_eq!(answer.options.link_layer_identifier, asked.link_layer_identifier);
    assert_eq!(
        answer.options.link_local_address.unwrap().to_string(),
        "fe80::200:5eff:fe00:5213"
    );
    assert_eq!(cmd.state().bindings.len(), 1);
}

#[test]
fn a_longer_lifetime_than_configured_is_cut() {
    let (_, answer) = answer(|update| update.lifetime = 60_000);
    assert_eq!(answer.lifetime, 150);
}

#[test]
fn each_refusal_has_its_status_and_leaves_no_state() {
    type Change = fn(&mut ProxyBindingUpdate);
    let cases: [(&str, Change, Status); 13] = [
        (
            "no identifier",
            |it| it.options.mobile_node_identifier = None,
            Status::MISSING_MN_IDENTIFIER_OPTION,
        ),
        (
            "empty identifier",
            |it| it.options.mobile_node_identifier = Some(MobileNodeIdentifier::nai("")),
            Status::MISSING_MN_IDENTIFIER_OPTION,
        ),
        (
            "no D flag",
            |it| it.flags &= !update_flags::DISTRIBUTED,
            Status::ADMINISTRATIVELY_PROHIBITED,
        ),
        (
            "no timestamp",
            |it| it.options.timestamp = None,
            Status::TIMESTAMP_MISMATCH,
        ),
        (
            "old",
            |it| it.options.timestamp = it.options.timestamp.map(|it| it - 20_000),
            Status::TIMESTAMP_MISMATCH,
        ),
        (
            "future",
            |it| it.options.timestamp = it.options.timestamp.map(|it| it + 20_000),
            Status::TIMESTAMP_MISMATCH,
        ),
        (
            "no prefix",
            |it| it.options.home_network_prefixes.clear(),
            Status::MISSING_HOME_NETWORK_PREFIX_OPTION,
        ),
        (
            "no handoff",
            |it| it.options.handoff_indicator = None,
            Status::MISSING_HANDOFF_INDICATOR_OPTION,
        ),
        (
            "no access type",
            |it| it.options.access_technology_type = None,
            Status::MISSING_ACCESS_TECH_TYPE_OPTION,
        ),
        (
            "all-zero prefix",
            |it| it.options.home_network_prefixes = vec!["::/0".parse().unwrap()],
            Status::NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX,
        ),
        (
            "prefix of another's pool",
            |it| it.options.home_network_prefixes = vec!["2001:db8:200:1::/64".parse().unwrap()],
            Status::NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX,
        ),
        (
            "not a /64",
            |it| it.options.home_network_prefixes = vec!["2001:db8:100::/56".parse().unwrap()],
            Status::NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX,
        ),
        (
            "a foreign care-of address",
            |it| it.options.alternate_care_of_address = Some(Ipv6Addr::LOCALHOST),
            Status::MAG_NOT_AUTHORIZED_FOR_PROXY_REG,
        ),
    ];
    for (what, change, status) in cases {
        let (cmd, answer) = answer(change);
        assert_eq!(answer.status, status, "{what}");
        assert_eq!(answer.sequence, 7, "{what}");
        assert!(
            answer.options.mobile_node_identifier.is_some(),
            "{what}: RFC 5213 section 5.3.6"
        );
        assert!(
            !answer.options.home_network_prefixes.is_empty(),
            "{what}: a refusal carries prefixes too"
        );
        assert!(
            answer.options.handoff_indicator.is_some() && answer.options.access_technology_type.is_some()
        );
        assert!(cmd.state().bindings.is_empty(), "{what}");
        assert_eq!(cmd.counters().get("updates_refused"), 1, "{what}");
        assert_eq!(
            answer.flags & acknowledgement_flags::DISTRIBUTED != 0,
            what != "no D flag",
            "{what}"
        );
    }
}

#[test]
fn a_timestamp_must_grow() {
    let mut cmd = cmd();
    assert_eq!(
        answers(&mut cmd, maar(1), update(1), NOW)[0].status,
        Status::ACCEPTED
    );
    let again = answers(&mut cmd, maar(1), update(1), NOW);
    assert_eq!(again[0].status, Status::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED);
    // The refusal tells our own clock, not the one refused.
    let later = NOW.after(Duration::from_millis(100));
    let again = answers(&mut cmd, maar(1), update(1), later);
    assert_eq!(again[0].options.timestamp, Some(timestamp_from_time(later)));
}

#[test]
fn a_stranger_is_told_154_three_times_a_second() {
    let mut cmd = cmd();
    let stranger = maar(9);
    let mut told = 0;
    for _ in 0..10 {
        for answer in answers(&mut cmd, stranger, update(1), NOW) {
            assert_eq!(answer.status, Status::MAG_NOT_AUTHORIZED_FOR_PROXY_REG);
            told += 1;
        }
    }
    assert_eq!(told, 3);
    assert!(cmd.state().bindings.is_empty());
    assert_eq!(cmd.counters().get("updates_refused_stranger"), 10);
    assert_eq!(cmd.counters().get("refusals_suppressed"), 7);
}

#[test]
fn a_prefix_of_another_node_is_refused() {
    let mut cmd = cmd();
    answers(&mut cmd, maar(1), update(1), NOW);
    let mut thief = update(2);
    thief.options.home_network_prefixes = update(1).options.home_network_prefixes;
    let refused = answers(&mut cmd, maar(1), thief, NOW);
    assert_eq!(refused[0].status, Status::NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX);
    assert_eq!(cmd.state().bindings.len(), 1);
}

#[test]
fn a_full_cache_refuses() {
    let mut cmd = cmd();
    for number in 1..=3 {
        let status = answers(&mut cmd, maar(1), update(number), NOW)[0].status;
        let expected = if number == 3 {
            Status::INSUFFICIENT_RESOURCES
        } else {
            Status::ACCEPTED
        };
        assert_eq!(status, expected);
    }
}

#[test]
fn late_and_unknown_deregistrations_are_ignored() {
    let mut cmd = cmd();
    let mut gone = update(1);
    gone.lifetime = 0;
    assert!(answers(&mut cmd, maar(1), gone.clone(), NOW).is_empty());
    assert_eq!(cmd.counters().get("deregistrations_ignored_unknown"), 1);
    answers(&mut cmd, maar(1), update(1), NOW);
    // From the other MAAR, with a prefix of its own pool.
    gone.options.home_network_prefixes = vec!["2001:db8:200:1::/64".parse().unwrap()];
    let later = NOW.after(Duration::from_millis(10));
    gone.options.timestamp = Some(timestamp_from_time(later));
    assert!(answers(&mut cmd, maar(2), gone, later).is_empty());
    assert_eq!(cmd.counters().get("deregistrations_ignored_not_serving"), 1);
    assert_eq!(cmd.state().bindings.len(), 1);
}

#[test]
fn a_renewal_names_the_prefixes_there_are() {
    let mut cmd = cmd();
    answers(&mut cmd, maar(1), update(1), NOW);
    let later = NOW.after(Duration::from_millis(10));
    let mut renewal = update(1);
    renewal.options.timestamp = Some(timestamp_from_time(later));
    renewal.options.handoff_indicator = Some(5);
    renewal.options.home_network_prefixes = vec!["2001:db8:100:77::/64".parse().unwrap()];
    let refused = answers(&mut cmd, maar(1), renewal.clone(), later);
    assert_eq!(refused[0].status, Status::BCE_PBU_PREFIX_SET_DO_NOT_MATCH);
    // Attached anew by a MAAR that lost its memory: the new prefix replaces the old one.
    renewal.options.handoff_indicator = Some(4);
    assert_eq!(
        answers(&mut cmd, maar(1), renewal, later)[0].status,
        Status::ACCEPTED
    );
    let binding = cmd.state().bindings.values().next().unwrap();
    assert_eq!(binding.prefixes[0].to_string(), "2001:db8:100:77::/64");
}

#[test]
fn answers_nobody_waits_for_change_nothing() {
    let mut cmd = cmd();
    answers(&mut cmd, maar(1), update(1), NOW);
    let before = cmd.state().clone();
    let (_, accepted) = answer(|_| {});
    for (from, counter) in [
        (maar(9), "acknowledgements_stranger"),
        (maar(2), "acknowledgements_unmatched"),
    ] {
        let message = MobilityMessage::ProxyBindingAcknowledgement(accepted.clone());
        assert!(cmd.process(Input::Message { from, message }, NOW).is_empty());
        assert_eq!(cmd.counters().get(counter), 1);
    }
    assert_eq!(cmd.state(), &before);
}

#[test]
fn what_was_counted_last_is_told_with_the_number_of_its_record() {
    let mut cmd = cmd();
    answers(&mut cmd, maar(1), update(1), NOW);
    let hand_over = |cmd: &mut Cmd, prefix: &str, context: Context, id: u64| {
        let mut it = update(1);
        it.options.home_network_prefixes.clear();
        it.options.context_transfer = Some(ContextTransfer {
            id,
            oldest: id,
            prefix: prefix.parse().unwrap(),
            context,
        });
        let message = MobilityMessage::ProxyBindingUpdate(it);
        let outputs = cmd.process(
            Input::Message {
                from: maar(1),
                message,
            },
            NOW,
        );
        let event = |output: Output| match output {
            Output::Event(event) => Some(event),
            _ => None,
        };
        outputs.into_iter().find_map(event)
    };
    let count = Count {
        to_packets: 3,
        ..Count::default()
    };
    let usage = || Context::Usage { filter: None, count };
    let event = hand_over(&mut cmd, "2001:db8:100:9::/64", usage(), 77).unwrap();
    assert_eq!(event.kind, "usage_closed");
    let field = |name: &str| event.field(name).unwrap();
    let maar = maar(1).to_string();
    assert_eq!(
        [field("maar"), field("record"), field("to_packets")],
        [&maar, "77", "3"]
    );
    assert_eq!(
        hand_over(&mut cmd, "2001:db8:100:9::/64", usage(), 77),
        None,
        "once"
    );
    // A filter goes back to nobody: who passes it on has not got its prefix.
    let rule = toml::from_str("name = \"guard\"\naction = \"drop\"\nprotocol = \"udp\"").unwrap();
    let rule = Context::Filter(Box::new(rule));
    let event = hand_over(&mut cmd, "2001:db8:100:1::/64", rule.clone(), 78).unwrap();
    assert_eq!(
        (event.kind, event.field("maar")),
        ("filter_stays", Some(maar.as_str()))
    );
    let event = hand_over(&mut cmd, "2001:db8:100:9::/64", rule, 79).unwrap();
    assert_eq!(event.kind, "filter_without_anchor");
    assert_eq!(cmd.counters().get("contexts_stay"), 1);
    assert_eq!(cmd.counters().get("contexts_without_anchor"), 1);
    assert!(
        cmd.state()
            .contexts
            .outboxes
            .values()
            .all(|it| it.records().count() == 0)
    );
}
