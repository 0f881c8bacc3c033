//! The state machine: its inputs and outputs, and what all its parts share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;
use kedge_config::{CmdMode, Config, KnownMaar, PolicyRule, Timers, TunnelType};

use super::relocation::Outcome;
use super::restart::Asking;
use super::state::{Binding, Exchange, Previous, PreviousPhase, State};
pub use crate::counters::Counters;
use crate::deadlines::Deadlines;
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::proxy_binding::{RefusalLimit, UPDATE_FLAGS, handoff_indicator, lifetime_units, remember};
use crate::time::Time;
use crate::wire::mobility::{
    self, MobilityMessage, MobilityOptions, ProxyBindingUpdate, timestamp_from_time,
};

/// What happens to a CMD.
#[allow(
    clippy::large_enum_variant,
    reason = "one at a time, passed by value once; a box would cost more"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A Mobility Header message, parsed and with a verified checksum.
    Message {
        /// IPv6 source.
        from: Ipv6Addr,
        /// The message.
        message: MobilityMessage,
    },
    /// Each MAAR may register from these too: they are delegated to it.
    Delegated(BTreeMap<Ipv6Addr, BTreeSet<Ipv6Net>>),
    /// It is [`Cmd::next_deadline`], or later.
    Tick,
}

/// What a CMD wants done.
#[allow(
    clippy::large_enum_variant,
    reason = "one at a time, passed by value once; a box would cost more"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a Mobility Header message from `node.address`.
    Send {
        /// IPv6 destination.
        to: Ipv6Addr,
        /// The message.
        message: MobilityMessage,
    },
    /// The same, when what is known now would survive a crash: others build upon it.
    SendWhenSaved {
        /// IPv6 destination.
        to: Ipv6Addr,
        /// The message.
        message: MobilityMessage,
    },
    /// A relocation is over; whoever asked for it wants to know.
    Relocation {
        /// Of which prefix.
        prefix: Ipv6Net,
        /// How it ended.
        outcome: Outcome,
    },
    /// Tell whoever watches.
    Event(Event),
}

/// What a CMD is told by its configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `cmd.mode`.
    pub mode: CmdMode,
    /// `cmd.known_maar`.
    pub known_maars: Vec<KnownMaar>,
    /// `cmd.tunnel`.
    pub tunnel: TunnelType,
    /// `cmd.maximum_previous_maars`.
    pub maximum_previous_maars: usize,
    /// `cmd.maximum_bindings`.
    pub maximum_bindings: usize,
    /// `cmd.relocate_after_s`.
    pub relocate_after: Option<Duration>,
    /// `cmd.maximum_relocations`.
    pub maximum_relocations: usize,
    /// `policy`.
    pub policies: Vec<PolicyRule>,
    /// `access.router_link_local_address`, for an update that asks for one.
    pub router_link_local_address: Ipv6Addr,
    /// `timers`.
    pub timers: Timers,
}

impl Settings {
    /// The settings of a node of role `cmd`; `None` for another role.
    #[must_use]
    pub fn from_config(config: &Config) -> Option<Self> {
        let cmd = config.cmd.as_ref()?;
        Some(Self {
            mode: cmd.mode,
            known_maars: cmd.known_maars.clone(),
            tunnel: cmd.tunnel,
            maximum_previous_maars: cmd.maximum_previous_maars.into(),
            maximum_bindings: usize::try_from(cmd.maximum_bindings).unwrap_or(usize::MAX),
            relocate_after: (cmd.relocate_after_s > 0)
                .then(|| Duration::from_secs(cmd.relocate_after_s.into())),
            maximum_relocations: usize::try_from(cmd.maximum_relocations).unwrap_or(usize::MAX),
            policies: config.policies.clone(),
            router_link_local_address: config.access.router_link_local_address,
            timers: config.timers.clone(),
        })
    }
}

/// Names of all counters of a CMD.
const COUNTERS: &[&str] = &[
    "bindings_created",
    "bindings_refreshed",
    "bindings_moved",
    "bindings_revived",
    "bindings_expired",
    "deregistrations",
    "deregistrations_ignored_not_serving",
    "deregistrations_ignored_unknown",
    "updates_refused",
    "updates_refused_stranger",
    "refusals_suppressed",
    "previous_updates_sent",
    "previous_updates_retransmitted",
    "previous_updates_confirmed",
    "previous_updates_refused",
    "previous_maars_over_limit",
    "prefix_mobilities_left_out",
    "releases_sent",
    "releases_given_up",
    "prefixes_given_up",
    "mobile_networks_taken",
    "prefixes_ended_by_policy",
    "policies_set",
    "policies_removed",
    "relocations_asked",
    "relocations_started",
    "relocations_completed",
    "relocations_failed",
    "relocations_retransmitted",
    "relocations_unprepared",
    "acknowledgements_stranger",
    "acknowledgements_unmatched",
    "acknowledgements_not_distributed",
    "messages_unexpected",
    "registrations_asked",
    "contexts_passed_on",
    "contexts_transferred",
    "contexts_refused",
    "contexts_given_up",
    "contexts_stay",
    "contexts_without_anchor",
    "usage_closed",
];

/// How far the timestamps of updates may be ahead of the clock: 10 ms in their unit of 1/65536 s.
const TIMESTAMPS_AHEAD: u64 = 655;

/// A MAAR that anchors a prefix, and what an update to it has to say besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anchor {
    pub(super) address: Ipv6Addr,
    pub(super) prefix: Ipv6Net,
    pub(super) access_technology_type: u8,
    /// TEID at the serving MAAR, where GTP-U was agreed on.
    pub(super) serving_endpoint: Option<mobility::TunnelType>,
}

/// The state machine of a CMD.
#[derive(Clone, Debug)]
pub struct Cmd {
    pub(super) settings: Settings,
    pub(super) state: State,
    pub(super) counters: Counters,
    /// Whose each prefix is, derived from the bindings.
    pub(super) owners: BTreeMap<Ipv6Net, MobileNodeIdentifier>,
    /// What is delegated to each MAAR beside the pools of the configuration.
    pub(super) delegated: BTreeMap<Ipv6Addr, BTreeSet<Ipv6Net>>,
    /// Of the bindings, and derived from them.
    deadlines: Deadlines<MobileNodeIdentifier>,
    /// The same of relocations.
    pub(super) relocation_deadlines: Deadlines<Ipv6Net>,
    /// Timestamp of the last update to a MAAR.
    last_told: u64,
    /// Prefixes that are to go, by policy or because their anchor is drained, and were not tried yet.
    pub(super) to_relocate: BTreeSet<Ipv6Net>,
    /// All policies, in the order in which they are asked; derived from the settings and the state.
    pub(super) policies: Vec<PolicyRule>,
    pub(super) refusal_limit: RefusalLimit,
    /// What MAARs are asked since it started, and the number of that.
    pub(super) asking: Vec<Asking>,
    pub(super) asking_sequence: u16,
}

impl Cmd {
    /// A CMD that goes on from `state`: the empty one, or one that was stored.
    #[must_use]
    pub fn new(settings: Settings, mut state: State, _now: Time) -> Self {
        for binding in state.bindings.values_mut() {
            binding.restored = true;
        }
        let identifiers: Vec<_> = state.bindings.keys().cloned().collect();
        let mut cmd = Self {
            settings,
            relocation_deadlines: state
                .relocations
                .iter()
                .map(|(prefix, it)| (*prefix, it.exchange.retransmit_at))
                .collect(),
            last_told: 0,
            to_relocate: BTreeSet::new(),
            policies: Vec::new(),
            state,
            counters: Counters::new(COUNTERS),
            owners: BTreeMap::new(),
            delegated: BTreeMap::new(),
            deadlines: Deadlines::default(),
            refusal_limit: RefusalLimit::default(),
            asking: Vec::new(),
            asking_sequence: 0,
        };
        for identifier in identifiers {
            cmd.reindex(&identifier, None);
        }
        cmd.order_policies();
        cmd.list_to_relocate();
        cmd
    }

    /// Takes one input and returns what is to be done, in order.
    pub fn process(&mut self, input: Input, now: Time) -> Vec<Output> {
        let mut outputs = Vec::new();
        match input {
            Input::Message { from, message } => match message {
                MobilityMessage::ProxyBindingUpdate(update) => {
                    self.registration(from, &update, now, &mut outputs)
                }
                MobilityMessage::ProxyBindingAcknowledgement(acknowledgement) => {
                    self.confirmation(from, &acknowledgement, now, &mut outputs);
                }
                MobilityMessage::BindingError(_)
                | MobilityMessage::UpdateNotification(_)
                | MobilityMessage::UpdateNotificationAcknowledgement(_)
                | MobilityMessage::Other(_) => self.counters.add("messages_unexpected"),
            },
            Input::Delegated(delegated) => self.delegated = delegated,
            Input::Tick => self.tick(now, &mut outputs),
        }
        outputs
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let release = self
            .state
            .releases
            .iter()
            .map(|release| release.exchange.retransmit_at)
            .min();
        let (binding, relocation) = (self.deadlines.next(), self.relocation_deadlines.next());
        let asking = self.asking.iter().map(|it| it.again_at).min();
        [binding, release, relocation, asking, self.contexts_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// What it knows.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What it counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The binding whose deadline is the first of those at or before `now`.
    pub(super) fn due(&self, now: Time) -> Option<MobileNodeIdentifier> {
        self.deadlines.due(now)
    }

    /// Brings the indexes in line with a binding that was changed or removed; `before` is what it was.
    pub(super) fn reindex(&mut self, identifier: &MobileNodeIdentifier, before: Option<&Binding>) {
        for prefix in before.into_iter().flat_map(Binding::all_prefixes) {
            self.owners.remove(&prefix);
        }
        let binding = self.state.bindings.get(identifier);
        self.deadlines
            .set(identifier, binding.map(Binding::next_deadline));
        let Some(binding) = binding else {
            return;
        };
        for prefix in binding.all_prefixes() {
            self.owners.insert(prefix, identifier.clone());
        }
    }

    /// A new exchange, not yet sent.
    pub(super) fn new_exchange(&self, now: Time) -> Exchange {
        let timeout = self.settings.timers.initial_bindack_timeout;
        Exchange {
            sequences: Vec::new(),
            transmissions: 0,
            retransmit_at: now.after(timeout),
            next_timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// An update to a MAAR, with the next number toward it and a fresh timestamp (choices G3 and G4:
    /// the CMD's own). `serving` and `lifetime`: where the node is now and for how long, or the release
    /// of the prefix.
    pub(super) fn update_for(
        &mut self,
        identifier: &MobileNodeIdentifier,
        anchor: Anchor,
        serving: Option<(Ipv6Addr, Duration)>,
        exchange: &mut Exchange,
        now: Time,
    ) -> Output {
        // A MAAR may be told of several prefixes of a node at once, and takes only what is newer (RFC 5213
        // section 5.5). Never far ahead of the clock: what is refused for that is sent again.
        let clock = timestamp_from_time(now);
        let next = self.last_told.saturating_add(1);
        self.last_told = if next.saturating_sub(clock) < TIMESTAMPS_AHEAD {
            next.max(clock)
        } else {
            clock
        };
        let sequence = self.state.sequences.entry(anchor.address).or_default();
        *sequence = sequence.wrapping_add(1);
        remember(&mut exchange.sequences, *sequence);
        exchange.transmissions = exchange.transmissions.saturating_add(1);
        let mut update = ProxyBindingUpdate {
            sequence: *sequence,
            flags: UPDATE_FLAGS,
            // Rounded up: a lifetime of less than 4 s must not read as a release.
            lifetime: serving.map_or(0, |(_, lifetime)| lifetime_units(lifetime).max(1)),
            options: MobilityOptions {
                mobile_node_identifier: Some(identifier.clone()),
                handoff_indicator: Some(if serving.is_some() {
                    handoff_indicator::BETWEEN_GATEWAYS
                } else {
                    handoff_indicator::UNKNOWN
                }),
                access_technology_type: Some(anchor.access_technology_type),
                timestamp: Some(self.last_told),
                serving_maar: serving.map(|(address, _)| address),
                ..MobilityOptions::default()
            },
        };
        update.options.about(anchor.prefix);
        if let Some(((address, _), endpoint)) = serving.zip(anchor.serving_endpoint) {
            update.options.tell(address, endpoint);
        }
        Output::Send {
            to: anchor.address,
            message: MobilityMessage::ProxyBindingUpdate(update),
        }
    }

    /// Whether `address` is a MAAR of this domain, and which.
    pub(super) fn known_maar(&self, address: Ipv6Addr) -> Option<&KnownMaar> {
        self.settings
            .known_maars
            .iter()
            .find(|maar| maar.address == address)
    }
}

impl Binding {
    /// Every prefix of the node, wherever it is anchored.
    pub(super) fn all_prefixes(&self) -> impl Iterator<Item = Ipv6Net> + '_ {
        self.anchored_here()
            .chain(self.previous.iter().map(|previous| previous.prefix))
    }

    /// Every prefix that the serving MAAR anchors.
    pub(super) fn anchored_here(&self) -> impl Iterator<Item = Ipv6Net> + '_ {
        let adopted = self.adopted.iter().map(|adopted| adopted.prefix);
        self.prefixes.iter().copied().chain(adopted)
    }

    /// What a MAAR, by its own word, takes the node's packets by from now on; `None`: by IPv6-in-IPv6 only.
    pub(super) fn offer(&mut self, maar: Ipv6Addr, endpoint: Option<mobility::TunnelType>) {
        match endpoint {
            Some(endpoint) => self.offered_endpoints.insert(maar, endpoint),
            None => self.offered_endpoints.remove(&maar),
        };
    }

    /// The earliest of its timers.
    fn next_deadline(&self) -> Time {
        let updates = self.previous.iter().filter_map(Previous::retransmit_at);
        let policy = self.previous.iter().filter_map(|it| it.relocate_at);
        updates.chain(policy).fold(self.expires_at, Time::min)
    }
}

impl Previous {
    /// What an update to it says, as long as the node is somewhere.
    pub(super) fn anchor(&self, access_technology_type: u8) -> Anchor {
        Anchor {
            address: self.address,
            prefix: self.prefix,
            access_technology_type,
            serving_endpoint: self.tunnel.map(|agreed| agreed.serving),
        }
    }

    /// When the update on its way is due again.
    pub(super) fn retransmit_at(&self) -> Option<Time> {
        match &self.phase {
            PreviousPhase::Updating(exchange) => Some(exchange.retransmit_at),
            PreviousPhase::Confirmed | PreviousPhase::Refused => None,
        }
    }
}
