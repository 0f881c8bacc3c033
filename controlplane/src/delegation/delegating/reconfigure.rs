//! Telling a client to ask again (RFC 8415 sections 18.3.11 and 20.4).

use std::time::Duration;

use super::fsm::{Delegating, Output};
use super::state::{Client, Reconfiguring};
use crate::delegation::reconfigure_key::{self, Key, hmac_md5};
use crate::delegation::wire::{Duid, Message, MessageType};
use crate::event::Event;
use crate::time::Time;

/// REC_TIMEOUT and REC_MAX_RC (RFC 8415 section 7.6).
const FIRST_TIMEOUT: Duration = Duration::from_secs(2);
const TRANSMISSIONS: u32 = 8;

impl Delegating {
    /// A key for a client: nobody can guess it, and it is the same as long as the secret is.
    pub(super) fn key_of(&self, client: &Duid) -> Key {
        let mut octets = b"reconfigure".to_vec();
        octets.extend(client.octets());
        hmac_md5(&self.leases.state().secret, &octets)
    }

    /// The next value of the replay counter: by the clock, so that it grows even if the state was lost.
    pub(super) fn next_replay(&mut self, now: Time) -> u64 {
        let clock = u64::try_from(now.0.as_micros()).unwrap_or(u64::MAX);
        let replay = clock.max(self.leases.state().replay.saturating_add(1));
        self.leases.put_replay(replay);
        replay
    }

    /// Has a client renew what it has, if it takes Reconfigures.
    pub(super) fn reconfigure(&mut self, client: &Duid, now: Time, outputs: &mut Vec<Output>) {
        let Some(known) = self.leases.client(client).cloned() else {
            return;
        };
        let Some(key) = known.key else { return };
        let timeout = u64::try_from(FIRST_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        let first = Reconfiguring {
            sent: 0,
            next_at: now,
            timeout_ms: timeout,
        };
        self.transmit_reconfigure(client, known, key, first, now, outputs);
    }

    pub(super) fn reconfigure_again(&mut self, now: Time, outputs: &mut Vec<Output>) {
        while let Some(duid) = self.leases.reconfigure_due(now) {
            let Some(mut client) = self.leases.client(&duid).cloned() else {
                break;
            };
            let Some(step) = client.reconfiguring else { break };
            match client.key {
                Some(key) if step.sent < TRANSMISSIONS => {
                    self.transmit_reconfigure(&duid, client, key, step, now, outputs);
                }
                _ => {
                    client.reconfiguring = None;
                    self.leases.put_client(&duid, client);
                    self.leases.forget_without_leases(&duid);
                    self.counters.add("reconfigures_unanswered");
                    let text = format!(
                        "{duid} does not answer Reconfigures; it learns what has changed when it renews"
                    );
                    outputs.push(Output::Event(
                        Event::new("reconfigure_unanswered", text).with("client", duid),
                    ));
                }
            }
        }
    }

    fn transmit_reconfigure(
        &mut self,
        duid: &Duid,
        mut client: Client,
        key: Key,
        step: Reconfiguring,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let mut message = Message::new(MessageType::Reconfigure, 0);
        message.client = Some(duid.clone());
        message.server = Some(self.settings.server.clone());
        message.reconfigure_message = Some(MessageType::Renew as u8);
        let replay = self.next_replay(now);
        client.reconfiguring = Some(Reconfiguring {
            sent: step.sent + 1,
            next_at: now.after(Duration::from_millis(step.timeout_ms)),
            timeout_ms: step.timeout_ms.saturating_mul(2),
        });
        let reach = client.reach.clone();
        self.leases.put_client(duid, client);
        match reconfigure_key::signed(message, &key, replay) {
            Ok(octets) => {
                self.counters.add("reconfigures_sent");
                self.send_octets(&reach, octets, outputs);
            }
            Err(error) => {
                self.counters.add("dhcp_not_written");
                tracing::error!(%error, "a Reconfigure cannot be written");
            }
        }
    }
}
