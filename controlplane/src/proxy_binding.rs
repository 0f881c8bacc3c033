//! What both ends of a proxy registration share (RFC 5213 sections 5.3, 5.5, 6.9; RFC 8885 section 3).

mod exchange;

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;

use crate::time::Time;
use crate::wire::mobility::{
    EmitError, MobilityMessage, MobilityOptions, ProxyBindingAcknowledgement, ProxyBindingUpdate, Status,
    acknowledgement_flags, emit, timestamp_from_time, update_flags,
};

pub use exchange::Exchange;
pub(crate) use exchange::OnLink;

/// Handoff Indicator values (RFC 5213 section 8.4).
pub mod handoff_indicator {
    /// Handoff between two gateways, same interface.
    pub const BETWEEN_GATEWAYS: u8 = 3;
    /// The sender cannot tell.
    pub const UNKNOWN: u8 = 4;
    /// Nothing changed: re-registration.
    pub const RE_REGISTRATION: u8 = 5;
}

/// Transmissions of one update whose answers still count.
const REMEMBERED_TRANSMISSIONS: usize = 8;

/// Flags of every update that Kedge sends.
pub const UPDATE_FLAGS: u16 = update_flags::ACKNOWLEDGE | update_flags::PROXY | update_flags::DISTRIBUTED;

/// `span` in the units of the Lifetime field, 4 seconds, rounded down.
#[must_use]
pub fn lifetime_units(span: Duration) -> u16 {
    u16::try_from(span.as_secs() / 4).unwrap_or(u16::MAX)
}

/// The span of a Lifetime field.
#[must_use]
pub fn lifetime_span(units: u16) -> Duration {
    Duration::from_secs(u64::from(units) * 4)
}

/// An acknowledgement of `update` with everything echoed that its sender checks
/// (RFC 5213 section 5.3.6): a refusal carries the prefixes of the request, or
/// one all-zero prefix; a refusal for the timestamp carries our own clock.
#[must_use]
pub fn acknowledge(
    update: &ProxyBindingUpdate,
    status: Status,
    lifetime: u16,
    now: Time,
) -> ProxyBindingAcknowledgement {
    let asked = &update.options;
    let mut home_network_prefixes = requested_prefixes(asked).to_vec();
    // A message about networks alone is answered so.
    let networks_alone = home_network_prefixes == asked.delegated_prefixes;
    if networks_alone {
        home_network_prefixes.clear();
    }
    if home_network_prefixes.is_empty() && asked.delegated_prefixes.is_empty() && !status.is_accepted() {
        home_network_prefixes.push(Ipv6Net::default());
    }
    let by_clock =
        status == Status::TIMESTAMP_MISMATCH || status == Status::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED;
    let distributed = update.flags & update_flags::DISTRIBUTED != 0;
    ProxyBindingAcknowledgement {
        status,
        flags: acknowledgement_flags::PROXY
            | if distributed {
                acknowledgement_flags::DISTRIBUTED
            } else {
                0
            },
        sequence: update.sequence,
        lifetime,
        options: MobilityOptions {
            mobile_node_identifier: Some(asked.mobile_node_identifier.clone().unwrap_or_else(|| {
                crate::identity::MobileNodeIdentifier {
                    subtype: crate::identity::MobileNodeIdentifier::NAI,
                    octets: Vec::new(),
                }
            })),
            home_network_prefixes,
            delegated_prefixes: asked.delegated_prefixes.clone(),
            handoff_indicator: Some(asked.handoff_indicator.unwrap_or(0)),
            access_technology_type: Some(asked.access_technology_type.unwrap_or(0)),
            timestamp: if by_clock {
                Some(timestamp_from_time(now))
            } else {
                asked.timestamp
            },
            link_layer_identifier: asked.link_layer_identifier.clone(),
            // Choice G2: echo the Serving MAAR, require it nowhere.
            serving_maar: asked.serving_maar,
            ..MobilityOptions::default()
        },
    }
}

/// The prefixes that a message is about. Choice G5: Home Network Prefix options
/// count; Anchored Prefix options only where there are none, and Delegated Mobile Network Prefix options only where
/// there are none of those.
#[must_use]
pub fn requested_prefixes(options: &MobilityOptions) -> &[Ipv6Net] {
    options.session_prefixes()
}

/// Checks a Timestamp option (RFC 5213 section 5.5): within `window` of `now`,
/// and newer than `last`. An update without one is refused as a mismatch: the
/// order of updates from different MAARs cannot be told by sequence numbers.
///
/// # Errors
/// The status that refuses the update.
pub fn check_timestamp(
    timestamp: Option<u64>,
    last: u64,
    now: Time,
    window: Duration,
) -> Result<u64, Status> {
    let timestamp = timestamp.ok_or(Status::TIMESTAMP_MISMATCH)?;
    let own = timestamp_from_time(now);
    // 48.16 fixed point: one second is 65536.
    let window = u64::try_from(window.as_millis())
        .unwrap_or(u64::MAX)
        .saturating_mul(65536)
        / 1000;
    if own.abs_diff(timestamp) > window {
        Err(Status::TIMESTAMP_MISMATCH)
    } else if timestamp <= last {
        Err(Status::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED)
    } else {
        Ok(timestamp)
    }
}

/// Whether an update of `options` tells late of an attachment, and the node has attached somewhere else since: `newest`
/// is the time of the newest attachment that is known.
///
/// One that is told at once counts by when it comes, whatever the clocks of the others are (RFC 5213 section 5.5).
#[must_use]
pub fn is_stale(options: &MobilityOptions, newest: u64) -> bool {
    is_late(options) && options.attachment_time.is_some_and(|at| at < newest)
}

/// Whether an update tells of an attachment that it, or another one, might have told of before.
#[must_use]
pub fn is_late(options: &MobilityOptions) -> bool {
    options
        .attachment_time
        .is_some_and(|at| Some(at) < options.timestamp)
}

/// When the node of an update attached, as far as that tells.
#[must_use]
pub fn attachment_time(options: &MobilityOptions) -> u64 {
    options.attachment_time.or(options.timestamp).unwrap_or_default()
}

/// Whether there is room for an answer: a Mobility Header has 2048 octets at most (RFC 6275 section 6.1.1).
pub(crate) fn fits(answer: &ProxyBindingAcknowledgement) -> bool {
    let message = MobilityMessage::ProxyBindingAcknowledgement(answer.clone());
    let octets = emit(&message, Ipv6Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
    !matches!(octets, Err(EmitError::MessageTooLong { .. }))
}

/// Adds a transmission to those whose answers count, forgetting the oldest.
pub(crate) fn remember<T>(transmissions: &mut Vec<T>, transmission: T) {
    if transmissions.len() >= REMEMBERED_TRANSMISSIONS {
        transmissions.remove(0);
    }
    transmissions.push(transmission);
}

/// The wait after a wait of `current`: doubled, at most `maximum` (RFC 6275 section 11.8).
pub(crate) fn back_off(current_ms: u64, maximum: Duration) -> u64 {
    current_ms
        .saturating_mul(2)
        .min(u64::try_from(maximum.as_millis()).unwrap_or(u64::MAX))
}

/// Refusals to senders that are nobody, limited so that they cannot be used to
/// flood a third party: MAX_UPDATE_RATE, 3 in each second (RFC 6275 section 12).
#[derive(Clone, Debug, Default)]
pub(crate) struct RefusalLimit {
    window: Time,
    sent: u32,
}

impl RefusalLimit {
    const PER_SECOND: u32 = 3;

    pub(crate) fn allow(&mut self, now: Time) -> bool {
        if now.since(self.window) >= Duration::from_secs(1) {
            self.window = now;
            self.sent = 0;
        }
        self.sent += 1;
        self.sent <= Self::PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timestamp_window_and_order() {
        let now = Time(Duration::from_secs(1_700_000_000));
        let window = Duration::from_millis(300);
        let own = timestamp_from_time(now);
        assert_eq!(check_timestamp(Some(own), 0, now, window), Ok(own));
        assert_eq!(
            check_timestamp(Some(own), own, now, window),
            Err(Status::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED)
        );
        let late = timestamp_from_time(now.after(Duration::from_millis(301)));
        assert_eq!(
            check_timestamp(Some(late), 0, now, window),
            Err(Status::TIMESTAMP_MISMATCH)
        );
        assert!(
            check_timestamp(
                Some(timestamp_from_time(now.after(Duration::from_millis(299)))),
                0,
                now,
                window
            )
            .is_ok()
        );
        assert_eq!(
            check_timestamp(None, 0, now, window),
            Err(Status::TIMESTAMP_MISMATCH)
        );
    }

    #[test]
    fn an_update_that_is_sent_again_does_not_bring_a_node_back() {
        let at = |milliseconds: u64| timestamp_from_time(Time(Duration::from_millis(milliseconds)));
        let told = |attached, sent| MobilityOptions {
            attachment_time: Some(at(attached)),
            timestamp: Some(at(sent)),
            ..MobilityOptions::default()
        };
        // Told at once, it counts, whatever the clock elsewhere says.
        assert!(!is_stale(&told(5000, 5000), at(5100)));
        assert!(is_stale(&told(5000, 5001), at(5100)));
        assert!(!is_stale(&told(5000, 6000), at(5000)));
        assert!(!is_stale(&MobilityOptions::default(), at(5000)));
        assert_eq!(attachment_time(&told(5000, 6000)), at(5000));
    }

    #[test]
    fn refusals_to_nobody_are_limited() {
        let mut limit = RefusalLimit::default();
        let now = Time(Duration::from_secs(100));
        let allowed = (0..10).filter(|_| limit.allow(now)).count();
        assert_eq!(allowed, 3);
        assert!(limit.allow(now.after(Duration::from_secs(1))));
    }

    #[test]
    fn lifetimes_are_in_units_of_four_seconds() {
        assert_eq!(lifetime_units(Duration::from_secs(600)), 150);
        assert_eq!(lifetime_span(150), Duration::from_secs(600));
        assert_eq!(lifetime_units(Duration::from_secs(1 << 40)), u16::MAX);
    }
}
