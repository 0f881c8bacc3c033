//! How much mobility a prefix gets (RFC 8818 section 4.1: not every node, and not every flow of one that has it, needs it).
//!
//! ```text
//!  the node moves on ──► none: the prefix ends where it was; the serving MAAR tells the node
//!                    └─► tunnel ──► relocate: when it has been tunnelled for long (a timer here), or has carried
//!                                   much, or a flow of it lasts (the serving MAAR counts that, and asks)
//! ```

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;
use kedge_config::{ConfigError, Mobility, PolicyRule, previous_maars_that_fit};

use super::fsm::{Cmd, Output};
use super::state::{Binding, Previous, PreviousPhase};
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::proxy_binding::{acknowledge, check_timestamp, requested_prefixes};
use crate::time::Time;
use crate::wire::mobility::{
    MobilityMessage, PrefixMobility, PrefixMobilityKind, ProxyBindingUpdate, RelocationStep, Status,
    is_mobile_network,
};

/// Policies that operators may put.
const MOST: usize = 4096;
/// Ended prefixes of a node that its serving MAAR is told of.
const MOST_ENDED: usize = 8;

/// Why a policy is not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It breaks a rule.
    #[error("{0}")]
    Invalid(ConfigError),
    /// It is not the operator's to change.
    #[error("policy {0} is one of the configuration: change it there")]
    Configured(String),
    /// There is none of this name.
    #[error("there is no policy {0}")]
    Unknown(String),
    /// There is no room.
    #[error("there are {MOST} policies already, and may be no more")]
    TooMany,
    /// A serving MAAR could not be told all that it has to know.
    #[error(
        "with this policy answers have room for {fit} previous MAARs, and cmd.maximum_previous_maars is {maximum}"
    )]
    NoRoom {
        /// So many would fit.
        fit: u16,
        /// So many there may be.
        maximum: usize,
    },
}

/// What becomes of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) mobility: Mobility,
    /// It is relocated when it has been tunnelled for so long.
    pub(super) after: Option<Duration>,
    /// It is relocated when it has carried so much.
    pub(super) octets: Option<u64>,
    /// It ends so long after its node has moved on.
    pub(super) end_after: Option<Duration>,
    /// A rule says so.
    pub(super) by_rule: bool,
}

impl Cmd {
    /// The policies, in the order in which they are asked, and whether each is of the configuration.
    pub fn policies(&self) -> impl Iterator<Item = (&PolicyRule, bool)> {
        let configured = |rule: &PolicyRule| self.settings.policies.iter().any(|it| it.name == rule.name);
        self.policies.iter().map(move |rule| (rule, configured(rule)))
    }

    /// Puts a policy, in place of that of the same name if there is one. Whether there was, and what is to be done.
    ///
    /// Of prefixes that are tunnelled already the time counts from when they were. What ends by it ends at the next move,
    /// and what MAARs are to count they learn when a node registers again.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn put_policy(&mut self, rule: PolicyRule, now: Time) -> Result<(bool, Vec<Output>), PolicyError> {
        rule.check_alone().map_err(PolicyError::Invalid)?;
        if self.settings.policies.iter().any(|it| it.name == rule.name) {
            return Err(PolicyError::Configured(rule.name));
        }
        let replaced = self.state.policies.contains_key(&rule.name);
        if !replaced && self.state.policies.len() >= MOST {
            return Err(PolicyError::TooMany);
        }
        let others = self.policies.iter().filter(|it| it.name != rule.name);
        let all = others.chain(std::iter::once(&rule));
        let fit = previous_maars_that_fit(self.settings.tunnel, all);
        let maximum = self.settings.maximum_previous_maars;
        if maximum > fit.into() {
            return Err(PolicyError::NoRoom { fit, maximum });
        }
        let text = format!("policy {}: mobility {}", rule.name, rule.mobility.name());
        let event = Event::new("policy_set", text).with("policy", &rule.name);
        self.counters.add("policies_set");
        self.state.policies.insert(rule.name.clone(), rule);
        Ok((replaced, self.policies_changed(event, now)))
    }

    /// Removes a policy that an operator has put.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn remove_policy(&mut self, name: &str, now: Time) -> Result<Vec<Output>, PolicyError> {
        if self.settings.policies.iter().any(|it| it.name == name) {
            return Err(PolicyError::Configured(name.to_owned()));
        }
        if self.state.policies.remove(name).is_none() {
            return Err(PolicyError::Unknown(name.to_owned()));
        }
        self.counters.add("policies_removed");
        let event = Event::new("policy_removed", format!("policy {name} is removed")).with("policy", name);
        Ok(self.policies_changed(event, now))
    }

    fn policies_changed(&mut self, event: Event, now: Time) -> Vec<Output> {
        self.order_policies();
        let identifiers: Vec<_> = self.state.bindings.keys().cloned().collect();
        for identifier in identifiers {
            let Some(binding) = self.state.bindings.get(&identifier) else {
                continue;
            };
            let of = |it: &Previous| self.policy(&identifier, it.prefix);
            let policies: Vec<_> = binding.previous.iter().map(of).collect();
            if let Some(binding) = self.state.bindings.get_mut(&identifier) {
                for (previous, policy) in binding.previous.iter_mut().zip(policies) {
                    previous.follow(policy);
                }
            }
            self.reindex(&identifier, None);
        }
        let mut outputs = vec![Output::Event(event)];
        self.list_to_relocate();
        self.relocate_more(now, &mut outputs);
        outputs
    }

    /// Derives the order in which rules are asked.
    pub(super) fn order_policies(&mut self) {
        let all = self.settings.policies.iter().chain(self.state.policies.values());
        self.policies = all.cloned().collect();
        self.policies
            .sort_by(|one, other| (one.priority, &one.name).cmp(&(other.priority, &other.name)));
    }

    /// What becomes of a prefix of a node.
    pub(super) fn policy(&self, identifier: &MobileNodeIdentifier, prefix: Ipv6Net) -> Policy {
        let rule = if self.policies.is_empty() {
            None
        } else {
            let node = identifier.to_string();
            self.policies.iter().find(|rule| rule.matches(&node, prefix))
        };
        let Some(rule) = rule else {
            let after = self.settings.relocate_after;
            return Policy {
                mobility: after.map_or(Mobility::Tunnel, |_| Mobility::Relocate),
                after,
                octets: None,
                end_after: None,
                by_rule: false,
            };
        };
        let octets = rule.relocate_after_octets;
        // Without a bound there is nothing to wait for.
        let at_once = octets.is_none().then_some(0);
        let after = rule.relocate_after_s.or(at_once);
        Policy {
            mobility: rule.mobility,
            after: after
                .filter(|_| rule.mobility == Mobility::Relocate)
                .map(|seconds| Duration::from_secs(seconds.into())),
            octets,
            end_after: rule
                .end_after_s
                .map(|seconds| Duration::from_secs(seconds.into())),
            by_rule: true,
        }
    }

    /// Takes prefixes that get no mobility out of the list of a node that has moved. They are to be released.
    pub(super) fn end_by_policy(&mut self, identifier: &MobileNodeIdentifier) -> Vec<Previous> {
        let Some(binding) = self.state.bindings.get(identifier) else {
            return Vec::new();
        };
        let ends = |it: &&Previous| self.policy(identifier, it.prefix).mobility == Mobility::None;
        let ended: Vec<_> = binding.previous.iter().filter(ends).cloned().collect();
        let Some(binding) = self.state.bindings.get_mut(identifier) else {
            return Vec::new();
        };
        binding
            .previous
            .retain(|it| !ended.iter().any(|gone| gone.prefix == it.prefix));
        for previous in &ended {
            self.counters.add("prefixes_ended_by_policy");
            binding.note_ended(previous.prefix);
        }
        ended
    }

    /// What the serving MAAR is told of prefixes besides where they are anchored.
    pub(super) fn prefix_mobilities(
        &self,
        identifier: &MobileNodeIdentifier,
        now: Time,
    ) -> Vec<PrefixMobility> {
        let Some(binding) = self.state.bindings.get(identifier) else {
            return Vec::new();
        };
        let limits = binding.previous.iter().filter_map(|previous| {
            let policy = self.policy(identifier, previous.prefix);
            let octets = policy.octets.filter(|_| policy.mobility == Mobility::Relocate)?;
            Some(PrefixMobility {
                prefix: previous.prefix,
                kind: PrefixMobilityKind::DetourLimit { octets },
            })
        });
        let ended = binding.ended.iter().map(|prefix| PrefixMobility {
            prefix: *prefix,
            kind: PrefixMobilityKind::Ended,
        });
        let previous = binding.previous.iter().map(|it| (it.prefix, it.left_at));
        let adopted = binding.adopted.iter().map(|it| (it.prefix, it.left_at));
        let ends = previous.chain(adopted).filter_map(|(prefix, left_at)| {
            let after = self.policy(identifier, prefix).end_after?;
            let end = left_at.filter(|_| !is_mobile_network(prefix))?.after(after);
            let seconds = end.since(now).as_secs();
            let kind = PrefixMobilityKind::EndsAfter { seconds };
            Some(PrefixMobility { prefix, kind })
        });
        ended.chain(limits).chain(ends).collect()
    }

    /// An anchor has confirmed where its node is: from now on the prefix is tunnelled.
    pub(super) fn tunnelled(&mut self, identifier: &MobileNodeIdentifier, prefix: Ipv6Net, now: Time) {
        let policy = self.policy(identifier, prefix);
        if let Some(binding) = self.state.bindings.get_mut(identifier) {
            for previous in binding.previous.iter_mut().filter(|it| it.prefix == prefix) {
                previous.tunnelled_since = Some(now);
                previous.follow(policy);
            }
        }
    }

    /// Wants what is due relocated.
    pub(super) fn relocate_by_policy(
        &mut self,
        identifier: &MobileNodeIdentifier,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Some(binding) = self.state.bindings.get_mut(identifier) else {
            return;
        };
        let mut due = Vec::new();
        for previous in &mut binding.previous {
            if previous.relocate_at.is_some_and(|at| at <= now) {
                previous.relocate_at = None;
                previous.wanted = true;
                due.push(previous.prefix);
            }
        }
        if !due.is_empty() {
            self.to_relocate.extend(due);
            self.relocate_more(now, outputs);
        }
    }

    /// A serving MAAR says that a detour has become too long: it has carried too much, or a flow lasts.
    pub(super) fn relocation_asked(
        &mut self,
        from: Ipv6Addr,
        update: &ProxyBindingUpdate,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let (identifier, prefix) = match self.check_asked(from, update, now) {
            Ok(checked) => checked,
            Err(status) => return self.refuse(from, update, status, now, outputs),
        };
        let answer = acknowledge(update, Status::ACCEPTED, update.lifetime, now);
        outputs.push(Output::Send {
            to: from,
            message: MobilityMessage::ProxyBindingAcknowledgement(answer),
        });
        if let Some(binding) = self.state.bindings.get_mut(&identifier) {
            for previous in binding.previous.iter_mut().filter(|it| it.prefix == prefix) {
                previous.wanted = true;
            }
        }
        self.counters.add("relocations_asked");
        self.to_relocate.insert(prefix);
        self.relocate_more(now, outputs);
    }

    fn check_asked(
        &mut self,
        from: Ipv6Addr,
        update: &ProxyBindingUpdate,
        now: Time,
    ) -> Result<(MobileNodeIdentifier, Ipv6Net), Status> {
        let options = &update.options;
        let identifier = options
            .mobile_node_identifier
            .clone()
            .ok_or(Status::MISSING_MN_IDENTIFIER_OPTION)?;
        if self.known_maar(from).is_none() {
            return Err(Status::MAG_NOT_AUTHORIZED_FOR_PROXY_REG);
        }
        if !update.is_distributed() || update.lifetime == 0 {
            return Err(Status::ADMINISTRATIVELY_PROHIBITED);
        }
        let &[prefix] = requested_prefixes(options) else {
            return Err(Status::MISSING_HOME_NETWORK_PREFIX_OPTION);
        };
        let policy = self.policy(&identifier, prefix);
        let binding = self.state.bindings.get_mut(&identifier);
        let binding = binding.ok_or(Status::NOT_LMA_FOR_THIS_MOBILE_NODE)?;
        let window = self.settings.timers.timestamp_validity_window;
        let timestamp = check_timestamp(options.timestamp, binding.last_timestamp, now, window)?;
        let known = binding.previous.iter().any(|it| it.prefix == prefix);
        if binding.serving != from || !known {
            return Err(Status::NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX);
        }
        binding.last_timestamp = timestamp;
        // What a rule leaves with its anchor stays there, whatever a MAAR's filters say.
        if policy.by_rule && policy.mobility != Mobility::Relocate {
            return Err(Status::ADMINISTRATIVELY_PROHIBITED);
        }
        Ok((identifier, prefix))
    }
}

impl Previous {
    /// Takes the times of a policy.
    fn follow(&mut self, policy: Policy) {
        let since = self
            .tunnelled_since
            .filter(|_| self.phase == PreviousPhase::Confirmed);
        let relocate = policy.mobility == Mobility::Relocate;
        self.wanted &= relocate || !policy.by_rule;
        self.relocate_at = since
            .zip(policy.after.filter(|_| relocate && !self.wanted))
            .map(|(since, after)| since.after(after));
    }
}

/// What an update says whose step is a MAAR's.
pub(super) fn step_of(update: &ProxyBindingUpdate) -> Option<RelocationStep> {
    update.options.anchor_relocation.map(|it| it.step)
}

impl Binding {
    /// A prefix of the node has ended, and it is told so.
    pub(super) fn note_ended(&mut self, prefix: Ipv6Net) {
        // Of the network behind it a router hears when it renews that.
        if is_mobile_network(prefix) {
            return;
        }
        self.ended.retain(|it| *it != prefix);
        self.ended.push(prefix);
        self.forget_ended();
        let excess = self.ended.len().saturating_sub(MOST_ENDED);
        self.ended.drain(..excess);
    }

    /// A prefix that is the node's again has not ended.
    pub(super) fn forget_ended(&mut self) {
        let own: Vec<_> = self.all_prefixes().collect();
        self.ended.retain(|prefix| !own.contains(prefix));
    }
}
