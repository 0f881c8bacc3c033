//! `[[policy]]`: how much mobility a node, or a prefix, gets.

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use crate::validate::{Findings, is_name};
use crate::{ConfigError, TunnelType};

/// `[[policy]]` of role `cmd`: what becomes of a prefix when its node moves on (RFC 8818 section 4.1). Of several that
/// match, the one with the lowest priority number counts; of those with the same, the first by name. What none
/// matches is tunnelled, and relocated after `cmd.relocate_after_s` if that is not 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRule {
    /// 1..=63 of `a-z A-Z 0-9 - _`; distinct.
    pub name: String,
    /// Whose prefixes: an identifier as it is shown, such as `mn1@example.net`, in which `*` stands for any characters:
    /// `*@example.net` is a realm. Absent = everybody's.
    #[serde(default)]
    pub node: Option<String>,
    /// Prefixes inside this one only; absent = any.
    #[serde(default)]
    pub prefix: Option<Ipv6Net>,
    /// 1..=65535; the lowest number comes first. Default 1000.
    #[serde(default = "default_priority")]
    pub priority: u16,
    /// How much.
    pub mobility: Mobility,
    /// With `mobility = "relocate"`: once it has been tunnelled for so many seconds, 0..=31536000; absent: not for
    /// its age, unless `relocate_after_octets` is absent too: then at once.
    #[serde(default)]
    pub relocate_after_s: Option<u32>,
    /// With `mobility = "relocate"`: once it has carried so many octets by the tunnel to where its node is,
    /// 1..=2^53. The data plane there counts them, and is asked every few seconds. Absent: however many.
    #[serde(default)]
    pub relocate_after_octets: Option<u64>,
    /// With `mobility = "tunnel"` and `"relocate"`: when its node has moved on for so many seconds it ends, 1..=31536000
    /// (RFC 8653, Graceful-Replacement); its addresses are valid for no longer, as hosts are told. Not of networks behind
    /// routers, which nothing replaces. Absent: with the session.
    #[serde(default)]
    pub end_after_s: Option<u32>,
}

/// `policy.mobility`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mobility {
    /// None: a node that moves on has a new prefix only. The old one ends where it was, and hosts are told so.
    None,
    /// The prefix stays with its anchor, which tunnels.
    Tunnel,
    /// The same, until that has lasted long or carried much: then the MAAR that serves the node is made the anchor.
    Relocate,
}

impl Mobility {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::None, Self::Tunnel, Self::Relocate];

    /// As in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Tunnel => "tunnel",
            Self::Relocate => "relocate",
        }
    }
}

/// Most octets of `relocate_after_octets`: programs that read JSON can have them as numbers.
const MOST_OCTETS: u64 = 1 << 53;
/// A year.
const MOST_SECONDS: u32 = 31_536_000;

/// Octets of an answer to a registration, at most 2048 (RFC 6275 section 6.1.1), that are there for previous MAARs: the longest
/// identifier, and whatever else is said of the node itself, has its place beside them.
const ROOM: usize = 2048 - 424;
/// Previous MAAR option.
const PREVIOUS: usize = 40;
/// Tunnel Endpoint option.
const ENDPOINT: usize = 40;
/// Prefix Mobility option.
const MOBILITY: usize = 36;

/// How many previous MAARs of one node fit into an answer, at most 22: more where less is said of each. A switch below a
/// MAAR is told of 22, in any case.
#[must_use]
pub fn previous_maars_that_fit<'a>(
    tunnel: TunnelType,
    policies: impl IntoIterator<Item = &'a PolicyRule>,
) -> u16 {
    let (mut octets, mut ends) = (0, 0);
    for rule in policies {
        if rule.relocate_after_octets.is_some() {
            octets = MOBILITY;
        }
        if rule.end_after_s.is_some() {
            ends = MOBILITY;
        }
    }
    let endpoint = match tunnel {
        TunnelType::Ipv6InIpv6 => 0,
        TunnelType::GtpU | TunnelType::Gre => ENDPOINT,
    };
    // The network behind a node is one more.
    let fit = ROOM / (PREVIOUS + endpoint + octets + ends) - 1;
    u16::try_from(fit.min(22)).unwrap_or(22)
}

impl PolicyRule {
    /// Whether it is about this prefix of this node; `node` is its identifier as it is shown.
    #[must_use]
    pub fn matches(&self, node: &str, prefix: Ipv6Net) -> bool {
        self.node.as_deref().is_none_or(|pattern| like(pattern, node))
            && self.prefix.is_none_or(|within| within.contains(&prefix))
    }

    /// Whether it can be put into a running CMD.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check_alone(&self) -> Result<(), ConfigError> {
        let mut findings = Findings::default();
        self.check("policy", &mut findings);
        findings.first().map_or(Ok(()), Err)
    }

    fn check(&self, key: &str, findings: &mut Findings) {
        let at = |of: &str| format!("{key}.{of}");
        if !is_name(&self.name, 63) {
            let reason = "must be 1 to 63 letters, digits, - or _";
            findings.add(at("name"), format!("{:?}", self.name), reason);
        }
        findings.range(&at("priority"), self.priority, 1, u16::MAX, "");
        if let Some(node) = &self.node
            && (node.is_empty() || node.chars().count() > 512 || node.chars().any(char::is_control))
        {
            let reason = "must be 1 to 512 characters of an identifier, or *";
            findings.add(at("node"), format!("{node:?}"), reason);
        }
        if let Some(prefix) = self.prefix.filter(|prefix| prefix.trunc() != *prefix) {
            findings.add(at("prefix"), prefix, "has bits set behind its length");
        }
        if let Some(seconds) = self.relocate_after_s {
            findings.range(&at("relocate_after_s"), seconds, 0, MOST_SECONDS, "seconds");
        }
        if let Some(octets) = self.relocate_after_octets {
            findings.range(&at("relocate_after_octets"), octets, 1, MOST_OCTETS, "octets");
        }
        if let Some(seconds) = self.end_after_s {
            findings.range(&at("end_after_s"), seconds, 1, MOST_SECONDS, "seconds");
            if self.mobility == Mobility::None {
                let reason = "goes with mobility = \"tunnel\" or \"relocate\"";
                findings.add(at("end_after_s"), seconds, reason);
            }
        }
        let limits = [
            ("relocate_after_s", self.relocate_after_s.map(u64::from)),
            ("relocate_after_octets", self.relocate_after_octets),
        ];
        for (of, value) in limits {
            if let Some(value) = value.filter(|_| self.mobility != Mobility::Relocate) {
                let reason = "goes with mobility = \"relocate\"";
                findings.add(at(of), value, reason);
            }
        }
    }
}

/// What a file says of policies.
pub(crate) fn check(rules: &[PolicyRule], cmd: bool, findings: &mut Findings) {
    if !(cmd || rules.is_empty()) {
        findings.add("policy", "", "policies are of node.role = \"cmd\"");
    }
    for (index, rule) in rules.iter().enumerate() {
        let key = format!("policy[{index}]");
        rule.check(&key, findings);
        if rules.iter().take(index).any(|other| other.name == rule.name) {
            let name = format!("{:?}", rule.name);
            findings.add(format!("{key}.name"), name, "another policy has this name");
        }
    }
}

/// Whether `text` is like `pattern`, in which `*` stands for any characters, or none.
fn like(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(head) else {
        return false;
    };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    // The first place where each part fits leaves the most to those behind it.
    for part in middle.split('*') {
        match text.split_once(part) {
            Some((_, behind)) => text = behind,
            None => return false,
        }
    }
    text.ends_with(tail)
}

fn default_priority() -> u16 {
    1000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The slow and obvious one.
    fn like_by_definition(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|at| like_by_definition(rest, &text[at..])),
            Some((first, rest)) => text.first() == Some(first) && like_by_definition(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn patterns(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            let of = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(like(&pattern, &text), like_by_definition(&of(&pattern), &of(&text)));
        }
    }

    #[test]
    fn realms_and_identifiers() {
        for (pattern, text, expected) in [
            ("mn1@example.net", "mn1@example.net", true),
            ("mn1@example.net", "mn11@example.net", false),
            ("*@example.net", "mn1@example.net", true),
            ("*@example.net", "mn1@sub.example.net", false),
            ("eui48:02-00-00-*", "eui48:02-00-00-00-0a-01", true),
            ("*", "", true),
        ] {
            assert_eq!(like(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn of_a_prefix() {
        let rule: PolicyRule = toml::from_str(
            "name = \"a\"\nmobility = \"none\"\nnode = \"*@a\"\nprefix = \"2001:db8:100::/40\"",
        )
        .unwrap();
        let within = "2001:db8:100:7::/64".parse().unwrap();
        assert!(rule.matches("x@a", within));
        assert!(!rule.matches("x@b", within));
        assert!(!rule.matches("x@a", "2001:db8:200::/64".parse().unwrap()));
    }
}
