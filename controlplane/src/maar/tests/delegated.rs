//! Pools that are delegated: nodes get prefixes of them, are told their lifetimes and no more, and their end.

use super::*;
use crate::maar::DelegatedPool;
use crate::wire::neighbour_discovery::PrefixInformation;

fn pool(prefix: &str, preferred: u64, valid: u64) -> DelegatedPool {
    DelegatedPool {
        prefix: prefix.parse().unwrap(),
        exclude: None,
        preferred_until: Some(NOW.after(Duration::from_secs(preferred))),
        valid_until: Some(NOW.after(Duration::from_secs(valid))),
    }
}

/// A MAAR without pools of its own.
fn delegated(pools: Vec<DelegatedPool>) -> Maar {
    let mut maar = maar(|settings| settings.prefix_pools.clear());
    maar.process(Input::Pools(pools), NOW);
    maar
}

fn advertised(outputs: &[Output]) -> Option<PrefixInformation> {
    outputs.iter().find_map(|output| match output {
        Output::Advertise { prefixes, .. } => prefixes.first().cloned(),
        _ => None,
    })
}

fn serve(maar: &mut Maar, number: u8) -> PrefixInformation {
    let update = attach(maar, number).unwrap();
    let outputs = tell(maar, CMD, acknowledge(&update, Status::ACCEPTED, 150, NOW));
    advertised(&outputs).unwrap()
}

#[test]
fn without_a_pool_there_is_nothing_to_give() {
    let mut maar = delegated(Vec::new());
    assert!(attach(&mut maar, 1).is_none());
    assert_eq!(maar.counters().get("attachments_refused_no_prefix"), 1);
    maar.process(Input::Pools(vec![pool("2001:db8:500::/62", 100, 200)]), NOW);
    assert_eq!(maar.counters().get("pools_delegated"), 1);
    assert!(
        serve(&mut maar, 1)
            .prefix
            .to_string()
            .starts_with("2001:db8:500:")
    );
}

#[test]
fn lifetimes_are_those_of_the_delegation_at_most() {
    let mut maar = delegated(vec![pool("2001:db8:500::/62", 100, 200)]);
    let it = serve(&mut maar, 1);
    assert_eq!((it.preferred_lifetime, it.valid_lifetime), (100, 200));
    // Longer ones do not make them longer than the configuration says; one for ever neither.
    let mut endless = pool("2001:db8:500::/62", 1_000_000, 1_000_000);
    (endless.preferred_until, endless.valid_until) = (None, None);
    for pool in [pool("2001:db8:500::/62", 1_000_000, 1_000_000), endless] {
        let mut maar = delegated(vec![pool]);
        let it = serve(&mut maar, 1);
        let access = Access::default();
        assert_eq!(
            (it.preferred_lifetime, it.valid_lifetime),
            (access.preferred_lifetime, access.valid_lifetime)
        );
    }
}

/// The pool is renewed at half of its time, which is shorter than the interval of advertisements.
#[test]
fn what_is_told_of_a_pool_is_told_again_before_it_ends() {
    let mut maar = delegated(vec![pool("2001:db8:500::/62", 20, 40)]);
    assert_eq!(serve(&mut maar, 1).preferred_lifetime, 20);
    maar.process(
        Input::Pools(vec![pool("2001:db8:500::/62", 30, 50)]),
        NOW.after(Duration::from_secs(10)),
    );
    let next = maar.next_deadline().unwrap();
    assert_eq!(next, NOW.after(Duration::from_secs(12)));
    let it = advertised(&maar.process(Input::Tick, next)).unwrap();
    assert_eq!((it.preferred_lifetime, it.valid_lifetime), (18, 38));
    // Nobody renews it: when it has ended there is no hurry.
    for _ in 0..20 {
        let next = maar.next_deadline().unwrap();
        maar.process(Input::Tick, next);
    }
    assert!(maar.next_deadline().unwrap() >= NOW.after(Duration::from_secs(60)));
}

#[test]
fn what_is_deprecated_or_excluded_is_given_to_nobody() {
    let mut excluding = pool("2001:db8:500::/63", 100, 200);
    excluding.exclude = Some("2001:db8:500:1::/64".parse().unwrap());
    let mut maar = delegated(vec![pool("2001:db8:600::/62", 0, 200), excluding]);
    assert_eq!(serve(&mut maar, 1).prefix.to_string(), "2001:db8:500::/64");
    assert!(attach(&mut maar, 2).is_none());
}

#[test]
fn a_pool_that_is_lost_is_told_to_its_nodes() {
    let mut maar = delegated(vec![pool("2001:db8:500::/62", 100, 200)]);
    let prefix = serve(&mut maar, 1).prefix;
    // Extended: nothing is to be told.
    let outputs = maar.process(Input::Pools(vec![pool("2001:db8:500::/62", 200, 300)]), NOW);
    assert!(outputs.is_empty());
    let outputs = maar.process(Input::Pools(vec![pool("2001:db8:700::/62", 100, 200)]), NOW);
    let it = advertised(&outputs).unwrap();
    assert_eq!(
        (it.prefix, it.preferred_lifetime, it.valid_lifetime),
        (prefix, 0, 0)
    );
    assert_eq!(maar.counters().get("pools_lost"), 1);
    // The next node gets one of what there is.
    assert!(
        serve(&mut maar, 2)
            .prefix
            .to_string()
            .starts_with("2001:db8:700:")
    );
}

/// Pools of the configuration know nothing of delegation.
#[test]
fn pools_of_the_configuration_stay_as_they_are() {
    let mut maar = maar(|_| {});
    maar.process(Input::Pools(vec![pool("2001:db8:500::/62", 100, 200)]), NOW);
    let it = serve(&mut maar, 1);
    assert_eq!(it.valid_lifetime, Access::default().valid_lifetime);
    assert!(it.prefix.to_string().starts_with("2001:db8:100:"));
}

/// A pool that is delegated, and has what the file has behind tunnels in it: nodes get the rest, if there is any.
#[test]
fn what_is_behind_tunnels_of_the_file_is_given_to_nobody() {
    let events = |outputs: &[Output]| -> Vec<String> {
        let events = outputs.iter().filter_map(|output| match output {
            Output::Event(event) => Some(event.kind.to_string()),
            _ => None,
        });
        events.collect()
    };
    for (delegated, given) in [
        ("2001:db8:500::/63", vec!["2001:db8:500:1::/64"]),
        ("2001:db8:500::/64", vec![]),
    ] {
        let mut maar = maar(|settings| {
            settings.prefix_pools.clear();
            settings.tunnelled_pools = vec!["2001:db8:500::/64".parse().unwrap()];
        });
        let pools = vec![pool(delegated, 100, 200)];
        let outputs = maar.process(Input::Pools(pools.clone()), NOW);
        assert_eq!(events(&outputs), ["pool_delegated", "pool_overlaps"]);
        // It is told once.
        assert_eq!(events(&maar.process(Input::Pools(pools), NOW)), [""; 0]);
        assert_eq!(maar.counters().get("pools_overlapping"), 1);
        let mut found = Vec::new();
        for number in 1..=3 {
            let update = attach(&mut maar, number);
            found.extend(update.map(|it| it.options.home_network_prefixes[0].to_string()));
        }
        assert_eq!(found, given);
    }
}

/// As one would be that was relocated here.
#[test]
fn no_answer_anchors_here_what_is_behind_tunnels_of_the_file() {
    for (tunnelled, adopted) in [(true, 0), (false, 1)] {
        let mut maar = maar(|settings| {
            settings.tunnelled_pools = vec!["2001:db8:500::/48".parse().unwrap()];
        });
        let update = attach(&mut maar, 1).unwrap();
        let mut answer = acknowledge(&update, Status::ACCEPTED, 150, NOW);
        let prefix = match tunnelled {
            true => "2001:db8:500:7::/64",
            false => "2001:db8:600:7::/64",
        };
        answer.options.home_network_prefixes.push(prefix.parse().unwrap());
        tell(&mut maar, CMD, answer);
        assert_eq!(
            maar.state().nodes[&identifier(1)].adopted.len(),
            adopted,
            "{prefix}"
        );
    }
}

/// An older prefix of a node is elsewhere; what the file has behind a tunnel here is not.
#[test]
fn nobody_says_of_what_is_behind_tunnels_of_the_file_that_it_is_a_nodes() {
    for prefix in ["2001:db8:500:7::/64", "2001:db8:500::/48", "2001:db8::/32"] {
        let mut maar = maar(|settings| {
            settings.tunnelled_pools = vec!["2001:db8:500::/48".parse().unwrap()];
        });
        let update = attach(&mut maar, 1).unwrap();
        let mut answer = acknowledge(&update, Status::ACCEPTED, 150, NOW);
        answer.options.previous_maars = vec![PreviousMaarOption {
            address: PEER,
            home_network_prefix: prefix.parse().unwrap(),
            logical_interface: LogicalInterface::default(),
        }];
        tell(&mut maar, CMD, answer);
        let node = &maar.state().nodes[&identifier(1)];
        assert!(node.registered && node.previous.is_empty(), "{prefix}");
        assert_eq!(maar.counters().get("previous_maars_not_permitted"), 1);
    }
}
