//! What there is room for in an answer.

use super::*;

fn policy(toml: &str) -> PolicyRule {
    toml::from_str(toml).unwrap()
}

/// The answers to a node with the longest identifier that moves through as many MAARs as there may be, and two more, where this
/// much is said of each; and what the CMD has counted.
fn walked(
    tunnel: TunnelType,
    policies: Vec<PolicyRule>,
    maximum: u16,
) -> (Cmd, Vec<ProxyBindingAcknowledgement>) {
    let known = |index: u16| KnownMaar {
        address: maar(index),
        prefix_pools: vec![format!("2001:db8:{index}00::/48").parse().unwrap()],
    };
    let settings = Settings {
        tunnel,
        policies,
        maximum_previous_maars: maximum.into(),
        known_maars: (1..maximum + 3).map(known).collect(),
        ..cmd().settings
    };
    let mut cmd = Cmd::new(settings, State::default(), NOW);
    let mut all = Vec::new();
    for index in 1..maximum + 3 {
        let now = NOW.after(Duration::from_millis(10 * u64::from(index)));
        let mut it = update(1);
        let options = &mut it.options;
        options.mobile_node_identifier = Some(MobileNodeIdentifier::nai(&"n".repeat(253)));
        options.home_network_prefixes = vec![format!("2001:db8:{index}00:1::/64").parse().unwrap()];
        options.timestamp = Some(timestamp_from_time(now));
        if tunnel != TunnelType::Ipv6InIpv6 {
            options.tunnel_endpoints = vec![endpoint(maar(index), index.into())];
        }
        all.extend(answers(&mut cmd, maar(index), it, now));
    }
    (cmd, all)
}

const OCTETS: &str = "name = \"a\"\nmobility = \"relocate\"\nrelocate_after_octets = 1000";
const BOTH: &str = "name = \"a\"\nmobility = \"relocate\"\nrelocate_after_octets = 1000\nend_after_s = 3600";

#[test]
fn an_answer_has_room_for_all_that_the_configuration_permits() {
    for tunnel in [TunnelType::Ipv6InIpv6, TunnelType::GtpU] {
        for policies in [vec![], vec![policy(OCTETS)], vec![policy(BOTH)]] {
            let maximum = previous_maars_that_fit(tunnel, &policies);
            let said = if policies.is_empty() {
                0
            } else {
                usize::from(maximum)
            };
            let (cmd, all) = walked(tunnel, policies, maximum);
            let last = all.last().unwrap();
            assert_eq!(last.options.previous_maars.len(), usize::from(maximum));
            assert!(last.options.prefix_mobilities.len() >= said);
            for answer in all {
                let message = MobilityMessage::ProxyBindingAcknowledgement(answer);
                emit(&message, maar(1), maar(2)).unwrap();
            }
            let counted = cmd
                .counters()
                .iter()
                .find(|(name, _)| *name == "prefix_mobilities_left_out");
            assert_eq!(counted.unwrap().1, 0);
        }
    }
}

#[test]
fn what_has_no_room_is_left_out_and_told() {
    // Of more MAARs than a file permits with this policy.
    let (cmd, all) = walked(TunnelType::Ipv6InIpv6, vec![policy(BOTH)], 16);
    let last = all.last().unwrap().clone();
    assert_eq!(last.options.previous_maars.len(), 16);
    // All ends are there: who is not told of those keeps prefixes for ever.
    let ends = last.options.prefix_mobilities.iter();
    let ends = ends.filter(|it| matches!(it.kind, PrefixMobilityKind::EndsAfter { .. }));
    assert_eq!(ends.count(), 16);
    emit(
        &MobilityMessage::ProxyBindingAcknowledgement(last),
        maar(1),
        maar(2),
    )
    .unwrap();
    let counted = cmd
        .counters()
        .iter()
        .find(|(name, _)| *name == "prefix_mobilities_left_out");
    assert!(counted.unwrap().1 > 0);
}

#[test]
fn a_policy_for_which_answers_have_no_room_is_refused() {
    let mut cmd = cmd();
    cmd.settings.maximum_previous_maars = 20;
    assert!(cmd.put_policy(policy(OCTETS), NOW).is_ok());
    let refused = cmd.put_policy(policy(&BOTH.replace("\"a\"", "\"b\"")), NOW);
    let (fit, maximum) = (13, 20);
    assert_eq!(refused, Err(PolicyError::NoRoom { fit, maximum }));
    // In the place of the one that is there it would be no better.
    assert_eq!(
        cmd.put_policy(policy(BOTH), NOW),
        Err(PolicyError::NoRoom { fit, maximum })
    );
}
