//! Inputs, outputs and timers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::Ipv6Net;

use super::exchange::{Exchange, timing};
use super::reply::Offer;
use super::state::{Association, Held, Phase, State, Wanted};
use crate::counters::Counters;
use crate::delegation::wire::{Duid, Message, MessageType};
use crate::event::Event;
use crate::time::Time;

/// SOL_MAX_DELAY, CNF_MAX_DELAY (RFC 8415 section 7.6).
const START_DELAY_MS: u64 = 1000;
/// SOL_MAX_RT where no server says otherwise.
const SOLICIT_MAXIMUM: Duration = Duration::from_secs(3600);
/// Solicits for a prefix that has to be a certain one: who wants it waits for the outcome.
const EXACT_SOLICITS: u32 = 4;

/// What happens to a requesting router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A prefix is wanted under this IAID, which is below 2^31. Again is no change.
    Want {
        /// Which one of ours.
        iaid: u32,
        /// What it should be.
        wanted: Wanted,
    },
    /// This very prefix is wanted; [`Output::Delegated`] or [`Output::Refused`] will tell.
    WantExactly(Ipv6Net),
    /// These very prefixes are wanted from now on, and no others by name: what is missing is asked for, again and again
    /// with pauses; what is too much is given back.
    Keep(BTreeSet<Ipv6Net>),
    /// This prefix, delegated to us, is to be given back; [`Output::Released`] will tell.
    Release(Ipv6Net),
    /// What the link of the servers is may have changed.
    LinkChanged,
    /// A UDP payload that came to port 546, or out of a relay's reply.
    Datagram(Vec<u8>),
    /// It is [`Requesting::next_deadline`], or later.
    Tick,
}

/// What a requesting router wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send to the servers, from port 546.
    Send(Vec<u8>),
    /// A prefix that was wanted by name is ours.
    Delegated(Ipv6Net),
    /// It is not, or not any more.
    Refused(Ipv6Net, String),
    /// A prefix that was given back is not ours any more, or was wanted again before a server has said so.
    Released(Ipv6Net),
    /// Tell whoever watches.
    Event(Event),
}

/// What a requesting router is told by its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Who it is.
    pub client: Duid,
    /// Whether two messages may do instead of four.
    pub rapid_commit: bool,
    /// Whether the server may tell it to renew.
    pub accept_reconfigure: bool,
    /// There is one server: its offer is taken without waiting for others'.
    pub one_server: bool,
}

/// Names of all counters.
const COUNTERS: &[&str] = &[
    "dhcp_malformed",
    "dhcp_not_for_clients",
    "dhcp_unmatched",
    "dhcp_refused_identifiers",
    "dhcp_refused_timers",
    "dhcp_refused_lifetimes",
    "dhcp_not_written",
    "dhcp_sent",
    "dhcp_retransmitted",
    "dhcp_advertises_without_prefix",
    "delegations_received",
    "delegations_renewed",
    "delegations_withdrawn",
    "delegations_lost",
    "delegations_released",
    "delegations_refused",
    "delegations_without_binding",
    "reconfigures_accepted",
    "reconfigures_refused",
];

/// The state machine of a requesting router.
#[derive(Clone, Debug)]
pub struct Requesting {
    pub(super) settings: Settings,
    pub(super) state: State,
    pub(super) counters: Counters,
    /// The best offer to each association that collects them.
    pub(super) offers: BTreeMap<u32, Offer>,
    /// Associations that a server has offered nothing to, or not what they want.
    pub(super) nothing_offered: BTreeSet<u32>,
    pub(super) solicit_maximum: Duration,
    /// Of [`Input::Keep`].
    pub(super) kept: Option<BTreeSet<Ipv6Net>>,
    /// Something was solicited since the start.
    started: bool,
}

/// Random numbers made of one that came in: pure, and as unpredictable as that one.
pub(super) struct Random(pub(super) u64);

impl Random {
    /// SplitMix64.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform over -1000..=1000.
    pub(super) fn thousandths(&mut self) -> i64 {
        i64::try_from(self.next() % 2001).unwrap_or(0) - 1000
    }

    /// 24 bits.
    pub(super) fn transaction(&mut self) -> u32 {
        u32::try_from(self.next() >> 40).unwrap_or(0)
    }

    fn delay(&mut self) -> Duration {
        Duration::from_millis(self.next() % (START_DELAY_MS + 1))
    }
}

impl Requesting {
    /// A requesting router that goes on from `state`. `random`: 64 bits of the operating system's randomness.
    #[must_use]
    pub fn new(settings: Settings, mut state: State, now: Time, random: u64) -> Self {
        let mut random = Random(random);
        // Who wanted it and waited is not there any more, and asks again. That it was lost has still to be heard; and what a server
        // may take to be ours is asked for on, under the IAID that it knows.
        let waited = |it: &Association| {
            matches!(it.phase, Phase::Soliciting | Phase::Requesting) && !it.over && it.prefixes.is_empty()
        };
        state.associations.retain(|_, it| !it.wanted.exact || !waited(it));
        for association in state.associations.values_mut() {
            let at = now.after(random.delay());
            let confirming = matches!(
                association.phase,
                Phase::Bound | Phase::Renewing | Phase::Rebinding
            ) || !association.prefixes.is_empty();
            if association.phase == Phase::Releasing {
                continue;
            }
            association.exchange = Some(Exchange::new(random.transaction(), at, confirming));
            association.phase = if confirming {
                Phase::Rebinding
            } else {
                Phase::Soliciting
            };
        }
        Self {
            settings,
            state,
            counters: Counters::new(COUNTERS),
            offers: BTreeMap::new(),
            nothing_offered: BTreeSet::new(),
            solicit_maximum: SOLICIT_MAXIMUM,
            kept: None,
            started: false,
        }
    }

    /// Takes one input and returns what is to be done, in order. `random`: 64 bits of the operating system's randomness.
    pub fn process(&mut self, input: Input, now: Time, random: u64) -> Vec<Output> {
        let mut outputs = Vec::new();
        let mut random = Random(random);
        match input {
            Input::Want { iaid, wanted } => {
                let delay = if self.started {
                    Duration::ZERO
                } else {
                    random.delay()
                };
                self.want(iaid, wanted, now.after(delay), &mut random);
            }
            Input::WantExactly(prefix) => self.want_exactly(prefix, now, &mut random, &mut outputs),
            Input::Keep(prefixes) => self.keep(prefixes, now, &mut random, &mut outputs),
            Input::Release(prefix) => self.give_back(prefix, now, &mut random, &mut outputs),
            Input::LinkChanged => self.link_changed(now, &mut random),
            Input::Datagram(octets) => self.datagram(&octets, now, &mut random, &mut outputs),
            Input::Tick => {}
        }
        self.tick(now, &mut random, &mut outputs);
        outputs
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let associations = self.state.associations.values();
        associations.filter_map(Association::next_deadline).min()
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

    /// The prefixes that may be used at `now`, but for those that were wanted by name.
    pub fn pools(&self, now: Time) -> impl Iterator<Item = &Held> {
        let usable = |it: &&Association| !it.wanted.exact && it.phase != Phase::Releasing;
        let associations = self.state.associations.values().filter(usable);
        associations
            .flat_map(|it| &it.prefixes)
            .filter(move |held| held.valid_until.is_none_or(|end| end > now))
    }

    fn link_changed(&mut self, now: Time, random: &mut Random) {
        for association in self.state.associations.values_mut() {
            if matches!(association.phase, Phase::Bound | Phase::Renewing) {
                association.phase = Phase::Rebinding;
                let at = now.after(random.delay());
                association.exchange = Some(Exchange::new(random.transaction(), at, true));
            }
        }
    }

    fn datagram(&mut self, octets: &[u8], now: Time, random: &mut Random, outputs: &mut Vec<Output>) {
        let message = match Message::parse(octets) {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(%error, "a DHCPv6 message was refused");
                return self.counters.add("dhcp_malformed");
            }
        };
        match message.message_type {
            MessageType::Reconfigure => self.reconfigure(octets, &message, now, random, outputs),
            MessageType::Advertise | MessageType::Reply => self.answered(&message, now, random, outputs),
            _ => self.counters.add("dhcp_not_for_clients"),
        }
    }

    fn tick(&mut self, now: Time, random: &mut Random, outputs: &mut Vec<Output>) {
        let due: Vec<u32> = self
            .state
            .associations
            .iter()
            .filter(|(_, it)| it.next_deadline().is_some_and(|at| at <= now))
            .map(|(iaid, _)| *iaid)
            .collect();
        for iaid in due {
            self.expire(iaid, now, random, outputs);
            self.extend(iaid, now, random);
            self.retransmit(iaid, now, random, outputs);
        }
    }

    /// What is not valid any more is not ours any more.
    fn expire(&mut self, iaid: u32, now: Time, random: &mut Random, outputs: &mut Vec<Output>) {
        let Some(association) = self.state.associations.get_mut(&iaid) else {
            return;
        };
        let over = |held: &Held| held.valid_until.is_some_and(|end| end <= now);
        let lost: Vec<_> = association.prefixes.extract_if(.., |held| over(held)).collect();
        if lost.is_empty() {
            return;
        }
        let wanted = association.wanted;
        association.over |= wanted.exact
            && association.phase != Phase::Releasing
            && lost.iter().any(|held| wanted.hint == Some(held.prefix));
        for held in &lost {
            self.counters.add("delegations_lost");
            let text = format!(
                "{} is not ours any more: no server extended its lifetime",
                held.prefix
            );
            outputs.push(Output::Event(
                Event::new("delegation_lost", text).with("prefix", held.prefix),
            ));
        }
        self.without_prefixes(iaid, "its lifetime is over", now, random, outputs);
    }

    /// An association whose last prefix may have gone begins anew, or ends where nothing else would do.
    pub(super) fn without_prefixes(
        &mut self,
        iaid: u32,
        why: &str,
        now: Time,
        random: &mut Random,
        outputs: &mut Vec<Output>,
    ) {
        let Some(association) = self.state.associations.get_mut(&iaid) else {
            return;
        };
        if !association.prefixes.is_empty() {
            return;
        }
        if association.phase == Phase::Releasing || association.wanted.exact {
            let released = association.phase == Phase::Releasing;
            let wanted = association.wanted;
            self.end(iaid, now, random);
            match wanted.hint {
                Some(prefix) if released => outputs.push(Output::Released(prefix)),
                Some(prefix) => outputs.push(Output::Refused(prefix, why.to_owned())),
                None => {}
            }
            return;
        }
        self.solicit(iaid, now, random);
    }

    /// Begins anew.
    pub(super) fn solicit(&mut self, iaid: u32, at: Time, random: &mut Random) {
        self.offers.remove(&iaid);
        self.nothing_offered.remove(&iaid);
        if let Some(association) = self.state.associations.get_mut(&iaid) {
            association.phase = Phase::Soliciting;
            association.server = None;
            association.renew_at = None;
            association.rebind_at = None;
            association.exchange = Some(Exchange::new(random.transaction(), at, false));
        }
    }

    /// T1 and T2.
    fn extend(&mut self, iaid: u32, now: Time, random: &mut Random) {
        let Some(association) = self.state.associations.get_mut(&iaid) else {
            return;
        };
        let reached = |at: Option<Time>| at.is_some_and(|at| at <= now);
        let phase = if reached(association.rebind_at) {
            association.rebind_at = None;
            association.renew_at = None;
            Phase::Rebinding
        } else if reached(association.renew_at) {
            association.renew_at = None;
            Phase::Renewing
        } else {
            return;
        };
        association.phase = phase;
        association.exchange = Some(Exchange::new(random.transaction(), now, false));
    }

    fn retransmit(&mut self, iaid: u32, now: Time, random: &mut Random, outputs: &mut Vec<Output>) {
        let Some(association) = self.state.associations.get(&iaid) else {
            return;
        };
        let Some(exchange) = association.exchange.as_ref().filter(|it| it.next_at <= now) else {
            return;
        };
        let soliciting = association.phase == Phase::Soliciting;
        let refused = soliciting && exchange.sent > 0 && self.nothing_offered.contains(&iaid);
        let exact = association.wanted.exact;
        let timing = timing(association.phase, exchange.confirming, self.solicit_maximum);
        let over = exchange.is_over(&timing, now);
        if soliciting && self.offers.contains_key(&iaid) {
            self.take_offer(iaid, now, random);
        } else if over || (exact && soliciting && (exchange.sent >= EXACT_SOLICITS || refused)) {
            self.give_up(iaid, now, random, outputs);
            return;
        }
        self.started = true;
        self.transmit(iaid, now, random, outputs);
    }

    fn give_up(&mut self, iaid: u32, now: Time, random: &mut Random, outputs: &mut Vec<Output>) {
        let Some(association) = self.state.associations.get_mut(&iaid) else {
            return;
        };
        association.exchange = None;
        match association.phase {
            // Nobody says that it is not ours (RFC 8415 section 18.2.12). Where T2 has passed no timer would have it asked for again.
            Phase::Rebinding if association.renew_at.is_some() || association.rebind_at.is_some() => {
                association.phase = Phase::Bound;
            }
            Phase::Rebinding if association.prefixes.iter().all(|it| it.valid_until.is_none()) => {
                association.phase = Phase::Bound;
            }
            Phase::Requesting if !association.wanted.exact => self.solicit(iaid, now, random),
            // The server that was asked for what may be ours is silent: any other may know.
            Phase::Rebinding | Phase::Requesting if !association.prefixes.is_empty() => {
                association.phase = Phase::Rebinding;
                association.exchange = Some(Exchange::new(random.transaction(), now, false));
            }
            Phase::Releasing => {
                let text = "the server did not answer the Release; the lease ends by itself";
                outputs.push(Output::Event(Event::new("release_unanswered", text)));
                let given_back = std::mem::take(&mut association.prefixes);
                self.end(iaid, now, random);
                outputs.extend(given_back.iter().map(|held| Output::Released(held.prefix)));
            }
            _ => {
                self.counters.add("delegations_refused");
                self.without_prefixes(iaid, "no server delegates it", now, random, outputs);
            }
        }
    }
}
