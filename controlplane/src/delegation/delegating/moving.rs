//! A prefix in use passes to another client: what the anchor switch of RFC 8818's seed asks of a delegating server, and
//! what RFC 8415 leaves to it ("the prefix is no longer appropriate": section 18.3.4).

use ipnet::Ipv6Net;

use super::fsm::{Delegating, Output};
use super::state::{Lease, LeasePhase};
use crate::delegation::wire::Duid;
use crate::event::Event;
use crate::time::Time;

/// Who gets a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taker {
    /// The client.
    pub client: Duid,
    /// Its identity association; `None`: the first one that asks for the prefix.
    pub iaid: Option<u32>,
}

/// Why a prefix cannot be moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// It is not within a pool.
    #[error("{prefix} is in no pool of this delegating server")]
    NotInPools {
        /// The prefix.
        prefix: Ipv6Net,
    },
    /// A part of it is a third one's.
    #[error("{prefix} cannot be moved to {to}: {part}, a part of it, is delegated to {holder}")]
    PartDelegated {
        /// The prefix.
        prefix: Ipv6Net,
        /// Who should get it.
        to: Duid,
        /// The part.
        part: Ipv6Net,
        /// Who has it.
        holder: Duid,
    },
    /// Its holder said that it is of no use.
    #[error("{prefix} was declined by {holder} and rests")]
    Declined {
        /// The prefix.
        prefix: Ipv6Net,
        /// Who said so.
        holder: Duid,
    },
}

impl Delegating {
    /// Passes `prefix` to `to`, in one transaction. It may be a lease, a part of one, or free. That it is `to`'s
    /// already is no error: so a move can be repeated until its outcome is known.
    ///
    /// The outputs are to be done in order, like those of [`Delegating::process`].
    ///
    /// # Errors
    /// A [`MoveError`]; nothing has changed then.
    pub fn move_lease(&mut self, prefix: Ipv6Net, to: &Taker, now: Time) -> Result<Vec<Output>, MoveError> {
        let prefix = prefix.trunc();
        if !self
            .leases
            .pools()
            .iter()
            .any(|pool| pool.prefix.contains(&prefix))
        {
            return Err(MoveError::NotInPools { prefix });
        }
        let before = self.leases.get(prefix).cloned();
        if let Some(holder) = before.as_ref().filter(|it| it.phase == LeasePhase::Declined) {
            return Err(MoveError::Declined {
                prefix,
                holder: holder.client.clone(),
            });
        }
        // Parts that were moved out of it stay where they are, but not out of a lease that is new.
        if before.is_none()
            && let Some((part, lease)) = self.leases.within(prefix).next()
        {
            return Err(MoveError::PartDelegated {
                prefix,
                to: to.client.clone(),
                part,
                holder: lease.client.clone(),
            });
        }
        let mut outputs = Vec::new();
        let around = self
            .leases
            .around(prefix)
            .map(|(wider, lease)| (wider, lease.client.clone()));
        let holder = before.as_ref().map(|lease| lease.client.clone());
        if holder.as_ref() == Some(&to.client) {
            return Ok(outputs);
        }
        // The holder has to be told, with the key that it knows, even if it has nothing any more.
        let keep = holder
            .as_ref()
            .and_then(|it| Some((it.clone(), self.leases.client(it)?.clone())));
        // What goes to the holder of the lease around it goes home.
        if let Some((wider, _)) = around.as_ref().filter(|(_, client)| *client == to.client) {
            if before.is_some() {
                self.leases.remove(prefix);
                self.counters.add("delegations_moved");
                let text = format!("{prefix} is at home again in {wider} of {}", to.client);
                outputs.push(moved(text, prefix, &to.client));
            }
        } else {
            let lease = Lease {
                client: to.client.clone(),
                iaid: to.iaid,
                valid_until: self.lease_end(now),
                phase: LeasePhase::Moved,
                moved: true,
            };
            self.leases.remove(prefix);
            self.leases.put(prefix, lease);
            self.counters.add("delegations_moved");
            let from = match (&holder, &around) {
                (Some(holder), _) => format!("from {holder}"),
                (None, Some((wider, client))) => format!("out of {wider} of {client}"),
                (None, None) => "from nobody".to_owned(),
            };
            let text = format!("{prefix} is moved {from} to {}", to.client);
            outputs.push(moved(text, prefix, &to.client));
        }
        if let Some((holder, client)) = keep {
            self.leases.put_client(&holder, client);
            self.reconfigure(&holder, now, &mut outputs);
        }
        Ok(self.committed(outputs))
    }
}

fn moved(text: String, prefix: Ipv6Net, to: &Duid) -> Output {
    Output::Event(
        Event::new("delegation_moved", text)
            .with("prefix", prefix)
            .with("client", to),
    )
}
