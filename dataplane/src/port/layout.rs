//! Which worker polls which queue, decided before any device is started.

/// What the configuration wants of a port and what its device has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Port name, for messages.
    pub(crate) port: String,
    /// Configured queues, each way.
    pub(crate) queues: Option<u16>,
    /// The device's most receive queues.
    pub(crate) maximum_rx: u16,
    /// The device's most transmit queues.
    pub(crate) maximum_tx: u16,
}

/// How many workers run, and how many queues each port gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// At most as many as were asked for.
    pub(crate) workers: usize,
    /// Receive queues by port; queue `q` is polled by worker `q % workers`.
    pub(crate) rx_queues: Vec<u16>,
    /// What was not as asked, in words.
    pub(crate) warnings: Vec<String>,
}

/// A port that cannot have the queues that the configuration wants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("port {port}: queues = {asked}: the device has {available} {direction} queues")]
pub struct QueueError {
    port: String,
    asked: u16,
    available: u16,
    direction: &'static str,
}

/// Decides. Every worker sends on every port, each on a transmit queue of its
/// own, so the port with the fewest transmit queues limits the workers.
pub(crate) fn layout(workers: usize, offers: &[Offer]) -> Result<Layout, QueueError> {
    for offer in offers {
        let Some(asked) = offer.queues else { continue };
        for (direction, available) in [("receive", offer.maximum_rx), ("transmit", offer.maximum_tx)] {
            if asked > available {
                return Err(QueueError {
                    port: offer.port.clone(),
                    asked,
                    available,
                    direction,
                });
            }
        }
    }
    let mut warnings = Vec::new();
    let mut running = workers;
    for offer in offers {
        let queues = usize::from(offer.maximum_tx.max(1));
        if queues < workers {
            warnings.push(format!(
                "port {}: the device has {queues} transmit queues for {workers} workers, which need one each: \
                 {queues} workers will run (some devices take the number in their device string, such as qpairs= or queues=)",
                offer.port
            ));
        }
        running = running.min(queues);
    }
    let most = u16::try_from(running).unwrap_or(u16::MAX);
    let rx_queues: Vec<u16> = offers
        .iter()
        .map(|offer| offer.queues.unwrap_or(most).min(offer.maximum_rx).max(1))
        .collect();
    for (offer, queues) in offers.iter().zip(&rx_queues) {
        if *queues < most {
            warnings.push(format!(
                "port {}: {queues} receive queues for {running} workers: only the first {queues} receive from it",
                offer.port
            ));
        }
    }
    Ok(Layout {
        workers: running,
        rx_queues,
        warnings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(port: &str, queues: Option<u16>, maximum_rx: u16, maximum_tx: u16) -> Offer {
        Offer {
            port: port.to_owned(),
            queues,
            maximum_rx,
            maximum_tx,
        }
    }

    #[test]
    fn one_queue_for_each_worker() {
        let layout = layout(2, &[offer("core", None, 16, 16), offer("access", None, 4, 2)]).unwrap();
        assert_eq!(
            layout,
            Layout {
                workers: 2,
                rx_queues: vec![2, 2],
                warnings: vec![]
            }
        );
    }

    #[test]
    fn the_device_with_the_fewest_transmit_queues_limits_the_workers() {
        let layout = layout(3, &[offer("core", None, 16, 16), offer("access", None, 1, 1)]).unwrap();
        assert_eq!((layout.workers, layout.rx_queues), (1, vec![1, 1]));
        assert_eq!(layout.warnings.len(), 1);
        assert!(
            layout.warnings[0].contains("port access")
                && layout.warnings[0].contains("1 transmit queues for 3")
        );
    }

    #[test]
    fn fewer_receive_queues_leave_workers_out() {
        let layout = layout(2, &[offer("core", Some(1), 16, 16)]).unwrap();
        assert_eq!((layout.workers, layout.rx_queues), (2, vec![1]));
        assert!(layout.warnings[0].contains("only the first 1 receive"));
    }

    #[test]
    fn more_receive_queues_than_workers_are_shared_out() {
        assert_eq!(
            layout(1, &[offer("core", Some(4), 16, 16)]).unwrap().rx_queues,
            vec![4]
        );
    }

    #[test]
    fn what_the_device_has_not_is_refused() {
        let error = layout(1, &[offer("core", Some(8), 16, 4)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "port core: queues = 8: the device has 4 transmit queues"
        );
    }
}
