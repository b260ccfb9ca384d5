//! What happens when nodes, the cache or the database die; with the parts of a node over a database of the test.

use std::sync::Arc;
use std::time::Duration;

use mosaic::cache::Cache;
use mosaic::lease::{Acquired, Candidate, CandidateOptions, Lease, Leases as _, MIGRATIONS as LEASE_MIGRATIONS};
use mosaic::sql::sea_orm::ConnectionTrait as _;
use mosaic::sql::sea_orm::sea_query::Query;
use mosaic::sql::{Database, Migration, Options};
use mosaic::{Runtime, TaskGroup};
use mosaic_testing::until;

use crate::RankingConfig;
use crate::hot::Computer;
use crate::hot_list::{HotList, HotLists};
use crate::store::{self, ITEMS, Saved, Store, raise_version};
use crate::top_list::TopLists;

const BIZ: &str = "article";
const PATIENCE: Duration = Duration::from_secs(20);
/// A leader that dies is followed after this.
const TTL: Duration = Duration::from_millis(600);

struct Node {
    store: Store,
    hot: Arc<HotLists>,
    top: TopLists,
    computer: Arc<Computer>,
}

fn config() -> RankingConfig {
    RankingConfig {
        hot_every: Duration::from_millis(20),
        hot_size: 100,
        hot_window: Duration::from_secs(7 * 24 * 3600),
        gravity: 1.5,
        page: 100,
        look_every: Duration::from_millis(20),
    }
}

impl Node {
    fn new(database: &Database, cache: &Cache, runtime: &Runtime) -> Self {
        let store = Store::new(database, runtime);
        let hot = Arc::new(HotLists::new(&store, cache));
        let top = TopLists::new(&store, runtime);
        let computer = Arc::new(Computer::new(&store, hot.clone(), runtime, &config()));
        Self {
            store,
            hot,
            top,
            computer,
        }
    }

    async fn ids(&self) -> Vec<i64> {
        let list = self.hot.get(BIZ).await.unwrap().expect("a list");
        list.items.iter().map(|(id, _)| *id).collect()
    }

    async fn lease(&self, holder: &str, ttl: Duration) -> Lease {
        loop {
            match self.store.leases().acquire(crate::LEASE, holder, ttl).await.unwrap() {
                Acquired::Ours(lease) => return lease,
                Acquired::Theirs(other) => tokio::time::sleep(other.remaining).await,
            }
        }
    }

    async fn lead(&self, name: &str, runtime: &Runtime, tasks: &TaskGroup) {
        let options = CandidateOptions {
            ttl: TTL,
            ..CandidateOptions::default()
        };
        let leases = Arc::new(self.store.leases().clone());
        let candidate = Candidate::new(leases, runtime, crate::LEASE, name, options);
        candidate
            .lead(tasks.stop_signal(), |leadership| self.computer.clone().lead(leadership))
            .await;
    }
}

async fn database() -> Database {
    let migrations: Vec<Migration> = LEASE_MIGRATIONS.iter().chain(store::MIGRATIONS).copied().collect();
    Database::open("sqlite::memory:", "ranking", &Options::default(), &migrations)
        .await
        .unwrap()
}

fn cache(url: &str, runtime: &Runtime) -> Cache {
    Cache::open(url, runtime).unwrap()
}

/// Nobody listens there.
fn dead_cache(runtime: &Runtime) -> Cache {
    cache("redis://127.0.0.1:1", runtime)
}

async fn add(database: &Database, items: &[(i64, i64)], at: i64) {
    let mut insert = Query::insert();
    insert.into_table(ITEMS);
    insert.columns([
        "biz",
        "biz_id",
        "author_id",
        "published_at",
        "likes",
        "state",
        "item_seen",
        "likes_seen",
    ]);
    for (biz_id, likes) in items {
        let row = [*biz_id, 7, at, *likes, 1, 0, 0].map(Into::into);
        insert.values_panic([BIZ.into()].into_iter().chain(row));
    }
    database.execute(&insert).await.unwrap();
    raise_version(database, BIZ).await.unwrap();
}

fn list(computed_at: i64, id: i64) -> HotList {
    HotList {
        computed_at,
        items: vec![(id, 1.0)],
    }
}

#[tokio::test]
async fn pages_end_with_what_a_full_sort_has() {
    let runtime = Runtime::system();
    let (database, now) = (database().await, runtime.now().as_micros());
    let node = Node::new(&database, &cache("memory:", &runtime), &runtime);
    // More equal times than a page has, hotter ones behind them.
    let equals: Vec<_> = (1..=250).map(|id| (id, id % 7)).collect();
    add(&database, &equals, now - 1_000_000).await;
    let old: Vec<_> = (1001..=1250).map(|id| (id, id * 1000)).collect();
    add(&database, &old, now - 2_000_000).await;
    add(&database, &[(2000, 1_000_000_000)], now - 8 * 24 * 3600 * 1_000_000).await;
    let computed = node.computer.compute(BIZ, None).await.unwrap();
    let ids: Vec<i64> = computed.items.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, (1151..=1250).rev().collect::<Vec<_>>());
}

/// Compares lists of which one was stored as JSON, in which the last bit of a score may change.
#[track_caller]
fn assert_same(stored: &HotList, computed: &HotList) {
    assert_eq!(stored.computed_at, computed.computed_at);
    assert_eq!(stored.items.len(), computed.items.len());
    for ((id, score), (expected_id, expected)) in stored.items.iter().zip(&computed.items) {
        assert_eq!(id, expected_id);
        assert!((score - expected).abs() <= expected.abs() * 1e-12, "{score} {expected}");
    }
}

#[tokio::test]
async fn a_dead_cache_and_a_dead_database_leave_the_last_lists() {
    let runtime = Runtime::system();
    let (database, now) = (database().await, runtime.now().as_micros());
    for cache in [cache("memory:", &runtime), dead_cache(&runtime)] {
        let node = Node::new(&database, &cache, &runtime);
        if node.store.version(BIZ).await.unwrap().is_none() {
            add(&database, &[(1, 3), (2, 4)], now).await;
        }
        let computed = node.computer.compute(BIZ, None).await.unwrap();
        assert_eq!(node.ids().await, [2, 1]);
        // A restart.
        let node = Node::new(&database, &cache, &runtime);
        assert_same(&node.hot.get(BIZ).await.unwrap().expect("a list"), &computed);
    }
    let shared = cache("memory:", &runtime);
    let node = Node::new(&database, &shared, &runtime);
    let computed = node.computer.compute(BIZ, None).await.unwrap();
    node.top.refresh().await.unwrap();
    database.close().await;
    assert!(node.hot.refresh().await.is_err() && node.top.refresh().await.is_err());
    assert_eq!(node.ids().await, [2, 1]);
    let top = node.top.get(BIZ).await.unwrap().expect("a list");
    assert_eq!(*top.items, [(2, 4), (1, 3)]);
    // A restart without a database has the hot list from the cache; without both nobody claims that there is none.
    let node = Node::new(&database, &shared, &runtime);
    assert_same(&node.hot.get(BIZ).await.unwrap().expect("a list"), &computed);
    let node = Node::new(&database, &dead_cache(&runtime), &runtime);
    assert!(node.hot.get(BIZ).await.is_err());
}

#[tokio::test]
async fn who_was_followed_cannot_overwrite() {
    let runtime = Runtime::system();
    let database = database().await;
    let shared = cache("memory:", &runtime);
    let (a, b) = (
        Node::new(&database, &shared, &runtime),
        Node::new(&database, &shared, &runtime),
    );
    let old = a.lease("a", Duration::from_millis(1)).await;
    let new = b.lease("b", PATIENCE).await;
    assert!(new.fence > old.fence);
    let stored = b.store.save_hot(BIZ, &list(10, 2), 0, Some(&new)).await.unwrap();
    assert_eq!(stored, Saved::Stored(list(10, 2)));
    b.hot.publish(BIZ, list(10, 2)).await;
    let late = a.store.save_hot(BIZ, &list(20, 1), 10, Some(&old)).await;
    assert_eq!(
        late.map_err(|error| error.reason().to_owned()),
        Err("LEASE_LOST".to_owned())
    );
    // Nor in the cache, where an older list comes late.
    a.hot.publish(BIZ, list(5, 1)).await;
    let c = Node::new(&database, &shared, &runtime);
    assert_eq!(c.ids().await, [2]);
    assert_eq!(b.store.hot_list(BIZ).await.unwrap(), Some(list(10, 2)));
    // And who has a newer list than a leader began with is not overwritten by it; times rise, whatever the clocks say.
    assert_eq!(
        b.store.save_hot(BIZ, &list(30, 3), 9, Some(&new)).await.unwrap(),
        Saved::Outrun
    );
    let stored = b.store.save_hot(BIZ, &list(3, 4), 10, Some(&new)).await.unwrap();
    assert_eq!(stored, Saved::Stored(list(11, 4)));
}

#[tokio::test]
async fn a_leader_that_dies_is_followed() {
    let runtime = Runtime::system();
    let (database, now) = (database().await, runtime.now().as_micros());
    let shared = cache("memory:", &runtime);
    let (a, b) = (
        Node::new(&database, &shared, &runtime),
        Node::new(&database, &shared, &runtime),
    );
    add(&database, &[(1, 3)], now).await;
    let tasks = TaskGroup::new(|panic| panic!("{} {}", panic.task, panic.message));
    let mut leading_a = Box::pin(a.lead("a", &runtime, &tasks));
    let mut leading_b = Box::pin(b.lead("b", &runtime, &tasks));
    tokio::select! {
        () = &mut leading_a => unreachable!("it leads until told to stop"),
        () = until("the first list", PATIENCE, || async { b.store.hot_list(BIZ).await.unwrap().is_some() }) => {}
    }
    // Both are candidates now, and one computes.
    let holder = || async {
        a.store
            .leases()
            .holder(crate::LEASE)
            .await
            .unwrap()
            .map(|holder| holder.holder)
    };
    assert_eq!(holder().await.as_deref(), Some("a"));
    // A crash: nothing is given back.
    drop(leading_a);
    add(&database, &[(2, 9)], now).await;
    tokio::select! {
        () = &mut leading_b => unreachable!("it leads until told to stop"),
        () = until("the list of the follower", PATIENCE, || async {
            b.store.hot_list(BIZ).await.unwrap().is_some_and(|list| list.items.len() == 2)
        }) => {}
    }
    assert_eq!(holder().await.as_deref(), Some("b"));
    a.hot.refresh().await.unwrap();
    assert_eq!(a.ids().await, [2, 1], "the others have it, too");
}

#[tokio::test]
async fn a_copy_is_read_again_when_the_version_has_changed_only() {
    let runtime = Runtime::system();
    let (database, now) = (database().await, runtime.now().as_micros());
    let node = Node::new(&database, &cache("memory:", &runtime), &runtime);
    assert_eq!(node.top.get(BIZ).await.unwrap(), None);
    add(&database, &[(1, 3)], now).await;
    let first = node.top.get(BIZ).await.unwrap().expect("a list");
    node.top.refresh().await.unwrap();
    let again = node.top.get(BIZ).await.unwrap().expect("a list");
    assert!(Arc::ptr_eq(&first.items, &again.items));
    assert!(again.as_of > first.as_of);
    add(&database, &[(2, 5)], now).await;
    node.top.refresh().await.unwrap();
    assert_eq!(
        *node.top.get(BIZ).await.unwrap().expect("a list").items,
        [(2, 5), (1, 3)]
    );
}
