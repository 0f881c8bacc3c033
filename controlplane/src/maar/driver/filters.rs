//! What the operator wants of filters.

use ipnet::{IpNet, Ipv6Net};
use kedge_config::{AppliesTo, FilterAction, FilterRule, FlowDirection};
use tonic::Status;

use super::{Daemon, Input};
use crate::charging::Count;
use crate::forwarding;
use crate::identity::MobileNodeIdentifier;
use crate::maar::MOST_FILTERS as MOST;
use crate::northbound::proto;

impl Daemon {
    pub(super) fn add_filter(
        &mut self,
        message: &proto::FilterRule,
    ) -> Result<proto::AddFilterReply, Status> {
        let rule = decode(message)?;
        rule.check_alone(&self.config.meters)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if self.config.filters.iter().any(|other| other.name == rule.name) {
            let text = format!("filter {} is one of the configuration, which counts", rule.name);
            return Err(Status::already_exists(text));
        }
        let state = self.machine.state();
        let replaced = state.filters.contains_key(&rule.name);
        if !replaced && state.filters.len() >= MOST {
            let text = format!("there are {MOST} filters already, and may be no more");
            return Err(Status::resource_exhausted(text));
        }
        let dataplane = self.config.dataplane.as_ref();
        let most = dataplane.map_or(0, |it| it.maximum_domain_filters as usize);
        let rules = self.config.filters.iter().chain(state.filters.values());
        if let Some(text) = forwarding::too_many(rules, most, &rule) {
            return Err(Status::resource_exhausted(text));
        }
        // What came just before counts, too.
        if self.unsettled > 0 {
            self.settle();
        }
        let beyond = forwarding::beyond_limits(
            &self.config,
            self.machine.state(),
            &self.desired.borrow().tables,
            &rule,
        );
        if let Some(text) = beyond {
            return Err(Status::resource_exhausted(text));
        }
        self.process(Input::PutFilter(rule));
        Ok(proto::AddFilterReply { replaced })
    }

    pub(super) fn delete_filter(&mut self, name: &str) -> Result<proto::DeleteFilterReply, Status> {
        if self.config.filters.iter().any(|rule| rule.name == name) {
            let text = format!("filter {name} is one of the configuration: delete it there");
            return Err(Status::failed_precondition(text));
        }
        if !self.machine.state().filters.contains_key(name) {
            return Err(Status::not_found(format!("there is no filter {name}")));
        }
        self.process(Input::DeleteFilter(name.to_owned()));
        Ok(proto::DeleteFilterReply {})
    }

    pub(super) fn filters(&self) -> proto::FilterList {
        let state = self.machine.state();
        let there = &self.desired.borrow().tables.filters;
        let filters = forwarding::rules(&self.config, state).map(|rule| {
            let mut ids = forwarding::filter_ids(rule, state);
            // While there is no tunnel for it, or after its time, a filter is not in the data plane.
            ids.retain(|id| there.contains_key(id));
            let configured = self.config.filters.iter().any(|it| it.name == rule.name);
            let mut message = encode(rule, configured, ids);
            let charged = state.charging.prefixes.values();
            let counted = charged.filter_map(|it| it.filters.get(&rule.name));
            let carried = counted.fold(Count::default(), |sum, it| sum.plus(it.counted.carried));
            message.carried_to_packets = carried.to_packets;
            message.carried_to_bytes = carried.to_bytes;
            message.carried_from_packets = carried.from_packets;
            message.carried_from_bytes = carried.from_bytes;
            message.left_out = self.left_out.of_rule(&rule.name) as u64;
            let only = state.filter_prefixes.get(&rule.name);
            message.prefixes = only.into_iter().flatten().map(ToString::to_string).collect();
            message
        });
        proto::FilterList {
            filters: filters.collect(),
        }
    }
}

fn decode(message: &proto::FilterRule) -> Result<FilterRule, Status> {
    fn wrong(key: &str, value: &str, reason: &str) -> Status {
        Status::invalid_argument(format!("filter.{key} = {value}: {reason}"))
    }
    fn text<T: std::str::FromStr>(key: &str, value: &str, reason: &str) -> Result<Option<T>, Status> {
        if value.is_empty() {
            return Ok(None);
        }
        value.parse().map(Some).map_err(|_| wrong(key, value, reason))
    }
    fn octet(key: &str, value: u32) -> Result<u8, Status> {
        u8::try_from(value).map_err(|_| wrong(key, &value.to_string(), "must be 0 to 255"))
    }
    let prefix = |key, value| -> Result<Option<Ipv6Net>, Status> {
        let net = text::<IpNet>(key, value, "is no prefix")?;
        Ok(net.map(kedge_config::mapped))
    };
    let ports = "is no port and no range of ports such as 6000-6010";
    let node = text::<MobileNodeIdentifier>("node", &message.node, "is no node's identifier")?;
    Ok(FilterRule {
        name: message.name.clone(),
        applies_to: if message.domain {
            AppliesTo::Domain
        } else {
            AppliesTo::EveryNode
        },
        node: node.map(|node| node.to_string()),
        priority: match message.priority {
            0 => 1000,
            given => u16::try_from(given)
                .map_err(|_| wrong("priority", &given.to_string(), "must be 1 to 65535"))?,
        },
        direction: match message.direction.as_str() {
            "" => None,
            "from-node" => Some(FlowDirection::FromNode),
            "to-node" => Some(FlowDirection::ToNode),
            other => return Err(wrong("direction", other, "must be from-node or to-node")),
        },
        source: prefix("source", &message.source)?,
        destination: prefix("destination", &message.destination)?,
        protocol: message.protocol.map(|it| octet("protocol", it)).transpose()?,
        source_ports: text("source_ports", &message.source_ports, ports)?,
        destination_ports: text("destination_ports", &message.destination_ports, ports)?,
        traffic_class: message
            .traffic_class
            .map(|it| octet("traffic_class", it))
            .transpose()?,
        traffic_class_mask: match message.traffic_class_mask {
            0 => 255,
            given => octet("traffic_class_mask", given)?,
        },
        flow_label: message.flow_label,
        action: ACTIONS
            .into_iter()
            .find(|action| action.name() == message.action)
            .ok_or_else(|| {
                let all = ACTIONS.map(FilterAction::name).join(", ");
                wrong("action", &message.action, &format!("must be one of {all}"))
            })?,
        maar: text("maar", &message.maar, "is no IPv6 address")?,
        meter: (!message.meter.is_empty()).then(|| message.meter.clone()),
        idle_timeout: message.idle_timeout_s,
        lifetime: message.lifetime_s,
        relocate_after_s: message.relocate_after_s,
    })
}

const ACTIONS: [FilterAction; 8] = [
    FilterAction::Anchor,
    FilterAction::Tunnel,
    FilterAction::LocalBreakout,
    FilterAction::Drop,
    FilterAction::Hold,
    FilterAction::NoMobility,
    FilterAction::Meter,
    FilterAction::NodeMeter,
];

fn encode(rule: &FilterRule, configured: bool, ids: Vec<u64>) -> proto::FilterRule {
    fn text<T: ToString>(value: Option<&T>) -> String {
        value.map(T::to_string).unwrap_or_default()
    }
    proto::FilterRule {
        name: rule.name.clone(),
        domain: rule.applies_to == AppliesTo::Domain,
        node: rule.node.clone().unwrap_or_default(),
        priority: u32::from(rule.priority),
        direction: match rule.direction {
            None => String::new(),
            Some(FlowDirection::FromNode) => "from-node".to_owned(),
            Some(FlowDirection::ToNode) => "to-node".to_owned(),
        },
        source: text(rule.source.map(kedge_config::shown).as_ref()),
        destination: text(rule.destination.map(kedge_config::shown).as_ref()),
        protocol: rule.protocol.map(u32::from),
        source_ports: text(rule.source_ports.as_ref()),
        destination_ports: text(rule.destination_ports.as_ref()),
        traffic_class: rule.traffic_class.map(u32::from),
        traffic_class_mask: u32::from(rule.traffic_class_mask),
        flow_label: rule.flow_label,
        action: rule.action.name().to_owned(),
        maar: text(rule.maar.as_ref()),
        meter: rule.meter.clone().unwrap_or_default(),
        idle_timeout_s: rule.idle_timeout,
        lifetime_s: rule.lifetime,
        relocate_after_s: rule.relocate_after_s,
        configured,
        ids,
        ..proto::FilterRule::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_survives_the_wire() {
        for text in [
            "name = \"a\"\naction = \"drop\"\napplies_to = \"domain\"\nflow_label = 7",
            "name = \"b\"\naction = \"tunnel\"\nmaar = \"2001:db8::1\"\nnode = \"mn1@example.net\"\nprotocol = \"tcp\"\n\
             destination_ports = \"80-90\"\nsource_ports = 7\nidle_timeout = 3\nlifetime = 4",
            "name = \"d\"\naction = \"no-mobility\"",
            "name = \"4\"\naction = \"drop\"\nsource = \"198.51.100.0/24\"\ndestination = \"203.0.113.7/32\"",
            "name = \"h\"\naction = \"hold\"\nlifetime = 600",
            "name = \"e\"\naction = \"anchor\"\nrelocate_after_s = 0",
            "name = \"c\"\naction = \"node-meter\"\nmeter = \"m\"\ndirection = \"to-node\"\npriority = 7\n\
             source = \"2001:db8::/32\"\ndestination = \"2001:db9::/32\"\ntraffic_class = 8\ntraffic_class_mask = 252",
        ] {
            let rule: FilterRule = toml::from_str(text).unwrap();
            assert_eq!(decode(&encode(&rule, true, vec![1])).unwrap(), rule);
            // And the store.
            let stored = serde_json::to_string(&rule).unwrap();
            assert_eq!(serde_json::from_str::<FilterRule>(&stored).unwrap(), rule);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = proto::FilterRule {
            name: "f".to_owned(),
            action: "drop".to_owned(),
            ..Default::default()
        };
        let refused = |change: &dyn Fn(&mut proto::FilterRule)| {
            let mut message = good.clone();
            change(&mut message);
            decode(&message).unwrap_err().message().to_owned()
        };
        assert_eq!(
            refused(&|it| it.direction = "up".to_owned()),
            "filter.direction = up: must be from-node or to-node"
        );
        assert_eq!(
            refused(&|it| it.priority = 65_536),
            "filter.priority = 65536: must be 1 to 65535"
        );
        assert_eq!(
            refused(&|it| it.source = "x".to_owned()),
            "filter.source = x: is no prefix"
        );
        assert_eq!(
            refused(&|it| it.protocol = Some(256)),
            "filter.protocol = 256: must be 0 to 255"
        );
        assert!(
            refused(&|it| it.action = "lose".to_owned()).starts_with("filter.action = lose: must be one of")
        );
    }
}
