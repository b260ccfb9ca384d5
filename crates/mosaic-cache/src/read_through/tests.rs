use std::sync::atomic::{AtomicUsize, Ordering};

use mosaic_core::{ManualClock, Runtime, SeededRandom, TaskGroup, Timestamp};
use tokio::sync::Notify;

use super::moody::{FAILING, Moody, SILENT, WELL};
use super::*;
use crate::{CacheEngine, MemoryEngine, RedisEngine};

const TTL: Duration = Duration::from_secs(600);

fn key() -> CacheKey {
    CacheKey::new("row").part(1)
}

fn memory() -> (Arc<ManualClock>, ReadThrough<String>) {
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    let runtime = Runtime::new(clock.clone(), Arc::new(SeededRandom::new(1)));
    (
        clock,
        ReadThrough::new(&Cache::new(Arc::new(MemoryEngine::new(&runtime)), &runtime), TTL),
    )
}

fn text(row: &Option<Arc<String>>) -> Option<&str> {
    row.as_deref().map(String::as_str)
}

/// A load that counts itself and waits for permission to land.
#[derive(Clone, Default)]
struct Slow {
    n_loads: Arc<AtomicUsize>,
    gate: Arc<Notify>,
}

impl Slow {
    async fn load(self, row: &str) -> Result<Option<String>> {
        self.n_loads.fetch_add(1, Ordering::SeqCst);
        self.gate.notified().await;
        Ok(Some(row.to_owned()))
    }

    async fn begun(&self, n: usize) {
        while self.n_loads.load(Ordering::SeqCst) < n {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_thousand_misses_are_one_load() {
    let (_, rows) = memory();
    let slow = Slow::default();
    let asks = (0..1000).map(|_| {
        let (rows, slow) = (rows.clone(), slow.clone());
        async move { rows.get_or_load(&key(), || slow.load("a")).await }
    });
    let all = futures::future::join_all(asks);
    let opener = async {
        slow.begun(1).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        slow.gate.notify_one();
    };
    let (answers, ()) = tokio::join!(all, opener);
    assert!(answers.into_iter().all(|answer| text(&answer.unwrap()) == Some("a")));
    assert_eq!(slow.n_loads.load(Ordering::SeqCst), 1);
    assert!(rows.flights().is_empty());
}

#[tokio::test]
async fn absence_is_remembered_for_a_while() {
    let (clock, rows) = memory();
    let (n_loads, key) = (AtomicUsize::new(0), key());
    let ask = || {
        rows.get_or_load(&key, || async {
            n_loads.fetch_add(1, Ordering::SeqCst);
            Ok(None)
        })
    };
    assert_eq!((ask().await.unwrap(), ask().await.unwrap()), (None, None));
    assert_eq!(n_loads.load(Ordering::SeqCst), 1);
    clock.advance(TTL / 30);
    ask().await.unwrap();
    assert_eq!(n_loads.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn who_looks_sees_the_row_until_its_end_or_a_change() {
    let (clock, rows) = memory();
    let (n_loads, key) = (AtomicUsize::new(0), key());
    let look = || {
        let load = || async { Ok(Some("x".repeat(1 + n_loads.fetch_add(1, Ordering::SeqCst)))) };
        rows.look_or_load(&key, load, String::len)
    };
    for _ in 0..3 {
        assert_eq!(look().await.unwrap(), Some(1));
    }
    rows.invalidate(&key).await;
    for _ in 0..3 {
        assert_eq!(look().await.unwrap(), Some(2));
    }
    clock.advance(TTL * 2);
    assert_eq!(look().await.unwrap(), Some(3));
    rows.invalidate(&key).await;
    for _ in 0..2 {
        let absent = rows.look_or_load(&key, || async { Ok(None) }, String::len).await;
        assert_eq!(absent.unwrap(), None);
    }
}

#[tokio::test]
async fn ends_are_spread() {
    let (_, rows) = memory();
    let ends: std::collections::BTreeSet<Duration> = (0..100).map(|_| rows.spread(TTL)).collect();
    assert!(ends.len() > 5 && *ends.first().unwrap() >= TTL * 95 / 100 && *ends.last().unwrap() <= TTL * 105 / 100);
}

#[tokio::test]
async fn a_failure_is_everybodys_and_is_not_kept() {
    let (_, rows) = memory();
    let key = key();
    let fails = || {
        rows.get_or_load(&key, || async {
            Err(Error::unavailable("DOWN", "down").caused_by("wire cut"))
        })
    };
    let (first, second) = tokio::join!(fails(), fails());
    for error in [first.unwrap_err(), second.unwrap_err()] {
        assert_eq!((error.reason(), error.cause_chain().as_str()), ("DOWN", "wire cut"));
    }
    let answer = rows
        .get_or_load(&key, || async { Ok(Some("up".to_owned())) })
        .await
        .unwrap();
    assert_eq!(text(&answer), Some("up"));
}

#[tokio::test]
async fn when_the_pilot_is_gone_a_passenger_flies() {
    let (_, rows) = memory();
    let group = TaskGroup::new(|_| {});
    let slow = Slow::default();
    let (flown, load) = (rows.clone(), slow.clone());
    group.spawn("pilot", async move {
        let _ = flown.get_or_load(&key(), || load.load("never")).await;
    });
    slow.begun(1).await;
    let key = key();
    let passenger = rows.get_or_load(&key, || async { Ok(Some("b".to_owned())) });
    let crash = async {
        tokio::task::yield_now().await;
        group.shutdown(Duration::ZERO).await;
    };
    let (answer, ()) = tokio::join!(passenger, crash);
    assert_eq!(text(&answer.unwrap()), Some("b"));

    let (panicking, other) = (rows.clone(), CacheKey::new("row").part(2));
    let group = TaskGroup::new(|_| {});
    let moved = other.clone();
    group.spawn("panics", async move {
        let _ = panicking.get_or_load(&moved, || async { panic!("broken load") }).await;
    });
    let answer = rows
        .get_or_load(&other, || async { Ok(Some("c".to_owned())) })
        .await
        .unwrap();
    assert_eq!(text(&answer), Some("c"));
}

#[tokio::test]
async fn a_load_from_before_a_change_is_not_stored() {
    let (_, rows) = memory();
    let key = key();
    let slow = Slow::default();
    let old = rows.get_or_load(&key, || slow.clone().load("old"));
    let change = async {
        slow.begun(1).await;
        rows.invalidate(&key).await;
        // Who asks after the change does not join the old flight.
        let fresh = rows.get_or_load(&key, || async { Ok(Some("new".to_owned())) });
        let fresh = tokio::time::timeout(Duration::from_secs(5), fresh)
            .await
            .expect("it waits for nobody");
        let fresh = fresh.unwrap();
        assert_eq!(text(&fresh), Some("new"));
        slow.gate.notify_one();
    };
    let (old, ()) = tokio::join!(old, change);
    assert_eq!(text(&old.unwrap()), Some("old"), "asked before the change");
    let after = rows
        .get_or_load(&key, || async { Err(Error::internal("must not be asked")) })
        .await
        .unwrap();
    assert_eq!(text(&after), Some("new"));
}

#[tokio::test]
async fn a_load_from_before_a_change_in_another_process_is_not_stored() {
    let runtime = Runtime::system();
    let engine: Arc<dyn CacheEngine> = Arc::new(MemoryEngine::new(&runtime));
    let process = || ReadThrough::<String>::new(&Cache::new(engine.clone(), &runtime), TTL);
    let (here, there, key, slow) = (process(), process(), key(), Slow::default());
    let old = here.get_or_load(&key, || slow.clone().load("old"));
    let change = async {
        slow.begun(1).await;
        there.invalidate(&key).await;
        slow.gate.notify_one();
    };
    let (old, ()) = tokio::join!(old, change);
    assert_eq!(text(&old.unwrap()), Some("old"), "asked before the change");
    for process in [&there, &here] {
        let after = process.get_or_load(&key, || async { Ok(Some("new".to_owned())) }).await;
        assert_eq!(text(&after.unwrap()), Some("new"));
    }
}

#[tokio::test]
async fn a_load_that_failed_leaves_no_claim_behind() {
    let (_, rows) = memory();
    let key = key();
    let down = rows
        .get_or_load(&key, || async { Err(Error::unavailable("DOWN", "down")) })
        .await;
    assert_eq!(down.unwrap_err().reason(), "DOWN");
    let up = rows.get_or_load(&key, || async { Ok(Some("up".to_owned())) }).await;
    assert_eq!(text(&up.unwrap()), Some("up"));
    let cached = rows
        .get_or_load(&key, || async { Err(Error::internal("must not be asked")) })
        .await;
    assert_eq!(text(&cached.unwrap()), Some("up"));
}

#[tokio::test]
async fn a_row_that_another_process_stores_meanwhile_is_taken() {
    let (_, rows) = memory();
    let key = key();
    rows.cache
        .set(&key, Bytes::from_static(b"\"theirs\""), TTL)
        .await
        .unwrap();
    // As if the engine had been looked at before that.
    let load = || async { Err(Error::internal("must not be asked")) };
    let row = rows.load_once(&key, load, &Engine::Empty).await.unwrap();
    assert_eq!(text(&row), Some("theirs"));
}

#[tokio::test]
async fn a_row_of_another_release_is_loaded_anew_and_replaced() {
    let (_, rows) = memory();
    let key = key();
    rows.cache
        .set(&key, Bytes::from_static(b"{\"v\":2}"), TTL)
        .await
        .unwrap();
    let row = rows.get_or_load(&key, || async { Ok(Some("a".to_owned())) }).await;
    assert_eq!(text(&row.unwrap()), Some("a"));
    let row = rows
        .get_or_load(&key, || async { Err(Error::internal("must not be asked")) })
        .await;
    assert_eq!(text(&row.unwrap()), Some("a"));
}

#[tokio::test]
async fn a_change_that_the_engine_was_not_told_of_is_read_all_the_same() {
    for mood in [FAILING, SILENT] {
        let runtime = Runtime::system();
        let engine = MemoryEngine::new(&runtime);
        let moody = Arc::new(Moody {
            engine,
            mood: AtomicUsize::new(WELL),
        });
        let rows = ReadThrough::<String>::new(&Cache::new(moody.clone(), &runtime), TTL);
        let (key, other) = (key(), CacheKey::new("row").part(2));
        // What was read once lies there ready to be looked at.
        for key in [&key, &other, &key] {
            rows.get_or_load(key, || async { Ok(Some("old".to_owned())) })
                .await
                .unwrap();
        }
        moody.mood.store(mood, Ordering::SeqCst);
        // The caller gives up where the engine is silent.
        tokio::select! {
            biased;
            () = rows.invalidate(&key) => assert_eq!(mood, FAILING),
            () = std::future::ready(()) => assert_eq!(mood, SILENT),
        }
        if mood == FAILING {
            let seen = rows.look_or_load(&key, || async { Ok(Some("new".to_owned())) }, String::clone);
            assert_eq!(seen.await.unwrap().as_deref(), Some("new"));
        }
        moody.mood.store(WELL, Ordering::SeqCst);
        let after = rows.get_or_load(&key, || async { Ok(Some("new".to_owned())) }).await;
        assert_eq!(text(&after.unwrap()), Some("new"));
        for (key, want) in [(&key, "new"), (&other, "old")] {
            let cached = rows
                .get_or_load(key, || async { Err(Error::internal("must not be asked")) })
                .await;
            assert_eq!(text(&cached.unwrap()), Some(want), "and is cached");
        }
    }
}

#[tokio::test]
async fn a_redis_that_comes_later_is_used() {
    let Some(url) = crate::contract_tests::test_url("MOSAIC_TEST_REDIS") else {
        return;
    };
    let real = url.trim_start_matches("redis://").trim_end_matches('/').to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let runtime = Runtime::system();
    let cache = Cache::open(&format!("redis://{address}"), &runtime).unwrap();
    let key = CacheKey::new("later").part(runtime.random_hex::<8>());
    assert_eq!(cache.get(&key).await.unwrap_err().reason(), "CACHE_UNAVAILABLE");
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let group = TaskGroup::new(|_| {});
    let links = group.clone();
    group.spawn("forward", async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = tokio::net::TcpStream::connect(&real).await.unwrap();
            links.spawn("link", async move {
                drop(tokio::io::copy_bidirectional(&mut near, &mut far).await)
            });
        }
    });
    let deadline = runtime.instant() + Duration::from_secs(10);
    while cache
        .set(&key, Bytes::from_static(b"here"), Duration::from_secs(60))
        .await
        .is_err()
    {
        assert!(runtime.instant() < deadline, "it is not used in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(cache.get(&key).await.unwrap().unwrap().bytes(), b"here".as_slice());
    group.shutdown(Duration::ZERO).await;
}

/// Answers through a dead engine cost little and are the same.
async fn dead_engine(url: &str) {
    let runtime = Runtime::system();
    let engine: Arc<dyn CacheEngine> = Arc::new(RedisEngine::open(url).unwrap());
    let rows = ReadThrough::<String>::new(&Cache::new(engine, &runtime), TTL);
    let n_loads = AtomicUsize::new(0);
    let started = runtime.instant();
    for i in 0..200 {
        let load = || async {
            n_loads.fetch_add(1, Ordering::SeqCst);
            Ok(Some(i.to_string()))
        };
        let answer = rows.get_or_load(&CacheKey::new("row").part(i), load).await.unwrap();
        assert_eq!(text(&answer), Some(i.to_string().as_str()));
        rows.invalidate(&key()).await;
    }
    assert_eq!(n_loads.load(Ordering::SeqCst), 200);
    // 400 commands at 200 ms would be 80 s; left alone, it is a handful.
    assert!(
        runtime.instant() - started < Duration::from_secs(10),
        "a dead cache must not be asked again and again"
    );
}

#[tokio::test]
async fn a_refused_redis_slows_and_does_not_break() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    dead_engine(&format!("redis://{address}")).await;
}

#[tokio::test]
async fn a_silent_redis_slows_and_does_not_break() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    dead_engine(&format!("redis://{}", listener.local_addr().unwrap())).await;
}
