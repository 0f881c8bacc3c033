//! Our client against our server in virtual time, with loss and restarts; and against answers that no good server gives.

mod answers;
mod wanted;

use std::time::Duration;

use ipnet::Ipv6Net;
use proptest::prelude::*;

use super::*;
use crate::delegation::delegating::{self, Delegating, Pool, Taker};
use crate::delegation::reconfigure_key;
use crate::delegation::wire::{
    DelegatedPrefix, Duid, INFINITY, IdentityAssociation, Message, MessageType, StatusCode, option, status,
};
use crate::time::Time;

const START: Time = Time(Duration::from_secs(1_000_000));

fn net(text: &str) -> Ipv6Net {
    text.parse().unwrap()
}

fn duid(number: u8) -> Duid {
    Duid::new(&[0, 3, 0, 1, 2, 0, 0, 0, 0, number]).unwrap()
}

fn settings(number: u8) -> Settings {
    Settings {
        client: duid(number),
        rapid_commit: true,
        accept_reconfigure: true,
        one_server: false,
    }
}

fn server_settings() -> delegating::Settings {
    let pool = |prefix: &str, delegated_length| Pool {
        prefix: net(prefix),
        delegated_length,
        exclude_length: Some(72),
        by_move_only: false,
    };
    delegating::Settings {
        server: duid(255),
        pools: vec![pool("2001:db8:1000::/44", 48), pool("2001:db8:2000::/60", 64)],
        preferred_lifetime: 600,
        valid_lifetime: 1000,
        rapid_commit: true,
        preference: 255,
        maximum_per_client: 8,
        maximum_leases: 1000,
        relays: Default::default(),
    }
}

fn want(hint: Option<&str>) -> Input {
    let hint = hint.map(net);
    Input::Want {
        iaid: 1,
        wanted: Wanted { hint, exact: false },
    }
}

/// When, to the server or not, of which client, what.
type Flight = (Time, bool, usize, Vec<u8>);

/// Clients, a server, and a network between them that loses some.
struct World {
    now: Time,
    clients: Vec<Requesting>,
    server: Delegating,
    server_up: bool,
    random: u64,
    /// Of 100 datagrams so many are lost.
    loss: u64,
    flying: Vec<Flight>,
    outputs: Vec<(usize, Output)>,
    sent: Vec<(Time, Message)>,
}

impl World {
    fn new(clients: u8) -> Self {
        Self {
            now: START,
            clients: (0..clients)
                .map(|it| Requesting::new(settings(it), State::default(), START, it.into()))
                .collect(),
            server: Delegating::new(server_settings(), delegating::State::default()),
            server_up: true,
            random: 1,
            loss: 0,
            flying: Vec::new(),
            outputs: Vec::new(),
            sent: Vec::new(),
        }
    }

    fn random(&mut self) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.random >> 20
    }

    fn fly(&mut self, to_server: bool, client: usize, octets: Vec<u8>) {
        if self.random() % 100 >= self.loss {
            let at = self.now.after(Duration::from_millis(5));
            self.flying.push((at, to_server, client, octets));
        }
    }

    fn give(&mut self, client: usize, input: Input) {
        let random = self.random();
        for output in self.clients[client].process(input, self.now, random) {
            if let Output::Send(octets) = &output {
                self.sent.push((self.now, Message::parse(octets).unwrap()));
                self.fly(true, client, octets.clone());
            }
            self.outputs.push((client, output));
        }
    }

    fn server_says(&mut self, outputs: Vec<delegating::Output>) {
        for output in outputs {
            if let delegating::Output::Send { to, octets, .. } = output {
                self.fly(false, usize::from(to.octets()[15]), octets);
            }
        }
    }

    fn deliver(&mut self, to_server: bool, client: usize, octets: Vec<u8>) {
        if !to_server {
            return self.give(client, Input::Datagram(octets));
        }
        if self.server_up {
            let mut from = [0; 16];
            from[0] = 0xfe;
            from[15] = u8::try_from(client).unwrap();
            let input = delegating::Input::Datagram {
                from: from.into(),
                interface: "eth0".to_owned(),
                multicast: true,
                octets,
            };
            let outputs = self.server.process(input, self.now);
            self.server_says(outputs);
        }
    }

    /// Lets `seconds` pass.
    fn run(&mut self, seconds: u64) {
        let end = self.now.after(Duration::from_secs(seconds));
        loop {
            let timers = self.clients.iter().filter_map(Requesting::next_deadline);
            let server = self.server.next_deadline().filter(|_| self.server_up);
            let flights = self.flying.iter().map(|it| it.0);
            let Some(next) = timers
                .chain(server)
                .chain(flights)
                .min()
                .filter(|next| *next <= end)
            else {
                break;
            };
            self.now = self.now.max(next);
            if let Some(at) = self.flying.iter().position(|it| it.0 <= self.now) {
                let (_, to_server, client, octets) = self.flying.remove(at);
                self.deliver(to_server, client, octets);
                continue;
            }
            for client in 0..self.clients.len() {
                if self.clients[client]
                    .next_deadline()
                    .is_some_and(|at| at <= self.now)
                {
                    self.give(client, Input::Tick);
                }
            }
            if self.server_up && self.server.next_deadline().is_some_and(|at| at <= self.now) {
                let outputs = self.server.process(delegating::Input::Tick, self.now);
                self.server_says(outputs);
            }
        }
        self.now = end;
    }

    fn has(&self, client: usize) -> Vec<Ipv6Net> {
        let associations = self.clients[client].state().associations.values();
        associations
            .flat_map(|it| &it.prefixes)
            .map(|it| it.prefix)
            .collect()
    }

    /// What is on disk once it has been stored.
    fn stored(&self, client: usize) -> String {
        serde_json::to_string(self.clients[client].state()).unwrap()
    }

    /// kill -9 and a start from what was stored.
    fn restart(&mut self, client: usize) {
        self.restart_from(client, &self.stored(client));
    }

    /// The same where that is not the latest.
    fn restart_from(&mut self, client: usize, stored: &str) {
        let state = serde_json::from_str(stored).unwrap();
        let random = self.random();
        let number = u8::try_from(client).unwrap();
        self.clients[client] = Requesting::new(settings(number), state, self.now, random);
    }

    fn kinds(&self) -> Vec<MessageType> {
        self.sent
            .iter()
            .map(|(_, message)| message.message_type)
            .collect()
    }

    fn outcomes(&self, client: usize) -> Vec<&Output> {
        let told = |it: &&Output| {
            matches!(
                it,
                Output::Delegated(_) | Output::Refused(..) | Output::Released(_)
            )
        };
        self.outputs
            .iter()
            .filter(|(number, _)| *number == client)
            .map(|(_, it)| it)
            .filter(told)
            .collect()
    }
}

#[test]
fn a_prefix_is_had_renewed_and_given_back() {
    use MessageType as M;
    let mut world = World::new(1);
    world.give(0, want(None));
    assert!(world.sent.is_empty(), "the first Solicit waits up to a second");
    world.run(2);
    let [prefix] = world.has(0)[..] else { panic!() };
    assert_eq!(prefix.prefix_len(), 48);
    assert_eq!(world.kinds(), [M::Solicit]);
    let solicit = &world.sent[0].1;
    assert!(solicit.rapid_commit && solicit.reconfigure_accept && solicit.elapsed == Some(0));
    assert!(solicit.option_request.contains(&option::SOL_MAX_RT));
    let held = world.clients[0].pools(world.now).next().cloned().unwrap();
    assert_eq!(held.exclude.unwrap().prefix_len(), 72);
    world.run(3000);
    assert_eq!(world.has(0), [prefix]);
    assert!(world.kinds()[1..].iter().all(|kind| *kind == M::Renew));
    assert_eq!(world.kinds().len(), 1 + 10, "every 300 s");
    world.give(0, Input::Release(prefix));
    assert_eq!(
        world.clients[0].pools(world.now).count(),
        0,
        "it is not used from this moment on"
    );
    world.run(1);
    assert_eq!(world.outcomes(0), [&Output::Released(prefix)]);
    assert!(world.server.state().leases.is_empty());
}

#[test]
fn four_messages_and_the_best_of_several_offers() {
    use MessageType as M;
    let mut world = World::new(1);
    world.clients[0].settings.rapid_commit = false;
    world.server.settings_mut().preference = 3;
    world.give(0, want(Some("2001:db8:2000:7::/64")));
    world.run(1);
    // Another server, as good, offers something else within the first second.
    let mut other = advertise(&world.sent[0].1, 200, "2001:db8:9999::/64");
    other.preference = Some(3);
    world.give(0, Input::Datagram(other.emit().unwrap()));
    assert_eq!(world.kinds(), [M::Solicit]);
    world.run(2);
    assert_eq!(world.kinds(), [M::Solicit, M::Request]);
    assert_eq!(
        world.sent[1].1.server,
        Some(duid(255)),
        "its offer is what was wished for"
    );
    assert_eq!(world.has(0), [net("2001:db8:2000:7::/64")]);
    // The exchange was not before the end of the first timeout, which is longer than a second.
    assert!(world.sent[1].0.since(world.sent[0].0) > Duration::from_secs(1));
}

fn advertise(solicit: &Message, server: u8, prefix: &str) -> Message {
    let mut message = Message::new(MessageType::Advertise, solicit.transaction);
    message.client.clone_from(&solicit.client);
    message.server = Some(duid(server));
    message.delegations = vec![IdentityAssociation {
        prefixes: vec![DelegatedPrefix {
            preferred: 100,
            valid: 200,
            prefix: net(prefix),
            exclude: None,
            status: None,
        }],
        ..IdentityAssociation::new(solicit.delegations[0].iaid)
    }];
    message
}

#[test]
fn without_its_server_it_rebinds_and_loses_the_prefix_at_its_end() {
    use MessageType as M;
    let mut world = World::new(1);
    world.give(0, want(None));
    world.run(2);
    let before = world.has(0);
    world.server_up = false;
    world.run(470);
    assert!(world.kinds()[1..].iter().all(|kind| *kind == M::Renew));
    assert_eq!(world.kinds().len(), 1 + 5, "10, 20, 40, 80 s behind T1");
    world.run(400);
    assert_eq!(world.kinds().last(), Some(&M::Rebind));
    assert_eq!(world.has(0), before);
    world.run(140);
    assert!(world.has(0).is_empty(), "its lifetime is over");
    assert_eq!(world.clients[0].counters().get("delegations_lost"), 1);
    assert_eq!(world.kinds().last(), Some(&M::Solicit));
    world.server_up = true;
    world.run(200);
    assert_eq!(world.has(0), before);
}

#[test]
fn after_a_restart_what_is_held_is_rebound_with_the_timing_of_confirm() {
    use MessageType as M;
    let mut world = World::new(1);
    world.give(0, want(None));
    world.run(2);
    let prefix = world.has(0);
    world.restart(0);
    world.give(0, want(None));
    assert_eq!(world.has(0), prefix);
    world.run(2);
    assert_eq!(world.kinds(), [M::Solicit, M::Rebind]);
    assert_eq!(world.clients[0].state().associations[&1].phase, Phase::Bound);
    // Nobody answers: 10 s, and then it is used on.
    world.server_up = false;
    world.restart(0);
    world.run(30);
    assert_eq!(world.kinds()[2..].len(), 4);
    assert_eq!(
        (world.has(0), world.clients[0].state().associations[&1].phase),
        (prefix.clone(), Phase::Bound)
    );
    // A change of the link does the same.
    world.server_up = true;
    world.give(0, Input::LinkChanged);
    world.run(2);
    assert_eq!(world.kinds().last(), Some(&M::Rebind));
    assert_eq!(world.has(0), prefix);
    // The server may have lost everything meanwhile.
    world.server = Delegating::new(server_settings(), delegating::State::default());
    world.run(400);
    assert_eq!(world.has(0), prefix);
    assert_eq!(world.server.state().leases.len(), 1);
}

#[test]
fn the_prefix_of_a_node_moves_from_router_to_router() {
    let mut world = World::new(2);
    world.give(0, want(None));
    world.run(2);
    let pool = world.has(0)[0];
    let part = Ipv6Net::new(pool.network(), 64).unwrap();
    // Not before the control plane says so.
    world.give(1, Input::WantExactly(part));
    world.run(20);
    let refused = world.outcomes(1);
    assert!(
        matches!(refused[..], [Output::Refused(prefix, _)] if *prefix == part),
        "{refused:?}"
    );
    assert!(
        world.has(1).is_empty() && world.server.state().leases.len() == 1,
        "nothing came instead"
    );
    world.outputs.clear();
    let taker = Taker {
        client: duid(1),
        iaid: None,
    };
    let outputs = world.server.move_lease(part, &taker, world.now).unwrap();
    world.server_says(outputs);
    world.give(1, Input::WantExactly(part));
    world.run(1);
    assert_eq!(world.outcomes(1), [&Output::Delegated(part)]);
    assert_eq!((world.has(0), world.has(1)), (vec![pool], vec![part]));
    assert_eq!(
        world.clients[1].pools(world.now).count(),
        0,
        "it is of a node, and nothing to take others from"
    );
    world.run(2000);
    assert_eq!((world.has(0), world.has(1)), (vec![pool], vec![part]));
    world.give(1, Input::WantExactly(part));
    assert_eq!(world.outcomes(1).len(), 2, "it is there already");
    world.give(1, Input::Release(part));
    world.run(1);
    assert_eq!(world.outcomes(1).last(), Some(&&Output::Released(part)));
    assert_eq!(world.server.state().leases.len(), 1);
}

/// What an anchor has taken over is kept, whatever the order in which control plane and anchor come to it.
#[test]
fn prefixes_are_kept() {
    let mut world = World::new(2);
    world.give(0, want(None));
    world.run(2);
    let pool = world.has(0)[0];
    let parts: Vec<_> = pool.subnets(64).unwrap().take(3).collect();
    world.give(1, Input::Keep(parts[..2].iter().copied().collect()));
    world.run(10);
    assert!(
        world.has(1).is_empty() && world.outcomes(1).len() == 2,
        "not moved yet"
    );
    let taker = Taker {
        client: duid(1),
        iaid: None,
    };
    for part in &parts {
        let outputs = world.server.move_lease(*part, &taker, world.now).unwrap();
        world.server_says(outputs);
    }
    world.run(70);
    assert_eq!(world.has(1), parts[..2]);
    world.restart(1);
    world.give(1, Input::Keep(parts[1..].iter().copied().collect()));
    world.run(10);
    let mut has = world.has(1);
    has.sort();
    assert_eq!(has, parts[1..]);
    assert!(
        !world.server.state().leases.contains_key(&parts[0]),
        "it is at home"
    );
    // It is moved on to a third one, and back.
    let third = Taker {
        client: duid(9),
        iaid: None,
    };
    for (to, kept) in [(third, 1), (taker, 2)] {
        let outputs = world.server.move_lease(parts[2], &to, world.now).unwrap();
        world.server_says(outputs);
        world.run(70);
        assert_eq!(world.has(1).len(), kept);
    }
    world.give(1, Input::Keep(Default::default()));
    world.run(5);
    assert_eq!(world.server.state().leases.len(), 1);
}

/// Of a prefix that is wanted by name it is known that its time was over, until a server delegates it again.
#[test]
fn what_has_timed_out_is_known_until_it_is_delegated_again() {
    let mut world = World::new(1);
    let prefix = net("2001:db8:2000:7::/64");
    let over = |world: &World| {
        let associations = world.clients[0].state().associations.values();
        associations
            .map(|it| (it.wanted.hint, it.over))
            .collect::<Vec<_>>()
    };
    world.give(0, Input::Keep([prefix].into()));
    world.run(5);
    assert_eq!(world.has(0), [prefix]);
    world.server_up = false;
    world.run(100_000);
    assert_eq!((world.has(0), over(&world)), (vec![], vec![(Some(prefix), true)]));
    // Also by who was killed, before it is said again what is kept.
    world.restart(0);
    world.run(1);
    assert_eq!(over(&world), [(Some(prefix), true)]);
    world.give(0, Input::Keep([prefix].into()));
    world.server_up = true;
    world.run(4000);
    assert_eq!(
        (world.has(0), over(&world)),
        (vec![prefix], vec![(Some(prefix), false)])
    );
    // And by who was away when it timed out, whatever a server says before it is said what is kept.
    world.server_up = false;
    let away = Duration::from_secs(100_000);
    world.now = world.now.after(away);
    world.restart(0);
    world.give(0, Input::Tick);
    assert_eq!((world.has(0), over(&world)), (vec![], vec![(Some(prefix), true)]));
    world.run(60);
    assert_eq!(over(&world), [(Some(prefix), true)]);
    world.give(0, Input::Keep(Default::default()));
    world.run(5);
    assert_eq!(over(&world), []);
}

/// A daemon is killed when a server has delegated to it, and nothing, or only that it asked, is on disk. It has the lease again
/// at once, of several prefixes too, in whichever order they are named.
#[test]
fn what_was_delegated_and_not_stored_is_had_again() {
    let prefixes = [
        "2001:db8:2000:7::/64",
        "2001:db8:2000:8::/64",
        "2001:db8:2000:9::/64",
    ]
    .map(net);
    let [first, second, third] = prefixes;
    for asked_is_stored in [false, true] {
        let mut world = World::new(1);
        world.give(0, Input::Keep([second].into()));
        world.run(5);
        let before = world.stored(0);
        world.give(0, Input::Keep([second, third].into()));
        world.give(0, Input::Keep([first, second, third].into()));
        let asked = world.stored(0);
        world.run(5);
        assert_eq!(world.server.state().leases.len(), 3);
        world.restart_from(0, if asked_is_stored { &asked } else { &before });
        world.give(0, Input::Keep(prefixes.into()));
        world.run(5);
        let mut has = world.has(0);
        has.sort();
        assert_eq!(has, prefixes, "asked is stored: {asked_is_stored}");
        assert_eq!(world.server.state().leases.len(), 3);
    }
}

/// A whole lease moves: the old holder learns it by a Reconfigure within a round trip.
#[test]
fn the_old_holder_is_told_at_once() {
    let mut world = World::new(2);
    world.give(0, Input::WantExactly(net("2001:db8:2000:7::/64")));
    world.run(2);
    assert_eq!(world.has(0).len(), 1);
    let taker = Taker {
        client: duid(1),
        iaid: None,
    };
    let outputs = world
        .server
        .move_lease(net("2001:db8:2000:7::/64"), &taker, world.now)
        .unwrap();
    world.server_says(outputs);
    world.give(1, Input::WantExactly(net("2001:db8:2000:7::/64")));
    world.run(1);
    assert_eq!((world.has(0).len(), world.has(1).len()), (0, 1));
    assert!(matches!(
        world.outcomes(0)[..],
        [Output::Delegated(_), Output::Refused(..)]
    ));
    assert_eq!(world.clients[0].counters().get("reconfigures_accepted"), 1);
}
