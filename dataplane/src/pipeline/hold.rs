//! Packets that wait, and their way on when they need not wait any more: see [`crate::hold`].

use arrayvec::ArrayVec;

use super::admit::{InnerPacket, filtered_into};
use super::{BURST, Frames, Lane, NoProbe, Note, Notes, Origin, Output, PASSES, Pipeline, Waiting, peer_key};
use crate::counters::Stage;
use crate::drops::DropReason;
use crate::frame::Frame;
use crate::hold::{Full, LOOKS, Pushed, Queues, State};
use crate::snapshot::{Entry, Hop, NextHop, Snapshot, SourceRule};

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
        lane: Lane<'_, F>,
        counter: u32,
        output: &mut Output<F>,
    ) {
        // What it waits for now is something else.
        let waiting = Waiting {
            note: Note {
                late: false,
                ..*lane.note
            },
            frame: lane.frame,
        };
        let reason = |full| match full {
            Full::Prefix => DropReason::HoldPrefixFull,
            Full::All => DropReason::HoldFull,
        };
        let octets = waiting.note.packet.length;
        match output.held.push(counter, waiting, octets, now, snapshot.serial) {
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
    pub(super) fn hold_unknown<'a, F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        now: u64,
        lane: Lane<'a, F>,
        output: &mut Output<F>,
    ) -> Option<Lane<'a, F>> {
        let Lane { frame, note } = lane;
        note.late = true;
        let (key, octets) = (flow(note), note.packet.length);
        let waiting = Waiting { frame, note: *note };
        let gone = match output.unknown.push(key, waiting, octets, now, snapshot.serial) {
            Pushed::Held => {
                self.counters.stage(Stage::Held, 1);
                return None;
            }
            Pushed::Instead(gone, _) => {
                self.counters.stage(Stage::Held, 1);
                gone
            }
            Pushed::Refused(gone, _) => gone,
        };
        *note = gone.note;
        Some(Lane {
            frame: gone.frame,
            note,
        })
    }

    /// Looks after what is held: drops what is too old, sends what is not held any more, as many as their
    /// pace permits. To be called once in every round in which something is held; whether something was
    /// released.
    pub fn tend<F: Frame>(&mut self, snapshot: &Snapshot, now: u64, output: &mut Output<F>) -> bool {
        let (mut frames, mut notes) = (Frames::new(), Notes::new());
        let mut lanes = (&mut frames, &mut notes);
        let Output { held, unknown, .. } = output;
        self.take(held, snapshot.serial, now, &mut lanes, |note, _| {
            must_go_on_waiting(snapshot, note)
        });
        for note in lanes.1.iter_mut().filter(|note| note.origin != Origin::Own) {
            note.origin = Origin::Held;
            note.checked = false;
        }
        self.take(unknown, snapshot.serial, now, &mut lanes, |note, frame| {
            !is_known(snapshot, note, frame)
        });
        self.counters.stage(Stage::Released, notes.len() as u64);
        let some = !frames.is_empty();
        for _ in 0..PASSES {
            if frames.is_empty() {
                break;
            }
            self.pass(snapshot, now, &mut frames, &mut notes, output, &mut NoProbe);
        }
        some
    }

    /// Ends what is too old; takes what need not wait any more, as much as there is room for.
    fn take<F: Frame>(
        &mut self,
        queues: &mut Queues<Waiting<F>>,
        serial: u64,
        now: u64,
        (frames, notes): &mut (&mut Frames<F>, &mut Notes),
        waits: impl Fn(&Note, &F) -> bool,
    ) {
        if queues.is_empty() {
            return;
        }
        // All of a queue are of one prefix, or of one node.
        let decide = |queues: &mut Queues<Waiting<F>>, queue| {
            let oldest = queues.oldest(queue, now);
            let waits = oldest.is_some_and(|(it, _)| waits(&it.note, &it.frame));
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
                    Some(Waiting { frame, note }) if note.late && !notes.is_full() => {
                        frames.push(frame);
                        notes.push(note);
                    }
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
        for _ in 0..queues.allowance(now, BURST - notes.len()) {
            let Some(queue) = queues.next_to_release() else {
                break;
            };
            // A prefix may be held again before its turn comes: nothing of it goes out, or it would come
            // in again behind what is still there.
            if queues.is_undecided(queue, serial) && decide(queues, queue) == State::Holding {
                continue;
            }
            match queues.release(queue) {
                Some(Waiting { frame, note }) => {
                    frames.push(frame);
                    notes.push(note);
                }
                None => break,
            }
        }
    }
}

/// Where a packet goes that need not wait, for its next hop or behind others of its prefix; `None` if it has
/// to.
///
/// `route` is that of its destination, `hop` where it is to go: elsewhere, where its source decides
/// that.
#[cold]
#[inline(never)]
pub(super) fn must_wait<F>(
    snapshot: &Snapshot,
    lane: &Lane<'_, F>,
    route: Entry,
    hop: Hop,
    output: &Output<F>,
) -> Option<Hop> {
    let mut then = hop;
    match hop.unpack() {
        NextHop::Hold => return None,
        NextHop::After(index) => {
            let after = snapshot.afters.get(index);
            // What comes by the old way is older than all that waits.
            if lane.origin == Origin::Tunnel(after.first) {
                return Some(after.then.into());
            }
            if !after.over {
                return None;
            }
            then = after.then.into();
        }
        _ => {}
    }
    // What is not held any more must not be overtaken, until it has gone. It does not overtake itself.
    let behind_others = matches!(lane.origin, Origin::Wire | Origin::Tunnel(_))
        && hop == route.hop()
        && output.held.contains(route.counter());
    (!behind_others).then_some(then)
}

/// Whether the prefix of a packet is on hold.
fn must_go_on_waiting(snapshot: &Snapshot, note: &Note) -> bool {
    let route = snapshot.routes.get(snapshot.fib.lookup(note.packet.destination));
    match route.hop().unpack() {
        NextHop::Hold => true,
        NextHop::After(index) => !snapshot.afters.get(index).over,
        _ => false,
    }
}

/// Whether what a packet was waiting for has become known.
fn is_known<F: Frame>(snapshot: &Snapshot, note: &Note, frame: &F) -> bool {
    let route = |address| snapshot.routes.get(snapshot.fib.lookup(address));
    let source = route(note.packet.source);
    if let Origin::Tunnel(tunnel) = note.origin {
        return InnerPacket::of(snapshot, route(note.packet.destination), source, tunnel).is_expected()
            || filtered_into(snapshot, note.packet.source, tunnel);
    }
    if snapshot.ports.get(note.port).is_none_or(|port| !port.access) {
        let key = peer_key(frame, note).map(|key| snapshot.peers.lookup(key));
        let tunnel = key.and_then(|index| snapshot.tunnels.at(index));
        return tunnel.is_some_and(|it| u128::from_be_bytes(it.remote) == note.packet.source);
    }
    match source.source() {
        SourceRule::Refused => false,
        SourceRule::Native {
            port,
            link_layer_address,
        }
        | SourceRule::Tunnel {
            port,
            link_layer_address,
            ..
        } => usize::from(port) == note.port && link_layer_address == note.source_link_layer,
    }
}

/// Whether others of its kind wait to become known, which it must not overtake.
#[cold]
#[inline(never)]
pub(super) fn is_behind_unknown<F>(lane: &Lane<'_, F>, output: &Output<F>) -> bool {
    !lane.late && !matches!(lane.origin, Origin::Own | Origin::Held) && output.unknown.contains(flow(lane))
}

/// The number of the queue of what comes from one network to another by one way. That of others may be the
/// same: then they wait for each other.
fn flow(note: &Note) -> u32 {
    let way = match note.origin {
        Origin::Tunnel(tunnel) => u64::from(tunnel) | 1 << 63,
        _ => {
            let [a, b, c, d, e, f] = note.source_link_layer;
            u64::from_be_bytes([0, note.port as u8, a, b, c, d, e, f])
        }
    };
    let networks = [
        (note.packet.source >> 64) as u64,
        (note.packet.destination >> 64) as u64,
    ];
    let mix = |sum: u64, part: u64| (sum ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    (networks.into_iter().fold(way, mix) >> 32) as u32
}
