//! What both roles do alike: restoring their state, and answering for themselves.

use std::path::Path;

use kedge_config::{Config, Role};
use serde::de::DeserializeOwned;

use super::{DataplaneState, Endpoint, Observer};
use crate::binding::{BindingStore, FileStore, StoreError};
use crate::counters::Counters;
use crate::event::Event;
use crate::northbound::proto;
use crate::wire::mobility::TunnelType;

/// The store of a role in `directory`, and what it kept. A file that cannot be
/// read is moved aside, told of, and the daemon starts empty: it must not
/// refuse to start for ever.
///
/// # Errors
/// The store cannot be used at all.
pub fn restore<State: Default + DeserializeOwned>(
    directory: &Path,
    role: &'static str,
    observer: &Observer,
) -> Result<(FileStore, State), StoreError> {
    let store = FileStore::new(directory, role);
    let state = match BindingStore::<State>::load(&store) {
        Ok(Some(state)) => {
            let text = format!("state restored from {}", store.path().display());
            observer.tell(&Event::new("state_restored", text));
            state
        }
        Ok(None) => State::default(),
        Err(error @ StoreError::Corrupt { .. }) => {
            observer.warn(&Event::new(
                "state_corrupt",
                format!("starting without bindings: {error}"),
            ));
            State::default()
        }
        Err(error) => return Err(error),
    };
    Ok((store, state))
}

/// Who this daemon is, and what it knows of its data plane, where it has one.
#[must_use]
pub fn info(config: &Config, observer: &Observer, dataplane: Option<&DataplaneState>) -> proto::Info {
    let generation = dataplane.and_then(DataplaneState::generation);
    proto::Info {
        name: config.node.name.clone(),
        role: match config.node.role {
            Role::Maar => "maar",
            Role::Cmd => "cmd",
            Role::Dpn => "dpn",
        }
        .to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        process_id: std::process::id(),
        uptime_ms: u64::try_from(observer.clock().uptime().as_millis()).unwrap_or(u64::MAX),
        address: config.node.address.to_string(),
        dataplane_connected: generation.is_some(),
        dataplane_generation: generation.unwrap_or_default(),
        dataplane_remarks: dataplane.map(DataplaneState::remarks).unwrap_or_default(),
    }
}

/// The name of a tunnel between two MAARs, as in the configuration. Without an agreement it is IPv6-in-IPv6.
#[must_use]
pub fn tunnel_name(agreed: Option<TunnelType>) -> &'static str {
    agreed.unwrap_or(TunnelType::Ipv6InIpv6).name()
}

/// All counters of a daemon: the state machine's, the socket's, and messages by kind.
#[must_use]
pub fn counters(machine: &Counters, endpoint: &Endpoint) -> proto::Counters {
    let named = machine.iter().chain(endpoint.counters());
    let mut all: Vec<_> = named.map(|(name, value)| (name.to_owned(), value)).collect();
    for ((direction, message, result), value) in endpoint.messages() {
        let mut name = format!("{direction}_{}", message.to_lowercase().replace([' ', '-'], "_"));
        if !result.is_empty() {
            name.push_str(&format!("_{result}"));
        }
        all.push((name, *value));
    }
    proto::Counters {
        counters: all
            .into_iter()
            .map(|(name, value)| proto::Counter { name, value })
            .collect(),
    }
}
