//! A routing table of the kernel, out of which BIRD, FRR and others redistribute.
//!
//! Each route is an unreachable one: it says that the prefix is here, and forwards nothing, for forwarding is the data
//! plane's. It is ours by its protocol number, and by a metric that nobody else has a route of the same prefix with.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::Ipv6Net;
use kedge_config::KernelTable;
use tokio::sync::mpsc;

use super::fsm::Change;
use super::speaker::{Results, Said, Speaker};
use super::{Route, Routes};
use crate::kernel::{Kernel, KernelError, OwnRoutes};

/// So many changes at once, and then a pause: netlink has room for a few hundred on the way to a daemon, and one that
/// has missed some waits for its next scan.
const BURST: usize = 16;
const PAUSE: Duration = Duration::from_millis(1);

/// The kernel's side of the routes.
pub(super) struct KernelSpeaker {
    own: OwnRoutes,
    open: Option<Open>,
}

struct Open {
    kernel: Kernel,
    /// Routes of this table and protocol that were removed, by whomever.
    removed: mpsc::Receiver<Ipv6Net>,
    /// How many of those were removed by us.
    by_us: BTreeMap<Ipv6Net, u32>,
}

impl KernelSpeaker {
    pub(super) fn new(settings: KernelTable) -> Self {
        let own = OwnRoutes {
            table: settings.table,
            protocol: settings.protocol,
        };
        Self { own, open: None }
    }
}

impl Speaker for KernelSpeaker {
    async fn connect(&mut self) -> Result<(), String> {
        self.open = None;
        let (kernel, removed) =
            Kernel::open_routes(self.own).map_err(|error| format!("the kernel's netlink: {error}"))?;
        self.open = Some(Open {
            kernel,
            removed,
            by_us: BTreeMap::new(),
        });
        Ok(())
    }

    async fn list(&mut self) -> Result<Routes, String> {
        let Some(open) = &mut self.open else {
            return Err("there is no connection".to_owned());
        };
        // What was removed before is not in the list.
        while open.removed.try_recv().is_ok() {}
        open.by_us.clear();
        match open.kernel.own_routes(self.own).await {
            Ok(prefixes) => Ok(prefixes
                .into_iter()
                .map(|prefix| (prefix, Route::default()))
                .collect()),
            Err(error) => {
                self.open = None;
                Err(error.to_string())
            }
        }
    }

    async fn apply(&mut self, changes: &[Change]) -> Result<Results, String> {
        let Some(open) = &mut self.open else {
            return Err("there is no connection".to_owned());
        };
        let mut results = Results::new();
        for (number, Change { prefix, route }) in changes.iter().enumerate() {
            if number % BURST == BURST - 1 {
                tokio::time::sleep(PAUSE).await;
            }
            let result = if route.is_some() {
                open.kernel.add_own_route(self.own, *prefix).await
            } else {
                match open.kernel.remove_own_route(self.own, *prefix).await {
                    Ok(()) => {
                        *open.by_us.entry(*prefix).or_default() += 1;
                        Ok(())
                    }
                    // Somebody else was faster.
                    Err(error) if error.is_not_there() => Ok(()),
                    Err(error) => Err(error),
                }
            };
            if let Err(error @ KernelError::Netlink { .. }) = &result
                && error.is_end()
            {
                let reason = error.to_string();
                self.open = None;
                return Err(reason);
            }
            results.push((*prefix, result.map_err(|error| error.to_string())));
        }
        Ok(results)
    }

    async fn said(&mut self) -> Said {
        let Some(open) = &mut self.open else {
            return std::future::pending().await;
        };
        loop {
            let Some(prefix) = open.removed.recv().await else {
                self.open = None;
                return Said::Lost("the kernel's netlink has ended".to_owned());
            };
            match open.by_us.get_mut(&prefix) {
                Some(1) => {
                    open.by_us.remove(&prefix);
                }
                Some(count) => *count -= 1,
                None => return Said::Gone(prefix),
            }
        }
    }
}
