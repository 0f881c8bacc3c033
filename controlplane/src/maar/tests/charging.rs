//! What is counted, and to whom it is charged.

use std::collections::BTreeSet;

use ipnet::Ipv6Net;
use kedge_config::FilterRule;

use super::*;
use crate::charging::{Count, Record};
use crate::maar::{CountOf, LastReading, Reading};
use crate::wire::mobility::{AnchorRelocation, Context, ContextTransfer, RelocationStep};

fn packets(to_packets: u64, last_unix_ms: u64) -> Count {
    Count {
        to_packets,
        to_bytes: 100 * to_packets,
        first_unix_ms: 1000,
        last_unix_ms,
        ..Count::default()
    }
}

fn reading(prefix: Ipv6Net, to_packets: u64, last_unix_ms: u64) -> Reading {
    Reading {
        incarnation: 1,
        present: vec![(CountOf::Prefix(prefix), packets(to_packets, last_unix_ms))],
        ..Reading::default()
    }
}

fn home(maar: &Maar, number: u8) -> Ipv6Net {
    maar.state().nodes[&identifier(number)].home_network_prefix
}

fn total(maar: &Maar, prefix: Ipv6Net) -> Count {
    maar.state().charging.prefixes[&prefix].all.total()
}

fn usage(maar: &Maar) -> Vec<(MobileNodeIdentifier, u64)> {
    let records = maar.state().charging.outbox.records();
    let of = |record: &Record| match &record.context {
        Context::Usage { filter: None, count } => Some((record.identifier.clone(), count.to_packets)),
        _ => None,
    };
    records.filter_map(of).collect()
}

#[test]
fn a_reset_begins_anew_here_and_the_data_plane_counts_on() {
    let mut maar = attached();
    let prefix = home(&maar, 1);
    maar.process(Input::Counted(reading(prefix, 7, 2000)), NOW);
    let (whose, count) = maar.reset_charging(prefix).unwrap();
    assert_eq!((whose, count), (identifier(1), packets(7, 2000)));
    assert!(total(&maar, prefix).is_zero());
    // Killed and back, it is as it was told.
    let stored = serde_json::to_string(maar.state()).unwrap();
    let mut maar = Maar::new(
        maar.settings.clone(),
        serde_json::from_str(&stored).unwrap(),
        KEY,
        NOW,
    );
    assert!(maar.knows(&reading(prefix, 7, 2000)));
    maar.process(Input::Counted(reading(prefix, 10, 3000)), NOW);
    let after = total(&maar, prefix);
    assert_eq!((after.to_packets, after.to_bytes), (3, 300));
    assert_eq!((after.first_unix_ms, after.last_unix_ms), (2000, 3000));
    // Twice, and with a last reading.
    assert_eq!(maar.reset_charging(prefix).unwrap().1.to_packets, 3);
    let mut last = reading(prefix, 1, 5000);
    last.departed = vec![LastReading {
        sequence: 1,
        of: CountOf::Prefix(prefix),
        filter: None,
        count: packets(14, 4000),
    }];
    maar.process(Input::Counted(last), NOW);
    assert_eq!(total(&maar, prefix).to_packets, 5);
    assert_eq!(maar.reset_charging("2001:db8:900::/64".parse().unwrap()), None);
}

#[test]
fn a_prefix_rests_until_its_last_reading_is_there() {
    let mut maar = attached();
    let first = home(&maar, 1);
    maar.process(Input::Counted(reading(first, 7, 2000)), NOW);
    let (number, deregister) = (identifier(1), true);
    maar.process(
        Input::Detached {
            identifier: number,
            deregister,
        },
        NOW,
    );
    let gone = maar.next_deadline();
    assert!(gone.is_some());
    let mut now = NOW;
    while let Some(at) = maar.next_deadline().filter(|_| !maar.state().nodes.is_empty()) {
        now = now.max(at);
        maar.process(Input::Tick, now);
    }
    // There are two: the other one, and then none.
    assert!(attach(&mut maar, 2).is_some());
    assert_ne!(home(&maar, 2), first);
    // What it waits for is asked for, and not for each attempt.
    let asks = |maar: &mut Maar| {
        let link_layer_address = LinkLayerAddress([2, 0, 0, 0, 10, 3]);
        let outputs = maar.process(
            Input::Attached {
                identifier: identifier(3),
                port: "access".to_owned(),
                link_layer_address,
                link_local_address: link_layer_address.link_local(),
            },
            now,
        );
        outputs.contains(&Output::ReadCounters)
    };
    assert!(asks(&mut maar));
    let asked = (0..100).filter(|_| asks(&mut maar)).count();
    assert!(asked < 5, "{asked}");
    let mut last = Reading {
        incarnation: 1,
        ..Reading::default()
    };
    last.departed = vec![LastReading {
        sequence: 1,
        of: CountOf::Prefix(first),
        filter: None,
        count: packets(9, 3000),
    }];
    maar.process(Input::Counted(last), NOW);
    assert_eq!(usage(&maar), [(identifier(1), 9)]);
    assert!(attach(&mut maar, 3).is_some());
    assert_eq!(home(&maar, 3), first);
}

#[test]
fn a_prefix_that_is_anothers_all_the_same_is_charged_once() {
    let mut maar = attached();
    let prefix = home(&maar, 1);
    maar.process(Input::Counted(reading(prefix, 7, 2000)), NOW);
    // As if it had gone home, and come back with another node, between two readings.
    let node = maar.state.nodes.remove(&identifier(1)).unwrap();
    maar.state.nodes.insert(identifier(2), node);
    maar.note_users(NOW);
    assert!(total(&maar, prefix).is_zero());
    assert!(!maar.knows(&reading(prefix, 7, 2000)), "something is still open");
    for _ in 0..3 {
        assert_eq!(usage(&maar), []);
        maar.process(Input::Counted(reading(prefix, 12, 3000)), NOW);
        assert_eq!(total(&maar, prefix).to_packets, 5);
    }
    assert_eq!(usage(&maar), [(identifier(1), 7)]);
    assert!(maar.knows(&reading(prefix, 12, 3000)));
}

/// What filters counted of a prefix, for whom.
fn filtered(maar: &Maar) -> Vec<(MobileNodeIdentifier, String, u64)> {
    let records = maar.state().charging.outbox.records();
    let of = |record: &Record| match &record.context {
        Context::Usage {
            filter: Some(name),
            count,
        } => Some((record.identifier.clone(), name.clone(), count.to_packets)),
        _ => None,
    };
    records.filter_map(of).collect()
}

/// A prefix goes from one node to another between two readings: whatever the data plane says when, each is charged what it used.
#[test]
fn each_node_is_charged_what_it_used_of_a_prefix_that_changed_hands() {
    for (anew, late) in [(false, false), (true, false), (true, true)] {
        let mut maar = attached();
        let rule: FilterRule =
            toml::from_str("name = \"all\"\naction = \"meter\"\nmeter = \"m\"\nprotocol = \"udp\"").unwrap();
        maar.state.filters.insert("all".to_owned(), rule);
        let prefix = home(&maar, 1);
        maar.note_users(NOW);
        let id = maar.state().charging.prefixes[&prefix].filters["all"].id;
        let says = |count: u64, departed: Option<u64>, (id_now, filtered): (u64, u64)| {
            let filter = Some((prefix, "all".to_owned()));
            let last = |sequence, of, filter, count| LastReading {
                sequence,
                of,
                filter,
                count: packets(count, 2000),
            };
            let departed = departed.map(|count| {
                [
                    last(1, CountOf::Filter(id), filter, count / 2),
                    last(2, CountOf::Prefix(prefix), None, count),
                ]
            });
            Input::Counted(Reading {
                departed: departed.into_iter().flatten().collect(),
                present: vec![
                    (CountOf::Prefix(prefix), packets(count, 3000)),
                    (CountOf::Filter(id_now), packets(filtered, 3000)),
                ],
                incarnation: 1,
                ..Reading::default()
            })
        };
        maar.process(says(8, None, (id, 4)), NOW);
        let node = maar.state.nodes.remove(&identifier(1)).unwrap();
        maar.state.nodes.insert(identifier(2), node);
        maar.note_users(NOW);
        let next = maar.state().charging.prefixes[&prefix].filters["all"].id;
        assert_ne!(next, id);
        // The first one has used 14 of it in the end where its entry ended, and 8 where nobody knows better; the other one 20 or 12.
        if late {
            // Read before the tables were told.
            maar.process(says(12, None, (id, 6)), NOW);
        }
        if anew {
            maar.process(says(20, Some(14), (next, 9)), NOW);
        }
        for _ in 0..3 {
            maar.process(says(20, None, (next, 9)), NOW);
        }
        let expected = if anew { (14, 20) } else { (8, 12) };
        assert_eq!(usage(&maar), [(identifier(1), expected.0)], "{anew} {late}");
        // A filter of another node is another one of the data plane.
        let of_filter = (identifier(1), "all".to_owned(), expected.0 / 2);
        assert_eq!(filtered(&maar), [of_filter], "{anew} {late}");
        let charged = &maar.state().charging.prefixes[&prefix];
        assert_eq!(charged.all.total().to_packets, expected.1, "{anew} {late}");
        assert_eq!(charged.filters["all"].counted.total().to_packets, 9);
        assert!(maar.state().charging.closing.is_empty());
    }
}

/// A worker that is slow holds back the last reading of a filter: it is the one's who had it, though what was counted of the
/// prefix was handed over before, and the prefix is another's.
#[test]
fn a_last_reading_that_comes_late_is_charged_to_who_had_the_filter() {
    let rule: FilterRule =
        toml::from_str("name = \"all\"\naction = \"meter\"\nmeter = \"m\"\nprotocol = \"udp\"").unwrap();
    let with_rule = || {
        let mut maar = attached();
        maar.state.filters.insert("all".to_owned(), rule.clone());
        maar.note_users(NOW);
        maar
    };
    for (killed, gone) in [(false, false), (true, false), (false, true)] {
        let mut maar = with_rule();
        let prefix = home(&maar, 1);
        let id = maar.state().charging.prefixes[&prefix].filters["all"].id;
        let metered = |count: u64| Count {
            colours: [count, 100 * count, 0, 0, 0, 0].into(),
            ..packets(count, 3000)
        };
        let says = |departed: Vec<LastReading>, of_prefix: u64, of_filter: (u64, u64), departing| {
            let mut present = vec![
                (CountOf::Prefix(prefix), packets(of_prefix, 3000)),
                (CountOf::Filter(of_filter.0), metered(of_filter.1)),
            ];
            if of_prefix == 0 {
                present.clear();
            }
            Input::Counted(Reading {
                incarnation: 1,
                departed,
                present,
                departing,
                ..Reading::default()
            })
        };
        maar.process(says(vec![], 8, (id, 4), 0), NOW);
        let node = maar.state.nodes.remove(&identifier(1)).unwrap();
        if !gone {
            maar.state.nodes.insert(identifier(2), node.clone());
        }
        maar.note_users(NOW);
        let last = |sequence, of, count| LastReading {
            sequence,
            of,
            filter: (of != CountOf::Prefix(prefix)).then(|| (prefix, "all".to_owned())),
            count,
        };
        let of_prefix = last(1, CountOf::Prefix(prefix), packets(14, 2000));
        if gone {
            for _ in 0..4 {
                maar.process(says(vec![of_prefix.clone()], 0, (0, 0), 1), NOW);
            }
            // Now it is the other one's.
            maar.state.nodes.insert(identifier(2), node);
            maar.note_users(NOW);
        }
        let next = maar.state().charging.prefixes[&prefix].filters["all"].id;
        assert_ne!(next, id);
        maar.process(says(vec![of_prefix], 20, (next, 9), 1), NOW);
        // However long that takes.
        for more in 1..9 {
            maar.process(says(vec![], 20 + more, (next, 9), 1), NOW);
        }
        if killed {
            let stored = serde_json::to_string(maar.state()).unwrap();
            let state = serde_json::from_str(&stored).unwrap();
            maar = Maar::new(maar.settings.clone(), state, KEY, NOW);
        }
        assert_eq!(usage(&maar), [(identifier(1), 14)]);
        let late = last(2, CountOf::Filter(id), metered(7));
        maar.process(says(vec![late.clone()], 28, (next, 9), 0), NOW);
        let of_filter = |count| (identifier(1), "all".to_owned(), count);
        assert_eq!(filtered(&maar), [of_filter(4), of_filter(3)], "{killed} {gone}");
        // Nothing more is to come, and what was remembered for that is not any more.
        for more in 0..4 {
            maar.process(says(vec![late.clone()], 29 + more, (next, 9), 0), NOW);
        }
        assert!(maar.state().charging.former.is_empty());
        let of_next = &maar.state().charging.prefixes[&prefix].filters["all"];
        assert_eq!(of_next.counted.total(), metered(9));
        assert_eq!(filtered(&maar).len(), 2);
    }
}

fn context(identifier: MobileNodeIdentifier, prefix: Ipv6Net, context: Context, id: u64) -> Input {
    let message = MobilityMessage::ProxyBindingUpdate(ProxyBindingUpdate {
        sequence: 1,
        flags: UPDATE_FLAGS,
        lifetime: 0,
        options: MobilityOptions {
            mobile_node_identifier: Some(identifier),
            context_transfer: Some(ContextTransfer {
                id,
                oldest: id,
                prefix,
                context,
            }),
            ..MobilityOptions::default()
        },
    });
    Input::Message { from: CMD, message }
}

#[test]
fn a_filter_that_comes_after_its_prefix_has_gone_goes_on() {
    let mut maar = attached();
    let rule: FilterRule = toml::from_str("name = \"guard\"\naction = \"drop\"\nprotocol = \"udp\"").unwrap();
    let rule = || Context::Filter(Box::new(rule.clone()));
    let prefix = home(&maar, 1);
    // Of the node that is here, another prefix; and of one that is nowhere.
    let elsewhere: Ipv6Net = "2001:db8:200:7::/64".parse().unwrap();
    maar.process(context(identifier(1), elsewhere, rule(), 1), NOW);
    maar.process(context(identifier(2), elsewhere, rule(), 2), NOW);
    assert!(maar.state().filters.is_empty());
    let waiting = maar.state().charging.outbox.records();
    let waiting: Vec<_> = waiting.map(|it| (it.identifier.clone(), it.prefix)).collect();
    assert_eq!(waiting, [(identifier(1), elsewhere), (identifier(2), elsewhere)]);
    // What is here takes it.
    maar.process(context(identifier(1), prefix, rule(), 3), NOW);
    assert!(maar.state().filters.contains_key("guard"));
    assert_eq!(maar.state().charging.outbox.records().count(), 2);
}

#[test]
fn what_cannot_be_kept_is_told() {
    let mut maar = attached();
    let prefix = home(&maar, 1);
    let elsewhere: Ipv6Net = "2001:db8:200:7::/64".parse().unwrap();
    let used = |id| Context::Usage {
        filter: None,
        count: packets(id, 2000),
    };
    let record = |id| Record {
        identifier: identifier(9),
        prefix: elsewhere,
        context: used(id),
        meter: None,
    };
    for id in 0..1 << 17 {
        maar.state.charging.push(record(id + 1), NOW);
    }
    assert_eq!(maar.state.charging.lost, []);
    let rule: FilterRule = toml::from_str("name = \"guard\"\naction = \"drop\"\nprotocol = \"udp\"").unwrap();
    let rule = Context::Filter(Box::new(rule));
    let outputs = maar.process(context(identifier(2), elsewhere, rule, 1), NOW);
    let told = |outputs: &[Output], kind: &str| {
        let event = outputs.iter().find_map(|it| match it {
            Output::Event(event) if event.kind == kind => Some(event.clone()),
            _ => None,
        });
        let event = event.unwrap();
        let field = |name: &str| event.field(name).unwrap().to_owned();
        [
            field("identifier"),
            field("prefix"),
            field("filter"),
            field("to_packets"),
        ]
    };
    let name = identifier(9).to_string();
    let lost = [name, elsewhere.to_string(), String::new(), "1".to_owned()];
    assert_eq!(told(&outputs, "context_given_up"), lost);
    // Of 4097 filters that have come and gone the oldest.
    for id in 0..4097 {
        let of = Context::Usage {
            filter: Some(format!("f{id}")),
            count: packets(5, 2000 + id),
        };
        maar.process(context(identifier(1), prefix, of, 10 + id), NOW);
    }
    let outputs = maar.process(Input::Counted(reading(prefix, 1, 2000)), NOW);
    let lost = [
        identifier(1).to_string(),
        prefix.to_string(),
        "f0".to_owned(),
        "5".to_owned(),
    ];
    assert_eq!(told(&outputs, "filter_count_given_up"), lost);
    let kept = &maar.state().charging.prefixes[&prefix].filters;
    assert_eq!((kept.len(), kept.contains_key("f0")), (4096, false));
    let counted: BTreeSet<_> = maar
        .counters()
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, _)| name)
        .collect();
    assert!(counted.contains("contexts_given_up") && counted.contains("filter_counts_given_up"));
}

/// A filter that goes ahead of its prefix, for which there is no room any more: that is told, and the CMD does not wait for it.
#[test]
fn a_handed_filter_that_cannot_be_kept_is_told_and_not_waited_for() {
    let mut maar = attached();
    let prefix = home(&maar, 1);
    let elsewhere = told(&maar);
    assert_eq!(status_of(&mut maar, CMD, elsewhere), Some(Status::ACCEPTED));
    let mut rule: FilterRule = toml::from_str("name = \"guard\"\naction = \"drop\"").unwrap();
    rule.node = Some(identifier(1).to_string());
    maar.process(Input::PutFilter(rule), NOW);
    let later = NOW.after(Duration::from_secs(1));
    let mut prepare = told(&maar);
    prepare.options.timestamp = Some(timestamp_from_time(later));
    prepare.options.anchor_relocation = Some(AnchorRelocation {
        step: RelocationStep::Prepare,
        anchor: PEER,
    });
    let message = MobilityMessage::ProxyBindingUpdate(prepare);
    let answered = |outputs: &[Output]| {
        outputs.iter().any(|it| {
            let message = match it {
                Output::Send { message, .. } | Output::SendWhenSaved { message, .. } => message,
                _ => return false,
            };
            matches!(message, MobilityMessage::ProxyBindingAcknowledgement(_))
        })
    };
    let outputs = maar.process(Input::Message { from: CMD, message }, later);
    assert!(!answered(&outputs), "{outputs:?}");
    assert_eq!(maar.state().charging.outbox.records().count(), 1);
    for id in 0..1 << 17 {
        let record = Record {
            identifier: identifier(9),
            prefix,
            context: Context::Usage {
                filter: None,
                count: packets(id + 1, 2000),
            },
            meter: None,
        };
        maar.state.charging.push(record, later);
    }
    let outputs = maar.process(Input::Counted(reading(prefix, 1, 2000)), later);
    let event = outputs.iter().find_map(|it| match it {
        Output::Event(event) if event.kind == "context_given_up" => Some(event),
        _ => None,
    });
    let event = event.unwrap();
    assert_eq!(
        (event.field("filter"), event.field("prefix")),
        (Some("guard"), Some(prefix.to_string().as_str()))
    );
    assert!(answered(&outputs));
    for counter in ["contexts_given_up", "filters_given_up"] {
        assert_eq!(maar.counters().get(counter), 1, "{counter}");
    }
}
