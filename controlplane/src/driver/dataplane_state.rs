//! What is known of the data plane that a daemon drives: pure, `(state, input) -> what is to be told`.
//!
//! Both processes of a node read one file, but not at the same time. Where the file has changed in between, they differ in
//! `dataplane.inner_ipv4`, which each of them has for as long as it runs. A data plane that refuses inner IPv4 refuses every
//! transaction that has some in it, whatever else is in there; so it says what it does, and IPv4 prefixes of nodes are left
//! out of what it should hold until it carries them.

use kedge_config::{Config, InnerIpv4};

use crate::counters::Counters;
use crate::event::Event;

/// Names of the counters.
const COUNTERS: &[&str] = &["inner_ipv4_mismatches", "transactions_refused"];

/// The data plane, as this daemon knows it.
#[derive(Clone, Debug)]
pub struct DataplaneState {
    /// Of this process's file; `None` where it has no `[dataplane]`.
    configured: Option<InnerIpv4>,
    /// How many `[[maar.ipv4]]` there are.
    bindings: usize,
    /// Of the data plane that is connected, or was last; `None`: it has not said.
    said: Option<InnerIpv4>,
    /// Of a data plane that holds what it should.
    generation: Option<u64>,
    /// Why it took no change the last time.
    refused: Option<String>,
    counters: Counters,
}

impl DataplaneState {
    /// Nothing is known yet but what the file says.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            configured: config.dataplane.as_ref().map(|it| it.inner_ipv4),
            bindings: config.maar.as_ref().map_or(0, |it| it.ipv4_bindings.len()),
            said: None,
            generation: None,
            refused: None,
            counters: Counters::new(COUNTERS),
        }
    }

    /// A data plane is connected, and says whether it carries inner IPv4 or says nothing. The event, if there is one, is a
    /// warning while [`Self::mismatch`] has something to say.
    #[must_use]
    pub fn connected(&mut self, carries: Option<bool>) -> Option<Event> {
        let differed = self.mismatch().is_some();
        self.said = carries.map(|carries| match carries {
            true => InnerIpv4::Carry,
            false => InnerIpv4::Refuse,
        });
        let event = |kind, text| {
            Event::new(kind, text)
                .with("controlplane", self.configured.map_or("", word))
                .with("dataplane", self.said.map_or("", word))
        };
        match self.mismatch() {
            Some(text) => {
                let event = event("inner_ipv4_mismatch", text).with("prefixes", self.bindings);
                self.counters.add("inner_ipv4_mismatches");
                Some(event)
            }
            None if differed => {
                let word = self.said.or(self.configured).map_or("", word);
                let text = format!("dataplane.inner_ipv4 is {word:?} on both sides again");
                Some(event("inner_ipv4_agreed", text))
            }
            None => None,
        }
    }

    /// It holds what it should, as of this generation. Whether it did not before.
    pub fn synchronised(&mut self, generation: u64) -> bool {
        self.refused = None;
        self.generation.replace(generation).is_none()
    }

    /// It refused a transaction.
    pub fn refused(&mut self, reason: String) {
        self.counters.add("transactions_refused");
        self.refused = Some(reason);
    }

    /// The connection is gone. What the next one will be like is not known; most likely as the last.
    pub fn lost(&mut self) {
        self.generation = None;
        self.refused = None;
    }

    /// Its generation, while it is connected and has held what it should.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        self.generation
    }

    /// Whether it is connected, and takes what it should hold.
    #[must_use]
    pub fn takes_transactions(&self) -> bool {
        self.generation.is_some() && self.refused.is_none()
    }

    /// Whether IPv4 prefixes of nodes are for it.
    #[must_use]
    pub fn inner_ipv4(&self) -> bool {
        self.configured == Some(InnerIpv4::Carry) && self.said != Some(InnerIpv4::Refuse)
    }

    /// In what the two sides differ, what follows from that, and what is to be done.
    #[must_use]
    pub fn mismatch(&self) -> Option<String> {
        let (own, its) = self.configured.zip(self.said)?;
        let effect = match (own, its) {
            (InnerIpv4::Carry, InnerIpv4::Refuse) => format!(
                "IPv4 prefixes of nodes (maar.ipv4: {}) are left out, all else goes on; restart kedge-dataplane with \
                 \"carry\", or kedge-controlplane with \"refuse\" and without maar.ipv4 and its pools",
                self.bindings
            ),
            (InnerIpv4::Refuse, InnerIpv4::Carry) => {
                "no node has an IPv4 prefix, so IPv4 in tunnels is dropped, and all else goes on; \
                 restart kedge-dataplane with \"refuse\", or kedge-controlplane with \"carry\""
                    .to_owned()
            }
            (InnerIpv4::Carry, InnerIpv4::Carry) | (InnerIpv4::Refuse, InnerIpv4::Refuse) => return None,
        };
        Some(format!(
            "the control plane was started with dataplane.inner_ipv4 = {:?}, its data plane with {:?}: {effect}",
            word(own),
            word(its)
        ))
    }

    /// What an operator has to know about it.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let refused = self.refused.as_ref();
        let refused = refused.map(|reason| format!("the data plane takes no change: {reason}"));
        self.mismatch().into_iter().chain(refused).collect()
    }

    /// Settings that both sides have, and whether they differ.
    #[must_use]
    pub fn mismatches(&self) -> Vec<(&'static str, bool)> {
        vec![("inner_ipv4", self.mismatch().is_some())]
    }

    /// What happened.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// As it is in the file.
fn word(it: InnerIpv4) -> &'static str {
    match it {
        InnerIpv4::Refuse => "refuse",
        InnerIpv4::Carry => "carry",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(inner_ipv4: &str) -> DataplaneState {
        let text = format!(
            r#"
            [node]
            name = "maar1"
            role = "maar"
            address = "2001:db8:a::1"
            [dataplane]
            {inner_ipv4}
            [[port]]
            name = "core"
            device = "net_null0"
            side = "core"
            exception = "kcore"
            addresses = ["2001:db8:ca::2/64"]
            [[route]]
            prefix = "::/0"
            port = "core"
            gateway = "2001:db8:ca::1"
            [maar]
            cmd = ["2001:db8:d::1"]
            prefix_pools = ["2001:db8:100::/48"]
            "#
        );
        DataplaneState::new(&Config::parse(&text, "maar").unwrap())
    }

    const CARRY: &str = "inner_ipv4 = \"carry\"";

    /// By what this side has, and what the other says: whether IPv4 is for it, and whether they differ.
    #[test]
    fn inner_ipv4_is_for_who_does_not_refuse_it() {
        for (own, said, carried, differ) in [
            (CARRY, Some(true), true, false),
            (CARRY, Some(false), false, true),
            (CARRY, None, true, false),
            ("", Some(true), false, true),
            ("", Some(false), false, false),
            ("", None, false, false),
        ] {
            let mut state = state(own);
            let event = state.connected(said);
            assert_eq!(state.inner_ipv4(), carried, "{own:?} {said:?}");
            assert_eq!(event.is_some(), differ, "{own:?} {said:?}");
            assert_eq!(state.mismatches(), [("inner_ipv4", differ)]);
            assert_eq!(state.counters().get("inner_ipv4_mismatches"), u64::from(differ));
            assert_eq!(state.remarks().len(), usize::from(differ));
        }
    }

    #[test]
    fn it_is_told_with_both_settings_and_the_remedy_and_so_is_its_end() {
        let mut state = state(CARRY);
        let event = state.connected(Some(false)).unwrap();
        assert_eq!(event.kind, "inner_ipv4_mismatch");
        assert_eq!(event.field("controlplane"), Some("carry"));
        assert_eq!(event.field("dataplane"), Some("refuse"));
        for part in [
            "dataplane.inner_ipv4 = \"carry\"",
            "data plane with \"refuse\"",
            "restart kedge-dataplane",
        ] {
            assert!(event.text.contains(part), "{}", event.text);
        }
        // Between two connections nobody knows better.
        state.lost();
        assert!(!state.inner_ipv4());
        let event = state.connected(Some(true)).unwrap();
        assert_eq!(event.kind, "inner_ipv4_agreed");
        assert!(state.inner_ipv4() && state.remarks().is_empty());
        assert_eq!(state.connected(Some(true)), None);
    }

    #[test]
    fn what_it_refuses_is_known_until_it_takes_something_or_goes() {
        let mut state = state("");
        assert!(!state.takes_transactions());
        assert!(state.synchronised(1));
        assert!(!state.synchronised(2) && state.takes_transactions());
        state.refused("tunnel 7: no".to_owned());
        assert_eq!((state.generation(), state.takes_transactions()), (Some(2), false));
        assert_eq!(state.remarks(), ["the data plane takes no change: tunnel 7: no"]);
        assert!(!state.synchronised(3) && state.takes_transactions());
        state.refused("tunnel 7: no".to_owned());
        state.lost();
        assert_eq!((state.generation(), state.remarks().len()), (None, 0));
        assert_eq!(state.counters().get("transactions_refused"), 2);
    }
}
