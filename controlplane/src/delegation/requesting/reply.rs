//! What is answered (RFC 8415 sections 16.3, 16.10, 18.2.9 and 18.2.10).

use std::time::Duration;

use ipnet::Ipv6Net;

use super::exchange::Exchange;
use super::fsm::{Output, Random, Requesting};
use super::state::{Association, Held, Phase, ServerKey};
use crate::delegation::reconfigure_key;
use crate::delegation::wire::{
    DelegatedPrefix, Duid, INFINITY, IdentityAssociation, Message, MessageType, status,
};
use crate::event::Event;
use crate::time::Time;

/// A server that gives out prefixes for a moment does not make us renew more often than this.
const SHORTEST_T1: Duration = Duration::from_secs(1);
/// Longest pause after a server had no prefix.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// What SOL_MAX_RT may be, seconds (RFC 8415 section 21.24).
const SOLICIT_MAXIMA: std::ops::RangeInclusive<u32> = 60..=86_400;
/// A client looks no further at this preference (RFC 8415 section 18.2.9).
const TAKE_AT_ONCE: u8 = 255;

/// What a server would delegate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) preference: u8,
    pub(super) hint_met: bool,
    pub(super) server: Duid,
    pub(super) prefixes: Vec<Ipv6Net>,
}

impl Requesting {
    /// An Advertise or a Reply.
    pub(super) fn answered(
        &mut self,
        message: &Message,
        now: Time,
        random: &mut Random,
        outputs: &mut Vec<Output>,
    ) {
        let Some(server) = message.server.clone() else {
            return self.counters.add("dhcp_refused_identifiers");
        };
        if message.client.as_ref() != Some(&self.settings.client) {
            return self.counters.add("dhcp_refused_identifiers");
        }
        let advertise = message.message_type == MessageType::Advertise;
        let of_exchange = |association: &Association| {
            let exchange = association.exchange.as_ref();
            exchange.is_some_and(|it| it.sent > 0 && it.transaction == message.transaction)
                && match association.phase {
                    Phase::Soliciting => advertise || (message.rapid_commit && self.settings.rapid_commit),
                    // The server that was asked, and no other.
                    Phase::Requesting | Phase::Renewing | Phase::Releasing => {
                        !advertise && association.server.as_ref() == Some(&server)
                    }
                    Phase::Rebinding => !advertise,
                    Phase::Bound => false,
                }
        };
        let found = self.state.associations.iter().find(|(_, it)| of_exchange(it));
        let Some((iaid, phase)) = found.map(|(iaid, it)| (*iaid, it.phase)) else {
            return self.counters.add("dhcp_unmatched");
        };
        if let Some(seconds) = message.solicit_maximum.filter(|it| SOLICIT_MAXIMA.contains(it)) {
            self.solicit_maximum = Duration::from_secs(seconds.into());
        }
        if phase == Phase::Releasing {
            // Whatever it says (RFC 8415 section 18.2.10.2).
            return self.released(iaid, now, random, outputs);
        }
        let association = message.delegations.iter().find(|it| it.iaid == iaid);
        if advertise {
            self.advertised(iaid, message, server, association, now, outputs, random);
            return;
        }
        if let Some(key) = reconfigure_key::given(message) {
            // The counter of the message that brings the key is where the count begins.
            let replay = message.authentication.as_ref().map_or(0, |it| it.replay);
            self.state.keys.insert(server.clone(), ServerKey { key, replay });
        }
        // An error of the whole message, or silence about what was asked: it is asked again in its time.
        let Some(association) = association.filter(|_| message.status_code() == status::SUCCESS) else {
            return;
        };
        self.replied(iaid, server, association, now, random, outputs);
    }

    fn released(&mut self, iaid: u32, now: Time, random: &mut Random, outputs: &mut Vec<Output>) {
        let Some(association) = self.state.associations.get_mut(&iaid) else {
            return;
        };
        let given_back = std::mem::take(&mut association.prefixes);
        self.end(iaid, now, random);
        for held in given_back {
            self.counters.add("delegations_released");
            let text = format!("{} is given back", held.prefix);
            outputs.push(Output::Event(
                Event::new("delegation_given_back", text).with("prefix", held.prefix),
            ));
            outputs.push(Output::Released(held.prefix));
        }
    }

    #[allow(clippy::too_many_arguments, reason = "all of one message")]
    fn advertised(
        &mut self,
        iaid: u32,
        message: &Message,
        server: Duid,
        association: Option<&IdentityAssociation>,
        now: Time,
        outputs: &mut Vec<Output>,
        random: &mut Random,
    ) {
        let Some(known) = self.state.associations.get(&iaid) else {
            return;
        };
        let wanted = known.wanted;
        let offered: Vec<Ipv6Net> = association
            .filter(|it| it.status_code() == status::SUCCESS && it.t1_t2_are_in_order())
            .into_iter()
            .flat_map(|it| &it.prefixes)
            .filter(|it| it.valid > 0 && it.preferred <= it.valid)
            .map(|it| it.prefix)
            .collect();
        let hint_met = wanted.hint.is_some_and(|hint| offered.contains(&hint));
        let collecting = known.exchange.as_ref().is_some_and(|it| it.sent <= 1);
        if offered.is_empty() || (wanted.exact && !hint_met) {
            self.counters.add("dhcp_advertises_without_prefix");
            self.nothing_offered.insert(iaid);
            // There is no other server to wait for.
            if wanted.exact && self.settings.one_server {
                self.send_at(iaid, now);
            }
            return;
        }
        let offer = Offer {
            preference: message.preference.unwrap_or(0),
            hint_met,
            server,
            prefixes: offered,
        };
        let at_once = offer.preference == TAKE_AT_ONCE || self.settings.one_server || !collecting;
        let rank = |it: &Offer| (it.preference, it.hint_met);
        if self
            .offers
            .get(&iaid)
            .is_none_or(|best| rank(&offer) > rank(best))
        {
            self.offers.insert(iaid, offer);
        }
        if at_once {
            self.take_offer(iaid, now, random);
            self.transmit(iaid, now, random, outputs);
        }
    }

    fn send_at(&mut self, iaid: u32, at: Time) {
        let association = self.state.associations.get_mut(&iaid);
        if let Some(exchange) = association.and_then(|it| it.exchange.as_mut()) {
            exchange.next_at = at;
        }
    }

    /// The best of the offers is asked for.
    pub(super) fn take_offer(&mut self, iaid: u32, now: Time, random: &mut Random) {
        let Some(offer) = self.offers.get(&iaid) else {
            return;
        };
        if let Some(association) = self.state.associations.get_mut(&iaid) {
            association.phase = Phase::Requesting;
            association.server = Some(offer.server.clone());
            association.exchange = Some(Exchange::new(random.transaction(), now, false));
        }
    }

    fn replied(
        &mut self,
        iaid: u32,
        server: Duid,
        answer: &IdentityAssociation,
        now: Time,
        random: &mut Random,
        outputs: &mut Vec<Output>,
    ) {
        let Some(association) = self.state.associations.get_mut(&iaid) else {
            return;
        };
        let extending = matches!(association.phase, Phase::Renewing | Phase::Rebinding);
        match answer.status_code() {
            status::SUCCESS => {}
            status::NO_BINDING if extending => {
                // RFC 8415 section 18.2.10.1: ask the server for it anew.
                self.counters.add("delegations_without_binding");
                association.phase = Phase::Requesting;
                association.server = Some(server);
                association.renew_at = None;
                association.rebind_at = None;
                association.exchange = Some(Exchange::new(random.transaction(), now, false));
                self.offers.remove(&iaid);
                self.transmit(iaid, now, random, outputs);
                return;
            }
            code => {
                let text = answer.status.as_ref().map_or("", |it| it.text.as_str());
                self.refused(iaid, code, text, now, random, outputs);
                return;
            }
        }
        if !answer.t1_t2_are_in_order() {
            return self.counters.add("dhcp_refused_timers");
        }
        let mut had = association.prefixes.clone();
        if association.phase == Phase::Requesting && association.wanted.exact {
            // It was not known whether it has it; what the answer does not name it has not.
            association.prefixes.clear();
            had.clear();
        }
        association.server = Some(server);
        association.exchange = None;
        association.refusals = 0;
        association.phase = Phase::Bound;
        self.offers.remove(&iaid);
        self.nothing_offered.remove(&iaid);
        for prefix in &answer.prefixes {
            self.take(iaid, prefix, now, outputs);
        }
        self.schedule(iaid, answer, now);
        let Some(association) = self.state.associations.get(&iaid) else {
            return;
        };
        let wanted = association.wanted;
        if association.prefixes.is_empty() {
            self.counters.add("delegations_refused");
            let why = "the server has delegated it to another router";
            let pause = pause(association.refusals);
            self.without_prefixes(iaid, why, now.after(pause), random, outputs);
        } else if let Some(hint) = wanted.hint.filter(|_| wanted.exact) {
            if association.has(hint) {
                let new = !had.iter().any(|held| held.prefix == hint);
                outputs.extend(new.then_some(Output::Delegated(hint)));
            } else {
                outputs.push(Output::Refused(
                    hint,
                    "the server has delegated another prefix".to_owned(),
                ));
                self.release(iaid, now, random);
            }
        }
    }

    fn refused(
        &mut self,
        iaid: u32,
        code: u16,
        text: &str,
        now: Time,
        random: &mut Random,
        outputs: &mut Vec<Output>,
    ) {
        let Some(association) = self.state.associations.get_mut(&iaid) else {
            return;
        };
        // A server that fails to extend it does not take it: it is asked again, and then all are.
        if matches!(association.phase, Phase::Renewing | Phase::Rebinding) {
            return;
        }
        association.refusals = association.refusals.saturating_add(1);
        let wait = pause(association.refusals);
        self.counters.add("delegations_refused");
        let text = format!("the server delegates no prefix: status {code} {text}");
        let event = Event::new("delegation_refused", &text).with("status", code);
        outputs.push(Output::Event(event));
        association.prefixes.clear();
        self.without_prefixes(iaid, &text, now.after(wait), random, outputs);
    }

    /// One prefix of a Reply.
    fn take(&mut self, iaid: u32, it: &DelegatedPrefix, now: Time, outputs: &mut Vec<Output>) {
        let Some(association) = self.state.associations.get_mut(&iaid) else {
            return;
        };
        let known = association
            .prefixes
            .iter()
            .position(|held| held.prefix == it.prefix);
        if it.valid == 0 || it.status.as_ref().is_some_and(|it| it.code != status::SUCCESS) {
            let Some(at) = known else { return };
            association.prefixes.remove(at);
            self.counters.add("delegations_withdrawn");
            let text = format!("{} is not ours any more: the server says so", it.prefix);
            outputs.push(Output::Event(
                Event::new("delegation_lost", text).with("prefix", it.prefix),
            ));
            return;
        }
        // A prefix of length 0 would make everything ours.
        if it.preferred > it.valid || it.prefix.prefix_len() == 0 {
            return self.counters.add("dhcp_refused_lifetimes");
        }
        let end =
            |seconds: u32| (seconds != INFINITY).then(|| now.after(Duration::from_secs(seconds.into())));
        let held = Held {
            prefix: it.prefix,
            exclude: it.exclude,
            preferred_until: end(it.preferred),
            valid_until: end(it.valid),
        };
        association.over &= association.wanted.hint != Some(held.prefix);
        if let Some(old) = known.and_then(|at| association.prefixes.get_mut(at)) {
            *old = held;
            self.counters.add("delegations_renewed");
            return;
        }
        association.prefixes.push(held);
        self.counters.add("delegations_received");
        let server = association
            .server
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let text = format!("{} is delegated to us by {server} for {} s", it.prefix, it.valid);
        outputs.push(Output::Event(
            Event::new("delegation_received", text)
                .with("prefix", it.prefix)
                .with("server", server),
        ));
    }

    /// T1 and T2 as the server says, or half and four fifths of the shortest preferred lifetime.
    fn schedule(&mut self, iaid: u32, answer: &IdentityAssociation, now: Time) {
        let Some(association) = self.state.associations.get_mut(&iaid) else {
            return;
        };
        let own = |held: &&DelegatedPrefix| held.valid > 0 && held.preferred > 0;
        let shortest = answer.prefixes.iter().filter(own).map(|it| it.preferred).min();
        let at = |said: u32, tenths: u64| {
            let seconds = match (said, shortest) {
                (INFINITY, _) | (0, None | Some(INFINITY)) => return None,
                (0, Some(shortest)) => u64::from(shortest) * tenths / 10,
                (said, _) => u64::from(said),
            };
            Some(now.after(Duration::from_secs(seconds).max(SHORTEST_T1)))
        };
        association.renew_at = at(answer.t1, 5);
        association.rebind_at = at(answer.t2, 8);
    }
}

impl IdentityAssociation {
    /// Where both are said, Renew comes before Rebind (RFC 8415 section 21.21).
    fn t1_t2_are_in_order(&self) -> bool {
        self.t1 == 0 || self.t2 == 0 || self.t1 <= self.t2
    }
}

/// The pause before the next Solicit after that many refusals.
fn pause(refusals: u32) -> Duration {
    Duration::from_secs(1_u64.checked_shl(refusals.min(32)).unwrap_or(u64::MAX)).min(LONGEST_PAUSE)
}
