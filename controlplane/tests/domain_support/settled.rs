//! What must hold in a domain in which nothing is on its way.

use kedge_controlplane::maar::Phase;
use kedge_dataplane_api::model::{NextHop, SourcePath, Tunnel};

use super::*;

impl Domain {
    /// What must hold when nothing is on its way: the node is served at one place, every prefix it
    /// has is delivered there, and every anchor sends its prefix there and takes it back from there.
    pub fn assert_settled(&self, number: u8, serving: usize) {
        let (identifier, link_layer_address) = node(number);
        let binding = &self.cmd.state().bindings[&identifier];
        assert_eq!(binding.serving, maar_address(serving));
        for index in 0..3 {
            let attached = self.phase(number, index) == Some(Phase::Attached);
            assert_eq!(attached, index == serving, "{identifier} at maar{}", index + 1);
        }
        let here = self.tables(serving);
        let served = &self.maars[serving].state().nodes[&identifier];
        let deliver = match &served.dpn {
            None => NextHop::Deliver {
                port: "access".to_owned(),
                link_layer_address: link_layer_address.0,
            },
            Some(dpn) => self.way_to_dpn(&here, served.home_network_prefix, dpn.address),
        };
        let adopted = binding.adopted.iter().map(|it| it.prefix);
        let anchored: Vec<_> = std::iter::once(self.prefix(number, serving))
            .chain(adopted)
            .collect();
        assert_eq!(binding.prefixes, anchored[..1]);
        let (mut here_too, mut all) = (self.anchored(number, serving), anchored.clone());
        here_too.sort();
        all.sort();
        assert_eq!(
            here_too,
            all,
            "anchored, and to be anchored, at maar{}",
            serving + 1
        );
        for prefix in &anchored {
            let own = &here.prefixes[prefix];
            let next_hop = match &own.next_hop {
                // Late packets may come from the old anchor of one that was relocated.
                NextHop::After { then, .. } if *prefix != anchored[0] => then,
                next_hop => next_hop,
            };
            assert_eq!(*next_hop, deliver);
            assert_eq!(own.source.as_ref().unwrap().path, SourcePath::Native);
        }
        assert_eq!(served.previous.len(), binding.previous.len());
        for previous in &binding.previous {
            let anchor = (0..3)
                .find(|index| maar_address(*index) == previous.address)
                .unwrap();
            assert!(self.anchored(number, anchor).contains(&previous.prefix));
            let there = self.tables(anchor);
            let NextHop::Tunnel(out) = there.prefixes[&previous.prefix].next_hop else {
                panic!(
                    "{} is not tunnelled: {:?}",
                    previous.prefix, there.prefixes[&previous.prefix]
                );
            };
            let remote = there.tunnels[&out].remote;
            assert!([maar_address(serving), maar_ipv4_address(serving)].contains(&remote));
            let entry = &here.prefixes[&previous.prefix];
            assert_eq!(entry.next_hop, deliver);
            let SourcePath::Tunnel(back) = entry.source.as_ref().unwrap().path else {
                panic!("native")
            };
            let index = (0..3)
                .find(|index| maar_address(*index) == previous.address)
                .unwrap();
            let remote = here.tunnels[&back].remote;
            assert!([previous.address, maar_ipv4_address(index)].contains(&remote));
            assert_mirrored(&here.tunnels[&back], &there.tunnels[&out]);
        }
        let heard = &self.heard[&identifier];
        let preferred: Vec<_> = heard
            .iter()
            .filter(|(_, lifetime)| **lifetime > 0)
            .map(|(prefix, _)| *prefix)
            .collect();
        assert_eq!(
            preferred,
            [self.prefix(number, serving)],
            "only the newest prefix is preferred"
        );
        let ended = binding.ended.iter().collect::<BTreeSet<_>>();
        assert!(ended.iter().all(|prefix| heard[prefix] == 0));
        let previous = binding.previous.iter().map(|it| it.prefix);
        let all = anchored.iter().copied().chain(previous);
        let all = all.filter(|prefix| prefix.prefix_len() == 64).count();
        assert_eq!(heard.len(), all + ended.len());
        // Each prefix has one anchor.
        let mut all: Vec<_> = (0..3).flat_map(|index| self.anchored(number, index)).collect();
        let several = all.len();
        all.sort();
        all.dedup();
        assert_eq!(several, all.len(), "{all:?}");
    }

    /// What the router of a node has is what the CMD says it has.
    pub fn assert_network(&self, number: u8) {
        let binding = &self.cmd.state().bindings[&node(number).0];
        let adopted = binding.adopted.iter().map(|it| it.prefix);
        let all = adopted.chain(binding.previous.iter().map(|it| it.prefix));
        let networks: Vec<_> = all.filter(|prefix| prefix.prefix_len() < 64).collect();
        if let Some(has) = self.networks.get(&number) {
            assert!(networks.contains(has), "{has} of {networks:?}");
        }
        assert!(networks.len() <= 1, "{networks:?}");
    }

    /// No MAAR anchors a prefix for a node that the node has not.
    pub fn assert_nothing_left_over(&self, number: u8) {
        let binding = &self.cmd.state().bindings[&node(number).0];
        let mut all: Vec<_> = (0..3).flat_map(|index| self.anchored(number, index)).collect();
        let adopted = binding.adopted.iter().map(|it| it.prefix);
        let previous = binding.previous.iter().map(|it| it.prefix);
        let mut its: Vec<_> = binding
            .prefixes
            .iter()
            .copied()
            .chain(adopted)
            .chain(previous)
            .collect();
        all.sort();
        its.sort();
        assert_eq!(all, its);
    }
}

/// Both ends are of one kind, and each sends to where the other takes.
pub fn assert_mirrored(one: &Tunnel, other: &Tunnel) {
    assert_eq!((one.local, one.remote), (other.remote, other.local));
    match (one.encapsulation, other.encapsulation) {
        (Encapsulation::Ipv6InIpv6, Encapsulation::Ipv6InIpv6) => {}
        (Encapsulation::GtpU(one), Encapsulation::GtpU(other)) => {
            assert_eq!(one.remote_teid, other.local_teid);
            assert_eq!(one.local_teid, other.remote_teid);
        }
        (Encapsulation::Gre(one), Encapsulation::Gre(other)) => {
            assert_eq!(one.remote_key, other.local_key);
            assert_eq!(one.local_key, other.remote_key);
        }
        (one, other) => panic!("{one:?} at one end, {other:?} at the other"),
    }
}
