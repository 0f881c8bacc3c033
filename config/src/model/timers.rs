//! `[timers]`.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// `[timers]`. Milliseconds in the file, named so.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timers {
    /// Lifetime asked for and granted, 4000..=262140000, a multiple of 4000 (units on the wire are 4 s). Default 600000.
    #[serde(rename = "binding_lifetime_ms", deserialize_with = "milliseconds")]
    pub binding_lifetime: Duration,
    /// INITIAL_BINDACK_TIMEOUT, 10..=60000. Default 1000.
    #[serde(rename = "initial_bindack_timeout_ms", deserialize_with = "milliseconds")]
    pub initial_bindack_timeout: Duration,
    /// MAX_BINDACK_TIMEOUT, at least the initial one, ..=600000. Default 32000.
    #[serde(rename = "max_bindack_timeout_ms", deserialize_with = "milliseconds")]
    pub max_bindack_timeout: Duration,
    /// TimestampValidityWindow, 1..=60000. Default 300.
    #[serde(rename = "timestamp_validity_window_ms", deserialize_with = "milliseconds")]
    pub timestamp_validity_window: Duration,
    /// MinDelayBeforeBCEDelete, 0..=600000. Default 10000.
    #[serde(rename = "min_delay_before_bce_delete_ms", deserialize_with = "milliseconds")]
    pub min_delay_before_bce_delete: Duration,
    /// How long a MAAR that anchors or has served a node holds its packets when it hears where the node is
    /// now, so that they do not come there before its MAAR knows of them, 0..=1000. Default 3.
    #[serde(rename = "release_delay_ms", deserialize_with = "milliseconds")]
    pub release_delay: Duration,
    /// How long an anchor that has withdrawn its routes to a relocated prefix waits before it says that nothing
    /// more comes by it: at least what the routes take to follow, 1..=10000. Default 100.
    #[serde(rename = "route_settle_ms", deserialize_with = "milliseconds")]
    pub route_settle: Duration,
    /// How long a node's own packets wait between the last that leaves through the old anchor of a prefix and
    /// the first that leaves through the new one, 0..=150. Default 20.
    #[serde(rename = "uplink_settle_ms", deserialize_with = "milliseconds")]
    pub uplink_settle: Duration,
    /// Between two Echo Requests on a GTP-U path, 60000..=3600000; 0: none are sent (3GPP TS 29.281 section
    /// 7.2.1). Default 60000.
    #[serde(rename = "gtpu_echo_interval_ms", deserialize_with = "milliseconds")]
    pub gtpu_echo_interval: Duration,
    /// T3-RESPONSE: how long the answer may take, 10..=60000. Default 3000.
    #[serde(rename = "gtpu_t3_response_ms", deserialize_with = "milliseconds")]
    pub gtpu_t3_response: Duration,
    /// N3-REQUESTS: how often a request is sent before the path is taken for down, 1..=20. Default 3.
    pub gtpu_n3_requests: u32,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            binding_lifetime: Duration::from_secs(600),
            initial_bindack_timeout: Duration::from_secs(1),
            max_bindack_timeout: Duration::from_secs(32),
            timestamp_validity_window: Duration::from_millis(300),
            min_delay_before_bce_delete: Duration::from_secs(10),
            release_delay: Duration::from_millis(3),
            route_settle: Duration::from_millis(100),
            uplink_settle: Duration::from_millis(20),
            gtpu_echo_interval: Duration::from_secs(60),
            gtpu_t3_response: Duration::from_secs(3),
            gtpu_n3_requests: 3,
        }
    }
}

pub(crate) fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}
