//! What is wanted, and what is not any more.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::Ipv6Net;

use super::exchange::Exchange;
use super::fsm::{Output, Random, Requesting};
use super::state::{Association, Phase, Wanted};
use crate::time::Time;

/// IAIDs from here on are of prefixes that are wanted by name, and follow from these.
const FIRST_EXACT: u32 = 0x8000_0000;
/// The pause before a prefix that is to be kept, and was refused, is asked for again.
const KEEP_PAUSE: Duration = Duration::from_secs(60);

impl Requesting {
    pub(super) fn want(&mut self, iaid: u32, wanted: Wanted, at: Time, random: &mut Random) {
        if let Some(known) = self.state.associations.get_mut(&iaid) {
            known.wanted = wanted;
            return;
        }
        let mut association = Association::new(wanted);
        association.exchange = Some(Exchange::new(random.transaction(), at, false));
        self.state.associations.insert(iaid, association);
    }

    pub(super) fn keep(
        &mut self,
        prefixes: BTreeSet<Ipv6Net>,
        now: Time,
        random: &mut Random,
        outputs: &mut Vec<Output>,
    ) {
        // What is being given back is neither ours nor being asked for.
        let by_name = self.state.associations.values();
        let by_name = by_name.filter(|it| it.wanted.exact && it.phase != Phase::Releasing);
        let named: BTreeSet<Ipv6Net> = by_name.filter_map(|it| it.wanted.hint).collect();
        for prefix in named.difference(&prefixes).copied().collect::<Vec<_>>() {
            self.give_back(prefix, now, random, outputs);
        }
        for prefix in prefixes.difference(&named).copied().collect::<Vec<_>>() {
            self.want_exactly(prefix, now, random, outputs);
        }
        self.kept = Some(prefixes);
    }

    pub(super) fn want_exactly(
        &mut self,
        prefix: Ipv6Net,
        now: Time,
        random: &mut Random,
        outputs: &mut Vec<Output>,
    ) {
        let prefix = prefix.trunc();
        let wanted = Wanted {
            hint: Some(prefix),
            exact: true,
        };
        let mut known = self.state.associations.values();
        if let Some(association) = known.find(|it| it.wanted == wanted && it.phase != Phase::Releasing) {
            // It is being asked for, or ours.
            if association.phase != Phase::Requesting && association.has(prefix) {
                outputs.push(Output::Delegated(prefix));
            }
            return;
        }
        let mut known = self.state.associations.values_mut();
        if let Some(association) = known.find(|it| it.wanted == wanted && it.has(prefix)) {
            association.want_back(now, random);
            // Whoever waits for the answer to the Release hears of none.
            outputs.push(Output::Released(prefix));
            return;
        }
        let iaid = self.iaid_of(prefix);
        self.want(iaid, wanted, now, random);
    }

    /// Under which IAID a prefix is asked for by name. It follows from the prefix (RFC 8415 section 12): a server may have delegated
    /// it in a moment of which a daemon that was killed has nothing on disk, and then gives it to no other IAID until its lifetime
    /// ends. Where another prefix has the number, it is the next one that is free.
    fn iaid_of(&self, prefix: Ipv6Net) -> u32 {
        let bits = prefix.network().to_bits();
        let folded = (bits >> 64) as u64 ^ (bits as u64).rotate_left(32) ^ u64::from(prefix.prefix_len());
        // Scattered, so that neighbours do not have the numbers of each other; how must never change.
        let mut iaid = (Random(folded).next() >> 32) as u32 | FIRST_EXACT;
        while self.state.associations.contains_key(&iaid) {
            iaid = iaid.checked_add(1).unwrap_or(FIRST_EXACT);
        }
        iaid
    }

    pub(super) fn give_back(
        &mut self,
        prefix: Ipv6Net,
        now: Time,
        random: &mut Random,
        outputs: &mut Vec<Output>,
    ) {
        let prefix = prefix.trunc();
        let names = |it: &Association| {
            let wanted = it.wanted.exact && it.wanted.hint == Some(prefix);
            it.has(prefix) || (wanted && it.phase != Phase::Releasing)
        };
        let found = self.state.associations.iter().filter(|(_, it)| names(it));
        // One that has it rather than one that is giving it back.
        let found = found.min_by_key(|(_, it)| it.phase == Phase::Releasing);
        let Some(iaid) = found.map(|(iaid, _)| *iaid) else {
            // It is not ours: what was asked for is so.
            outputs.push(Output::Released(prefix));
            return;
        };
        self.release(iaid, now, random);
        if !self.state.associations.contains_key(&iaid) {
            outputs.push(Output::Released(prefix));
        }
    }

    /// From now on it is not used; the server is told (RFC 8415 section 18.2.7).
    pub(super) fn release(&mut self, iaid: u32, now: Time, random: &mut Random) {
        let Some(association) = self.state.associations.get_mut(&iaid) else {
            return;
        };
        if association.phase == Phase::Releasing {
            return;
        }
        self.offers.remove(&iaid);
        if association.prefixes.is_empty() || association.server.is_none() {
            self.state.associations.remove(&iaid);
            return;
        }
        association.phase = Phase::Releasing;
        association.renew_at = None;
        association.rebind_at = None;
        association.exchange = Some(Exchange::new(random.transaction(), now, false));
    }

    /// An association has nothing left, and nothing else would do. If that is to be kept, and no other association asks for it, it is
    /// asked for again after a pause.
    pub(super) fn end(&mut self, iaid: u32, now: Time, random: &mut Random) {
        let Some(association) = self.state.associations.get(&iaid) else {
            return;
        };
        let wanted = association.wanted;
        // What is to be kept is said when everything has started. Until then what has timed out may be.
        let keeps = |prefix: &Ipv6Net| match &self.kept {
            Some(kept) => kept.contains(prefix),
            None => association.over,
        };
        let mut others = self.state.associations.iter().filter(|(it, _)| **it != iaid);
        let another = others.any(|(_, it)| it.wanted == wanted && it.phase != Phase::Releasing);
        if wanted.exact && wanted.hint.as_ref().is_some_and(keeps) && !another {
            self.solicit(iaid, now.after(KEEP_PAUSE), random);
        } else {
            self.offers.remove(&iaid);
            self.nothing_offered.remove(&iaid);
            self.state.associations.remove(&iaid);
        }
    }
}

impl Association {
    /// Whether a prefix is, or may be, among what a server has delegated to it.
    pub(super) fn has(&self, prefix: Ipv6Net) -> bool {
        self.prefixes.iter().any(|held| held.prefix == prefix)
    }

    /// What it gives back is wanted again before the server has answered that.
    ///
    /// The Release is not sent any more, and the same server is asked under the same IAID. Another IAID would do no better: the server
    /// has the binding of this one until it hears the Release, and a prefix that has an IAID is refused to others. Nor may the
    /// Release be waited for: the lease may have been moved to us again meanwhile, and it would take that away. A client may
    /// not use what it has begun to release (section 18.2.7), so this is no Renew, as of what is held, but a Request, as after
    /// NoBinding (section 18.2.10.1): right whether the server has heard a Release or not. The answer to that
    /// is of another transaction and means nothing any more (section 16.10).
    fn want_back(&mut self, now: Time, random: &mut Random) {
        self.phase = Phase::Requesting;
        self.exchange = Some(Exchange::new(random.transaction(), now, false));
    }
}
