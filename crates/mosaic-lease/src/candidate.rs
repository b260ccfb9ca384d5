//! Runs work in one process of many: the one that holds the lease.
//!
//! The lease is renewed three times in its length. Work is dropped before the lease may be somebody else's by our own monotonic
//! clock (measured from before we asked, a hundredth of its length early: timers are late, and two clocks do not run alike),
//! whether or not the store can be reached; a process that hangs beyond that is what the number of [`Leadership::lease`] is for.

use std::sync::Arc;
use std::time::Duration;

use mosaic_core::{Runtime, StopSignal, catch_panic};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::lease::{Acquired, Lease, Leases};
use crate::load::{Balance, LoadPolicy, LoadSource, Turn};

/// How a candidate behaves; `CandidateOptions::default()` suits most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateOptions {
    /// A leader that dies is followed after this. Default 15 s.
    pub ttl: Duration,
    /// Time for the work to end by itself when asked to stop or to hand over. Default 5 s.
    pub drain: Duration,
}

impl Default for CandidateOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(15),
            drain: Duration::from_secs(5),
        }
    }
}

/// See the module documentation.
pub struct Candidate {
    leases: Arc<dyn Leases>,
    runtime: Runtime,
    name: String,
    node: String,
    options: CandidateOptions,
    balance: Option<Balance>,
}

/// Handed to the work while this process leads.
#[derive(Debug, Clone)]
pub struct Leadership {
    lease: Lease,
    ending: watch::Receiver<bool>,
}

impl Leadership {
    /// Returns the lease; its number goes with whatever is written.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Completes when the work should end soon by itself: the process stops, or the job goes to another node.
    pub async fn ending(&mut self) {
        // An error means that the candidate is gone, which is an end as well.
        let _ = self.ending.wait_for(|ending| *ending).await;
    }
}

/// Why a term ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    Stopped,
    Lost,
    HandedOver,
}

impl Candidate {
    /// Makes a candidate for `name` that calls itself `node`, a name that no other process has.
    pub fn new(leases: Arc<dyn Leases>, runtime: &Runtime, name: &str, node: &str, options: CandidateOptions) -> Self {
        Self {
            leases,
            runtime: runtime.clone(),
            name: name.to_owned(),
            node: node.to_owned(),
            options,
            balance: None,
        }
    }

    /// Lets loads decide who of the candidates leads.
    #[must_use]
    pub fn with_load(mut self, policy: LoadPolicy, source: Arc<dyn LoadSource>) -> Self {
        let balance = Balance::new(policy, self.leases.clone(), source, &self.name, &self.node);
        self.balance = Some(balance);
        self
    }

    /// Runs `work` whenever this process leads, until asked to stop. Work that returns or panics ends its term.
    ///
    /// Dropping the future is what a crash is: the lease runs out.
    pub async fn lead<F: Future<Output = ()>>(&self, mut stop: StopSignal, mut work: impl FnMut(Leadership) -> F) {
        let report = async {
            match &self.balance {
                Some(balance) => balance.report_for_ever().await,
                None => std::future::pending().await,
            }
        };
        let terms = async {
            loop {
                let (lease, until) = tokio::select! {
                    won = self.win() => won,
                    () = stop.stopped() => return,
                };
                let end = self.term(lease, until, &mut stop, &mut work).await;
                let pause = async {
                    match end {
                        End::Stopped => {}
                        End::HandedOver => self.abstain().await,
                        End::Done | End::Lost => sleep(self.retry()).await,
                    }
                };
                tokio::select! {
                    biased;
                    () = stop.stopped() => return,
                    () = pause => {}
                }
            }
        };
        tokio::select! {
            () = terms => {}
            () = report => {}
        }
    }

    async fn abstain(&self) {
        if let Some(balance) = &self.balance {
            sleep(balance.policy.abstain).await;
        }
    }

    /// Returns the moment until which a lease is surely ours that was asked for, and granted, after `asked`.
    fn surely_until(&self, asked: Instant) -> Instant {
        asked + self.options.ttl * 99 / 100
    }

    /// Between a sixth and a half of the lease.
    fn retry(&self) -> Duration {
        self.runtime.jittered(self.options.ttl / 3)
    }

    /// Waits until the lease is ours; returns it with the moment until which it surely is.
    async fn win(&self) -> (Lease, Instant) {
        loop {
            if let Some(balance) = &self.balance {
                self.wait_for_turn(balance).await;
            }
            let asked = Instant::now();
            let pause = match self.leases.acquire(&self.name, &self.node, self.options.ttl).await {
                Ok(Acquired::Ours(lease)) => return (lease, self.surely_until(asked)),
                Ok(Acquired::Theirs(holder)) => holder.remaining.min(self.retry()),
                Err(error) => {
                    let cause = error.cause_chain();
                    tracing::warn!(lease = self.name, cause, "cannot ask for the lease: {error}");
                    self.retry()
                }
            };
            sleep(pause.max(Duration::from_millis(10))).await;
        }
    }

    /// Waits until the lease is free and those with less to do have had their chance.
    async fn wait_for_turn(&self, balance: &Balance) {
        loop {
            match self.leases.holder(&self.name).await {
                Ok(Some(holder)) => sleep(holder.remaining.min(self.retry())).await,
                Ok(None) => match balance.turn().await {
                    Turn::Now => return,
                    Turn::After(pause) => return sleep(pause).await,
                },
                Err(_) => return,
            }
        }
    }

    async fn term<F: Future<Output = ()>>(
        &self,
        lease: Lease,
        until: Instant,
        stop: &mut StopSignal,
        work: &mut impl FnMut(Leadership) -> F,
    ) -> End {
        tracing::info!(lease = self.name, node = self.node, fence = lease.fence, "leads");
        let gauge = metrics::gauge!("lease_is_held", "lease" => self.name.clone());
        gauge.set(1.0);
        let (end_soon, ending) = watch::channel(false);
        let leadership = Leadership {
            lease: lease.clone(),
            ending,
        };
        let mut working = std::pin::pin!(catch_panic(work(leadership)));
        let mut held = std::pin::pin!(self.hold(&lease, until));
        let end = tokio::select! {
            ended = &mut working => self.ended(ended),
            () = &mut held => End::Lost,
            () = stop.stopped() => End::Stopped,
            () = self.too_heavy() => End::HandedOver,
        };
        if matches!(end, End::Stopped | End::HandedOver) {
            end_soon.send_replace(true);
            tokio::select! {
                _ = &mut working => {}
                () = &mut held => {}
                () = sleep(self.options.drain) => {}
            }
        }
        gauge.set(0.0);
        metrics::counter!("lease_terms_total", "lease" => self.name.clone(), "end" => label(end)).increment(1);
        tracing::info!(
            lease = self.name,
            node = self.node,
            fence = lease.fence,
            ?end,
            "leads no more"
        );
        if end != End::Lost
            && let Err(error) = self.leases.release(&lease).await
        {
            tracing::warn!(
                lease = self.name,
                "cannot give the lease back, it will run out: {error}"
            );
        }
        end
    }

    fn ended(&self, ended: Result<(), String>) -> End {
        if let Err(panic) = ended {
            tracing::error!(lease = self.name, panic, "the leader's work panicked");
        }
        End::Done
    }

    async fn too_heavy(&self) {
        match &self.balance {
            Some(balance) => balance.too_heavy(Instant::now()).await,
            None => std::future::pending().await,
        }
    }

    /// Renews `lease` and completes when it may be somebody else's.
    async fn hold(&self, lease: &Lease, mut until: Instant) {
        let third = self.options.ttl / 3;
        loop {
            tokio::select! {
                biased;
                () = sleep_until(until) => return,
                () = sleep(third) => {}
            }
            let asked = Instant::now();
            let answer = timeout_at(until.min(asked + third), self.leases.renew(lease, self.options.ttl)).await;
            match answer {
                Ok(Ok(true)) => until = self.surely_until(asked),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(lease = self.name, "cannot renew the lease: {error}"),
                Err(_) => tracing::warn!(lease = self.name, "renewing the lease takes too long"),
            }
        }
    }
}

fn label(end: End) -> &'static str {
    match end {
        End::Done => "done",
        End::Stopped => "stopped",
        End::Lost => "lost",
        End::HandedOver => "handed_over",
    }
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidate")
            .field("name", &self.name)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}
