//! One suite over every engine. Redis takes part where `MOSAIC_TEST_REDIS` names one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use mosaic_core::{ManualClock, Runtime, SeededRandom, Timestamp};

use crate::{CacheEngine, CacheKey, Issued, MemoryEngine, Redeemed, RedisEngine, Row};

/// An engine and the way in which its time passes.
struct World {
    engine: Arc<dyn CacheEngine>,
    clock: Option<Arc<ManualClock>>,
    /// Tells runs against one Redis apart.
    run: String,
}

const MINUTE: Duration = Duration::from_secs(60);

impl World {
    fn memory() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let runtime = Runtime::new(clock.clone(), Arc::new(SeededRandom::new(1)));
        Self {
            engine: Arc::new(MemoryEngine::new(&runtime)),
            clock: Some(clock),
            run: "memory".into(),
        }
    }

    fn redis() -> Option<Self> {
        let url = test_url("MOSAIC_TEST_REDIS")?;
        let engine = Arc::new(RedisEngine::open(&url).unwrap());
        Some(Self {
            engine,
            clock: None,
            run: Runtime::system().random_hex::<8>(),
        })
    }

    fn key(&self, name: &str) -> CacheKey {
        CacheKey::new("test").part(&self.run).part(name)
    }

    /// Lets `time` pass until `over` holds: at once where we hold the clock, by waiting for it where Redis does.
    async fn until<F: Future<Output = bool>>(&self, time: Duration, over: impl Fn() -> F) {
        match &self.clock {
            Some(clock) => clock.advance(time),
            None => {
                let deadline = tokio::time::Instant::now() + time * 20 + Duration::from_secs(2);
                while !over().await {
                    assert!(tokio::time::Instant::now() < deadline, "it is not over in time");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
        assert!(over().await);
    }
}

#[expect(clippy::disallowed_methods, reason = "tests have no configuration to ask")]
pub(crate) fn test_url(name: &str) -> Option<String> {
    let url = std::env::var(name).ok();
    if url.is_none() {
        let required = std::env::var("MOSAIC_TEST_ENGINES").is_ok_and(|value| value == "required");
        assert!(!required, "{name} is not set and engines are required");
        eprintln!("skipped: {name} is not set");
    }
    url
}

async fn bytes_live_until_their_end(world: &World) {
    let (engine, key, short) = (&world.engine, world.key("bytes"), Duration::from_millis(60));
    assert_eq!(engine.get(&key).await.unwrap(), None);
    engine
        .set(&key, Bytes::from_static(b"\x00\xff one"), MINUTE)
        .await
        .unwrap();
    assert!(
        !engine
            .set_if_absent(&key, Bytes::from_static(b"two"), MINUTE)
            .await
            .unwrap()
    );
    let found = engine.get(&key).await.unwrap().unwrap();
    assert_eq!(found.bytes(), b"\x00\xff one".as_slice());
    engine.remove(&key).await.unwrap();
    assert!(
        engine
            .set_if_absent(&key, Bytes::from_static(b"three"), short)
            .await
            .unwrap()
    );
    world
        .until(short, || async { engine.get(&key).await.unwrap().is_none() })
        .await;
    assert!(
        engine
            .set_if_absent(&key, Bytes::from_static(b"four"), MINUTE)
            .await
            .unwrap()
    );
}

async fn what_is_read_out_of_bytes_goes_with_them(world: &World) {
    let (engine, key) = (&world.engine, world.key("read"));
    let read = async || {
        let row = engine.get(&key).await.unwrap().unwrap();
        row.read(|bytes| String::from_utf8(bytes.to_vec()).ok())
    };
    for text in ["old", "new"] {
        engine.set(&key, Bytes::from(text), MINUTE).await.unwrap();
        for _ in 0..2 {
            assert_eq!(read().await.unwrap().as_str(), text);
        }
    }
    let row = engine.get(&key).await.unwrap().unwrap();
    assert_eq!(
        row.read(|bytes| Some(bytes.len())).as_deref(),
        Some(&3),
        "as another type"
    );
    engine.set(&key, Bytes::from_static(b"\xff"), MINUTE).await.unwrap();
    assert_eq!(read().await, None);
}

async fn bytes_are_replaced_only_where_expected(world: &World) {
    let (engine, key) = (&world.engine, world.key("replace"));
    let (old, new) = (Bytes::from_static(b"\0old"), Bytes::from_static(b"new"));
    assert!(!engine.replace(&key, &old, new.clone(), MINUTE).await.unwrap());
    engine.set(&key, old.clone(), MINUTE).await.unwrap();
    assert!(!engine.replace(&key, &new, old.clone(), MINUTE).await.unwrap());
    assert!(engine.replace(&key, &old, new.clone(), MINUTE).await.unwrap());
    assert_eq!(engine.get(&key).await.unwrap(), Some(Row::new(new.clone())));
    engine.remove(&key).await.unwrap();
    assert!(!engine.replace(&key, &new, old, MINUTE).await.unwrap());
    assert_eq!(engine.get(&key).await.unwrap(), None);
}

async fn of_many_that_set_if_absent_one_does(world: &World) {
    let key = world.key("absent");
    let sets = (0..50).map(|i| world.engine.set_if_absent(&key, Bytes::from(format!("{i}")), MINUTE));
    let n_stored = join_all(sets)
        .await
        .into_iter()
        .filter(|outcome| *outcome.as_ref().unwrap())
        .count();
    assert_eq!(n_stored, 1);
}

async fn counters_count_and_start_anew(world: &World) {
    let (engine, key, window) = (&world.engine, world.key("counter"), Duration::from_millis(400));
    assert_eq!(engine.counter(&key).await.unwrap(), None);
    let counts = join_all((0..100).map(|_| engine.increment(&key, 1, MINUTE))).await;
    let mut values: Vec<i64> = counts.iter().map(|count| count.as_ref().unwrap().value).collect();
    values.sort_unstable();
    assert_eq!(values, (1..=100).collect::<Vec<_>>());
    let count = engine.counter(&key).await.unwrap().unwrap();
    assert!(
        count.value == 100 && count.remaining <= MINUTE && count.remaining > MINUTE / 2,
        "{count:?}"
    );
    engine.remove(&key).await.unwrap();
    engine.increment(&key, 5, window).await.unwrap();
    assert_eq!(
        engine.increment(&key, 1, MINUTE).await.unwrap().value,
        6,
        "a counter keeps its first end"
    );
    world
        .until(window, || async { engine.counter(&key).await.unwrap().is_none() })
        .await;
    assert_eq!(engine.increment(&key, 1, MINUTE).await.unwrap().value, 1);
}

async fn a_code_is_tried_thrice_and_used_once(world: &World) {
    let (engine, hour) = (&world.engine, MINUTE * 60);
    let key = world.key("code");
    assert_eq!(engine.redeem_code(&key, "123456").await.unwrap(), Redeemed::Wrong);
    assert_eq!(
        engine.issue_code(&key, "123456", hour, MINUTE, 3).await.unwrap(),
        Issued::Issued
    );
    let again = engine.issue_code(&key, "654321", hour, MINUTE, 3).await.unwrap();
    assert!(
        matches!(again, Issued::TooSoon { retry_after } if retry_after <= MINUTE && retry_after > MINUTE / 2),
        "{again:?}"
    );
    assert_eq!(engine.redeem_code(&key, "123456").await.unwrap(), Redeemed::Matched);
    assert_eq!(engine.redeem_code(&key, "123456").await.unwrap(), Redeemed::Dead);
    assert!(matches!(
        engine.issue_code(&key, "1", hour, MINUTE, 3).await.unwrap(),
        Issued::TooSoon { .. }
    ));

    let tried = world.key("tried");
    engine.issue_code(&tried, "123456", hour, MINUTE, 3).await.unwrap();
    let tries = ["000000", "", "12345", "123456"];
    let want = [Redeemed::Wrong, Redeemed::Wrong, Redeemed::Dead, Redeemed::Dead];
    for (code, want) in tries.into_iter().zip(want) {
        assert_eq!(engine.redeem_code(&tried, code).await.unwrap(), want, "{code}");
    }
}

async fn a_code_ends_and_the_next_may_come(world: &World) {
    let (engine, key) = (&world.engine, world.key("code end"));
    let (life, every) = (Duration::from_millis(300), Duration::from_millis(60));
    engine.issue_code(&key, "111111", life, every, 3).await.unwrap();
    // A new code replaces one that is not used.
    world
        .until(every, || async {
            engine.issue_code(&key, "222222", life, every, 3).await.unwrap() == Issued::Issued || world.clock.is_none()
        })
        .await;
    if world.clock.is_some() {
        assert_eq!(engine.redeem_code(&key, "111111").await.unwrap(), Redeemed::Wrong);
    }
    world
        .until(life, || async {
            engine.redeem_code(&key, "222222").await.unwrap() != Redeemed::Matched
        })
        .await;
}

async fn of_many_right_tries_one_matches(world: &World) {
    let key = world.key("race");
    world
        .engine
        .issue_code(&key, "123456", MINUTE, MINUTE, 3)
        .await
        .unwrap();
    let tries = join_all((0..100).map(|_| world.engine.redeem_code(&key, "123456"))).await;
    let n_matched = tries
        .into_iter()
        .filter(|outcome| *outcome.as_ref().unwrap() == Redeemed::Matched)
        .count();
    assert_eq!(n_matched, 1);
}

async fn contract(world: World) {
    bytes_live_until_their_end(&world).await;
    what_is_read_out_of_bytes_goes_with_them(&world).await;
    bytes_are_replaced_only_where_expected(&world).await;
    of_many_that_set_if_absent_one_does(&world).await;
    counters_count_and_start_anew(&world).await;
    a_code_is_tried_thrice_and_used_once(&world).await;
    a_code_ends_and_the_next_may_come(&world).await;
    of_many_right_tries_one_matches(&world).await;
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract(World::memory()).await;
}

#[tokio::test]
async fn redis_keeps_the_contract() {
    if let Some(world) = World::redis() {
        contract(world).await;
    }
}

#[tokio::test]
async fn a_code_without_an_end_is_a_defect_that_is_told() {
    let Some(world) = World::redis() else { return };
    let key = world.key("corrupt");
    let client = redis::Client::open(test_url("MOSAIC_TEST_REDIS").unwrap()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut command = redis::cmd("HSET");
    let stored: i64 = command
        .arg(format!("code:{key}"))
        .arg("code")
        .arg("1")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(stored, 1);
    assert_eq!(
        world.engine.issue_code(&key, "2", MINUTE, MINUTE, 3).await.unwrap(),
        Issued::Corrupt
    );
    let good = world.key("good");
    world.engine.issue_code(&good, "3", MINUTE, MINUTE, 3).await.unwrap();
    assert!(world.engine.clean_up_codes().await.unwrap() >= 1);
    assert_eq!(
        world.engine.issue_code(&key, "2", MINUTE, MINUTE, 3).await.unwrap(),
        Issued::Issued
    );
    assert_eq!(world.engine.redeem_code(&good, "3").await.unwrap(), Redeemed::Matched);
}
