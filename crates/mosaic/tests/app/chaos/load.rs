//! Callers that never stop, and what became of every one of their calls.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mosaic::{Code, Error, TaskGroup};
use mosaic_stage::back::v1::{ActRequest, BackClient};
use mosaic_stage::front::v1::FrontClient;
use mosaic_testing::{TestApp, until};
use tokio::time::Instant;

use crate::stage::{act, traced};

/// How a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// May be repeated.
    Again,
    /// May be carried out once.
    Once,
    /// May be repeated, by the way of the front.
    ThroughAgain,
    /// May be carried out once, by the way of the front.
    Through,
}

impl Kind {
    const BOTH: [Self; 4] = [Self::Again, Self::Once, Self::ThroughAgain, Self::Through];

    const fn is_idempotent(self) -> bool {
        matches!(self, Self::Again | Self::ThroughAgain)
    }
}

/// How one call ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) mark: String,
    pub(crate) kind: Kind,
    /// Who carried it out.
    pub(crate) outcome: Result<String, Error>,
    pub(crate) at: Instant,
    pub(crate) took: Duration,
}

/// Calls that go on until they are stopped.
pub(crate) struct Load {
    tasks: TaskGroup,
    shared: Arc<Shared>,
}

struct Shared {
    is_over: AtomicBool,
    n_answered: AtomicUsize,
    ended: Mutex<Vec<Ended>>,
    /// When the call of each caller began.
    running: Mutex<HashMap<usize, Instant>>,
}

impl Load {
    /// Begins with so many callers, half of whose calls go through the front.
    pub(crate) fn begin(app: &TestApp, n_callers: usize) -> Self {
        Self::of_kinds(app, n_callers, &Kind::BOTH)
    }

    /// Begins with calls of these kinds in turn.
    pub(crate) fn of_kinds(app: &TestApp, n_callers: usize, kinds: &'static [Kind]) -> Self {
        let tasks = TaskGroup::new(|panic| eprintln!("a caller panicked: {}", panic.message));
        let shared = Arc::new(Shared {
            is_over: AtomicBool::new(false),
            n_answered: AtomicUsize::new(0),
            ended: Mutex::default(),
            running: Mutex::default(),
        });
        for caller in 0..n_callers {
            let (front, back): (FrontClient, BackClient) = (app.client("load"), app.client("load"));
            let shared = shared.clone();
            tasks.spawn("caller", async move {
                for n in 0_usize.. {
                    if shared.is_over.load(Ordering::SeqCst) {
                        return;
                    }
                    shared.running.lock().unwrap().insert(caller, Instant::now());
                    let kind = kinds[(caller + n) % kinds.len()];
                    shared.note(one(&front, &back, kind, format!("{caller}-{n}")).await);
                }
            });
        }
        Self { tasks, shared }
    }

    /// Waits until so many more calls were answered.
    pub(crate) async fn answers(&self, n: usize) {
        let n_answered = || self.shared.n_answered.load(Ordering::SeqCst);
        let want = n_answered() + n;
        let in_time = tokio::time::timeout(Duration::from_secs(30), async {
            while n_answered() < want {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        if in_time.await.is_err() {
            let ended = self.shared.ended.lock().unwrap();
            let latest: Vec<_> = ended.iter().rev().take(3).map(|ended| (ended, cause(ended))).collect();
            panic!(
                "{} of {want} calls were answered; the latest: {latest:#?}",
                n_answered()
            );
        }
    }

    /// Waits until an instance has answered whose name ends so.
    pub(crate) async fn hears(&self, name: &str) {
        until("calls reach an instance", Duration::from_secs(20), || async {
            let ended = self.shared.ended.lock().unwrap();
            let mut latest = ended.iter().rev().take(1000);
            latest.any(|ended| ended.outcome.as_ref().is_ok_and(|by| by.contains(name)))
        })
        .await;
    }

    /// Waits until every call that runs now has ended.
    pub(crate) async fn turn(&self, within: Duration) {
        let begun_before = Instant::now();
        until("calls that hang end", within, || async {
            let running = self.shared.running.lock().unwrap();
            running.values().all(|began| *began > begun_before)
        })
        .await;
    }

    /// Lets the running calls end and returns all.
    pub(crate) async fn end(self) -> Vec<Ended> {
        self.shared.is_over.store(true, Ordering::SeqCst);
        assert_eq!(self.tasks.shutdown(Duration::from_secs(20)).await, 0, "calls that hang");
        std::mem::take(&mut *self.shared.ended.lock().unwrap())
    }
}

impl Shared {
    fn note(&self, ended: Ended) {
        let is_answered = ended.outcome.is_ok();
        self.ended.lock().unwrap().push(ended);
        self.n_answered.fetch_add(usize::from(is_answered), Ordering::SeqCst);
    }
}

async fn one(front: &FrontClient, back: &BackClient, kind: Kind, mark: String) -> Ended {
    let cx = traced().0;
    let request = ActRequest {
        ms: 5,
        ..act("", &mark)
    };
    let started = Instant::now();
    let outcome = match kind {
        Kind::Again => back.act_again(&cx, request).await,
        Kind::Once => back.act(&cx, request).await,
        Kind::ThroughAgain => front.ask_again(&cx, request).await,
        Kind::Through => front.ask(&cx, request).await,
    };
    Ended {
        mark,
        kind,
        outcome: outcome.map(|reply| reply.by),
        at: Instant::now(),
        took: started.elapsed(),
    }
}

/// Calls and how often each was carried out.
pub(crate) struct Account {
    pub(crate) ended: Vec<Ended>,
    pub(crate) carried_out: HashMap<String, usize>,
}

impl Account {
    /// Fails if a call was answered that nobody carried out, or one was carried out twice that may be once.
    pub(crate) fn check_effects(&self) {
        for Ended {
            mark, kind, outcome, ..
        } in &self.ended
        {
            let n = self.carried_out.get(mark).copied().unwrap_or_default();
            assert!(
                n > 0 || outcome.is_err(),
                "{mark} was answered by {outcome:?} and done by nobody"
            );
            assert!(
                n <= 1 || kind.is_idempotent(),
                "{mark} ({kind:?}) was done {n} times: {outcome:?}"
            );
        }
    }

    /// Returns the calls that failed, each of them with an error that tells the caller the truth.
    pub(crate) fn failed(&self) -> Vec<&Ended> {
        let failed: Vec<_> = self.ended.iter().filter(|ended| ended.outcome.is_err()).collect();
        for ended in &failed {
            let error = ended.outcome.as_ref().unwrap_err();
            assert_eq!(
                error.code(),
                Code::Unavailable,
                "{}: {error:?} {}",
                ended.mark,
                error.cause_chain()
            );
        }
        failed
    }

    /// Fails if any call failed.
    pub(crate) fn check_none_failed(&self) {
        let failed = self.failed();
        let some: Vec<_> = failed.iter().take(5).map(|ended| (ended, cause(ended))).collect();
        assert!(
            failed.is_empty(),
            "{} of {} failed: {some:#?}",
            failed.len(),
            self.ended.len()
        );
    }

    /// Fails if a call failed that may be repeated.
    pub(crate) fn check_no_idempotent_failed(&self) {
        let failed = self.failed();
        let mut idempotent = failed.iter().filter(|ended| ended.kind.is_idempotent());
        if let Some(ended) = idempotent.next() {
            panic!("{ended:?} {}", cause(ended));
        }
    }

    /// Returns the longest time in which nothing was answered.
    pub(crate) fn longest_silence(&self) -> Duration {
        let mut at: Vec<_> = self
            .ended
            .iter()
            .filter(|ended| ended.outcome.is_ok())
            .map(|ended| ended.at)
            .collect();
        at.sort();
        at.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Returns the longest time that a call took.
    pub(crate) fn slowest(&self) -> Duration {
        self.ended.iter().map(|ended| ended.took).max().unwrap_or_default()
    }

    /// Says what was measured, to those who look.
    pub(crate) fn tell(&self, what: &str) {
        let (n, n_failed) = (self.ended.len(), self.failed().len());
        let (slowest, silence) = (self.slowest(), self.longest_silence());
        eprintln!("{what}: {n} calls, {n_failed} failed, the slowest {slowest:?}, silence {silence:?}");
    }
}

fn cause(ended: &Ended) -> String {
    ended.outcome.as_ref().err().map(Error::cause_chain).unwrap_or_default()
}
