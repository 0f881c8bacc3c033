//! Handing records from one process to another, each exactly once, whatever is lost and whoever dies.
//!
//! The sender numbers its records, stores them, says them until they are acknowledged, and then forgets them. The receiver stores
//! what came together with the numbers that came, and acknowledges when that would survive it. Which numbers never come again it
//! is told in each message: so it remembers few.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::proxy_binding::back_off;
use crate::time::Time;

/// Records that are on their way together.
const WINDOW: usize = 64;
/// Most records that wait for one receiver; beyond that the oldest are given up.
const MOST: usize = 1 << 17;

/// What a receiver has to be handed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox<T> {
    last: u64,
    waiting: BTreeMap<u64, T>,
    /// The largest number that was sent since this process began.
    #[serde(skip)]
    sent: u64,
    #[serde(skip)]
    retransmit_at: Option<Time>,
    #[serde(skip)]
    timeout_ms: u64,
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Self {
            last: 0,
            waiting: BTreeMap::new(),
            sent: 0,
            retransmit_at: None,
            timeout_ms: 0,
        }
    }
}

/// How long to wait for an acknowledgement.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// At first.
    pub first: Duration,
    /// Doubled each time, at most this.
    pub longest: Duration,
}

impl<T: Clone> Outbox<T> {
    /// Adds a record. Numbers are of the clock where that is ahead: one who has lost all it knew uses none again. The oldest one
    /// comes out, with its number, if it was given up for it.
    #[must_use = "what is given up is to be told"]
    pub fn push(&mut self, record: T, now: Time) -> Option<(u64, T)> {
        let clock = u64::try_from(now.0.as_micros()).unwrap_or(u64::MAX);
        self.last = self.last.saturating_add(1).max(clock);
        self.waiting.insert(self.last, record);
        let excess = self.waiting.len() > MOST;
        excess.then(|| self.waiting.pop_first()).flatten()
    }

    /// The number of the record that was added last; 0: none was.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Those that may be sent now and were not yet, each with its number.
    pub fn fresh(&mut self, now: Time, patience: Patience) -> Vec<(u64, T)> {
        let fresh: Vec<(u64, T)> = self
            .window()
            .filter(|(id, _)| **id > self.sent)
            .map(|(id, record)| (*id, record.clone()))
            .collect();
        if let Some((id, _)) = fresh.last() {
            self.sent = *id;
            self.timeout_ms = u64::try_from(patience.first.as_millis()).unwrap_or(u64::MAX);
            self.retransmit_at = Some(now.after(patience.first));
        }
        fresh
    }

    /// Those that are due again.
    pub fn due(&mut self, now: Time, patience: Patience) -> Vec<(u64, T)> {
        if self.next_deadline().is_none_or(|at| at > now) {
            return Vec::new();
        }
        let due: Vec<(u64, T)> = self.window().map(|(id, record)| (*id, record.clone())).collect();
        self.sent = due.last().map_or(self.sent, |(id, _)| self.sent.max(*id));
        let first = u64::try_from(patience.first.as_millis()).unwrap_or(u64::MAX);
        self.timeout_ms = back_off(self.timeout_ms.max(first), patience.longest);
        self.retransmit_at = Some(now.after(Duration::from_millis(self.timeout_ms)));
        due
    }

    /// The receiver has it. What it was, if it was not known yet.
    pub fn acknowledged(&mut self, id: u64) -> Option<T> {
        let record = self.waiting.remove(&id)?;
        if self.waiting.is_empty() {
            self.retransmit_at = None;
        }
        // The receiver is there.
        self.timeout_ms = 0;
        Some(record)
    }

    /// When [`Outbox::due`] has something; at once for what was stored.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        (!self.waiting.is_empty()).then(|| self.retransmit_at.unwrap_or_default())
    }

    /// The smallest number that may still be sent.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.waiting
            .first_key_value()
            .map_or(self.last.saturating_add(1), |(id, _)| *id)
    }

    /// All that waits.
    pub fn records(&self) -> impl Iterator<Item = &T> {
        self.waiting.values()
    }

    fn window(&self) -> impl Iterator<Item = (&u64, &T)> {
        self.waiting.iter().take(WINDOW)
    }
}

/// What one sender has handed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbox {
    oldest: u64,
    taken: BTreeSet<u64>,
}

impl Inbox {
    /// Whether the record with this number is a new one; it is not any more after this. `oldest` is what its sender says.
    pub fn take(&mut self, id: u64, oldest: u64) -> bool {
        self.oldest = self.oldest.max(oldest);
        self.taken = self.taken.split_off(&self.oldest);
        id >= self.oldest && self.taken.insert(id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Patience = Patience {
        first: Duration::from_secs(1),
        longest: Duration::from_secs(32),
    };

    #[test]
    fn a_window_is_sent_and_then_again() {
        let now = Time(Duration::from_secs(1000));
        let mut outbox = Outbox::default();
        for record in 0..100 {
            assert_eq!(outbox.push(record, now), None);
        }
        let fresh = outbox.fresh(now, PATIENCE);
        assert_eq!((fresh.len(), fresh[0].1), (WINDOW, 0));
        assert_eq!(fresh[0].0, 1_000_000_000);
        assert!(outbox.fresh(now, PATIENCE).is_empty());
        assert!(outbox.due(now, PATIENCE).is_empty());
        assert_eq!(outbox.acknowledged(fresh[0].0), Some(0));
        assert_eq!(outbox.acknowledged(fresh[0].0), None);
        assert_eq!(outbox.fresh(now, PATIENCE), [(fresh[0].0 + 64, 64)]);
        let later = now.after(PATIENCE.first);
        assert_eq!(outbox.due(later, PATIENCE).len(), WINDOW);
        assert_eq!(outbox.next_deadline(), Some(later.after(2 * PATIENCE.first)));
        // Stored and begun anew, all is due.
        let stored = serde_json::to_string(&outbox).unwrap();
        let mut restored: Outbox<i32> = serde_json::from_str(&stored).unwrap();
        assert_eq!(restored.due(later, PATIENCE).len(), WINDOW);
        assert_eq!(restored.records().count(), 99);
    }

    #[test]
    fn beyond_the_bound_the_oldest_comes_out() {
        let now = Time(Duration::from_secs(1000));
        let mut outbox = Outbox::default();
        let given_up = (0..MOST + 2).filter_map(|record| outbox.push(record, now).map(|(_, it)| it));
        assert_eq!(given_up.collect::<Vec<_>>(), [0, 1]);
        assert_eq!(outbox.records().count(), MOST);
    }

    #[test]
    fn who_lost_all_it_knew_uses_no_number_again() {
        let now = Time(Duration::from_secs(1000));
        let (mut one, mut inbox) = (Outbox::default(), Inbox::default());
        assert_eq!(one.push((), now), None);
        let (id, ()) = one.fresh(now, PATIENCE)[0];
        assert!(inbox.take(id, one.oldest()));
        let mut other = Outbox::default();
        let later = now.after(Duration::from_millis(1));
        assert_eq!(other.push((), later), None);
        let (id, ()) = other.fresh(later, PATIENCE)[0];
        assert!(inbox.take(id, other.oldest()));
    }

    proptest! {
        /// Lost, repeated and late, each record is taken once.
        #[test]
        fn each_record_is_taken_once(
            steps in prop::collection::vec((0u8..4, any::<prop::sample::Index>()), 1..400),
        ) {
            let mut now = Time(Duration::from_secs(1000));
            let (mut outbox, mut inbox) = (Outbox::default(), Inbox::default());
            let (mut flights, mut answers) = (Vec::new(), Vec::new());
            let (mut pushed, mut taken) = (0_u32, Vec::new());
            let mut receive = |(id, oldest, record): (u64, u64, u32), inbox: &mut Inbox| {
                if inbox.take(id, oldest) {
                    taken.push(record);
                }
                id
            };
            for (step, index) in steps {
                now = now.after(Duration::from_millis(300));
                match step {
                    0 => {
                        assert_eq!(outbox.push(pushed, now), None);
                        pushed += 1;
                    }
                    // Datagrams come in any order, and may come again.
                    1 if !flights.is_empty() => {
                        let at = index.index(flights.len());
                        answers.push(receive(flights[at], &mut inbox));
                        inbox = serde_json::from_str(&serde_json::to_string(&inbox).unwrap()).unwrap();
                    }
                    2 if !answers.is_empty() => {
                        outbox.acknowledged(answers[index.index(answers.len())]);
                    }
                    _ => {
                        outbox = serde_json::from_str(&serde_json::to_string(&outbox).unwrap()).unwrap();
                    }
                }
                let out = [outbox.fresh(now, PATIENCE), outbox.due(now, PATIENCE)].concat();
                flights.extend(out.into_iter().map(|(id, record)| (id, outbox.oldest(), record)));
            }
            while outbox.records().next().is_some() {
                now = now.after(Duration::from_secs(33));
                for (id, record) in outbox.due(now, PATIENCE) {
                    let id = receive((id, outbox.oldest(), record), &mut inbox);
                    outbox.acknowledged(id);
                }
            }
            taken.sort_unstable();
            prop_assert_eq!(taken, (0..pushed).collect::<Vec<_>>());
        }
    }
}
