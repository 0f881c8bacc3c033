//! Tunnels that are told apart by GRE keys.

use super::*;

/// Key and peer of some tunnels: a key may have two peers, and a peer several keys, and none.
pub(super) const KEYS: [(Option<u32>, u8); 4] = [(None, 2), (Some(0), 2), (Some(1), 2), (Some(1), 3)];

pub(super) fn tunnel((local_key, number): (Option<u32>, u8)) -> model::Tunnel {
    model::Tunnel {
        encapsulation: Encapsulation::Gre(model::Gre {
            local_key,
            remote_key: None,
        }),
        local: address(9),
        remote: address(number),
        hop_limit: 64,
        mtu: 0,
        encapsulation_limit: None,
        dscp: kedge_dataplane_api::model::Dscp::default(),
    }
}

#[test]
fn no_two_tunnels_have_one_key_from_one_peer() {
    let with = |tunnels: &[(Option<u32>, u8)]| {
        let put_tunnels = (1..).zip(tunnels.iter().map(|it| tunnel(*it))).collect();
        let transaction = Transaction {
            put_local_addresses: vec![address(9)],
            put_tunnels,
            ..Transaction::default()
        };
        compiler().apply(&transaction).map_err(|error| error.to_string())
    };
    with(&KEYS).unwrap();
    for (key, shown) in [(Some(7), "key 0x00000007"), (None, "without a key")] {
        let error = with(&[(key, 2), (key, 2)]).unwrap_err();
        assert_eq!(
            error,
            format!("tunnels 1 and 2 both have GRE {shown} from 2001:db8:2::1")
        );
    }
}
