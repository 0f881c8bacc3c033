//! Filters and meters to test with, and a gateway that has them.

use super::*;

use kedge_dataplane_api::model::{Filter, FilterAction, Meter, MeterRates, PortRange, Selector, Yellow};

pub const NODE_NET: &str = "2001:db8:100:1::/64";
pub const OLD_NET: &str = "2001:db8:200:1::/64";
pub const ANCHORED_NET: &str = "2001:db8:100:3::/64";

pub fn filter(scope: &str, priority: u16, selector: Selector, action: FilterAction) -> Filter {
    Filter {
        name: String::new(),
        scope: (!scope.is_empty()).then(|| scope.parse().unwrap()),
        priority,
        selector,
        action,
        idle_timeout: 0,
        lifetime: 0,
        except_tunnel: None,
    }
}

/// To port 9, as the packets of `udp` are.
pub fn discard_port() -> Selector {
    Selector {
        protocol: Some(17),
        destination_ports: Some(PortRange { first: 9, last: 9 }),
        ..Selector::default()
    }
}

pub fn any() -> Selector {
    Selector::default()
}

/// A gateway with these filters, their ids from 1 on, and the meters 1 (RFC 2698) and 2 (RFC 4115).
pub fn gateway(filters: Vec<Filter>) -> Gateway {
    let mut gateway = Gateway::new();
    let put = Transaction {
        put_filters: (1..).zip(filters).collect(),
        put_meters: vec![
            (1, meter(Yellow::Mark(10), false)),
            (
                2,
                Meter {
                    rates: MeterRates::Rfc4115 {
                        cir: 1000,
                        cbs: 1280,
                        eir: 1000,
                        ebs: 1280,
                    },
                    colour_aware: false,
                    yellow: Yellow::Pass,
                    fill: None,
                },
            ),
        ],
        ..Transaction::default()
    };
    gateway.apply(&put);
    gateway
}

pub fn meter(yellow: Yellow, colour_aware: bool) -> Meter {
    Meter {
        rates: MeterRates::Rfc2698 {
            cir: 1000,
            cbs: 1280,
            pir: 2000,
            pbs: 2560,
        },
        colour_aware,
        yellow,
        fill: None,
    }
}

/// To port 9, of so many octets.
pub fn sized_udp(length: usize) -> Vec<u8> {
    let mut packet = sized(REMOTE, NODE, length);
    packet[40..44].copy_from_slice(&[0x30, 0x39, 0, 9]);
    packet
}
