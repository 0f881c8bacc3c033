//! A MAAR is told that a prefix it anchors is no longer needed, until it answers.

use std::net::Ipv6Addr;

use super::fsm::{Anchor, Cmd, Output};
use super::relocation::{when_saved, with_step};
use super::state::Release;
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::time::Time;
use crate::wire::mobility::{MobilityMessage, RelocationStep};

/// Transmissions of a release before it is given up. One after which the prefix is free elsewhere, or which says that it is
/// anchored elsewhere, is never: a MAAR that comes back would have it still.
const RELEASE_TRANSMISSIONS: u32 = 10;

impl Cmd {
    /// Tells a MAAR that a prefix it anchors is no longer needed, and after it the one of whose pool it is.
    pub(super) fn release(
        &mut self,
        identifier: &MobileNodeIdentifier,
        anchor: Anchor,
        home: Option<Ipv6Addr>,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        self.send_release(identifier, anchor, home, None, now, outputs);
    }

    /// The same because the node has moved on, which the MAAR may not know.
    pub(super) fn end(
        &mut self,
        identifier: &MobileNodeIdentifier,
        anchor: Anchor,
        home: Option<Ipv6Addr>,
        serving: Ipv6Addr,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let prefix = anchor.prefix;
        let text = format!("{identifier} has moved on to {serving}: {prefix} ends, by policy");
        outputs.push(Output::Event(
            Event::new("prefix_ended_by_policy", text)
                .with("identifier", identifier)
                .with("prefix", prefix),
        ));
        self.send_release(identifier, anchor, home, Some(serving), now, outputs);
    }

    fn send_release(
        &mut self,
        identifier: &MobileNodeIdentifier,
        anchor: Anchor,
        home: Option<Ipv6Addr>,
        moved_to: Option<Ipv6Addr>,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        self.counters.add("releases_sent");
        let (address, prefix) = (anchor.address, anchor.prefix);
        let text = format!("{identifier}: {address} is told to release {prefix}");
        let event = Event::new("release_sent", text)
            .with("identifier", identifier)
            .with("prefix", prefix);
        outputs.push(Output::Event(event.with("maar", address)));
        let mut release = Release {
            identifier: identifier.clone(),
            address,
            prefix,
            access_technology_type: anchor.access_technology_type,
            home,
            stays_at: None,
            moved_to,
            exchange: self.new_exchange(now),
        };
        let update = self.update_of_release(&mut release, now);
        outputs.push(when_saved(update));
        self.state.releases.push(release);
    }

    /// The update that tells a MAAR that it is not the anchor of a prefix.
    pub(super) fn update_of_release(&mut self, release: &mut Release, now: Time) -> Output {
        let anchor = Anchor {
            address: release.address,
            prefix: release.prefix,
            access_technology_type: release.access_technology_type,
            serving_endpoint: None,
        };
        let Some(stays_at) = release.stays_at else {
            let mut update = self.update_for(&release.identifier, anchor, None, &mut release.exchange, now);
            if let Output::Send {
                message: MobilityMessage::ProxyBindingUpdate(update),
                ..
            } = &mut update
            {
                update.options.serving_maar = release.moved_to;
            }
            return update;
        };
        let lifetime = self.settings.timers.binding_lifetime;
        let serving = Some((stays_at, lifetime));
        let update = self.update_for(&release.identifier, anchor, serving, &mut release.exchange, now);
        with_step(update, RelocationStep::Yield, stays_at)
    }

    pub(super) fn retransmit_releases(&mut self, now: Time, outputs: &mut Vec<Output>) {
        let mut releases = std::mem::take(&mut self.state.releases);
        releases.retain_mut(|release| {
            if release.exchange.retransmit_at > now {
                return true;
            }
            let elsewhere = release
                .stays_at
                .or(release.home.filter(|home| *home != release.address));
            if elsewhere.is_none() && release.exchange.transmissions >= RELEASE_TRANSMISSIONS {
                self.counters.add("releases_given_up");
                let text = format!(
                    "{} does not answer: {} may still be bound there",
                    release.address, release.prefix
                );
                outputs.push(Output::Event(
                    Event::new("release_given_up", text).with("maar", release.address),
                ));
                return false;
            }
            self.wait_longer(&mut release.exchange, now);
            outputs.push(self.update_of_release(release, now));
            true
        });
        self.state.releases = releases;
    }

    /// The anchor of a relocated prefix has let it go: so may the MAAR of whose pool it is.
    pub(super) fn release_at_home(&mut self, release: Release, now: Time, outputs: &mut Vec<Output>) {
        let Some(home) = release.home.filter(|home| *home != release.address) else {
            return;
        };
        let anchor = Anchor {
            address: home,
            prefix: release.prefix,
            access_technology_type: release.access_technology_type,
            serving_endpoint: None,
        };
        self.release(&release.identifier, anchor, None, now, outputs);
    }
}
