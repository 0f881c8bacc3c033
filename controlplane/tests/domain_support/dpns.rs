//! The DPNs of the domain: two at maar1, two at maar2, none at maar3.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use kedge_config::Config;
use kedge_controlplane::dpn::{self, Dpn};
use kedge_controlplane::forwarding;
use kedge_controlplane::time::Time;
use kedge_controlplane::wire::neighbour_discovery::PrefixInformation;
use kedge_dataplane_api::model::{NextHop, Sender, SourcePath, Tables};

use super::{Domain, PLAIN, TEID_KEY, address, assert_mirrored, maar_address, node};

pub fn dpn_address(index: usize) -> Ipv6Addr {
    address(
        [
            "2001:db8:e1::1",
            "2001:db8:e2::1",
            "2001:db8:e3::1",
            "2001:db8:e4::1",
        ][index],
    )
}

pub fn index_of(who: Ipv6Addr) -> Option<usize> {
    (0..4).find(|index| dpn_address(*index) == who)
}

/// The MAAR that is its DPA.
pub fn dpa(index: usize) -> usize {
    index / 2
}

/// Those of a MAAR, as in its file.
pub fn known(maar: usize) -> String {
    let its = (0..4).filter(|index| dpa(*index) == maar);
    its.map(|index| format!("[[maar.dpn]]\naddress = \"{}\"\n", dpn_address(index)))
        .collect()
}

pub fn dpn_config(index: usize, tunnel: &str) -> Config {
    let text = format!(
        r#"
        [node]
        name = "dpn{number}"
        role = "dpn"
        address = "{address}"
        [dataplane]
        [[port]]
        name = "access"
        device = "net_null0"
        side = "access"
        exception = "kacc"
        [[port]]
        name = "core"
        device = "net_null1"
        side = "core"
        exception = "kcore"
        addresses = ["2001:db8:cb{number}::2/64"]
        [[route]]
        prefix = "::/0"
        port = "core"
        gateway = "2001:db8:cb{number}::1"
        [dpn]
        dpa = "{dpa}"
        tunnel = "{tunnel}"
        "#,
        number = index + 1,
        address = dpn_address(index),
        dpa = maar_address(dpa(index)),
    );
    Config::parse(&text, "test").unwrap()
}

/// One that goes on from what was stored.
pub fn dpn(config: &Config, stored: &str, now: Time) -> Dpn {
    let settings = dpn::Settings::from_config(config).unwrap();
    Dpn::new(
        settings,
        serde_json::from_str(stored).unwrap_or_default(),
        TEID_KEY ^ 7,
        now,
    )
}

pub fn all(now: Time) -> Vec<Dpn> {
    (0..4)
        .map(|index| dpn(&dpn_config(index, PLAIN), "", now))
        .collect()
}

impl Domain {
    /// Configures the DPNs for another tunnel.
    pub fn with_dpn_tunnels(mut self, tunnel: &str) -> Self {
        self.dpn_configs = (0..4).map(|index| dpn_config(index, tunnel)).collect();
        let configs = self.dpn_configs.iter();
        self.dpns = configs.map(|config| dpn(config, "", self.now)).collect();
        self
    }

    pub fn dpn_input(&mut self, index: usize, input: dpn::Input) {
        for output in self.dpns[index].process(input, self.now) {
            match output {
                dpn::Output::Send { to, message } => {
                    self.store(dpn_address(index));
                    self.send(dpn_address(index), to, &message);
                }
                dpn::Output::Advertise {
                    link_layer_address,
                    prefixes,
                    ..
                } => {
                    // A host whose router is another one by now does not hear it.
                    let identifier = self.on_link[&link_layer_address].clone();
                    let node = self.dpns[index].state().nodes.get(&identifier);
                    let ended = node.map(|node| node.ended.clone()).unwrap_or_default();
                    let has = |it: &&PrefixInformation| it.valid_lifetime > 0 || ended.contains(&it.prefix);
                    let heard = prefixes.iter().filter(has);
                    let heard: std::collections::BTreeMap<_, _> =
                        heard.map(|it| (it.prefix, it.preferred_lifetime)).collect();
                    if !heard.is_empty() {
                        self.heard.insert(identifier, heard);
                    }
                }
                dpn::Output::Event(_) => {}
            }
        }
    }

    pub fn attach_at_dpn(&mut self, number: u8, index: usize) {
        let (identifier, link_layer_address) = node(number);
        self.dpn_input(
            index,
            dpn::Input::Attached {
                identifier,
                port: "access".to_owned(),
                link_layer_address,
                link_local_address: link_layer_address.link_local(),
            },
        );
    }

    pub fn detach_at_dpn(&mut self, number: u8, index: usize) {
        self.dpn_input(index, dpn::Input::Detached(node(number).0));
    }

    pub fn dpn_tables(&self, index: usize) -> Tables {
        forwarding::desired_of_dpn(
            &self.dpn_configs[index],
            self.dpns[index].state(),
            &std::collections::BTreeMap::new(),
        )
        .tables
    }

    pub fn dpn_phase(&self, number: u8, index: usize) -> Option<dpn::Phase> {
        let nodes = &self.dpns[index].state().nodes;
        nodes.get(&node(number).0).map(|node| node.phase.clone())
    }

    /// By what a DPA sends a node's packets to its DPN.
    pub fn way_to_dpn(&self, tables: &Tables, prefix: Ipv6Net, dpn: Ipv6Addr) -> NextHop {
        let entry = &tables.prefixes[&prefix];
        let NextHop::Tunnel(id) = entry.next_hop else {
            panic!("{prefix} does not go to a DPN: {entry:?}");
        };
        assert_eq!(tables.tunnels[&id].remote, dpn);
        NextHop::Tunnel(id)
    }

    /// What must hold when nothing is on its way: the node is at one DPN, which has told it what its DPA knows, and both ends
    /// of the tunnel between them agree.
    pub fn assert_at_dpn(&self, number: u8, index: usize) {
        let serving = dpa(index);
        self.assert_settled(number, serving);
        for other in (0..4).filter(|other| *other != index) {
            assert_eq!(self.dpn_phase(number, other), None, "at DPN {other} too");
        }
        assert_eq!(self.dpn_phase(number, index), Some(dpn::Phase::Attached));
        let (identifier, link_layer_address) = node(number);
        let at_dpa = &self.maars[serving].state().nodes[&identifier];
        assert_eq!(at_dpa.dpn.as_ref().unwrap().address, dpn_address(index));
        let here = &self.dpns[index].state().nodes[&identifier];
        let mut told: Vec<_> = here.prefixes.iter().map(|it| it.prefix).collect();
        assert_eq!(told[0], at_dpa.home_network_prefix);
        let mut has: Vec<_> = at_dpa.own_prefixes().collect();
        has.extend(at_dpa.previous.iter().map(|it| it.prefix));
        told.sort();
        has.sort();
        assert_eq!(told, has);
        let (below, above) = (self.dpn_tables(index), self.tables(serving));
        for prefix in &told {
            let entry = &below.prefixes[prefix];
            let deliver = NextHop::Deliver {
                port: "access".to_owned(),
                link_layer_address: link_layer_address.0,
            };
            assert_eq!(entry.next_hop, deliver);
            let source = entry.source.as_ref().unwrap();
            let SourcePath::Tunnel(up) = source.path else {
                panic!("native")
            };
            let source = above.prefixes[prefix].source.as_ref().unwrap();
            let Sender::Tunnel(down) = source.sender else {
                panic!("{source:?}")
            };
            assert_mirrored(&below.tunnels[&up], &above.tunnels[&down]);
        }
    }
}
