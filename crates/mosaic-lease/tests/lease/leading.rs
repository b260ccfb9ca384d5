//! Who leads when leaders die, hang, leave and cannot reach the store. Time is tokio's, and stands still between events.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mosaic_core::{Error, Result, Runtime, TaskGroup};
use mosaic_lease::{Acquired, Candidate, CandidateOptions, Holder, Leadership, Lease, Leases, MemoryLeases, NodeLoad};
use tokio::time::{Instant, sleep};

use crate::bench::paused;

const TTL: Duration = Duration::from_secs(15);

/// A store that can be cut off from one of its users.
#[derive(Debug)]
pub(crate) struct Cut {
    inner: Arc<MemoryLeases>,
    pub(crate) is_cut: AtomicBool,
}

impl Cut {
    pub(crate) fn new(inner: &Arc<MemoryLeases>) -> Arc<Self> {
        Arc::new(Self {
            inner: inner.clone(),
            is_cut: AtomicBool::new(false),
        })
    }

    fn pass(&self) -> Result<&MemoryLeases> {
        if self.is_cut.load(SeqCst) {
            return Err(Error::unavailable("LEASE_UNAVAILABLE", "cut off"));
        }
        Ok(&self.inner)
    }
}

#[async_trait::async_trait]
impl Leases for Cut {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Acquired> {
        self.pass()?.acquire(name, holder, ttl).await
    }
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool> {
        self.pass()?.renew(lease, ttl).await
    }
    async fn release(&self, lease: &Lease) -> Result<()> {
        self.pass()?.release(lease).await
    }
    async fn holder(&self, name: &str) -> Result<Option<Holder>> {
        self.pass()?.holder(name).await
    }
    async fn report(&self, group: &str, load: &NodeLoad, ttl: Duration) -> Result<()> {
        self.pass()?.report(group, load, ttl).await
    }
    async fn reports(&self, group: &str) -> Result<Vec<NodeLoad>> {
        self.pass()?.reports(group).await
    }
}

/// What leaders did: never two at once.
#[derive(Default)]
pub(crate) struct Stage {
    now: AtomicUsize,
    pub(crate) terms: Mutex<Vec<(String, i64, Instant)>>,
}

struct Exit(Arc<Stage>);

impl Drop for Exit {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, SeqCst);
    }
}

impl Stage {
    /// Work that is on stage until it is dropped or asked to end.
    pub(crate) async fn play(self: Arc<Self>, node: String, mut leadership: Leadership) {
        assert_eq!(self.now.fetch_add(1, SeqCst), 0, "two lead at once");
        let exit = Exit(self.clone());
        self.terms
            .lock()
            .unwrap()
            .push((node, leadership.lease().fence, Instant::now()));
        leadership.ending().await;
        drop(exit);
    }

    pub(crate) fn leaders(&self) -> Vec<String> {
        self.terms
            .lock()
            .unwrap()
            .iter()
            .map(|(node, ..)| node.clone())
            .collect()
    }

    /// Waits for the `n`-th term and returns when it began.
    pub(crate) async fn term(&self, n: usize) -> Instant {
        let begun = async {
            loop {
                if let Some((.., at)) = self.terms.lock().unwrap().get(n - 1) {
                    return *at;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        let begun = tokio::time::timeout(Duration::from_secs(3600), begun).await;
        begun.unwrap_or_else(|_| panic!("no term {n} after {:?}", self.leaders()))
    }
}

pub(crate) fn run(group: &TaskGroup, candidate: Candidate, node: &str, stage: &Arc<Stage>) {
    let (stop, stage, node) = (group.stop_signal(), stage.clone(), node.to_owned());
    group.spawn("candidate", async move {
        candidate
            .lead(stop, |leadership| stage.clone().play(node.clone(), leadership))
            .await;
    });
}

fn candidate(leases: Arc<dyn Leases>, runtime: &Runtime, node: &str) -> Candidate {
    Candidate::new(leases, runtime, "scheduler", node, CandidateOptions::default())
}

pub(crate) fn group() -> TaskGroup {
    TaskGroup::new(|panic| panic!("{panic:?}"))
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_followed_at_once_and_who_dies_after_its_lease() {
    let runtime = paused();
    let (leases, stage) = (Arc::new(MemoryLeases::new(&runtime)), Arc::new(Stage::default()));
    let mut groups = vec![group(), group(), group()];
    for (i, group) in groups.iter().enumerate() {
        run(
            group,
            candidate(leases.clone(), &runtime, &format!("n{i}")),
            &format!("n{i}"),
            &stage,
        );
        stage.term(1).await;
    }
    sleep(Duration::from_secs(300)).await;
    assert_eq!(stage.leaders(), ["n0"], "a lease that is renewed stays where it is");
    let left = Instant::now();
    groups[0].shutdown(TTL).await;
    assert!(stage.term(2).await - left <= TTL / 2, "given back, not run out");
    let second = stage.leaders().pop().unwrap();
    let died = Instant::now();
    let index: usize = second[1..].parse().unwrap();
    // A crash: everything is dropped where it stands, nothing is released.
    drop(groups.remove(index));
    let followed = stage.term(3).await - died;
    assert!(followed > TTL / 2 && followed <= TTL * 3 / 2, "{followed:?}");
    let fences: Vec<i64> = stage.terms.lock().unwrap().iter().map(|(_, fence, _)| *fence).collect();
    assert_eq!(fences, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn who_is_cut_off_stops_before_it_is_followed() {
    let runtime = paused();
    let leases = Arc::new(MemoryLeases::new(&runtime));
    let (cut, stage) = (Cut::new(&leases), Arc::new(Stage::default()));
    let groups = [group(), group()];
    run(&groups[0], candidate(cut.clone(), &runtime, "n0"), "n0", &stage);
    stage.term(1).await;
    run(&groups[1], candidate(leases.clone(), &runtime, "n1"), "n1", &stage);
    cut.is_cut.store(true, SeqCst);
    let at = Instant::now();
    // `Stage` panics if both were on it.
    assert!(stage.term(2).await - at <= TTL * 3 / 2);
    cut.is_cut.store(false, SeqCst);
    sleep(TTL * 4).await;
    assert_eq!(stage.leaders(), ["n0", "n1"]);
}

#[tokio::test(start_paused = true)]
async fn work_that_panics_or_returns_loses_its_term_only() {
    let runtime = paused();
    let leases = Arc::new(MemoryLeases::new(&runtime));
    let (group, n_terms) = (group(), Arc::new(AtomicUsize::new(0)));
    let (stop, counted) = (group.stop_signal(), n_terms.clone());
    let candidate = candidate(leases, &runtime, "n0");
    group.spawn("candidate", async move {
        candidate
            .lead(stop, |_| {
                let n = counted.fetch_add(1, SeqCst);
                async move { assert!(n % 2 == 1, "broken") }
            })
            .await;
    });
    sleep(TTL * 4).await;
    assert!(n_terms.load(SeqCst) >= 4);
    assert_eq!(group.shutdown(TTL).await, 0);
}
