//! Random clients, moves, restarts and times, beside a reference that is slow and obvious: a list of what each client was
//! told, and nothing else.

use std::time::Duration;

use ipnet::Ipv6Net;
use proptest::prelude::*;

use super::tests::{duid, net, settings};
use super::*;
use crate::delegation::wire::{DelegatedPrefix, IdentityAssociation, Message, MessageType};
use crate::time::Time;

#[derive(Clone, Debug)]
enum Step {
    Ask {
        kind: usize,
        client: u8,
        iaid: u32,
        hint: Option<usize>,
    },
    Move {
        prefix: usize,
        to: u8,
    },
    Wait(u64),
    Restart,
}

const KINDS: [MessageType; 7] = [
    MessageType::Solicit,
    MessageType::Request,
    MessageType::Request,
    MessageType::Renew,
    MessageType::Rebind,
    MessageType::Release,
    MessageType::Decline,
];

/// Few enough that they meet: of two pools, parts of the first one's, one that cannot be asked for, and a foreign one.
fn universe() -> Vec<Ipv6Net> {
    [
        "2001:db8:1000::/56",
        "2001:db8:1000:100::/56",
        "2001:db8:2000::/64",
        "2001:db8:2000:1::/64",
        "2001:db8:1000:5::/64",
        "2001:db8:1000:6::/64",
        "2001:db8:1000:105::/64",
        "2001:db8:3000::/64",
        "2001:db8:9::/64",
    ]
    .map(net)
    .to_vec()
}

fn small() -> Settings {
    let mut settings = settings();
    for (pool, prefix) in
        settings
            .pools
            .iter_mut()
            .zip(["2001:db8:1000::/55", "2001:db8:2000::/63", "2001:db8:3000::/63"])
    {
        pool.prefix = net(prefix);
    }
    settings
}

fn step() -> impl Strategy<Value = Step> {
    let count = universe().len();
    prop_oneof![
        8 => (0..KINDS.len(), 1..4_u8, 0..2_u32, proptest::option::of(0..count))
            .prop_map(|(kind, client, iaid, hint)| Step::Ask { kind, client, iaid, hint }),
        3 => (0..count, 1..4_u8).prop_map(|(prefix, to)| Step::Move { prefix, to }),
        2 => (1..900_u64).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ]
}

/// What a client was told that it has.
#[derive(Clone, Debug)]
struct Told {
    client: u8,
    prefix: Ipv6Net,
    until: Time,
}

/// The slow and obvious one.
#[derive(Default)]
struct Reference {
    told: Vec<Told>,
    /// Prefixes that were moved away from whoever had them, or what they are a part of.
    away: Vec<Ipv6Net>,
}

impl Reference {
    fn has(&mut self, client: u8, prefix: Ipv6Net, until: Time) {
        self.has_not(client, prefix);
        self.told.push(Told {
            client,
            prefix,
            until,
        });
    }

    fn has_not(&mut self, client: u8, prefix: Ipv6Net) {
        self.told.retain(|it| (it.client, it.prefix) != (client, prefix));
    }

    fn moved(&mut self, prefix: Ipv6Net, to: u8) {
        self.told.retain(|it| it.prefix != prefix || it.client == to);
        self.away.push(prefix);
    }

    fn check(&self, state: &State, now: Time) {
        let current: Vec<_> = self.told.iter().filter(|it| it.until > now).collect();
        for one in &current {
            let lease = state.leases.get(&one.prefix);
            let holder = lease.map(|lease| lease.client.clone());
            assert_eq!(holder, Some(duid(one.client)), "{one:?} is in the table");
            for other in &current {
                let narrow = if one.prefix.prefix_len() > other.prefix.prefix_len() {
                    one
                } else {
                    other
                };
                let apart = !one.prefix.contains(&other.prefix) && !other.prefix.contains(&one.prefix);
                assert!(
                    one.client == other.client || apart || self.away.contains(&narrow.prefix),
                    "{one:?} and {other:?}"
                );
                assert!(
                    one.client == other.client || one.prefix != other.prefix,
                    "{one:?} and {other:?}"
                );
            }
        }
    }
}

/// The first free one from `start` on, by looking at every lease for every prefix.
fn slow_free(pool: &Pool, state: &State, start: u64) -> Option<Ipv6Net> {
    let capacity = pool.capacity();
    (0..capacity)
        .filter_map(|step| pool.nth((start % capacity + step) % capacity))
        .find(|prefix| {
            state
                .leases
                .keys()
                .all(|it| !it.contains(prefix) && !prefix.contains(it))
        })
}

fn ask(kind: MessageType, client: u8, iaid: u32, hint: Option<Ipv6Net>) -> Message {
    let mut message = Message::new(kind, 1);
    message.client = Some(duid(client));
    message.rapid_commit = iaid == 1;
    if !matches!(kind, MessageType::Solicit | MessageType::Rebind) {
        message.server = Some(duid(255));
    }
    let prefix = |prefix| DelegatedPrefix {
        preferred: 0,
        valid: 0,
        prefix,
        exclude: None,
        status: None,
    };
    message.delegations = vec![IdentityAssociation {
        prefixes: hint.map(prefix).into_iter().collect(),
        ..IdentityAssociation::new(iaid)
    }];
    message
}

/// What the disk has after the outputs, which are sent only then.
fn written(disk: &mut State, outputs: &[Output]) -> Option<Message> {
    let mut answer = None;
    for output in outputs {
        match output {
            Output::Commit(changes) => changes.iter().for_each(|change| disk.apply(change.clone())),
            Output::Send { octets, .. } => answer = Some(Message::parse(octets).unwrap()),
            Output::Event(_) => {}
        }
    }
    answer
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_prefix_is_delegated_twice(steps in proptest::collection::vec(step(), 1..60), start in any::<u64>()) {
        let universe = universe();
        let mut now = Time(Duration::from_secs(1_000_000));
        let mut machine = Delegating::new(small(), State::default());
        let mut disk = State::default();
        let mut reference = Reference::default();
        for step in steps {
            match step {
                Step::Wait(seconds) => {
                    now = now.after(Duration::from_secs(seconds));
                    let outputs = machine.process(Input::Tick, now);
                    written(&mut disk, &outputs);
                }
                Step::Restart => {
                    let text = serde_json::to_string(&disk).unwrap();
                    machine = Delegating::new(small(), serde_json::from_str(&text).unwrap());
                }
                Step::Move { prefix, to } => {
                    let taker = Taker { client: duid(to), iaid: None };
                    if let Ok(outputs) = machine.move_lease(universe[prefix], &taker, now) {
                        written(&mut disk, &outputs);
                        reference.moved(universe[prefix], to);
                    }
                }
                Step::Ask { kind, client, iaid, hint } => {
                    let kind = KINDS[kind];
                    let hint = hint.map(|index| universe[index]);
                    let input = Input::Datagram {
                        from: "fe80::1".parse().unwrap(),
                        interface: "eth0".to_owned(),
                        multicast: true,
                        octets: ask(kind, client, iaid, hint).emit().unwrap(),
                    };
                    let outputs = machine.process(input, now);
                    if matches!(kind, MessageType::Release | MessageType::Decline) {
                        let gone = outputs.iter().filter_map(|output| match output {
                            Output::Event(event) => event.field("prefix")?.parse().ok(),
                            _ => None,
                        });
                        gone.for_each(|prefix| reference.has_not(client, prefix));
                    }
                    let answer = written(&mut disk, &outputs);
                    if let Some(answer) = answer.filter(|it| it.message_type == MessageType::Reply) {
                        for it in answer.delegations.iter().flat_map(|it| &it.prefixes) {
                            if it.valid == 0 {
                                reference.has_not(client, it.prefix);
                            } else {
                                let end = now.after(Duration::from_secs(it.valid.into()));
                                reference.has(client, it.prefix, end);
                            }
                        }
                    }
                }
            }
            prop_assert_eq!(&disk, machine.state());
            reference.check(machine.state(), now);
            let fresh = Delegating::new(small(), disk.clone());
            for (index, pool) in small().pools.iter().enumerate() {
                let slow = slow_free(pool, &disk, start);
                prop_assert_eq!(machine.leases.find_free(index, start), slow);
                prop_assert_eq!(fresh.leases.find_free(index, start), slow);
            }
        }
    }
}
