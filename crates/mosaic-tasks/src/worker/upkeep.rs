//! What a worker does besides: keeps its leases, takes tasks from the dead, deletes the old.

use tokio::time::{Instant, sleep, timeout};

use super::{Parts, SWEEP_MAX, warn};

/// Most tasks that are deleted in one pass: each pass counts all that have ended.
const PURGE_MAX: usize = 5000;

impl Parts {
    /// Extends the leases in hand, for ever.
    pub(super) async fn keep_leases(&self) {
        loop {
            sleep(self.options.lease / 3).await;
            let leases = self.running.leases();
            metrics::gauge!("tasks_running").set(leases.len() as f64);
            let asked = Instant::now();
            if !leases.is_empty() {
                let answer = timeout(
                    self.options.lease / 3,
                    self.engine().extend(&leases, self.options.lease),
                )
                .await;
                match answer {
                    Ok(Ok(holds)) => self.running.answered(&leases, &holds, asked, self.options.lease),
                    Ok(Err(error)) => warn(&error, "cannot extend leases"),
                    Err(_) => tracing::warn!("extending leases takes too long"),
                }
            }
            self.running.stop_overdue(Instant::now());
        }
    }

    /// Takes tasks from the dead and deletes what was kept for its time, for ever.
    pub(super) async fn tidy(&self) {
        loop {
            self.expire().await;
            self.purge().await;
            sleep(self.runtime().jittered(self.options.lease / 3)).await;
        }
    }

    async fn expire(&self) {
        loop {
            match self.engine().expire(SWEEP_MAX).await {
                Ok(n_expired) => {
                    metrics::counter!("tasks_leases_expired_total").increment(n_expired as u64);
                    if n_expired > 0 {
                        self.freed.notify_one();
                    }
                    if n_expired < SWEEP_MAX {
                        return;
                    }
                }
                Err(error) => return warn(&error, "cannot look for leases that ran out"),
            }
        }
    }

    async fn purge(&self) {
        loop {
            match self.engine().purge(PURGE_MAX).await {
                Ok(n_purged) if n_purged < PURGE_MAX => return,
                Ok(_) => {}
                Err(error) => return warn(&error, "cannot delete old tasks"),
            }
        }
    }
}
