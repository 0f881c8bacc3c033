//! Where a burst is, for those who measure.

/// What has just been done for a whole burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ethernet and IPv6 headers are read.
    Parsed,
    /// Packets in tunnels are taken out of them.
    Opened,
    /// Destinations and, where they are checked, sources are looked up.
    LookedUp,
    /// Routes are read, counters asked for.
    Fetched,
    /// Packets are checked, rewritten, counted and put out, dropped, or left for another pass.
    Decided,
}

impl Step {
    /// All of them, in their order.
    pub const ALL: [Self; 5] = [
        Self::Parsed,
        Self::Opened,
        Self::LookedUp,
        Self::Fetched,
        Self::Decided,
    ];

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Parsed => "parse",
            Self::Opened => "open",
            Self::LookedUp => "look-up",
            Self::Fetched => "fetch",
            Self::Decided => "decide",
        }
    }
}

/// Is told after each step of a burst, in each of its passes.
pub trait Probe {
    /// This has just been done.
    fn reached(&mut self, step: Step);
}

/// Measures nothing and costs nothing: what workers use.
#[derive(Clone, Copy, Debug)]
pub struct NoProbe;

impl Probe for NoProbe {
    #[inline]
    fn reached(&mut self, _: Step) {}
}
