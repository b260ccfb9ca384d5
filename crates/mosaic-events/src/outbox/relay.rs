//! Brings rows of an outbox to where they belong.
//!
//! One relay a database works at a time, elected by lease; a second one that believes to be it is refused when it marks rows
//! (the lease's number is checked in that transaction). Rows are found because they are there and not by a number that was reached:
//! a transaction with a lower number may commit later. A row is marked, which is to move it away, after it was taken: a crash in
//! between repeats it. If the bus is away rows pile up (`outbox_oldest_age_seconds`), and writers do not notice.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use mosaic_core::{Code, Error, Result, Runtime, StopSignal, Timestamp};
use mosaic_lease::{Candidate, CandidateOptions, Leadership, Lease, Leases, SqlLeases};
use mosaic_sql::sea_orm::ConnectionTrait as _;
use mosaic_sql::sea_orm::sea_query::{Expr, ExprTrait as _, Func, Order, Query};
use mosaic_sql::{Database, into_error, micros};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::rows::{self, Entry, Kind, State, get};
use super::{Outbox, TaskSink};
use crate::bus::Bus;
use crate::event::Message;
use crate::schema::{OUTBOX, OUTBOX_DONE};
use crate::text::{describe, shortened};

/// Name of the lease, in the module's own database.
const LEASE: &str = "mosaic-outbox-relay";
/// Numbers of rows in one statement.
const ROWS_MAX: usize = 500;

/// How a relay works; `default()` suits a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayOptions {
    /// Rows sent at once. Default 500.
    pub batch: usize,
    /// First pause before looking for rows of other processes. Default 20 ms.
    pub poll_min: Duration,
    /// Longest pause while nothing comes. Default 500 ms.
    pub poll_max: Duration,
    /// First pause after a failure, doubled for each further one. Default 100 ms.
    pub backoff_min: Duration,
    /// Longest pause after a failure. Default 10 s.
    pub backoff_max: Duration,
    /// Sent rows are kept for so long, for those who ask what was sent. Default 1 h.
    pub retention: Duration,
    /// How often old rows are deleted and waiting ones counted. Default 10 s.
    pub tidy_every: Duration,
    /// How the relay is elected.
    pub candidate: CandidateOptions,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            batch: 500,
            poll_min: Duration::from_millis(20),
            poll_max: Duration::from_millis(500),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            retention: Duration::from_secs(3600),
            tidy_every: Duration::from_secs(10),
            candidate: CandidateOptions::default(),
        }
    }
}

/// What one pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pass {
    /// Rows that were sent and marked.
    pub n_sent: usize,
    /// Rows that were refused for good.
    pub n_dead: usize,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Relay {
    module: String,
    database: Database,
    outbox: Outbox,
    bus: Arc<dyn Bus>,
    tasks: Option<Arc<dyn TaskSink>>,
    leases: Arc<SqlLeases>,
    options: RelayOptions,
}

/// What is known of the rows of a pass so far.
#[derive(Debug, Default)]
struct Progress {
    sent: Vec<i64>,
    dead: Vec<(i64, String)>,
}

impl Relay {
    /// Makes the relay of the outbox of `module`, which is in `database`.
    pub fn new(module: &str, database: &Database, outbox: &Outbox, bus: Arc<dyn Bus>, options: RelayOptions) -> Self {
        Self {
            module: module.to_owned(),
            database: database.clone(),
            outbox: outbox.clone(),
            bus,
            tasks: None,
            leases: Arc::new(SqlLeases::new(database, outbox.runtime())),
            options,
        }
    }

    /// Also brings tasks to `sink`; without, rows with tasks wait.
    #[must_use]
    pub fn with_tasks(mut self, sink: Arc<dyn TaskSink>) -> Self {
        self.tasks = Some(sink);
        self
    }

    fn runtime(&self) -> &Runtime {
        self.outbox.runtime()
    }

    /// Works whenever this process is the elected one, until asked to stop. Dropping the future is what a crash is.
    pub async fn run(&self, stop: StopSignal) {
        let node = self.runtime().random_hex::<8>();
        let leases: Arc<dyn Leases> = self.leases.clone();
        let candidate = Candidate::new(leases, self.runtime(), LEASE, &node, self.options.candidate.clone());
        candidate.lead(stop, |leadership| self.work(leadership)).await;
    }

    async fn work(&self, leadership: Leadership) {
        tokio::select! {
            () = self.relay(leadership) => {}
            () = self.tidy_for_ever() => {}
        }
    }

    /// Makes passes, and returns between two of them when asked to end, or when somebody else is the relay.
    async fn relay(&self, mut leadership: Leadership) {
        let lease = leadership.lease().clone();
        let mut bell = self.outbox.bell();
        let (mut pause, mut backoff) = (self.options.poll_min, self.options.backoff_min);
        while leadership.ending().now_or_never().is_none() {
            bell.mark_unchanged();
            match self.pass(&lease).await {
                Ok(Pass { n_sent: 0, n_dead: 0 }) => {
                    tokio::select! {
                        next = self.rest(&mut bell, pause) => pause = next,
                        () = leadership.ending() => {}
                    }
                }
                Ok(_) => (pause, backoff) = (self.options.poll_min, self.options.backoff_min),
                Err(error) if error.reason() == "LEASE_LOST" => return,
                Err(error) => {
                    let module = self.module.as_str();
                    tracing::warn!(module, cause = error.cause_chain(), "cannot relay events: {error}");
                    metrics::counter!("outbox_failures_total", "module" => self.module.clone()).increment(1);
                    let _ = timeout(self.runtime().jittered(backoff), leadership.ending()).await;
                    backoff = (backoff * 2).min(self.options.backoff_max);
                }
            }
        }
    }

    /// Waits for news; returns how long to wait if there are none.
    async fn rest(&self, bell: &mut watch::Receiver<()>, pause: Duration) -> Duration {
        match timeout(pause, bell.changed()).await {
            Ok(_) => self.options.poll_min,
            Err(_) => (pause * 2).min(self.options.poll_max),
        }
    }

    /// Sends the oldest waiting rows and marks them, under a lease of this relay.
    ///
    /// # Errors
    /// `LEASE_LOST` if another relay has taken over: nothing was marked. Failures of the bus and the database.
    pub async fn pass(&self, lease: &Lease) -> Result<Pass> {
        let mut find = rows::find(self.options.batch);
        // Kinds of a newer release wait for a relay of that release.
        let kinds = [Kind::Event as i64, Kind::Task as i64];
        let n_kinds = if self.tasks.is_some() { 2 } else { 1 };
        find.and_where(Expr::col("kind").is_in(kinds.into_iter().take(n_kinds)));
        let found = self.database.query_all(&find).await.map_err(into_error)?;
        let entries = found.iter().map(rows::read).collect::<Result<Vec<_>>>()?;
        if entries.is_empty() {
            return Ok(Pass::default());
        }
        let mut progress = Progress::default();
        let sent = self.send(&entries, &mut progress).await;
        // What was sent is marked whatever became of the rest.
        if !progress.sent.is_empty() || !progress.dead.is_empty() {
            self.mark(lease, &progress).await?;
        }
        sent.map(|()| Pass {
            n_sent: progress.sent.len(),
            n_dead: progress.dead.len(),
        })
    }

    async fn send(&self, entries: &[Entry], progress: &mut Progress) -> Result<()> {
        let (events, tasks): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|entry| entry.kind == Kind::Event);
        let events = self.send_all(&events, progress).await;
        // A bus that is away is no reason for tasks to wait.
        let tasks = self.send_all(&tasks, progress).await;
        events.and(tasks)
    }

    /// Sends rows of one kind; if there is one among them that will never be taken, each alone.
    async fn send_all(&self, entries: &[&Entry], progress: &mut Progress) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        match self.deliver(entries).await {
            Ok(()) => {
                progress.sent.extend(entries.iter().map(|entry| entry.seq));
                Ok(())
            }
            Err(error) if is_poison(&error) => self.send_singly(entries, progress).await,
            Err(error) => Err(error),
        }
    }

    async fn send_singly(&self, entries: &[&Entry], progress: &mut Progress) -> Result<()> {
        for entry in entries {
            match self.deliver(&[entry]).await {
                Ok(()) => progress.sent.push(entry.seq),
                Err(error) if is_poison(&error) => {
                    let what = describe(&error);
                    tracing::error!(
                        module = self.module,
                        seq = entry.seq,
                        "an event will never be taken: {what}"
                    );
                    progress.dead.push((entry.seq, what));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn deliver(&self, entries: &[&Entry]) -> Result<()> {
        match (entries.first().map(|entry| entry.kind), &self.tasks) {
            (Some(Kind::Task), Some(sink)) => {
                let tasks: Vec<_> = entries.iter().map(|entry| entry.task()).collect();
                sink.enqueue(&tasks).await
            }
            (Some(Kind::Event), _) => {
                let messages = entries
                    .iter()
                    .map(|entry| entry.message())
                    .collect::<Result<Vec<Message>>>()?;
                self.bus.publish(&messages).await
            }
            (Some(Kind::Task), None) | (None, _) => Ok(()),
        }
    }

    async fn mark(&self, lease: &Lease, progress: &Progress) -> Result<()> {
        let now = self.runtime().now();
        let marked = self.database.transaction(async |tx| {
            self.leases.check_in(&tx, lease).await?;
            for seqs in progress.sent.chunks(ROWS_MAX) {
                rows::finish(&tx, seqs, State::Sent, None, now).await?;
            }
            for (seq, error) in &progress.dead {
                let error = shortened(error, 1000);
                rows::finish(&tx, &[*seq], State::Dead, Some(error), now).await?;
            }
            Ok(())
        });
        marked.await?;
        let count = |name: &'static str, n: usize| {
            metrics::counter!(name, "module" => self.module.clone()).increment(n as u64);
        };
        count("outbox_sent_total", progress.sent.len());
        count("outbox_dead_total", progress.dead.len());
        Ok(())
    }

    async fn tidy_for_ever(&self) {
        let mut next = Instant::now();
        loop {
            tokio::time::sleep_until(next).await;
            next = Instant::now() + self.runtime().jittered(self.options.tidy_every);
            if let Err(error) = self.tidy().await {
                tracing::warn!(
                    module = self.module,
                    cause = error.cause_chain(),
                    "cannot tidy the outbox: {error}"
                );
            }
        }
    }

    /// Deletes rows that were sent long ago and reports what waits; returns how many went.
    ///
    /// # Errors
    /// Failures of the database.
    pub async fn tidy(&self) -> Result<u64> {
        self.measure().await?;
        let before = micros(self.runtime().now().minus(self.options.retention));
        let mut n_gone = 0;
        loop {
            let mut find = Query::select();
            find.column("seq")
                .from(OUTBOX_DONE)
                .and_where(Expr::col("state").eq(State::Sent.number()))
                .and_where(Expr::col("done_at").lt(before));
            find.order_by("done_at", Order::Asc).limit(ROWS_MAX as u64);
            let found = self.database.query_all(&find).await.map_err(into_error)?;
            let old = found
                .iter()
                .map(|row| get::<i64>(row, "seq"))
                .collect::<Result<Vec<_>>>()?;
            let n_old = old.len();
            if n_old > 0 {
                let mut delete = Query::delete();
                delete.from_table(OUTBOX_DONE).and_where(Expr::col("seq").is_in(old));
                let deleted = self
                    .database
                    .transaction(async |tx| tx.execute(&delete).await.map_err(into_error));
                n_gone += deleted.await?.rows_affected();
            }
            if n_old < ROWS_MAX {
                return Ok(n_gone);
            }
        }
    }

    async fn measure(&self) -> Result<()> {
        let gauge = |name: &'static str, value: f64| {
            metrics::gauge!(name, "module" => self.module.clone()).set(value);
        };
        let waiting = self.count(OUTBOX, Expr::val(1).eq(1)).await?;
        gauge("outbox_rows", waiting.n as f64);
        let age = waiting.oldest.map(|oldest| self.runtime().now().since(oldest));
        gauge("outbox_oldest_age_seconds", age.unwrap_or_default().as_secs_f64());
        let is_dead = Expr::col("state").eq(State::Dead.number());
        gauge("outbox_dead_rows", self.count(OUTBOX_DONE, is_dead).await?.n as f64);
        Ok(())
    }

    async fn count(&self, table: &'static str, which: Expr) -> Result<Counted> {
        let mut count = Query::select();
        count
            .expr_as(Func::count(Expr::col("seq")), "n")
            .expr_as(Func::min(Expr::col("at")), "oldest")
            .from(table)
            .and_where(which);
        let row = self.database.query_one(&count).await.map_err(into_error)?;
        let row = row.ok_or_else(|| Error::internal("a count without a row"))?;
        Ok(Counted {
            n: get(&row, "n")?,
            oldest: get::<Option<i64>>(&row, "oldest")?.map(Timestamp::from_micros),
        })
    }
}

/// Rows, and since when the oldest is there.
struct Counted {
    n: i64,
    oldest: Option<Timestamp>,
}

fn is_poison(error: &Error) -> bool {
    error.code() == Code::InvalidArgument
}
