//! Packets that wait, and their way on when they need not wait any more: see [`crate::hold`].

use arrayvec::ArrayVec;

use super::{BURST, Lane, Lanes, NoProbe, Origin, Output, PASSES, Pipeline};
use crate::counters::Stage;
use crate::drops::DropReason;
use crate::frame::Frame;
use crate::hold::{Full, LOOKS, Pushed, State};
use crate::snapshot::{NextHop, Route, Snapshot};

/// Packets that one look frees for their age; those behind them are freed by the next.
const FREED: usize = 16;

impl Pipeline {
    /// Keeps a packet until its prefix, that of `counter`, has another next hop.
    #[cold]
    #[inline(never)]
    pub(super) fn hold<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        now: u64,
        lane: Lane<F>,
        counter: u32,
        output: &mut Output<F>,
    ) {
        let reason = |full| match full {
            Full::Prefix => DropReason::HoldPrefixFull,
            Full::All => DropReason::HoldFull,
        };
        let octets = lane.packet.length;
        match output.held.push(counter, lane, octets, now, snapshot.serial) {
            Pushed::Held => self.counters.stage(Stage::Held, 1),
            Pushed::Instead(_, full) => {
                self.counters.stage(Stage::Held, 1);
                self.counters.add_drops(reason(full), 1);
            }
            Pushed::Refused(_, full) => self.counters.add_drops(reason(full), 1),
        }
    }

    /// Looks after what is held: drops what is too old, sends what is not held any more, as many as their
    /// pace permits. To be called once in every round in which something is held; whether something was
    /// released.
    pub fn tend<F: Frame>(&mut self, snapshot: &Snapshot, now: u64, output: &mut Output<F>) -> bool {
        let mut looks: ArrayVec<u32, LOOKS> = ArrayVec::new();
        output.held.looks(&mut looks);
        for queue in looks {
            for _ in 0..FREED {
                if !output.held.oldest(queue, now).is_some_and(|(_, old)| old) {
                    break;
                }
                drop(output.held.pop(queue));
                self.counters.add_drops(DropReason::HoldTooOld, 1);
            }
            if output.held.is_undecided(queue, snapshot.serial) {
                decide(snapshot, queue, now, output);
            }
        }
        if !output.held.is_releasing() {
            return false;
        }
        let mut lanes = Lanes::new();
        for _ in 0..output.held.allowance(now, BURST) {
            let Some(queue) = output.held.next_to_release() else {
                break;
            };
            // A prefix may be held again before its turn comes: nothing of it goes out, or it would come
            // in again behind what is still there.
            if output.held.is_undecided(queue, snapshot.serial)
                && decide(snapshot, queue, now, output) == State::Holding
            {
                continue;
            }
            let Some(mut lane) = output.held.release(queue) else {
                break;
            };
            if lane.origin != Origin::Own {
                lane.origin = Origin::Held;
            }
            lanes.push(lane);
        }
        self.counters.stage(Stage::Released, lanes.len() as u64);
        let some = !lanes.is_empty();
        for _ in 0..PASSES {
            if lanes.is_empty() {
                break;
            }
            lanes = self.pass(snapshot, now, lanes, output, &mut NoProbe);
        }
        some
    }
}

/// Whether a packet has to wait, for its next hop or behind others of its prefix.
///
/// `route` is that of its destination, `next_hop` where it is to go: elsewhere, where its source decides
/// that.
#[cold]
#[inline(never)]
pub(super) fn must_wait<F>(lane: &Lane<F>, route: Route, next_hop: NextHop, output: &Output<F>) -> bool {
    // What is not held any more must not be overtaken, until it has gone. It does not overtake itself.
    next_hop == NextHop::Hold
        || (matches!(lane.origin, Origin::Wire | Origin::Tunnel(_))
            && next_hop == route.next_hop
            && output.held.contains(route.counter))
}

/// Looks the oldest packet of a queue up: all of a queue are of one prefix.
fn decide<F>(snapshot: &Snapshot, queue: u32, now: u64, output: &mut Output<F>) -> State {
    let destination = output
        .held
        .oldest(queue, now)
        .map(|(lane, _)| lane.packet.destination);
    let route = destination.map(|address| snapshot.routes.get(snapshot.fib.lookup(address)));
    let state = match route.map(|route| route.next_hop) {
        Some(NextHop::Hold) => State::Holding,
        _ => State::Releasing,
    };
    output.held.decide(queue, state, snapshot.serial);
    state
}
