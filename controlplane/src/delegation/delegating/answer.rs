//! What a client's message leads to (RFC 8415 section 18.3).

use std::time::Duration;

use ipnet::Ipv6Net;

use super::assign::{NoPrefix, overlap};
use super::fsm::{Asked, Delegating, Output};
use super::state::{Client, Lease, LeasePhase};
use crate::delegation::reconfigure_key;
use crate::delegation::wire::{
    DelegatedPrefix, Duid, INFINITY, IdentityAssociation, Message, MessageType, OtherAssociation, StatusCode,
    option, status,
};
use crate::event::Event;
use crate::time::Time;

/// How long a prefix that was declined rests.
const DECLINED_FOR: Duration = Duration::from_secs(86_400);

impl Delegating {
    pub(super) fn answer(&mut self, asked: Asked, now: Time, outputs: &mut Vec<Output>) {
        use MessageType as M;
        let message = &asked.message;
        match message.message_type {
            M::Solicit if !(message.rapid_commit && self.settings.rapid_commit) => {
                self.advertise(&asked, outputs)
            }
            M::Solicit | M::Request => self.commit(&asked, now, outputs),
            M::Renew | M::Rebind => self.extend(&asked, now, outputs),
            M::Release => self.release(&asked, outputs),
            M::Decline => self.decline(&asked, now, outputs),
            _ => {
                let reply = self.reply_to(message, M::Reply);
                self.send(&asked.reach, &reply, outputs);
            }
        }
    }

    /// Nothing is kept of an offer: whoever asks for it first gets it.
    fn advertise(&mut self, asked: &Asked, outputs: &mut Vec<Output>) {
        let mut reply = self.reply_to(&asked.message, MessageType::Advertise);
        reply.preference = Some(self.settings.preference);
        reply.reconfigure_accept = asked.message.reconfigure_accept;
        let mut offered = Vec::new();
        for association in &asked.message.delegations {
            let bound = self.bound(&asked.client, association);
            let answer = if bound.is_empty() {
                match self.choose(&asked.client, association, &offered) {
                    Ok(prefix) => {
                        offered.push(prefix);
                        self.association(association.iaid, &[prefix], &asked.message)
                    }
                    Err(why) => self.nothing(association.iaid, why),
                }
            } else {
                self.association(association.iaid, &bound, &asked.message)
            };
            reply.delegations.push(answer);
        }
        reply.others = others(&asked.message, status::NO_ADDRESSES_AVAILABLE);
        self.send(&asked.reach, &reply, outputs);
    }

    fn commit(&mut self, asked: &Asked, now: Time, outputs: &mut Vec<Output>) {
        let mut reply = self.reply_to(&asked.message, MessageType::Reply);
        reply.rapid_commit = asked.message.message_type == MessageType::Solicit;
        for association in &asked.message.delegations {
            let bound = self.bound(&asked.client, association);
            let answer = if bound.is_empty() {
                match self.choose(&asked.client, association, &[]) {
                    Ok(prefix) => {
                        self.bind(asked, association.iaid, prefix, now, outputs);
                        self.association(association.iaid, &[prefix], &asked.message)
                    }
                    Err(why) => self.nothing(association.iaid, why),
                }
            } else {
                for prefix in &bound {
                    self.bind(asked, association.iaid, *prefix, now, outputs);
                }
                self.association(association.iaid, &bound, &asked.message)
            };
            reply.delegations.push(answer);
        }
        reply.others = others(&asked.message, status::NO_ADDRESSES_AVAILABLE);
        self.heard_of(asked, &mut reply, now);
        self.send(&asked.reach, &reply, outputs);
    }

    /// Renew and Rebind (RFC 8415 sections 18.3.4 and 18.3.5).
    fn extend(&mut self, asked: &Asked, now: Time, outputs: &mut Vec<Output>) {
        let mut reply = self.reply_to(&asked.message, MessageType::Reply);
        let rebind = asked.message.message_type == MessageType::Rebind;
        for association in &asked.message.delegations {
            if let Some(answer) = self.extended(asked, association, rebind, now, outputs) {
                reply.delegations.push(answer);
            }
        }
        // A Rebind goes to all servers: what this one knows nothing of may be another's.
        if rebind && reply.delegations.is_empty() {
            self.counters.add("dhcp_rebinds_unanswered");
            return;
        }
        reply.others = others(&asked.message, status::NO_BINDING);
        self.heard_of(asked, &mut reply, now);
        self.send(&asked.reach, &reply, outputs);
    }

    fn extended(
        &mut self,
        asked: &Asked,
        association: &IdentityAssociation,
        rebind: bool,
        now: Time,
        outputs: &mut Vec<Output>,
    ) -> Option<IdentityAssociation> {
        let mut kept = self.bound(&asked.client, association);
        let had_binding = !kept.is_empty();
        let mut gone = Vec::new();
        for named in &association.prefixes {
            let prefix = named.prefix;
            if kept.contains(&prefix) {
                continue;
            }
            // The client holds it and nobody else does: this server has forgotten, not the client.
            let again = IdentityAssociation {
                prefixes: vec![named.clone()],
                ..IdentityAssociation::new(association.iaid)
            };
            if self.may_be_asked_for(prefix) && self.choose(&asked.client, &again, &[]) == Ok(prefix) {
                self.counters.add("delegations_recovered");
                kept.push(prefix);
            } else if self.is_of_another(prefix, &asked.client) || had_binding {
                gone.push(prefix);
            }
        }
        for prefix in &kept {
            self.bind(asked, association.iaid, *prefix, now, outputs);
        }
        if kept.is_empty() && gone.is_empty() {
            if rebind {
                return None;
            }
            self.counters.add("delegations_refused_no_binding");
            let mut answer = IdentityAssociation::new(association.iaid);
            answer.status = Some(StatusCode::new(status::NO_BINDING, "no binding for this IA"));
            return Some(answer);
        }
        let mut answer = self.association(association.iaid, &kept, &asked.message);
        for prefix in gone {
            self.counters.add("delegations_withdrawn");
            answer.prefixes.push(DelegatedPrefix {
                preferred: 0,
                valid: 0,
                prefix,
                exclude: None,
                status: None,
            });
        }
        Some(answer)
    }

    /// Another client has it, or a part of it, or it is of a pool of ours and in another association: it cannot be kept.
    fn is_of_another(&self, prefix: Ipv6Net, client: &Duid) -> bool {
        let exact = self.leases.get(prefix);
        let around = self.leases.around(prefix).map(|(_, lease)| lease);
        exact.or(around).is_some_and(|lease| lease.client != *client)
            || self
                .leases
                .within(prefix)
                .any(|(other, lease)| lease.client != *client && overlap(other, prefix))
    }

    fn release(&mut self, asked: &Asked, outputs: &mut Vec<Output>) {
        let mut reply = self.reply_to(&asked.message, MessageType::Reply);
        reply.status = Some(StatusCode::new(status::SUCCESS, "released"));
        for association in &asked.message.delegations {
            let mut found = false;
            for named in &association.prefixes {
                let prefix = named.prefix;
                let own = self.leases.get(prefix).is_some_and(|lease| {
                    lease.client == asked.client
                        && lease.iaid == Some(association.iaid)
                        && lease.phase == LeasePhase::Bound
                });
                if !own {
                    continue;
                }
                found = true;
                self.leases.remove(prefix);
                self.counters.add("delegations_released");
                let text = match self.leases.around(prefix) {
                    Some((wider, lease)) => {
                        format!(
                            "{} has released {prefix}, which is at home again in {wider} of {}",
                            asked.client, lease.client
                        )
                    }
                    None => format!("{} has released {prefix}", asked.client),
                };
                outputs.push(event("delegation_released", text, prefix, &asked.client));
            }
            if !found {
                reply.delegations.push(no_binding(association.iaid));
            }
        }
        reply.others = others(&asked.message, status::NO_BINDING);
        self.send(&asked.reach, &reply, outputs);
    }

    /// Prefixes are not declined (RFC 8415 section 18.2.8 is about addresses); a client that does it gets no
    /// other one for it, and nobody else gets it for a while.
    fn decline(&mut self, asked: &Asked, now: Time, outputs: &mut Vec<Output>) {
        let mut reply = self.reply_to(&asked.message, MessageType::Reply);
        reply.status = Some(StatusCode::new(status::SUCCESS, "declined"));
        for association in &asked.message.delegations {
            let mut found = false;
            for named in &association.prefixes {
                let lease = self.leases.get(named.prefix).cloned();
                let own = |lease: &Lease| {
                    lease.client == asked.client
                        && lease.iaid == Some(association.iaid)
                        && lease.phase == LeasePhase::Bound
                };
                let Some(lease) = lease.filter(own) else { continue };
                found = true;
                let declined = Lease {
                    phase: LeasePhase::Declined,
                    valid_until: Some(now.after(DECLINED_FOR)),
                    ..lease
                };
                self.leases.put(named.prefix, declined);
                self.counters.add("delegations_declined");
                let text = format!(
                    "{} says that {} is of no use; it rests for a day",
                    asked.client, named.prefix
                );
                outputs.push(event("delegation_declined", text, named.prefix, &asked.client));
            }
            if !found {
                reply.delegations.push(no_binding(association.iaid));
            }
        }
        reply.others = others(&asked.message, status::NO_BINDING);
        self.send(&asked.reach, &reply, outputs);
    }

    /// `prefix` is the association's from now on, for another lifetime.
    fn bind(&mut self, asked: &Asked, iaid: u32, prefix: Ipv6Net, now: Time, outputs: &mut Vec<Output>) {
        let before = self.leases.get(prefix);
        let (moved, claimed) = before.map_or((false, false), |it| (it.moved, it.phase == LeasePhase::Moved));
        let new = before.is_none();
        let lease = Lease {
            client: asked.client.clone(),
            iaid: Some(iaid),
            valid_until: self.lease_end(now),
            phase: LeasePhase::Bound,
            moved,
        };
        self.leases.put(prefix, lease);
        let client = &asked.client;
        if claimed {
            self.counters.add("delegations_claimed");
            let text = format!("{prefix}, moved to {client}, is there now");
            outputs.push(event("delegation_claimed", text, prefix, client));
        } else if new {
            self.counters.add("delegations_made");
            let text = format!("{prefix} is delegated to {client}");
            outputs.push(event("delegation_made", text, prefix, client));
        } else {
            self.counters.add("delegations_extended");
        }
    }

    pub(super) fn lease_end(&self, now: Time) -> Option<Time> {
        let valid = self.settings.valid_lifetime;
        (valid != INFINITY).then(|| now.after(Duration::from_secs(valid.into())))
    }

    /// Remembers a client that has something, and gives it the key for Reconfigures where it takes them.
    fn heard_of(&mut self, asked: &Asked, reply: &mut Message, now: Time) {
        if self.leases.of_client(&asked.client).next().is_none() {
            self.leases.forget_without_leases(&asked.client);
            return;
        }
        let known = self.leases.client(&asked.client);
        let key = known.and_then(|client| client.key);
        // A Renew or Rebind need not say again that Reconfigures are taken.
        let first = matches!(
            asked.message.message_type,
            MessageType::Solicit | MessageType::Request
        );
        let accepts = asked.message.reconfigure_accept || (!first && key.is_some());
        let key = accepts.then(|| key.unwrap_or_else(|| self.key_of(&asked.client)));
        if let Some(key) = key {
            let replay = self.next_replay(now);
            reply.reconfigure_accept = true;
            reply.authentication = Some(reconfigure_key::giving(&key, replay));
        }
        let client = Client {
            key,
            reach: asked.reach.clone(),
            // It has asked: what there is to know it knows with this answer.
            reconfiguring: None,
        };
        self.leases.put_client(&asked.client, client);
    }

    fn association(&self, iaid: u32, prefixes: &[Ipv6Net], message: &Message) -> IdentityAssociation {
        let (preferred, valid) = (self.settings.preferred_lifetime, self.settings.valid_lifetime);
        // RFC 8415 section 21.21: half and four fifths of the preferred lifetime.
        let part = |tenths: u64| match preferred {
            INFINITY => INFINITY,
            _ => u32::try_from(u64::from(preferred) * tenths / 10).unwrap_or(INFINITY),
        };
        let excludes = message.option_request.contains(&option::PD_EXCLUDE);
        let prefixes = prefixes.iter().map(|prefix| {
            let pool =
                self.leases.pools().iter().find(|pool| {
                    pool.prefix.contains(prefix) && pool.delegated_length == prefix.prefix_len()
                });
            DelegatedPrefix {
                preferred,
                valid,
                prefix: *prefix,
                exclude: pool.filter(|_| excludes).and_then(|pool| pool.excluded(*prefix)),
                status: None,
            }
        });
        IdentityAssociation {
            iaid,
            t1: part(5),
            t2: part(8),
            prefixes: prefixes.collect(),
            status: None,
        }
    }

    fn nothing(&mut self, iaid: u32, why: NoPrefix) -> IdentityAssociation {
        let (counter, text) = match why {
            NoPrefix::Empty => ("delegations_refused_no_prefix", "no prefix is free"),
            NoPrefix::ClientLimit => (
                "delegations_refused_client_limit",
                "this client has as many prefixes as it may have",
            ),
        };
        self.counters.add(counter);
        IdentityAssociation {
            status: Some(StatusCode::new(status::NO_PREFIX_AVAILABLE, text)),
            ..IdentityAssociation::new(iaid)
        }
    }
}

fn no_binding(iaid: u32) -> IdentityAssociation {
    IdentityAssociation {
        status: Some(StatusCode::new(status::NO_BINDING, "no binding for this IA")),
        ..IdentityAssociation::new(iaid)
    }
}

/// Addresses are not given out here; a client that wants some is told so.
fn others(message: &Message, code: u16) -> Vec<OtherAssociation> {
    let answer = |it: &OtherAssociation| OtherAssociation {
        status: Some(StatusCode::new(code, "this server delegates prefixes only")),
        ..it.clone()
    };
    message.others.iter().map(answer).collect()
}

fn event(kind: &'static str, text: String, prefix: Ipv6Net, client: &Duid) -> Output {
    Output::Event(
        Event::new(kind, text)
            .with("prefix", prefix)
            .with("client", client),
    )
}
