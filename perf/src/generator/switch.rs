//! A switch, as the receiver of each prefix feels it.

use std::collections::VecDeque;

use arrayvec::ArrayVec;
use dpdk::{Mbuf, cycles, cycles_per_second};
use hdrhistogram::Histogram;

use super::pace::Pace;
use super::stream::{BURST, Stream, TAKEN};
use super::{Felt, OldWay, Switch};
use crate::frames::{self, Cursor, Stamp, Template};

/// A packet that was under way for so long, seconds, has waited in the gateway: all others take some microseconds.
const WAITED: f64 = 0.001;
/// The end of a way is said again after so many seconds, as the control plane does.
const SAID: [f64; 3] = [0.0, 0.004, 0.016];
/// After so many seconds without a packet nothing more will come.
const SILENCE: f64 = 0.25;
/// In nanoseconds: what takes longer has taken that long.
const LONGEST: u64 = 100_000_000_000;

/// Counts the packets of one switch. Numbers go through the prefixes in turn.
struct Tally {
    start: u64,
    hertz: f64,
    prefixes: u64,
    /// Packets with lower numbers took the old way, which is longer by itself.
    direct_from: u64,
    /// By prefix: when the last packet came, the longest time before one, and the number that is next.
    flows: Vec<Flow>,
    /// By number: whether it came.
    seen: Vec<u64>,
    received: u64,
    duplicated: u64,
    reordered: u64,
    delays: Histogram<u64>,
    /// Of each packet that had to wait: when it was sent, and when it came.
    waits: Vec<(u64, u64)>,
}

#[derive(Clone, Copy, Default)]
struct Flow {
    heard: u64,
    silence: u64,
    next: u64,
}

impl Tally {
    fn new(start: u64, hertz: u64, prefixes: u32, direct_from: u64) -> anyhow::Result<Self> {
        Ok(Self {
            start,
            hertz: hertz.max(1) as f64,
            prefixes: u64::from(prefixes.max(1)),
            direct_from,
            flows: vec![Flow::default(); prefixes.max(1) as usize],
            seen: Vec::new(),
            received: 0,
            duplicated: 0,
            reordered: 0,
            delays: Histogram::new_with_bounds(1, LONGEST, 3)?,
            waits: Vec::with_capacity(1 << 16),
        })
    }

    fn nanoseconds(&self, cycles: u64) -> u64 {
        (cycles as f64 * 1e9 / self.hertz) as u64
    }

    /// A frame that came at cycle `now`.
    fn frame(&mut self, octets: &[u8], now: u64) {
        // Path ends have no stamp, and stragglers of before an older one.
        let Some(stamp) = frames::stamp(octets).filter(|stamp| stamp.cycles >= self.start) else {
            return;
        };
        if !self.is_first(stamp.number) {
            self.duplicated += 1;
            return;
        }
        self.received += 1;
        if let Some(flow) = self.flows.get_mut((stamp.number % self.prefixes) as usize) {
            if flow.heard != 0 {
                flow.silence = flow.silence.max(now.saturating_sub(flow.heard));
            }
            flow.heard = now;
            if stamp.number < flow.next {
                self.reordered += 1;
            } else {
                flow.next = stamp.number + 1;
            }
        }
        let delay = now.saturating_sub(stamp.cycles);
        if stamp.number >= self.direct_from && delay as f64 > WAITED * self.hertz {
            self.delays.saturating_record(self.nanoseconds(delay));
            self.waits.push((stamp.cycles, now));
        }
    }

    fn is_first(&mut self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1024, 0);
        }
        self.seen.get_mut(word).is_some_and(|word| {
            let first = *word & bit == 0;
            *word |= bit;
            first
        })
    }

    fn silences(&self) -> anyhow::Result<Histogram<u64>> {
        let mut silences = Histogram::new_with_bounds(1, LONGEST, 3)?;
        for flow in self.flows.iter().filter(|flow| flow.silence > 0) {
            silences.saturating_record(self.nanoseconds(flow.silence));
        }
        Ok(silences)
    }

    /// How many packets waited at once at most, and how many of these came each second from the first of them to
    /// the last.
    fn release(&self) -> (u64, f64) {
        // A packet that comes in the cycle in which another is sent has made room for it.
        let sent = self.waits.iter().map(|(sent, _)| (*sent, 1));
        let came = self.waits.iter().map(|(_, came)| (*came, -1));
        let mut changes: Vec<(u64, i64)> = sent.chain(came).collect();
        changes.sort_unstable();
        let (mut waiting, mut most, mut at) = (0, 0, 0);
        for (cycle, change) in changes {
            waiting += change;
            if waiting > most {
                (most, at) = (waiting, cycle);
            }
        }
        let those = self.waits.iter().filter(|(sent, came)| *sent <= at && at < *came);
        let (first, last) = those.fold((u64::MAX, 0), |(first, last), (_, came)| {
            (first.min(*came), last.max(*came))
        });
        let most = most.unsigned_abs();
        let took = last.saturating_sub(first).max(1) as f64 / self.hertz;
        (most, most.saturating_sub(1) as f64 / took)
    }
}

/// What is under way on the old way: when it comes out of it, and that.
type Way = VecDeque<(u64, Mbuf)>;

/// What goes on in one switch.
struct Sender {
    cursor: Cursor,
    number: u64,
    fresh: ArrayVec<Mbuf, BURST>,
    offered: u64,
    refused: u64,
    way: Way,
    /// When the old way is closed behind what is on it, and for which prefix next.
    ends: VecDeque<(u64, u32)>,
}

impl Stream<'_> {
    /// Offers packets at a steady rate, by the old way first, where there is one.
    pub(super) fn switch(&mut self, switch: &Switch) -> anyhow::Result<Felt> {
        let hertz = cycles_per_second(self.eal);
        let ticks = |seconds: f64| (seconds * hertz as f64) as u64;
        let start = cycles();
        let end = start.saturating_add(ticks(switch.for_seconds));
        let left = switch.old_way.as_ref().map_or(0, |way| start + ticks(way.until));
        let mut tally = Tally::new(start, hertz, self.template.prefixes(), 0)?;
        let mut sender = Sender {
            cursor: self.template.cursor(),
            number: 0,
            fresh: ArrayVec::new(),
            offered: 0,
            refused: 0,
            way: Way::new(),
            ends: VecDeque::new(),
        };
        if let Some(way) = &switch.old_way {
            let at = |again: f64| (left + ticks(way.longer + again), 0);
            sender.ends.extend(SAID.map(at));
        }
        let mut pace = Pace::new(switch.packets_per_second, start, hertz, BURST);
        let (mut before, mut longest) = (start, 0);
        loop {
            let now = cycles();
            longest = longest.max(now.saturating_sub(before));
            before = now;
            if now >= end && sender.way.is_empty() && sender.ends.is_empty() {
                break;
            }
            let due = if now < end { pace.due(now).min(BURST) } else { 0 };
            match &switch.old_way {
                Some(way) if now < left => {
                    pace.offered(due);
                    self.by_way(&mut sender, way, due, now + ticks(way.longer));
                    tally.direct_from = sender.number;
                }
                _ => {
                    pace.offered(due);
                    self.directly(&mut sender, due);
                }
            }
            if let Some(way) = &switch.old_way {
                self.out_of_way(&mut sender, way, now);
            }
            self.take_of(&mut tally);
        }
        let mut heard = cycles();
        while tally.received + sender.refused < sender.offered
            && cycles().saturating_sub(heard) < ticks(SILENCE)
        {
            if self.take_of(&mut tally) > 0 {
                heard = cycles();
            }
        }
        let (waited, released_rate) = tally.release();
        Ok(Felt {
            offered: sender.offered,
            refused: sender.refused,
            received: tally.received,
            duplicated: tally.duplicated,
            reordered: tally.reordered,
            silences: counted(&tally.silences()?),
            delays: counted(&tally.delays),
            waited,
            released_rate,
            longest_absence: longest as f64 / hertz.max(1) as f64,
        })
    }

    /// What is due goes out, and is lost if the ring is full.
    fn directly(&mut self, sender: &mut Sender, due: usize) {
        let mut burst: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        for _ in 0..due {
            if let Some(packet) = self.next(sender, None) {
                burst.push(packet);
            }
        }
        if !burst.is_empty() {
            self.transmit.transmit(&mut burst);
            sender.refused += burst.len() as u64;
            Mbuf::free_burst(&mut burst);
        }
    }

    /// What is due enters the old way, and comes out of it later.
    fn by_way(&mut self, sender: &mut Sender, way: &OldWay, due: usize, at: u64) {
        for _ in 0..due {
            if let Some(packet) = self.next(sender, Some(&way.template)) {
                sender.way.push_back((at, packet));
            }
        }
    }

    /// The next packet, stamped; if there is no buffer for it, it is lost.
    fn next(&mut self, sender: &mut Sender, template: Option<&Template>) -> Option<Mbuf> {
        let template = template.unwrap_or(&self.template);
        let stamp = Stamp {
            number: sender.number,
            cycles: cycles(),
        };
        sender.number += 1;
        sender.offered += 1;
        let packet = self.fresh(&mut sender.fresh);
        let Some(mut packet) = packet else {
            sender.refused += 1;
            return None;
        };
        let octets = packet.append(template.len()).ok()?;
        template.write(octets, &mut sender.cursor, stamp);
        Some(packet)
    }

    /// What has come to the end of the old way goes to the gateway, and behind it, for each prefix, that this was
    /// all; it waits where the ring is full.
    fn out_of_way(&mut self, sender: &mut Sender, way: &OldWay, now: u64) {
        let mut burst: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        let on_it = &mut sender.way;
        let ready = on_it.iter().take(BURST).take_while(|(at, _)| *at <= now).count();
        burst.extend(on_it.drain(..ready).map(|(_, packet)| packet));
        if !burst.is_empty() {
            self.transmit.transmit(&mut burst);
            for packet in burst.drain(..).rev() {
                on_it.push_front((now, packet));
            }
        }
        let Some((_, next)) = sender.ends.front_mut().filter(|(at, _)| *at <= now) else {
            return;
        };
        // The last packets may have come to it a little later than it was left.
        if !sender.way.is_empty() {
            return;
        }
        for number in (*next..way.end.prefixes()).take(BURST) {
            let Some(mut packet) = self.fresh(&mut sender.fresh) else {
                break;
            };
            if let Ok(octets) = packet.append(way.end.len()) {
                way.end.write_unstamped(octets, number);
            }
            burst.push(packet);
        }
        *next += self.transmit.transmit(&mut burst) as u32;
        Mbuf::free_burst(&mut burst);
        if *next >= way.end.prefixes() {
            sender.ends.pop_front();
        }
    }

    fn take_of(&mut self, tally: &mut Tally) -> usize {
        let mut taken: ArrayVec<Mbuf, TAKEN> = ArrayVec::new();
        let count = self.receive.receive(&mut taken);
        if count > 0 {
            let now = cycles();
            for packet in &taken {
                tally.frame(packet.data(), now);
            }
            Mbuf::free_burst(&mut taken);
        }
        count
    }
}

/// Values, with how often each was seen.
fn counted(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram
        .iter_recorded()
        .map(|value| (value.value_iterated_to(), value.count_at_value()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{Plan, Varied};

    #[test]
    fn silences_delays_duplicates_and_order_are_those_of_each_prefix() {
        let elsewhere = "2001:db8:f00::1".parse().unwrap();
        let template = Plan {
            gateway: [2; 6],
            destination: elsewhere,
            source: elsewhere,
            outer: None,
            varied: Varied::Destination,
            prefixes: 2,
        }
        .template();
        let mut cursor = template.cursor();
        // A cycle is a nanosecond.
        let mut tally = Tally::new(1_000, 1_000_000_000, 2, 0).unwrap();
        let mut octets = vec![0; template.len()];
        let mut came = |number, cycles, now| {
            template.write(&mut octets, &mut cursor, Stamp { number, cycles });
            tally.frame(&octets, now);
        };
        came(0, 1_000, 2_000);
        came(1, 1_500, 3_000);
        // Those that waited: two of them when the first one came.
        came(2, 10_000, 5_000_000);
        came(4, 20_000, 6_000_000);
        came(6, 5_500_000, 7_000_000);
        // Of the other prefix: one after its next, one again, and one of before.
        came(5, 8_000_000, 8_001_000);
        came(3, 8_000_000, 8_002_000);
        came(5, 8_000_000, 8_003_000);
        came(7, 999, 8_004_000);
        assert_eq!((tally.received, tally.reordered, tally.duplicated), (7, 1, 1));
        assert_eq!((tally.release().0, tally.delays.len()), (2, 3));
        assert_eq!(tally.release().1.round(), 1_000.0);
        let silences: Vec<u64> = tally.flows.iter().map(|flow| flow.silence).collect();
        assert_eq!(silences, [4_998_000, 7_998_000]);
    }
}
