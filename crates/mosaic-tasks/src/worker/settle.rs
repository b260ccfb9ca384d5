//! Tells the engine how attempts ended.

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::{Parts, warn};
use crate::engine::{Lease, Outcome, Report};

/// Most reports in one call, and most that may wait for the next.
pub(super) const REPORTS_MAX: usize = 500;

/// A report on its way.
pub(super) struct Ended {
    pub(super) report: Report,
    /// May somebody wait for what it frees?
    pub(super) frees: bool,
}

impl Parts {
    /// Sends reports until all senders are gone.
    pub(super) async fn settle(&self, mut reports: mpsc::Receiver<Ended>) {
        let mut batch = Vec::with_capacity(REPORTS_MAX);
        while reports.recv_many(&mut batch, REPORTS_MAX).await > 0 {
            let frees = batch.iter().any(|ended| ended.frees);
            let reports: Vec<Report> = batch.drain(..).map(|ended| ended.report).collect();
            self.deliver(&reports).await;
            for report in &reports {
                self.running.remove(&report.lease);
            }
            if frees {
                self.freed.notify_one();
            }
        }
    }

    /// Repeats reports until they are taken, or their leases have surely run out.
    async fn deliver(&self, reports: &[Report]) {
        let given_up = Instant::now() + self.options.lease;
        loop {
            match self.engine().finish(reports).await {
                Ok(taken) => {
                    let n_refused = taken.iter().filter(|taken| !**taken).count();
                    if n_refused > 0 {
                        tracing::warn!(n_refused, "reports were refused: the tasks went to other workers");
                        metrics::counter!("tasks_reports_refused_total").increment(n_refused as u64);
                    }
                    return;
                }
                Err(error) => warn(&error, "cannot report on tasks"),
            }
            if Instant::now() >= given_up {
                return;
            }
            sleep(self.runtime().jittered(self.options.poll)).await;
        }
    }

    /// Gives tasks back untouched.
    pub(super) async fn hand_back(&self, leases: Vec<Lease>) {
        let released = |lease| Report {
            lease,
            outcome: Outcome::Released,
        };
        let reports: Vec<Report> = leases.into_iter().map(released).collect();
        for reports in reports.chunks(REPORTS_MAX) {
            if let Err(error) = self.engine().finish(reports).await {
                warn(&error, "cannot give tasks back: they run again when their leases end");
            }
        }
    }
}
