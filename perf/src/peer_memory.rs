//! DPDK in this process, for its tables: in huge pages, where the kernel lends some.

use dpdk::{Eal, EalConfig, HugePages};

use crate::huge_pages::Loan;

/// DPDK, and where its memory comes from; given back when this is dropped.
pub(crate) struct PeerMemory {
    // In the order in which they go.
    eal: Eal,
    loan: Option<Loan>,
}

impl PeerMemory {
    /// Starts DPDK with so many MiB. A process has one DPDK, once.
    pub(crate) fn start(mib: u32) -> anyhow::Result<Self> {
        let loan = Loan::of(mib as usize + 64);
        let eal = Eal::init(&EalConfig {
            program: "kedge-perf".to_owned(),
            file_prefix: format!("kedge-perf-{}", std::process::id()),
            huge_pages: if loan.is_some() {
                HugePages::Use
            } else {
                HugePages::Never
            },
            memory_mib: mib,
            max_simd_bits: Some(512),
            log_level: dpdk::LogLevel::Alert,
            ..EalConfig::default()
        })?;
        Ok(Self { eal, loan })
    }

    /// DPDK itself.
    pub(crate) fn eal(&self) -> &Eal {
        &self.eal
    }

    /// Whether it is in huge pages.
    pub(crate) fn is_huge(&self) -> bool {
        self.loan.is_some()
    }
}
