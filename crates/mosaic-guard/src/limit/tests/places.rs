//! One suite for both places where calls are counted, memory and Redis; and Redis going away.
//!
//! The clock of the server cannot be held still: here time passes, in fractions of a second.

use mosaic_core::{Clock, Context, ManualClock, Runtime, SystemRandom, TaskGroup, Timestamp};

use super::*;

/// A limit in one of its two places.
enum Place {
    Memory(Arc<Limiter>),
    Redis(Arc<Limiter>, LimitStore),
}

impl Place {
    async fn take(&self, cx: &Context) -> mosaic_core::Result<()> {
        match self {
            Self::Memory(limiter) => limiter.admit(READ, cx).map(drop),
            Self::Redis(limiter, store) => {
                let admitted = limiter.admit_in(store, READ, cx).await;
                assert!(store.is_there(), "counted in memory instead");
                admitted
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "tests have no configuration to ask")]
fn redis_url() -> Option<mosaic_core::config::EngineUrl> {
    let Ok(url) = std::env::var("MOSAIC_TEST_REDIS") else {
        let required = std::env::var("MOSAIC_TEST_ENGINES").is_ok_and(|value| value == "required");
        assert!(!required, "MOSAIC_TEST_REDIS is not set and engines are required");
        eprintln!("skipped: MOSAIC_TEST_REDIS is not set");
        return None;
    };
    Some(url.parse().unwrap())
}

fn places(rule: &str, tasks: &TaskGroup) -> Vec<Place> {
    let runtime = Runtime::system();
    // A name of its own for each run: Redis keeps what earlier runs counted.
    let limiter = |reach: &str| {
        let rule = format!("{rule}{reach}").parse().unwrap();
        Arc::new(Limiter::new(rule, &format!("test-{}", runtime.random_hex::<6>())))
    };
    let store = redis_url().map(|url| LimitStore::open(&url, Duration::from_secs(5), tasks, &runtime).unwrap());
    let mut places = vec![Place::Memory(limiter(""))];
    places.extend(store.map(|store| Place::Redis(limiter(" cluster"), store)));
    places
}

fn from_address(last: u8) -> Context {
    Context::new(&Runtime::system()).with_origin(mosaic_core::Origin {
        ip: Some([10, 0, 0, last].into()),
        user_agent: None,
    })
}

#[tokio::test]
async fn every_place_counts_alike() {
    let tasks = TaskGroup::new(|panic| panic!("{panic:?}"));
    for (algorithm, at_once) in [
        ("counter 5/400ms", 5),
        ("fixed-window 5/400ms", 5),
        ("sliding-window 5/400ms", 5),
        ("token-bucket 5/400ms burst 3", 3),
        ("leaky-bucket 5/400ms burst 2", 2),
    ] {
        for place in places(&format!("{algorithm} by ip"), &tasks) {
            let mut n_taken = 0;
            let refused = loop {
                match place.take(&from_address(1)).await {
                    Ok(()) => n_taken += 1,
                    Err(error) => break error,
                }
                // A slow machine may see a window or two pass.
                assert!(n_taken <= at_once * 3, "{algorithm}");
            };
            assert!(n_taken >= at_once, "{algorithm}: {n_taken}");
            assert_eq!(refused.reason(), "RATE_LIMITED");
            let wait = refused.retry_after().unwrap();
            assert!(
                wait > Duration::ZERO && wait <= Duration::from_millis(450),
                "{algorithm}: {wait:?}"
            );
            assert!(
                place.take(&from_address(2)).await.is_ok(),
                "{algorithm}: another caller"
            );
            tokio::time::sleep(wait).await;
            assert!(
                place.take(&from_address(1)).await.is_ok(),
                "{algorithm}: after {wait:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_sliding_window_remembers_all_its_parts() {
    let tasks = TaskGroup::new(|panic| panic!("{panic:?}"));
    let cx = from_address(1);
    for place in places("sliding-window 3/3s", &tasks) {
        for _ in 0..3 {
            assert!(place.take(&cx).await.is_ok());
            // The clock is that of the server: time has to pass.
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        assert!(place.take(&cx).await.is_err());
    }
}

#[tokio::test]
async fn many_at_once_are_counted_one_by_one() {
    let tasks = TaskGroup::new(|panic| panic!("{panic:?}"));
    for algorithm in ["counter", "sliding-window", "token-bucket"] {
        for place in places(&format!("{algorithm} 20/1h"), &tasks) {
            let cx = from_address(1);
            let outcomes = futures::future::join_all((0..200).map(|_| place.take(&cx))).await;
            assert_eq!(
                outcomes.iter().filter(|outcome| outcome.is_ok()).count(),
                20,
                "{algorithm}"
            );
        }
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_not_waited_for_and_is_found_again() {
    let Some(url) = redis_url() else { return };
    // A door between us and Redis, which we can close.
    let door = Door::open(url.expose()).await;
    let tasks = TaskGroup::new(|panic| panic!("{panic:?}"));
    let runtime = Runtime::new(Arc::new(ManualClock::at(Timestamp::EPOCH)), Arc::new(SystemRandom));
    let store = LimitStore::open(
        &door.url().parse().unwrap(),
        Duration::from_millis(500),
        &tasks,
        &runtime,
    )
    .unwrap();
    let rule = "counter 3/1h cluster".parse().unwrap();
    let limiter = Limiter::new(rule, &format!("test-{}", Runtime::system().random_hex::<6>()));
    let cx = Context::new(&runtime);
    let take = async || limiter.admit_in(&store, READ, &cx).await.is_ok();
    assert!(take().await && store.is_there());
    door.close();
    let mut n_local = 0;
    while take().await {
        n_local += 1;
    }
    assert!(!store.is_there());
    assert_eq!(n_local, 3, "this process counts for itself, by the same rule");
    let clock = mosaic_core::SystemClock;
    let asked = clock.instant();
    assert!(!take().await);
    assert!(clock.instant() - asked < Duration::from_millis(100), "nobody waits");
    door.reopen();
    let found = async {
        while !store.is_there() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), found)
        .await
        .expect("found again");
    assert!(
        take().await && take().await && !take().await,
        "the cluster had counted one"
    );
}

/// Forwards connections while it is open; cuts them and swallows new ones while it is not.
struct Door {
    port: u16,
    is_open: tokio::sync::watch::Sender<bool>,
    _tasks: TaskGroup,
}

impl Door {
    async fn open(url: &str) -> Self {
        let target = url.trim_start_matches("redis://").split('/').next().unwrap().to_owned();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_open, opened) = tokio::sync::watch::channel(true);
        let tasks = TaskGroup::new(|_| {});
        let connections = tasks.clone();
        tasks.spawn("door", async move {
            loop {
                let (mut inside, _) = listener.accept().await.unwrap();
                let (mut opened, target) = (opened.clone(), target.clone());
                connections.spawn("through the door", async move {
                    if !*opened.borrow() {
                        // A black hole, the worst that a network does; whoever fell in must connect anew.
                        let _ = opened.wait_for(|is_open| *is_open).await;
                        return;
                    }
                    let mut outside = tokio::net::TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut inside, &mut outside) => {}
                        _ = opened.wait_for(|is_open| !is_open) => {}
                    }
                });
            }
        });
        Self {
            port,
            is_open,
            _tasks: tasks,
        }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn close(&self) {
        self.is_open.send_replace(false);
    }

    fn reopen(&self) {
        self.is_open.send_replace(true);
    }
}
