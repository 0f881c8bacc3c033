//! Packets that wait, and their way on when they need not wait any more: see [`crate::hold`].

use arrayvec::ArrayVec;

use super::admit::{InnerPacket, filtered_into};
use super::filter::question;
use super::{
    BURST, Frames, Lane, NoProbe, Note, Notes, Origin, Output, PASSES, Pipeline, View, Waiting, peer_key,
};
use crate::counters::Stage;
use crate::drops::DropReason;
use crate::flow::{Asked, Fields, Way};
use crate::frame::Frame;
use crate::hold::{Full, LOOKS, Pushed, Queues, State};
use crate::snapshot::{Entry, Hop, NextHop, Snapshot, SourceRule};
use crate::stage::ipv4;

/// Packets that one look frees for their age; those behind them are freed by the next.
const FREED: usize = 16;

/// In the number of a queue: it is a flow's. In others are the number of a prefix's counters.
const OF_FLOW: u64 = 1 << 63;

/// With which others a packet waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// With those of its prefix, which has these counters.
    Prefix(u32),
    /// With those of its flow, which has this number, for the filter with these counters.
    Flow(u64, u32),
}

/// What becomes of a packet that has waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It waits on, as long as the tables are as they are.
    Holds,
    /// It waits for others that came before it.
    Behind,
    /// It goes.
    Goes,
}

impl Pipeline {
    /// Keeps a packet until its prefix has another next hop, or filters say something else of its flow.
    #[cold]
    #[inline(never)]
    pub(super) fn hold<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        now: u64,
        lane: Lane<'_, F>,
        wait: Wait,
        output: &mut Output<F>,
    ) {
        let origin = lane.origin;
        let (key, share, origin) = match wait {
            Wait::Flow(flow, filter) => (flow, Some(u64::from(filter)), with_flow(origin)),
            Wait::Prefix(counter) => (u64::from(counter), None, origin),
        };
        // What it waits for now is something else.
        let waiting = Waiting {
            note: Note {
                late: false,
                of_tunnel: None,
                origin,
                ..*lane.note
            },
            frame: lane.frame,
        };
        let reason = |full| match full {
            Full::Prefix => DropReason::HoldPrefixFull,
            Full::Flow => DropReason::HoldFlowFull,
            Full::All => DropReason::HoldFull,
        };
        let octets = waiting.note.packet.length;
        match output
            .held
            .push(key, share, waiting, octets, now, snapshot.serial)
        {
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
    /// their anchors may be told of it, and of the tunnel that leads there, sooner than its gateway. What waits here is
    /// checked like any other packet before it goes on (BCP 38).
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
        // All tunnels between two networks have the room of one, and all of all networks half of what there is: who sends by tunnels
        // that are no more takes nothing from nodes that have just come.
        let in_tunnel = note.origin == Origin::Wire && peer_key(&frame, note).is_some();
        let share = in_tunnel.then(|| way_of(note));
        if in_tunnel && output.unknown.half_is_shared() {
            return Some(Lane { frame, note });
        }
        note.late = true;
        note.of_tunnel = None;
        let (key, octets) = (flow(note, &frame), note.packet.length);
        let waiting = Waiting { frame, note: *note };
        let gone = match output
            .unknown
            .push(key, share, waiting, octets, now, snapshot.serial)
        {
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
        self.take(held, snapshot.serial, now, &mut lanes, |queues, note, frame| {
            if let Origin::Flow(_) = note.origin {
                return turn_of_flow(snapshot, queues, note, frame);
            }
            if must_go_on_waiting(snapshot, note) {
                Turn::Holds
            } else {
                Turn::Goes
            }
        });
        for note in lanes.1.iter_mut() {
            if !matches!(note.origin, Origin::Own | Origin::Flow(_)) {
                note.origin = Origin::Held;
                note.checked = false;
            }
        }
        self.take(unknown, snapshot.serial, now, &mut lanes, |_, note, frame| {
            if is_known(snapshot, note, frame) {
                Turn::Goes
            } else {
                Turn::Holds
            }
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
        turn: impl Fn(&Queues<Waiting<F>>, &Note, &F) -> Turn,
    ) {
        if queues.is_empty() {
            return;
        }
        // All of a queue are of one prefix, of one node, or of one flow.
        let decide = |queues: &mut Queues<Waiting<F>>, queue| {
            let oldest = queues.oldest(queue, now);
            let turn = oldest.map_or(Turn::Goes, |(it, _)| turn(queues, &it.note, &it.frame));
            let state = match turn {
                Turn::Holds => State::Holding,
                Turn::Behind | Turn::Goes => State::Releasing,
            };
            queues.decide(queue, state, serial);
            turn
        };
        let mut looks: ArrayVec<u32, LOOKS> = ArrayVec::new();
        queues.looks(&mut looks);
        for queue in looks {
            let mut freed = false;
            for _ in 0..FREED {
                if !queues.oldest(queue, now).is_some_and(|(_, old)| old) {
                    break;
                }
                freed = true;
                match queues.pop(queue) {
                    // It has had its time: now it is dropped, or not, for what is known by now.
                    Some(Waiting { frame, note }) if note.late && !notes.is_full() => {
                        frames.push(frame);
                        notes.push(note);
                    }
                    _ => self.counters.add_drops(DropReason::HoldTooOld, 1),
                }
            }
            // Two of a flow may differ in what filters look at: each says for itself what becomes of it.
            if queues.is_undecided(queue, serial) || freed && queues.is_shared(queue) {
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
            let undecided = queues.is_undecided(queue, serial) || queues.is_shared(queue);
            if undecided && decide(queues, queue) != Turn::Goes {
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

/// Where a packet goes that need not wait, for its next hop, or behind others of its flow or of its prefix; else with
/// whom it waits.
///
/// `route` is that of its destination, `hop` where it is to go: elsewhere, where its source or a filter decides
/// that.
#[cold]
#[inline(never)]
pub(super) fn must_wait<F: Frame>(
    snapshot: &Snapshot,
    lane: &Lane<'_, F>,
    route: Entry,
    hop: Hop,
    output: &Output<F>,
) -> Result<Hop, Wait> {
    let came = matches!(lane.origin, Origin::Wire | Origin::Tunnel(_));
    let filter = hop.held_by();
    if filter.is_some() || came && output.held.has_shares() {
        let flow = flow_number(lane.view());
        // What waits of it was first, whatever filters say by now.
        if filter.is_some() || output.held.contains(flow) {
            return Err(Wait::Flow(flow, filter.unwrap_or(0)));
        }
    }
    let prefix = Wait::Prefix(route.counter());
    let then = after_waiting(snapshot, lane.origin, hop).ok_or(prefix)?;
    // What comes by the old way is older than all that waits. What is not held any more must not be overtaken, until
    // it has gone. It does not overtake itself.
    if came && !is_by_old_way(snapshot, lane.origin, hop) && is_behind_prefix(&output.held, route, hop) {
        return Err(prefix);
    }
    Ok(then)
}

/// By which next hop a packet goes that goes by this one; `None`: it is on hold.
fn after_waiting(snapshot: &Snapshot, origin: Origin, hop: Hop) -> Option<Hop> {
    match hop.unpack() {
        NextHop::Hold => None,
        NextHop::After(index) => {
            let after = snapshot.afters.get(index);
            (after.over || origin == Origin::Tunnel(after.first)).then(|| after.then.into())
        }
        _ if hop.held_by().is_some() => None,
        _ => Some(hop),
    }
}

/// Whether a packet comes by the way whose end others wait for.
fn is_by_old_way(snapshot: &Snapshot, origin: Origin, hop: Hop) -> bool {
    hop.after()
        .is_some_and(|index| origin == Origin::Tunnel(snapshot.afters.get(index).first))
}

/// Whether others wait that go to the same prefix by the same way.
fn is_behind_prefix<T>(held: &Queues<T>, route: Entry, hop: Hop) -> bool {
    hop == route.hop() && held.contains(u64::from(route.counter()))
}

/// Where the tables send a packet that was let through before it waited.
#[cold]
#[inline(never)]
pub(super) fn by_tables(snapshot: &Snapshot, origin: Origin, route: Entry, source: u32) -> Hop {
    let here = route.hop();
    let source = snapshot.routes.source(source);
    let elsewhere = match (origin, source.rule()) {
        _ if here == Hop::LOCAL => None,
        (Origin::Flow(0), SourceRule::Tunnel { tunnel, .. }) => Some(Hop::by_tunnel(tunnel)),
        (Origin::Flow(tunnel), _) if source.comes_by(tunnel) => source.onward(),
        _ => None,
    };
    elsewhere.unwrap_or(here)
}

/// Where a packet came from that waits with its flow.
fn with_flow(origin: Origin) -> Origin {
    match origin {
        Origin::Wire => Origin::Flow(0),
        Origin::Tunnel(tunnel) => Origin::Flow(tunnel),
        other => other,
    }
}

/// What becomes of a packet that waits with its flow: filters are asked about it as when it came.
fn turn_of_flow<F: Frame>(snapshot: &Snapshot, queues: &Queues<Waiting<F>>, note: &Note, frame: &F) -> Turn {
    let destination = snapshot.fib.lookup(note.packet.destination);
    let source = if note.checked {
        Some(snapshot.fib.lookup(note.packet.source))
    } else {
        None
    };
    let route = snapshot.routes.get(destination);
    let mut hop = by_tables(snapshot, note.origin, route, source.unwrap_or_default());
    if snapshot.flows.any {
        let question = question(snapshot, note, destination, source);
        let octets = View::new(frame, note).octets;
        let Asked { verdicts, .. } = snapshot
            .flows
            .ask(std::iter::once((octets, &note.packet)), &[question]);
        if let Some(verdict) = verdicts.first() {
            if let Way::Drop | Way::HoldExpired = verdict.way {
                return Turn::Goes;
            }
            hop = verdict.hop(route, hop);
        }
    }
    if after_waiting(snapshot, note.origin, hop).is_none() {
        Turn::Holds
    } else if is_behind_prefix(queues, route, hop) {
        Turn::Behind
    } else {
        Turn::Goes
    }
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
    let source = snapshot.fib.lookup(note.packet.source);
    if let Origin::Tunnel(tunnel) = note.origin {
        let route = snapshot.routes.get(snapshot.fib.lookup(note.packet.destination));
        return InnerPacket::of(snapshot, route, source, tunnel).is_expected()
            || filtered_into(snapshot, note.packet.source, tunnel);
    }
    if snapshot.ports.get(note.port).is_none_or(|port| !port.access) {
        let key = peer_key(frame, note).map(|key| snapshot.peers.lookup(key));
        let tunnel = key.and_then(|index| snapshot.tunnels.at(index));
        return tunnel.is_some_and(|it| u128::from_be_bytes(it.remote) == note.packet.source);
    }
    match snapshot.routes.source(source).rule() {
        SourceRule::Refused | SourceRule::Behind { .. } => false,
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
pub(super) fn is_behind_unknown<F: Frame>(lane: &Lane<'_, F>, output: &Output<F>) -> bool {
    let came = matches!(lane.origin, Origin::Wire | Origin::Tunnel(_));
    came && !lane.late && output.unknown.contains(flow(lane, &lane.frame))
}

/// The number of the queue of a flow: what has the same addresses, protocol and ports. That of another may be the
/// same: then they wait for each other.
fn flow_number(packet: View<'_>) -> u64 {
    let fields = Fields::read(packet.octets, &packet.packet);
    let (from, to) = fields.ports.unwrap_or_default();
    let kind = u64::from(fields.protocol.unwrap_or(u8::MAX)) << 32 | u64::from(from) << 16 | u64::from(to);
    let words = |address: u128| [(address >> 64) as u64, address as u64];
    let parts = words(fields.source).into_iter().chain(words(fields.destination));
    parts.fold(kind, mix) | OF_FLOW
}

fn mix(sum: u64, part: u64) -> u64 {
    (sum ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// The number of the queue of what comes from one network to another by one way; of what is in a tunnel, by that tunnel, or
/// one that nobody knows would stop all others of its peer. That of others may be the same: then they wait for each other.
#[cold]
#[inline(never)]
pub(super) fn flow<F: Frame>(note: &Note, frame: &F) -> u64 {
    let way = way_of(note);
    match note.origin {
        Origin::Tunnel(_) => way,
        _ => {
            let key = peer_key(frame, note).unwrap_or_default();
            mix(mix(way, (key >> 64) as u64), key as u64)
        }
    }
}

/// From which network by which way a packet comes, and to which.
fn way_of(note: &Note) -> u64 {
    let way = match note.origin {
        Origin::Tunnel(tunnel) => u64::from(tunnel) | 1 << 63,
        _ => {
            let [a, b, c, d, e, f] = note.source_link_layer;
            u64::from_be_bytes([0, note.port as u8, a, b, c, d, e, f])
        }
    };
    let network = |address: u128| match ipv4::is_mapped(address) {
        true => address as u64,
        false => (address >> 64) as u64,
    };
    let networks = [note.packet.source, note.packet.destination].map(network);
    networks.into_iter().fold(way, mix)
}
