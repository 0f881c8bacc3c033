//! Which prefix a client gets.

use ipnet::Ipv6Net;

use super::fsm::{Delegating, Pool};
use super::state::LeasePhase;
use crate::delegation::reconfigure_key::hmac_md5;
use crate::delegation::wire::{Duid, IdentityAssociation};

/// Why an identity association gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPrefix {
    /// Every pool is used up.
    Empty,
    /// The client has as many as it may have.
    ClientLimit,
}

impl Delegating {
    /// The prefix for an association that has none: of the hints the first that is free, else one that follows from
    /// who asks (RFC 8415 section 18.3.1, RFC 8168 for lengths). `counted`: prefixes that this message gets the client
    /// besides.
    pub(super) fn choose(
        &self,
        client: &Duid,
        association: &IdentityAssociation,
        also_taken: &[Ipv6Net],
    ) -> Result<Ipv6Net, NoPrefix> {
        let has = self
            .leases
            .of_client(client)
            .filter(|(_, lease)| !lease.moved)
            .count();
        let counted = has + also_taken.len();
        if counted >= self.settings.maximum_per_client {
            return Err(NoPrefix::ClientLimit);
        }
        let total = self.leases.state().leases.len() + also_taken.len();
        if total >= self.settings.maximum_leases {
            return Err(NoPrefix::Empty);
        }
        let is_free = |prefix: Ipv6Net| {
            self.leases.is_free(prefix) && !also_taken.iter().any(|it| overlap(*it, prefix))
        };
        let hints = || association.prefixes.iter().map(|it| it.prefix);
        if let Some(hint) = hints().find(|hint| self.may_be_asked_for(*hint) && is_free(*hint)) {
            return Ok(hint);
        }
        let wanted = hints().map(|hint| hint.prefix_len()).find(|length| *length > 0);
        let start = self.start(client, association.iaid);
        for index in self.pools_by_length(wanted) {
            let Some(found) = self.leases.find_free(index, start) else {
                continue;
            };
            if is_free(found) {
                return Ok(found);
            }
            // It is another association's of the same message: the next one then.
            let pool = self.leases.pools().get(index);
            let mut number = pool.and_then(|pool| pool.number(found)).unwrap_or(start);
            for _ in also_taken {
                number = number.wrapping_add(1);
                match self.leases.find_free(index, number) {
                    Some(next) if is_free(next) => return Ok(next),
                    Some(next) => number = pool.and_then(|pool| pool.number(next)).unwrap_or(number),
                    None => break,
                }
            }
        }
        Err(NoPrefix::Empty)
    }

    /// Whether somebody can have `prefix` by asking for it, were it free.
    pub(super) fn may_be_asked_for(&self, prefix: Ipv6Net) -> bool {
        self.leases.pools().iter().any(|pool| {
            !pool.by_move_only
                && pool.prefix.contains(&prefix)
                && pool.delegated_length == prefix.prefix_len()
        })
    }

    /// Indexes of the pools to be asked for: of the length that was hinted at, then of longer prefixes, then
    /// of shorter ones; in the order of the configuration where nothing was (RFC 8168 section 3.2).
    fn pools_by_length(&self, wanted: Option<u8>) -> Vec<usize> {
        let pools = self.leases.pools().iter().enumerate();
        let mut indexes: Vec<(usize, &Pool)> = pools.filter(|(_, pool)| !pool.by_move_only).collect();
        if let Some(wanted) = wanted {
            indexes.sort_by_key(|(_, pool)| {
                let length = pool.delegated_length;
                (length < wanted, length.abs_diff(wanted))
            });
        }
        indexes.into_iter().map(|(index, _)| index).collect()
    }

    /// Where the search for a free prefix begins, so that the same association is offered the same one.
    fn start(&self, client: &Duid, iaid: u32) -> u64 {
        let mut octets = client.octets().to_vec();
        octets.extend(iaid.to_be_bytes());
        // With a key that nobody knows, so that nobody can make clients that all look for the same one.
        let [a, b, c, d, e, f, g, h, ..] = hmac_md5(&self.leases.state().secret, &octets);
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// The prefixes that an association has, or can have because they were moved to its client and it names them.
    pub(super) fn bound(&self, client: &Duid, association: &IdentityAssociation) -> Vec<Ipv6Net> {
        let own = self.leases.of_association(client, association.iaid);
        let mut prefixes: Vec<Ipv6Net> = own
            .into_iter()
            .filter(|(_, lease)| lease.phase != LeasePhase::Declined)
            .map(|(prefix, _)| prefix)
            .collect();
        for named in &association.prefixes {
            let moved = self.leases.get(named.prefix).is_some_and(|lease| {
                lease.client == *client && lease.iaid.is_none() && lease.phase == LeasePhase::Moved
            });
            if moved && !prefixes.contains(&named.prefix) {
                prefixes.push(named.prefix);
            }
        }
        prefixes
    }
}

/// Whether one contains the other.
pub(super) fn overlap(a: Ipv6Net, b: Ipv6Net) -> bool {
    a.contains(&b) || b.contains(&a)
}
