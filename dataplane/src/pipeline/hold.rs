//! Packets that wait, and their way on when they need not wait any more: see [`crate::hold`].

use arrayvec::ArrayVec;

use super::admit::{InnerPacket, filtered_into};
use super::{BURST, Lane, Lanes, NoProbe, Origin, Output, PASSES, Pipeline, peer_key};
use crate::counters::Stage;
use crate::drops::DropReason;
use crate::frame::Frame;
use crate::hold::{Full, LOOKS, Pushed, Queues, State};
use crate::snapshot::{NextHop, Route, Snapshot, SourceRule};

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
        mut lane: Lane<F>,
        counter: u32,
        output: &mut Output<F>,
    ) {
        // What it waits for now is something else.
        lane.late = false;
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

    /// Keeps a packet that would be dropped since something is not known yet: it may be about to be. Gives back
    /// one for which there is no room.
    ///
    /// A node that has just come to this link sends before its gateway has learnt which prefixes it has, and
    /// their anchors may be told of it sooner than its gateway. What waits here is checked like any other
    /// packet before it goes on (BCP 38).
    #[cold]
    #[inline(never)]
    pub(super) fn hold_unknown<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        now: u64,
        mut lane: Lane<F>,
        output: &mut Output<F>,
    ) -> Option<Lane<F>> {
        lane.late = true;
        let (key, octets) = (flow(&lane), lane.packet.length);
        match output.unknown.push(key, lane, octets, now, snapshot.serial) {
            Pushed::Held => self.counters.stage(Stage::Held, 1),
            Pushed::Instead(gone, _) => {
                self.counters.stage(Stage::Held, 1);
                return Some(gone);
            }
            Pushed::Refused(lane, _) => return Some(lane),
        }
        None
    }

    /// Looks after what is held: drops what is too old, sends what is not held any more, as many as their
    /// pace permits. To be called once in every round in which something is held; whether something was
    /// released.
    pub fn tend<F: Frame>(&mut self, snapshot: &Snapshot, now: u64, output: &mut Output<F>) -> bool {
        let mut lanes = Lanes::new();
        let Output { held, unknown, .. } = output;
        self.take(held, snapshot.serial, now, &mut lanes, |lane| {
            must_go_on_waiting(snapshot, lane)
        });
        for lane in lanes.iter_mut().filter(|lane| lane.origin != Origin::Own) {
            lane.origin = Origin::Held;
        }
        self.take(unknown, snapshot.serial, now, &mut lanes, |lane| {
            !is_known(snapshot, lane)
        });
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

    /// Ends what is too old; takes what need not wait any more, as much as there is room for.
    fn take<F: Frame>(
        &mut self,
        queues: &mut Queues<Lane<F>>,
        serial: u64,
        now: u64,
        lanes: &mut Lanes<F>,
        waits: impl Fn(&Lane<F>) -> bool,
    ) {
        if queues.is_empty() {
            return;
        }
        // All of a queue are of one prefix, or of one node.
        let decide = |queues: &mut Queues<Lane<F>>, queue| {
            let waits = queues.oldest(queue, now).is_some_and(|(lane, _)| waits(lane));
            let state = if waits { State::Holding } else { State::Releasing };
            queues.decide(queue, state, serial);
            state
        };
        let mut looks: ArrayVec<u32, LOOKS> = ArrayVec::new();
        queues.looks(&mut looks);
        for queue in looks {
            for _ in 0..FREED {
                if !queues.oldest(queue, now).is_some_and(|(_, old)| old) {
                    break;
                }
                match queues.pop(queue) {
                    // It has had its time: now it is dropped, or not, for what is known by now.
                    Some(lane) if lane.late && !lanes.is_full() => lanes.push(lane),
                    _ => self.counters.add_drops(DropReason::HoldTooOld, 1),
                }
            }
            if queues.is_undecided(queue, serial) {
                decide(queues, queue);
            }
        }
        if !queues.is_releasing() {
            return;
        }
        for _ in 0..queues.allowance(now, BURST - lanes.len()) {
            let Some(queue) = queues.next_to_release() else {
                break;
            };
            // A prefix may be held again before its turn comes: nothing of it goes out, or it would come
            // in again behind what is still there.
            if queues.is_undecided(queue, serial) && decide(queues, queue) == State::Holding {
                continue;
            }
            match queues.release(queue) {
                Some(lane) => lanes.push(lane),
                None => break,
            }
        }
    }
}

/// Where a packet goes that need not wait, for its next hop or behind others of its prefix; `None` if it has
/// to.
///
/// `route` is that of its destination, `next_hop` where it is to go: elsewhere, where its source decides
/// that.
#[cold]
#[inline(never)]
pub(super) fn must_wait<F>(
    snapshot: &Snapshot,
    lane: &Lane<F>,
    route: Route,
    next_hop: NextHop,
    output: &Output<F>,
) -> Option<NextHop> {
    let mut then = next_hop;
    match next_hop {
        NextHop::Hold => return None,
        NextHop::After(index) => {
            let after = snapshot.afters.get(index);
            // What comes by the old way is older than all that waits.
            if lane.origin == Origin::Tunnel(after.first) {
                return Some(after.then);
            }
            if !after.over {
                return None;
            }
            then = after.then;
        }
        _ => {}
    }
    // What is not held any more must not be overtaken, until it has gone. It does not overtake itself.
    let behind_others = matches!(lane.origin, Origin::Wire | Origin::Tunnel(_))
        && next_hop == route.next_hop
        && output.held.contains(route.counter);
    (!behind_others).then_some(then)
}

/// Whether the prefix of a packet is on hold.
fn must_go_on_waiting<F>(snapshot: &Snapshot, lane: &Lane<F>) -> bool {
    let route = snapshot.routes.get(snapshot.fib.lookup(lane.packet.destination));
    match route.next_hop {
        NextHop::Hold => true,
        NextHop::After(index) => !snapshot.afters.get(index).over,
        _ => false,
    }
}

/// Whether what a packet was waiting for has become known.
fn is_known<F: Frame>(snapshot: &Snapshot, lane: &Lane<F>) -> bool {
    let route = |address| snapshot.routes.get(snapshot.fib.lookup(address));
    let source = route(lane.packet.source);
    if let Origin::Tunnel(tunnel) = lane.origin {
        return InnerPacket::of(snapshot, route(lane.packet.destination), source, tunnel).is_expected()
            || filtered_into(snapshot, lane.packet.source, tunnel);
    }
    if snapshot.ports.get(lane.port).is_none_or(|port| !port.access) {
        let key = peer_key(lane).map(|key| snapshot.peers.lookup(key));
        let tunnel = key.and_then(|index| snapshot.tunnels.at(index));
        return tunnel.is_some_and(|it| u128::from_be_bytes(it.remote) == lane.packet.source);
    }
    match source.source {
        SourceRule::Refused => false,
        SourceRule::Native {
            port,
            link_layer_address,
        }
        | SourceRule::Tunnel {
            port,
            link_layer_address,
            ..
        } => usize::from(port) == lane.port && link_layer_address == lane.source_link_layer,
    }
}

/// Whether others of its kind wait to become known, which it must not overtake.
#[cold]
#[inline(never)]
pub(super) fn is_behind_unknown<F>(lane: &Lane<F>, output: &Output<F>) -> bool {
    !lane.late && !matches!(lane.origin, Origin::Own | Origin::Held) && output.unknown.contains(flow(lane))
}

/// The number of the queue of what comes from one network to another by one way. That of others may be the
/// same: then they wait for each other.
fn flow<F>(lane: &Lane<F>) -> u32 {
    let way = match lane.origin {
        Origin::Tunnel(tunnel) => u64::from(tunnel) | 1 << 63,
        _ => {
            let [a, b, c, d, e, f] = lane.source_link_layer;
            u64::from_be_bytes([0, lane.port as u8, a, b, c, d, e, f])
        }
    };
    let networks = [
        (lane.packet.source >> 64) as u64,
        (lane.packet.destination >> 64) as u64,
    ];
    let mix = |sum: u64, part: u64| (sum ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    (networks.into_iter().fold(way, mix) >> 32) as u32
}
