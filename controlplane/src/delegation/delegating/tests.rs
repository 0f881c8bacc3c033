//! Message by message.

mod messages;
mod moves;

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;

use super::*;
use crate::delegation::reconfigure_key;
use crate::delegation::wire::{
    Authentication, DelegatedPrefix, Duid, Hop, IdentityAssociation, Message, MessageType, OtherAssociation,
    Packet, Relay, option, status,
};
use crate::time::Time;

const START: Time = Time(Duration::from_secs(1_000_000));

pub(super) fn net(text: &str) -> Ipv6Net {
    text.parse().unwrap()
}

pub(super) fn duid(number: u8) -> Duid {
    Duid::new(&[0, 3, 0, 1, 2, 0, 0, 0, 0, number]).unwrap()
}

pub(super) fn settings() -> Settings {
    let pool = |prefix: &str, delegated_length| Pool {
        prefix: net(prefix),
        delegated_length,
        exclude_length: None,
        by_move_only: false,
    };
    Settings {
        server: duid(255),
        pools: vec![
            Pool {
                exclude_length: Some(64),
                ..pool("2001:db8:1000::/52", 56)
            },
            pool("2001:db8:2000::/60", 64),
            Pool {
                by_move_only: true,
                ..pool("2001:db8:3000::/60", 64)
            },
        ],
        preferred_lifetime: 600,
        valid_lifetime: 1000,
        rapid_commit: true,
        preference: 255,
        maximum_per_client: 3,
        maximum_leases: 1000,
        relays: ["fe80::1".parse().unwrap()].into(),
    }
}

/// A server, its clock, and what it has on disk.
struct Server {
    machine: Delegating,
    disk: State,
    now: Time,
    outputs: Vec<Output>,
}

impl Server {
    fn new() -> Self {
        Self {
            machine: Delegating::new(settings(), State::default()),
            disk: State::default(),
            now: START,
            outputs: Vec::new(),
        }
    }

    fn done(&mut self, outputs: Vec<Output>) {
        for (index, output) in outputs.iter().enumerate() {
            if let Output::Commit(changes) = output {
                assert_eq!(index, 0, "what is sent may depend on it");
                changes.iter().for_each(|change| self.disk.apply(change.clone()));
            }
        }
        assert_eq!(&self.disk, self.machine.state());
        self.outputs = outputs;
    }

    fn receive(&mut self, octets: Vec<u8>, multicast: bool) {
        let input = Input::Datagram {
            from: "fe80::1".parse().unwrap(),
            interface: "eth0".to_owned(),
            multicast,
            octets,
        };
        let outputs = self.machine.process(input, self.now);
        self.done(outputs);
    }

    fn sent(&self) -> Vec<Vec<u8>> {
        let sent = |output: &Output| match output {
            Output::Send { octets, .. } => Some(octets.clone()),
            _ => None,
        };
        self.outputs.iter().filter_map(sent).collect()
    }

    fn ask(&mut self, message: &Message) -> Option<Message> {
        self.receive(message.emit().unwrap(), true);
        let sent = self.sent();
        let answer = sent.first().map(|octets| Message::parse(octets).unwrap());
        if let Some(answer) = &answer {
            assert_eq!(answer.transaction, message.transaction);
            assert_eq!(answer.client, message.client);
            assert_eq!(answer.server, Some(duid(255)));
        }
        answer
    }

    fn tick(&mut self, after: u64) {
        self.now = self.now.after(Duration::from_secs(after));
        let outputs = self.machine.process(Input::Tick, self.now);
        self.done(outputs);
    }

    fn moved(&mut self, prefix: &str, to: u8) -> Result<(), MoveError> {
        let taker = Taker {
            client: duid(to),
            iaid: None,
        };
        let outputs = self.machine.move_lease(net(prefix), &taker, self.now)?;
        self.done(outputs);
        Ok(())
    }

    fn holder(&self, prefix: &str) -> Option<Duid> {
        Some(self.machine.state().leases.get(&net(prefix))?.client.clone())
    }

    fn count(&self, name: &str) -> u64 {
        self.machine.counters().get(name)
    }
}

fn message(message_type: MessageType, client: u8, prefixes: &[&str]) -> Message {
    let mut message = Message::new(message_type, 0x00_12_34_56);
    message.client = Some(duid(client));
    if matches!(
        message_type,
        MessageType::Request | MessageType::Renew | MessageType::Release | MessageType::Decline
    ) {
        message.server = Some(duid(255));
    }
    let prefix = |text: &&str| DelegatedPrefix {
        preferred: 0,
        valid: 0,
        prefix: net(text),
        exclude: None,
        status: None,
    };
    message.delegations = vec![IdentityAssociation {
        prefixes: prefixes.iter().map(prefix).collect(),
        ..IdentityAssociation::new(7)
    }];
    message
}

fn prefixes(message: &Message) -> Vec<(String, u32)> {
    let all = message.delegations.iter().flat_map(|it| &it.prefixes);
    all.map(|it| (it.prefix.to_string(), it.valid)).collect()
}

fn delegated(message: &Message) -> String {
    let [(prefix, 1000)] = &prefixes(message)[..] else {
        panic!("{message:?}");
    };
    prefix.clone()
}

fn accepting(kind: MessageType, client: u8, prefixes: &[&str]) -> Message {
    let mut message = message(kind, client, prefixes);
    message.reconfigure_accept = true;
    message
}

#[test]
fn solicit_advertise_request_reply() {
    let mut server = Server::new();
    let advertise = server.ask(&message(MessageType::Solicit, 1, &[])).unwrap();
    assert_eq!(advertise.message_type, MessageType::Advertise);
    assert_eq!(advertise.preference, Some(255));
    let offered = delegated(&advertise);
    assert!(server.disk.leases.is_empty(), "an offer is nothing that is kept");
    // The same one is offered the same, and gets it.
    assert_eq!(
        delegated(&server.ask(&message(MessageType::Solicit, 1, &[])).unwrap()),
        offered
    );
    let reply = server
        .ask(&message(MessageType::Request, 1, &[&offered]))
        .unwrap();
    assert_eq!(reply.message_type, MessageType::Reply);
    assert_eq!(delegated(&reply), offered);
    let [association] = &reply.delegations[..] else {
        panic!()
    };
    assert_eq!((association.iaid, association.t1, association.t2), (7, 300, 480));
    assert_eq!(server.holder(&offered), Some(duid(1)));
    // The Reply was lost: the same again, and no second one.
    let again = server.ask(&message(MessageType::Request, 1, &[])).unwrap();
    assert_eq!(delegated(&again), offered);
    assert_eq!(server.disk.leases.len(), 1);
    assert!(server.outputs.iter().any(|it| matches!(it, Output::Send { to, port: 546, interface, .. } if *to == "fe80::1".parse::<Ipv6Addr>().unwrap() && interface == "eth0")));
}

#[test]
fn a_hint_is_honoured_when_it_is_free() {
    let mut server = Server::new();
    for (client, hint, expected) in [
        (1, "2001:db8:1000:300::/56", "2001:db8:1000:300::/56"),
        (2, "2001:db8:2000:5::/64", "2001:db8:2000:5::/64"),
    ] {
        let reply = server
            .ask(&message(MessageType::Request, client, &[hint]))
            .unwrap();
        assert_eq!(delegated(&reply), expected);
    }
    // Taken; of another length; not to be had by asking: another one of that length, or the nearest.
    for (client, hint, length) in [
        (3, "2001:db8:2000:5::/64", 64),
        (4, "::/64", 64),
        (5, "::/60", 64),
        (6, "::/48", 56),
        (7, "2001:db8:3000:1::/64", 64),
        (8, "::/0", 56),
    ] {
        let reply = server
            .ask(&message(MessageType::Request, client, &[hint]))
            .unwrap();
        let got = net(&delegated(&reply));
        assert_eq!(got.prefix_len(), length, "{hint}");
        assert!(!net("2001:db8:3000::/60").contains(&got));
        assert_ne!(got, net(hint));
    }
}

#[test]
fn rapid_commit_needs_both() {
    let mut server = Server::new();
    let mut solicit = message(MessageType::Solicit, 1, &[]);
    solicit.rapid_commit = true;
    let reply = server.ask(&solicit).unwrap();
    assert!(reply.message_type == MessageType::Reply && reply.rapid_commit);
    assert_eq!(server.holder(&delegated(&reply)), Some(duid(1)));
    server.machine.settings.rapid_commit = false;
    let advertise = server.ask(&solicit).unwrap();
    assert!(advertise.message_type == MessageType::Advertise && !advertise.rapid_commit);
}

#[test]
fn renew_extends_and_release_ends() {
    let mut server = Server::new();
    let prefix = delegated(&server.ask(&message(MessageType::Request, 1, &[])).unwrap());
    server.tick(900);
    for kind in [MessageType::Renew, MessageType::Rebind] {
        let reply = server.ask(&message(kind, 1, &[&prefix])).unwrap();
        assert_eq!(delegated(&reply), prefix);
        server.tick(900);
        assert!(server.holder(&prefix).is_some());
    }
    let release = message(MessageType::Release, 1, &[&prefix]);
    let reply = server.ask(&release).unwrap();
    assert_eq!(reply.status_code(), status::SUCCESS);
    assert!(
        reply.delegations.is_empty()
            && server.disk
                == State {
                    replay: server.disk.replay,
                    ..State::default()
                }
    );
    // Its Reply was lost: the second one finds nothing, which is no error.
    let reply = server.ask(&release).unwrap();
    assert_eq!(reply.status_code(), status::SUCCESS);
    assert_eq!(reply.delegations[0].status_code(), status::NO_BINDING);
}

#[test]
fn what_is_not_renewed_is_free_again() {
    let mut server = Server::new();
    let prefix = delegated(&server.ask(&message(MessageType::Request, 1, &[])).unwrap());
    assert_eq!(
        server.machine.next_deadline(),
        Some(START.after(Duration::from_secs(1000)))
    );
    server.tick(999);
    assert!(server.holder(&prefix).is_some());
    server.tick(1);
    assert!(server.holder(&prefix).is_none() && server.disk.clients.is_empty());
    assert_eq!(server.count("delegations_expired"), 1);
}

/// Its leases were lost, or its client was away for long: the client is right, unless somebody else has it.
#[test]
fn a_binding_that_was_forgotten_is_taken_up_again() {
    for kind in [MessageType::Renew, MessageType::Rebind] {
        let mut server = Server::new();
        let reply = server.ask(&message(kind, 1, &["2001:db8:2000:5::/64"])).unwrap();
        assert_eq!(delegated(&reply), "2001:db8:2000:5::/64");
        let reply = server.ask(&message(kind, 2, &["2001:db8:2000:5::/64"])).unwrap();
        assert_eq!(prefixes(&reply), [("2001:db8:2000:5::/64".to_owned(), 0)]);
    }
}

#[test]
fn no_binding_is_said_to_renew_and_nothing_to_rebind() {
    let mut server = Server::new();
    let reply = server
        .ask(&message(MessageType::Renew, 1, &["2001:db8:9::/64"]))
        .unwrap();
    assert_eq!(reply.delegations[0].status_code(), status::NO_BINDING);
    assert!(
        server
            .ask(&message(MessageType::Rebind, 1, &["2001:db8:9::/64"]))
            .is_none()
    );
    assert_eq!(server.count("dhcp_rebinds_unanswered"), 1);
    // One that has a binding is told that a foreign prefix is not its own.
    let prefix = delegated(&server.ask(&message(MessageType::Request, 1, &[])).unwrap());
    let reply = server
        .ask(&message(MessageType::Rebind, 1, &[&prefix, "2001:db8:9::/64"]))
        .unwrap();
    assert_eq!(
        prefixes(&reply),
        [(prefix, 1000), ("2001:db8:9::/64".to_owned(), 0)]
    );
}

#[test]
fn a_decline_makes_a_prefix_rest_and_counts() {
    let mut server = Server::new();
    let prefix = delegated(&server.ask(&message(MessageType::Request, 1, &[])).unwrap());
    let reply = server.ask(&message(MessageType::Decline, 1, &[&prefix])).unwrap();
    assert_eq!(reply.status_code(), status::SUCCESS);
    let next = delegated(&server.ask(&message(MessageType::Request, 1, &[&prefix])).unwrap());
    assert_ne!(next, prefix);
    assert_eq!(
        server.moved(&prefix, 2),
        Err(MoveError::Declined {
            prefix: net(&prefix),
            holder: duid(1)
        })
    );
    server.tick(86_400);
    assert_eq!(server.holder(&prefix), None);
}

#[test]
fn what_nobody_has_moves_too_but_nothing_from_outside() {
    let mut server = Server::new();
    let prefix = "2001:db8:3000:1::/64";
    server.moved(prefix, 1).unwrap();
    assert_eq!(
        delegated(&server.ask(&message(MessageType::Request, 1, &[prefix])).unwrap()),
        prefix
    );
    assert!(matches!(
        server.moved("2001:db8:9::/64", 1),
        Err(MoveError::NotInPools { .. })
    ));
    // What is moved to somebody who never asks for it does not stay away for ever.
    server.moved("2001:db8:2000:5::/64", 9).unwrap();
    server.tick(1000);
    assert_eq!(server.holder("2001:db8:2000:5::/64"), None);
    // Moved ones do not count against what a client may take.
    let mut request = message(MessageType::Request, 1, &[]);
    request.delegations = (10..14).map(IdentityAssociation::new).collect();
    let reply = server.ask(&request).unwrap();
    assert_eq!(
        reply
            .delegations
            .iter()
            .filter(|it| it.status_code() == 0)
            .count(),
        3
    );
}

#[test]
fn a_client_that_does_not_answer_reconfigures_is_left_alone() {
    let mut server = Server::new();
    let prefix = "2001:db8:2000:5::/64";
    server
        .ask(&accepting(MessageType::Request, 1, &[prefix]))
        .unwrap();
    server.moved(prefix, 2).unwrap();
    let mut sent = server.sent().len();
    for _ in 0..1000 {
        server.tick(1);
        sent += server.sent().len();
    }
    assert_eq!(sent, 8);
    assert_eq!(server.count("reconfigures_unanswered"), 1);
    assert!(
        !server.disk.clients.contains_key(&duid(1)),
        "it has nothing any more"
    );
}

#[test]
fn the_journal_survives_a_kill_and_a_torn_line() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, state, problem) = Journal::open(directory.path()).unwrap();
    assert!(problem.is_none() && state == State::default());
    let mut server = Server::new();
    let mut steps = Vec::new();
    for client in 1..20 {
        server.ask(&accepting(MessageType::Request, client, &[]));
        if client % 3 == 0 {
            server.moved("2001:db8:2000:5::/64", client).unwrap();
        }
        let Some(Output::Commit(changes)) = server.outputs.first().cloned() else {
            panic!()
        };
        if client % 3 == 0 {
            // Two transactions happened; the file is told of the state through a second one here.
            let whole = server.machine.state();
            let all = whole
                .leases
                .iter()
                .map(|(prefix, lease)| Change::Lease(*prefix, Some(lease.clone())));
            let clients = whole
                .clients
                .iter()
                .map(|(duid, it)| Change::Client(duid.clone(), Some(it.clone())));
            journal
                .commit(all.chain(clients).chain(changes).collect(), whole)
                .unwrap();
        } else {
            journal.commit(changes, server.machine.state()).unwrap();
        }
        steps.push(server.machine.state().clone());
    }
    drop(journal);
    let path = directory.path().join("delegating.journal");
    let octets = std::fs::read(&path).unwrap();
    let (_, state, _) = Journal::open(directory.path()).unwrap();
    assert_eq!(state, steps[steps.len() - 1]);
    // As if it had been killed within the last line: one step back, and never in between.
    std::fs::remove_file(directory.path().join("delegating.json")).unwrap();
    std::fs::write(&path, &octets[..octets.len() - 5]).unwrap();
    let (mut journal, state, _) = Journal::open(directory.path()).unwrap();
    assert_eq!(state, steps[steps.len() - 2]);
    // A file that cannot be read is put aside and told of.
    journal.commit(Vec::new(), &state).unwrap();
    std::fs::write(directory.path().join("delegating.json"), "{").unwrap();
    let (_, _, problem) = Journal::open(directory.path()).unwrap();
    assert!(problem.unwrap().to_string().contains("delegating.json.corrupt"));
}
