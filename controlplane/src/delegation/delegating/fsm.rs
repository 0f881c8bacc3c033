//! Inputs and outputs, the way through relays, and what makes a message one to answer (RFC 8415 section 16).

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::leases::Leases;
use super::state::{Change, LeasePhase, Reach, State};
use crate::counters::Counters;
use crate::delegation::wire::{
    CLIENT_PORT, Duid, HOP_COUNT_LIMIT, Message, MessageType, Packet, Relay, SERVER_PORT, StatusCode, status,
};
use crate::event::Event;
use crate::time::Time;

/// What happens to a delegating server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A UDP payload that came to port 547.
    Datagram {
        /// IPv6 source.
        from: Ipv6Addr,
        /// The interface it came by.
        interface: String,
        /// It was sent to a multicast address.
        multicast: bool,
        /// What it is.
        octets: Vec<u8>,
    },
    /// It is [`Delegating::next_deadline`], or later.
    Tick,
}

/// What a delegating server wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write this as one transaction, before anything else of the same input is done; if it cannot be, send nothing.
    Commit(Vec<Change>),
    /// Send a UDP payload from port 547.
    Send {
        /// IPv6 destination.
        to: Ipv6Addr,
        /// 546, or 547 where a relay is.
        port: u16,
        /// By this interface; empty: by the routing table.
        interface: String,
        /// What.
        octets: Vec<u8>,
    },
    /// Tell whoever watches.
    Event(Event),
}

/// Prefixes to delegate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// All of them together.
    pub prefix: Ipv6Net,
    /// Length of each one; at most 63 more than that of `prefix`.
    pub delegated_length: u8,
    /// The last part of this length of each one stays with the server, where a client can take that (RFC 6603).
    pub exclude_length: Option<u8>,
    /// Nobody gets one by asking: they are given by [`Delegating::move_lease`] alone.
    pub by_move_only: bool,
}

/// What a delegating server is told by its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Who it is.
    pub server: Duid,
    /// What it delegates.
    pub pools: Vec<Pool>,
    /// Seconds for which a delegated prefix is preferred.
    pub preferred_lifetime: u32,
    /// Seconds for which it is valid; `u32::MAX`: for ever.
    pub valid_lifetime: u32,
    /// Whether a Solicit that allows it is answered with a Reply.
    pub rapid_commit: bool,
    /// Of an Advertise; at 255 a client looks no further.
    pub preference: u8,
    /// Prefixes that one client may take (RFC 8987 G-6); moved ones are not counted.
    pub maximum_per_client: usize,
    /// Prefixes that may be leased in all.
    pub maximum_leases: usize,
    /// Who may relay; what others do is not heard.
    pub relays: BTreeSet<Ipv6Addr>,
}

/// Names of all counters.
const COUNTERS: &[&str] = &[
    "dhcp_malformed",
    "dhcp_not_for_servers",
    "dhcp_refused_identifiers",
    "dhcp_refused_unicast",
    "dhcp_refused_hops",
    "dhcp_refused_relay",
    "dhcp_solicits",
    "dhcp_requests",
    "dhcp_renews",
    "dhcp_rebinds",
    "dhcp_rebinds_unanswered",
    "dhcp_releases",
    "dhcp_declines",
    "dhcp_confirms_unanswered",
    "dhcp_information_requests",
    "dhcp_not_written",
    "delegations_made",
    "delegations_extended",
    "delegations_released",
    "delegations_expired",
    "delegations_declined",
    "delegations_moved",
    "delegations_claimed",
    "delegations_recovered",
    "delegations_refused_no_prefix",
    "delegations_refused_client_limit",
    "delegations_refused_no_binding",
    "delegations_withdrawn",
    "reconfigures_sent",
    "reconfigures_unanswered",
];

/// The state machine of a delegating server.
#[derive(Clone, Debug)]
pub struct Delegating {
    pub(super) settings: Settings,
    pub(super) leases: Leases,
    pub(super) counters: Counters,
}

/// A client's message with the way that it came.
pub(super) struct Asked {
    pub(super) message: Message,
    pub(super) client: Duid,
    pub(super) reach: Reach,
}

impl Delegating {
    /// A server that goes on from `state`.
    #[must_use]
    pub fn new(settings: Settings, state: State) -> Self {
        Self {
            leases: Leases::new(state, settings.pools.clone()),
            settings,
            counters: Counters::new(COUNTERS),
        }
    }

    /// Takes one input and returns what is to be done, in order.
    pub fn process(&mut self, input: Input, now: Time) -> Vec<Output> {
        let mut outputs = Vec::new();
        match input {
            Input::Datagram {
                from,
                interface,
                multicast,
                octets,
            } => self.datagram(from, interface, multicast, octets, now, &mut outputs),
            Input::Tick => self.tick(now, &mut outputs),
        }
        self.committed(outputs)
    }

    /// The outputs of one step, with what is to be written ahead of them.
    pub(super) fn committed(&mut self, mut outputs: Vec<Output>) -> Vec<Output> {
        let changes = self.leases.take_changes();
        if !changes.is_empty() {
            outputs.insert(0, Output::Commit(changes));
        }
        outputs
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let deadlines = [self.leases.next_end(), self.leases.next_reconfigure()];
        deadlines.into_iter().flatten().min()
    }

    /// What it knows.
    #[must_use]
    pub fn state(&self) -> &State {
        self.leases.state()
    }

    /// What a client has.
    #[must_use]
    pub fn prefixes_of(&self, client: &Duid) -> BTreeSet<Ipv6Net> {
        let bound = self
            .leases
            .of_client(client)
            .filter(|(_, lease)| lease.phase == LeasePhase::Bound);
        bound.map(|(prefix, _)| prefix).collect()
    }

    /// What it counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    #[cfg(test)]
    pub(in crate::delegation) fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    fn tick(&mut self, now: Time, outputs: &mut Vec<Output>) {
        while let Some(prefix) = self.leases.over(now) {
            let Some(lease) = self.leases.remove(prefix) else {
                break;
            };
            self.counters.add("delegations_expired");
            let text = match lease.phase {
                LeasePhase::Bound => {
                    format!("{prefix} was not renewed by {} and is free again", lease.client)
                }
                LeasePhase::Moved => {
                    format!("{prefix} was moved to {}, which did not ask for it", lease.client)
                }
                LeasePhase::Declined => format!("{prefix}, declined by {}, is tried again", lease.client),
            };
            outputs.push(Output::Event(
                Event::new("delegation_expired", text)
                    .with("prefix", prefix)
                    .with("client", lease.client),
            ));
        }
        self.reconfigure_again(now, outputs);
    }

    fn datagram(
        &mut self,
        from: Ipv6Addr,
        interface: String,
        multicast: bool,
        octets: Vec<u8>,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let mut reach = Reach {
            address: Some(from),
            interface,
            hops: Vec::new(),
        };
        let mut octets = octets;
        let message = loop {
            match Packet::parse(&octets) {
                Ok(Packet::Message(message)) => break message,
                Ok(Packet::Relay(relay)) if !relay.forward => {
                    return self.counters.add("dhcp_not_for_servers");
                }
                Ok(Packet::Relay(relay)) => {
                    if reach.hops.is_empty() && !self.settings.relays.contains(&from) {
                        return self.counters.add("dhcp_refused_relay");
                    }
                    // The outermost has passed as many relays as it says, itself not counted.
                    if relay.hop.count > HOP_COUNT_LIMIT || reach.hops.len() > usize::from(HOP_COUNT_LIMIT) {
                        return self.counters.add("dhcp_refused_hops");
                    }
                    reach.hops.push(relay.hop);
                    octets = relay.message;
                }
                Err(error) => {
                    tracing::debug!(%from, %error, "a DHCPv6 message was refused");
                    return self.counters.add("dhcp_malformed");
                }
            }
        };
        let direct = !multicast && reach.hops.is_empty();
        let Some(asked) = self.checked(message, reach, direct, outputs) else {
            return;
        };
        self.answer(asked, now, outputs);
    }

    /// RFC 8415 sections 16 and 18.4: which messages are answered at all.
    fn checked(
        &mut self,
        message: Message,
        reach: Reach,
        direct: bool,
        outputs: &mut Vec<Output>,
    ) -> Option<Asked> {
        use MessageType as M;
        let ours = message
            .server
            .as_ref()
            .map(|server| *server == self.settings.server);
        let identified = match message.message_type {
            M::Solicit | M::Confirm | M::Rebind => message.client.is_some() && ours.is_none(),
            M::Request | M::Renew | M::Release | M::Decline => message.client.is_some() && ours == Some(true),
            M::InformationRequest => ours != Some(false) && message.delegations.is_empty(),
            M::Advertise | M::Reply | M::Reconfigure => {
                self.counters.add("dhcp_not_for_servers");
                return None;
            }
        };
        if !identified {
            self.counters.add("dhcp_refused_identifiers");
            return None;
        }
        let counter = match message.message_type {
            M::Solicit => "dhcp_solicits",
            M::Request => "dhcp_requests",
            M::Renew => "dhcp_renews",
            M::Rebind => "dhcp_rebinds",
            M::Release => "dhcp_releases",
            M::Decline => "dhcp_declines",
            M::InformationRequest => "dhcp_information_requests",
            // The prefixes of a client are not those of its link (RFC 8415 section 18.3.3).
            _ => "dhcp_confirms_unanswered",
        };
        self.counters.add(counter);
        if message.message_type == M::Confirm {
            return None;
        }
        // A client that has none gets an answer to an Information-request all the same.
        let client = match message.client.clone() {
            Some(client) => client,
            None => self.settings.server.clone(),
        };
        if direct {
            // No client is told that it may do that (RFC 8415 section 18.4).
            self.counters.add("dhcp_refused_unicast");
            if matches!(
                message.message_type,
                M::Request | M::Renew | M::Release | M::Decline
            ) {
                let mut reply = self.reply_to(&message, M::Reply);
                reply.status = Some(StatusCode::new(
                    status::USE_MULTICAST,
                    "send to the multicast address",
                ));
                self.send(&reach, &reply, outputs);
            }
            return None;
        }
        Some(Asked {
            message,
            client,
            reach,
        })
    }

    /// The begin of every answer.
    pub(super) fn reply_to(&self, message: &Message, message_type: MessageType) -> Message {
        let mut reply = Message::new(message_type, message.transaction);
        reply.client.clone_from(&message.client);
        reply.server = Some(self.settings.server.clone());
        reply
    }

    pub(super) fn send(&mut self, reach: &Reach, message: &Message, outputs: &mut Vec<Output>) {
        match message.emit() {
            Ok(octets) => self.send_octets(reach, octets, outputs),
            Err(error) => {
                self.counters.add("dhcp_not_written");
                tracing::error!(%error, "a DHCPv6 message cannot be written");
            }
        }
    }

    /// Through the relays that the question came by (RFC 8415 section 19.3).
    pub(super) fn send_octets(&mut self, reach: &Reach, octets: Vec<u8>, outputs: &mut Vec<Output>) {
        let Some(to) = reach.address else { return };
        let mut octets = octets;
        for hop in reach.hops.iter().rev() {
            let relay = Relay {
                forward: false,
                hop: hop.clone(),
                message: octets,
            };
            octets = match relay.emit() {
                Ok(octets) => octets,
                Err(error) => {
                    self.counters.add("dhcp_not_written");
                    tracing::error!(%error, "a DHCPv6 message cannot be written");
                    return;
                }
            };
        }
        let port = if reach.hops.is_empty() {
            CLIENT_PORT
        } else {
            SERVER_PORT
        };
        outputs.push(Output::Send {
            to,
            port,
            interface: reach.interface.clone(),
            octets,
        });
    }
}
