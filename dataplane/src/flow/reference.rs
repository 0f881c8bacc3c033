//! Which filters count for a packet, as slowly and as obviously as can be.
//!
//! Read it to know what the lists and the classifier must do; tests compare them with it.

use std::collections::BTreeMap;

use ipnet::Ipv6Net;
use kedge_dataplane_api::model::{Direction, Filter, FilterAction, Selector};

use super::fields::Fields;

/// The ids of the filters that count for a packet; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// It says where the packet goes.
    pub way: u64,
    /// Its meter is asked.
    pub meter: u64,
    /// So is that of the node that the packet is from.
    pub node_meter_from: u64,
    /// So is that of the node that it is to.
    pub node_meter_to: u64,
}

/// Priority, how narrow the scope is, whose it is (0: the source's), id: the lowest comes first.
type Order = (u16, u8, u8, u64);

/// What filters say of a packet from the prefix `from` and to the prefix `to`, as far as these are nodes'. The tables send
/// it into the tunnel with the id `goes_by` for its source, and it has come out of that with the id `came_by`, if any.
#[must_use]
pub fn choose(
    filters: &BTreeMap<u64, Filter>,
    fields: &Fields,
    from: Option<Ipv6Net>,
    to: Option<Ipv6Net>,
    goes_by: Option<u32>,
    came_by: Option<u32>,
) -> Chosen {
    // Each filter that matches, in the order in which filters come, with the side on which it did.
    let mut matching: Vec<(Order, u64, FilterAction)> = Vec::new();
    for (id, filter) in filters {
        let mut found = |narrow: u8, side: u8| {
            matching.push(((filter.priority, narrow, side, *id), *id, filter.action));
        };
        let asks_for = |direction| filter.selector.direction.is_none_or(|it| it == direction);
        if !matches(&filter.selector, fields) {
            continue;
        }
        match filter.scope {
            Some(scope) => {
                let elsewhere = |by: Option<u32>| by.is_some() && by == filter.except_tunnel;
                if from == Some(scope) && asks_for(Direction::FromNode) && !elsewhere(goes_by) {
                    found(128 - scope.prefix_len(), 0);
                }
                if to == Some(scope) && asks_for(Direction::ToNode) && !elsewhere(came_by) {
                    found(128 - scope.prefix_len(), 1);
                }
            }
            None => {
                let any = filter.selector.direction.is_none();
                if any
                    || from.is_some() && asks_for(Direction::FromNode)
                    || to.is_some() && asks_for(Direction::ToNode)
                {
                    found(u8::MAX, 0);
                }
            }
        }
    }
    matching.sort_unstable_by_key(|(order, _, _)| *order);
    let first = |wanted: &dyn Fn(&FilterAction, u8) -> bool| {
        let found = matching
            .iter()
            .find(|((_, _, side, _), _, action)| wanted(action, *side));
        found.map_or(0, |(_, id, _)| *id)
    };
    Chosen {
        way: first(&|action, _| action.meter().is_none()),
        meter: first(&|action, _| matches!(action, FilterAction::Meter(_))),
        node_meter_from: first(&|action, side| matches!(action, FilterAction::NodeMeter(_)) && side == 0),
        node_meter_to: first(&|action, side| matches!(action, FilterAction::NodeMeter(_)) && side == 1),
    }
}

/// Whether a packet has what a selector asks for, but for the direction.
#[must_use]
pub fn matches(selector: &Selector, fields: &Fields) -> bool {
    if !selector.source.contains(&std::net::Ipv6Addr::from(fields.source))
        || !selector
            .destination
            .contains(&std::net::Ipv6Addr::from(fields.destination))
    {
        return false;
    }
    if let Some(protocol) = selector.protocol
        && fields.protocol != Some(protocol)
    {
        return false;
    }
    if let Some(range) = selector.source_ports {
        match fields.ports {
            Some((port, _)) if range.first <= port && port <= range.last => {}
            _ => return false,
        }
    }
    if let Some(range) = selector.destination_ports {
        match fields.ports {
            Some((_, port)) if range.first <= port && port <= range.last => {}
            _ => return false,
        }
    }
    if fields.traffic_class & selector.traffic_class.mask != selector.traffic_class.value {
        return false;
    }
    selector.flow_label.is_none_or(|label| label == fields.flow_label)
}
