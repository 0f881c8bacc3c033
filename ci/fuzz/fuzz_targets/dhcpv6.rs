//! UDP payloads of anything as DHCPv6 messages: what can be read is written the same, and neither a server nor a client
//! with a binding falls over it.
#![no_main]

use std::time::Duration;

use kedge_controlplane::delegation::wire::{Duid, Packet};
use kedge_controlplane::delegation::{delegating, requesting};
use kedge_controlplane::time::Time;
use libfuzzer_sys::fuzz_target;

const NOW: Time = Time(Duration::from_secs(1_000_000));

fn duid(last: u8) -> Duid {
    Duid::new(&[0, 3, 0, 1, 2, 0, 0, 0, 0x0a, last]).unwrap()
}

fn server() -> delegating::Delegating {
    let settings = delegating::Settings {
        server: duid(255),
        pools: vec![delegating::Pool {
            prefix: "2001:db8::/48".parse().unwrap(),
            delegated_length: 56,
            exclude_length: Some(64),
            by_move_only: false,
        }],
        preferred_lifetime: 100,
        valid_lifetime: 200,
        rapid_commit: true,
        preference: 0,
        maximum_per_client: 8,
        maximum_leases: 100,
        relays: ["fe80::1".parse().unwrap()].into(),
    };
    delegating::Delegating::new(settings, delegating::State::default())
}

fn client() -> requesting::Requesting {
    let settings = requesting::Settings {
        client: duid(1),
        rapid_commit: true,
        accept_reconfigure: true,
        one_server: false,
    };
    let mut client = requesting::Requesting::new(settings, requesting::State::default(), NOW, 1);
    let wanted = requesting::Wanted { hint: None, exact: false };
    client.process(requesting::Input::Want { iaid: 1, wanted }, NOW, 1);
    client.process(requesting::Input::Tick, NOW.after(Duration::from_secs(2)), 1);
    client
}

fuzz_target!(|octets: &[u8]| {
    match Packet::parse(octets) {
        // A text that is no UTF-8 is written longer than it was.
        Ok(Packet::Message(message)) => {
            if let Ok(written) = message.emit() {
                assert_eq!(Packet::parse(&written), Ok(Packet::Message(message)));
            }
        }
        Ok(Packet::Relay(relay)) => {
            assert_eq!(Packet::parse(&relay.emit().unwrap()), Ok(Packet::Relay(relay)));
        }
        Err(_) => {}
    }
    let later = NOW.after(Duration::from_secs(3));
    let mut server = server();
    for _ in 0..2 {
        let input = delegating::Input::Datagram {
            from: "fe80::1".parse().unwrap(),
            interface: String::new(),
            multicast: true,
            octets: octets.to_vec(),
        };
        server.process(input, later);
    }
    let mut client = client();
    // The transaction is not to be guessed: it is put in, so that the rest of an answer is read.
    let exchange = client.state().associations[&1].exchange.clone().unwrap();
    let mut answer = octets.to_vec();
    if let Some(place) = answer.get_mut(1..4) {
        place.copy_from_slice(&exchange.transaction.to_be_bytes()[1..]);
    }
    client.process(requesting::Input::Datagram(answer), later, 2);
    client.process(requesting::Input::Datagram(octets.to_vec()), later, 3);
    client.process(requesting::Input::Tick, later.after(Duration::from_secs(500)), 4);
});
