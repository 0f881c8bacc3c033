//! What each MAAR of a domain announces while nodes and anchors move.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod domain_support;

use std::time::Duration;

use domain_support::*;
use ipnet::Ipv6Net;
use kedge_config::{Announced, Community, Config};
use kedge_controlplane::announce::{Routes, desired};

const SECOND: Duration = Duration::from_secs(1);

/// What MAAR `index` announces with such a section.
fn routes(domain: &Domain, index: usize, section: &str) -> Routes {
    let announce = toml::from_str(section).unwrap();
    let config = Config {
        announce: Some(announce),
        ..domain.configs[index].clone()
    };
    desired(&config, domain.maars[index].state())
}

fn prefixes(domain: &Domain, what: Announced) -> [Vec<Ipv6Net>; 3] {
    let what = match what {
        Announced::Pools => "pools",
        Announced::Prefixes => "prefixes",
    };
    let section = format!("daemon = \"kernel\"\nwhat = \"{what}\"");
    [0, 1, 2].map(|index| routes(domain, index, &section).into_keys().collect())
}

fn pool(index: usize) -> Ipv6Net {
    format!("2001:db8:{}00::/48", index + 1).parse().unwrap()
}

/// Of which the prefixes for networks behind nodes are.
fn network_pool(index: usize) -> Ipv6Net {
    format!("2001:db8:f{}00::/40", index + 1).parse().unwrap()
}

/// The pools of each MAAR, with these prefixes besides.
fn pools_and(more: [&[Ipv6Net]; 3]) -> [Vec<Ipv6Net>; 3] {
    [0, 1, 2].map(|index| {
        let mut all = [&[pool(index), network_pool(index)], more[index]].concat();
        all.sort();
        all
    })
}

#[test]
fn without_a_section_nothing_is_announced() {
    let mut domain = Domain::new();
    domain.attach(1, 0);
    domain.run(SECOND);
    assert!(desired(&domain.configs[0], domain.maars[0].state()).is_empty());
}

#[test]
fn a_route_says_what_the_configuration_says() {
    let domain = Domain::new();
    let routes = routes(
        &domain,
        0,
        "daemon = \"gobgp\"\nmed = 3\nlocal_preference = 200\ncommunities = [\"no-export\", \"65001:1\", \"no-export\"]",
    );
    let route = &routes[&pool(0)];
    assert_eq!(route.next_hop, Some(address("2001:db8:ca1::2")));
    assert_eq!((route.med, route.local_preference), (Some(3), Some(200)));
    let communities = [Community::Standard(0xfde9_0001), Community::Standard(0xffff_ff01)];
    assert_eq!(*route.communities, communities);
    // A route of the kernel's has nothing of all that.
    let kernel = self::routes(&domain, 0, "daemon = \"kernel\"");
    assert_eq!(kernel[&pool(0)], Default::default());
}

#[test]
fn each_prefix_is_announced_by_its_anchor_wherever_its_node_is() {
    let mut domain = Domain::new();
    domain.announce();
    assert_eq!(prefixes(&domain, Announced::Prefixes), [vec![], vec![], vec![]]);
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.attach(1, 1);
    domain.run(SECOND);
    let (first, second) = (domain.prefix(1, 0), domain.prefix(1, 1));
    assert_eq!(
        prefixes(&domain, Announced::Prefixes),
        [vec![first], vec![second], vec![]]
    );
    let pools = || pools_and([&[], &[], &[]]);
    assert_eq!(prefixes(&domain, Announced::Pools), pools());

    // While it is relocated both announce it, and then the new anchor alone: by itself, for no pool of its covers it.
    domain.relocate(first, 1).unwrap();
    domain.run(Duration::from_millis(20));
    assert_eq!(
        prefixes(&domain, Announced::Prefixes),
        [vec![first], vec![first, second], vec![]]
    );
    domain.run(SECOND);
    assert_eq!(
        prefixes(&domain, Announced::Prefixes),
        [vec![], vec![first, second], vec![]]
    );
    let relocated = || pools_and([&[], &[first], &[]]);
    assert_eq!(prefixes(&domain, Announced::Pools), relocated());

    // On to the third, and home again, where the pool alone would be beaten by the longer prefix elsewhere.
    domain.attach(1, 2);
    domain.run(SECOND);
    domain.relocate(first, 2).unwrap();
    domain.run(20 * SECOND);
    assert_eq!(
        prefixes(&domain, Announced::Pools),
        pools_and([&[], &[], &[first]])
    );
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.relocate(first, 0).unwrap();
    domain.run(20 * SECOND);
    assert_eq!(
        prefixes(&domain, Announced::Pools),
        pools_and([&[first], &[], &[]])
    );
    domain.detach(1, 0, true);
    domain.run(60 * SECOND);
    assert_eq!(prefixes(&domain, Announced::Pools), pools());
    assert_eq!(prefixes(&domain, Announced::Prefixes), [vec![], vec![], vec![]]);
}
