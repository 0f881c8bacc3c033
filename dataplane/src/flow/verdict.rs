//! What filters say of a packet.

use kedge_dataplane_api::model::Direction;

use super::compiled::{Act, KINDS, Kind};
use super::fields::Fields;
use super::lists::{List, Lists};

/// Where a packet goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// As the tables say.
    #[default]
    Tables,
    /// Into this tunnel.
    Tunnel(u32),
    /// By its destination.
    LocalBreakout,
    /// Nowhere.
    Drop,
    /// Nowhere yet: it waits.
    Hold,
    /// Nowhere: it would have waited, but that has lasted for too long.
    HoldExpired,
}

/// A filter that counts: where its traffic is counted, and as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Index of its counters.
    pub counter: u32,
    /// Of which direction the packet is for it.
    pub direction: Direction,
}

/// What is done with one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Where it goes.
    pub way: Way,
    /// The filter that says so.
    pub by: Option<Hit>,
    /// The meters to ask, in this order: of the flow, of the node that it is from, of that which it is to.
    pub meters: [Option<(u32, Hit)>; 3],
}

impl Verdict {
    /// No filter has anything to say.
    #[inline]
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.by.is_none() && self.meters == [None; 3]
    }
}

/// The first of each kind so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Firsts {
    found: [Option<Found>; KINDS],
    /// Of the destination's prefix.
    other_node_meter: Option<Found>,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    /// The lowest comes first: the priority, then how narrow the scope is, then whose it is.
    order: u32,
    act: Act,
    hit: Hit,
}

impl Firsts {
    /// Asks the filters of one prefix, of which the packet's source or destination is. It goes into the tunnel with the index
    /// `by`, or has come out of it; 0: by none.
    #[inline]
    pub(super) fn ask_list(
        &mut self,
        lists: &Lists,
        list: List,
        fields: &Fields,
        direction: Direction,
        by: u32,
    ) {
        let mut seen = [false; KINDS];
        for filter in lists.filters(list) {
            let kind = filter.act.kind();
            let Some(seen) = seen.get_mut(kind as usize) else {
                continue;
            };
            // They are in their order: the first of a kind is the one.
            if *seen || !filter.is_asked_by(by) || !filter.matches(fields, direction) {
                continue;
            }
            *seen = true;
            let narrow = u32::from(128 - filter.scope.min(128)) << 1;
            let side = u32::from(direction == Direction::ToNode);
            let found = Found {
                order: u32::from(filter.priority) << 16 | narrow | side,
                act: filter.act,
                hit: Hit {
                    counter: filter.counter,
                    direction,
                },
            };
            if kind == Kind::NodeMeter && direction == Direction::ToNode {
                self.other_node_meter = Some(found);
            } else {
                self.offer(kind, found);
            }
        }
    }

    /// One of the whole domain's.
    #[inline]
    pub(super) fn offer_wide(&mut self, priority: u16, act: Act, counter: u32, direction: Direction) {
        let found = Found {
            order: u32::from(priority) << 16 | 0xffff,
            act,
            hit: Hit { counter, direction },
        };
        self.offer(act.kind(), found);
    }

    #[inline]
    fn offer(&mut self, kind: Kind, found: Found) {
        if let Some(first) = self.found.get_mut(kind as usize)
            && first.is_none_or(|first| found.order < first.order)
        {
            *first = Some(found);
        }
    }

    #[inline]
    pub(super) fn verdict(&self) -> Verdict {
        let [way, of_flow, of_node] = self.found;
        let meter = |found: Option<Found>| {
            found.and_then(|found| match found.act {
                Act::Meter(index) | Act::NodeMeter(index) => Some((index, found.hit)),
                _ => None,
            })
        };
        Verdict {
            way: way.map_or(Way::Tables, |found| match found.act {
                Act::Tunnel(index) => Way::Tunnel(index),
                Act::LocalBreakout => Way::LocalBreakout,
                Act::Drop => Way::Drop,
                Act::Hold => Way::Hold,
                Act::HoldExpired => Way::HoldExpired,
                Act::Anchor | Act::Meter(_) | Act::NodeMeter(_) => Way::Tables,
            }),
            by: way.map(|found| found.hit),
            meters: [meter(of_flow), meter(of_node), meter(self.other_node_meter)],
        }
    }
}
