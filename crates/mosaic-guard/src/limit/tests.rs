//! Every algorithm in memory by tables and laws, and one suite for memory and Redis.

use mosaic_core::{Clock, Context, ManualClock, Runtime, SystemRandom, TaskGroup, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::testing::{METHODS, READ};

fn limiter(rule: &str) -> Arc<Limiter> {
    Arc::new(Limiter::new(rule.parse().unwrap(), "test"))
}

/// Says for each time in milliseconds whether a call was taken, or in how many milliseconds to come back.
#[track_caller]
fn check(rule: &str, calls: &[(u64, Result<(), u64>)]) {
    let limiter = limiter(rule);
    // The clock begins where a window of a second begins, so that tables can be read.
    let start = Runtime::system().instant();
    let start = start + Duration::from_nanos(60_000_000_000 - nanos(start) % 60_000_000_000);
    for (ms, want) in calls {
        let taken = limiter.take(&Key::All, start + Duration::from_millis(*ms));
        let got = taken.map_err(|wait| u64::try_from(wait.as_micros().div_ceil(1000)).unwrap());
        assert_eq!(got, *want, "{rule} at {ms} ms");
    }
}

#[test]
fn a_counter_begins_with_the_first_call() {
    check(
        "counter 2/s",
        &[
            (300, Ok(())),
            (900, Ok(())),
            (1000, Err(300)),
            (1299, Err(1)),
            (1300, Ok(())),
            (1301, Ok(())),
            (2299, Err(1)),
        ],
    );
}

#[test]
fn a_fixed_window_begins_with_the_clock() {
    check(
        "fixed-window 2/s",
        &[
            (900, Ok(())),
            (950, Ok(())),
            (999, Err(1)),
            (1000, Ok(())),
            (1001, Ok(())),
            (1002, Err(998)),
        ],
    );
}

#[test]
fn a_sliding_window_knows_no_seam() {
    check(
        "sliding-window 2/s",
        &[
            (900, Ok(())),
            (950, Ok(())),
            (1000, Err(1000)),
            (1899, Err(101)),
            (2000, Ok(())),
            (2050, Ok(())),
            (2100, Err(1000)),
            (90_000, Ok(())),
        ],
    );
}

#[test]
fn a_token_bucket_saves_up() {
    check(
        "token-bucket 10/s burst 3",
        &[
            (0, Ok(())),
            (0, Ok(())),
            (0, Ok(())),
            (0, Err(100)),
            (50, Err(50)),
            (100, Ok(())),
            (300, Ok(())),
            (300, Ok(())),
            (300, Err(100)),
        ],
    );
}

#[test]
fn a_leaky_bucket_keeps_the_distance() {
    check(
        "leaky-bucket 10/s",
        &[
            (0, Ok(())),
            (1, Err(99)),
            (100, Ok(())),
            (1000, Ok(())),
            (1001, Err(99)),
        ],
    );
    check(
        "leaky-bucket 10/s burst 2",
        &[(0, Ok(())), (0, Ok(())), (0, Err(100)), (100, Ok(()))],
    );
}

#[test]
fn nothing_is_rounded_to_milliseconds() {
    let limiter = limiter("leaky-bucket 100000/s");
    let start = Runtime::system().instant();
    let at = |us| limiter.take(&Key::All, start + Duration::from_micros(us));
    assert_eq!(at(0), Ok(()));
    assert_eq!(at(5), Err(Duration::from_micros(5)));
    assert_eq!(at(10), Ok(()));
}

#[test]
fn what_does_not_divide_is_rounded_in_favour_of_the_rule() {
    let limiter = limiter("leaky-bucket 3/s");
    let start = Runtime::system().instant();
    let at = |ns| limiter.take(&Key::All, start + Duration::from_nanos(ns));
    assert_eq!(at(0), Ok(()));
    assert_eq!(at(333_333_333), Err(Duration::from_nanos(1)));
    assert_eq!(at(333_333_334), Ok(()));
}

#[test]
fn calls_at_a_time_free_their_place() {
    let limiter = limiter("concurrent 1 by method");
    let cx = Context::new(&Runtime::system());
    let slot = limiter.admit(READ, &cx).unwrap().unwrap();
    let refused = limiter.admit(READ, &cx).unwrap_err();
    assert_eq!(refused.reason(), "RATE_LIMITED");
    assert!(limiter.admit(&METHODS[1], &cx).is_ok(), "another method");
    drop(slot);
    assert!(limiter.admit(READ, &cx).is_ok());
}

#[test]
fn a_refusal_names_rule_numbers_and_time() {
    let limiter = limiter("token-bucket 1/m burst 2 by ip");
    let cx = Context::new(&Runtime::system());
    let error = (0..3).find_map(|_| limiter.admit(READ, &cx).err()).unwrap();
    assert_eq!(error.reason(), "RATE_LIMITED");
    assert_eq!(error.http_status(), 429);
    assert!(error.message().contains("token-bucket 1/m burst 2 by ip"), "{error}");
    assert!(error.retry_after().unwrap() > Duration::from_secs(59));
}

#[test]
fn the_platform_itself_is_no_person() {
    let limiter = limiter("counter 1/h by account");
    let service = Context::new(&Runtime::system()).with_service(Some("edge".into()));
    assert!((0..9).all(|_| limiter.admit(READ, &service).is_ok()));
}

/// The most that a rule of `calls` in `per` may let through in a stretch of `length` that begins anywhere.
fn most(rule: &LimitRule, length: u64) -> f64 {
    let (calls, per) = (f64::from(rule.calls), rule.per.as_nanos() as f64);
    match rule.algorithm {
        Algorithm::TokenBucket | Algorithm::LeakyBucket => f64::from(rule.burst) + calls * length as f64 / per,
        Algorithm::SlidingWindow => calls * (length as f64 / per).ceil().max(1.0),
        // What ends and what begins within the stretch.
        _ => calls * ((length as f64 / per).floor() + 2.0),
    }
}

proptest! {
    #[test]
    fn no_limit_lets_more_through_than_it_says(
        idx in 0_usize..5,
        calls in 1_u32..50,
        burst in 1_u32..20,
        gaps in proptest::collection::vec(0_u64..120_000_000, 1..400),
    ) {
        let names = ["counter", "fixed-window", "sliding-window", "token-bucket", "leaky-bucket"];
        let bucket = if idx >= 3 { format!(" burst {burst}") } else { String::new() };
        let limiter = limiter(&format!("{} {calls}/s{bucket}", names[idx]));
        let start = Runtime::system().instant();
        let (mut now, mut taken) = (0, Vec::new());
        for gap in gaps {
            now += gap;
            if limiter.take(&Key::All, start + Duration::from_nanos(now)).is_ok() {
                taken.push(now);
            }
        }
        for (first, from) in taken.iter().enumerate() {
            for (last, to) in taken.iter().enumerate().skip(first) {
                let n_taken = (last - first + 1) as f64;
                // Both ends lie within the stretch.
                let allowed = most(&limiter.rule, to - from + 1);
                prop_assert!(n_taken <= allowed + 1e-6, "{n_taken} > {allowed} in {} ns", to - from);
            }
        }
    }

    #[test]
    fn who_waits_as_told_is_let_in(idx in 0_usize..5, calls in 1_u32..20, gaps in proptest::collection::vec(0_u64..90_000_000, 1..100)) {
        let names = ["counter", "fixed-window", "sliding-window", "token-bucket", "leaky-bucket"];
        let limiter = limiter(&format!("{} {calls}/s", names[idx]));
        let mut now = Runtime::system().instant();
        for gap in gaps {
            now += Duration::from_nanos(gap);
            if let Err(wait) = limiter.take(&Key::All, now) {
                prop_assert!(wait <= Duration::from_millis(1100));
                now += wait;
                prop_assert_eq!(limiter.take(&Key::All, now), Ok(()));
            }
        }
    }
}

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
