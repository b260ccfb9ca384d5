//! What is hot and what is liked most: lists of items of any kind, fed by events.
//!
//! The module keeps a table of its own of what ranks an item (when it was published, how many like it), written by the
//! events of items and interactions in batches. From it come two lists for each kind of items:
//!
//! - the **hot list**, computed every few minutes by one node, chosen by load and fenced, and kept in the table, the shared
//!   cache and the memory of every node (`docs/guides/hot-list.md`);
//! - the **most liked**, up to a thousand, read from an index and kept in memory as long as nothing has changed
//!   (`docs/guides/top-n.md`).
//!
//! Promises: events may come late, twice and in any order between topics; what was ever computed is answered with its age, whether or
//! not cache and database are there; nobody waits for a computing.

mod changes;
mod hot;
mod hot_list;
mod model;
mod service;
mod store;
mod top_list;

use std::sync::Arc;
use std::time::Duration;

use mosaic::events::BatchSize;
use mosaic::guard::CpuLoad;
use mosaic::lease::{Candidate, CandidateOptions, LoadPolicy};
use mosaic::{Module, Result};
use mosaic_api::events::{ItemPublished, ItemWithdrawn, LikesChanged};
use mosaic_api::ranking::v1::RankingServer;
use tokio::sync::Notify;

use changes::Changes;
use hot::Computer;
use hot_list::HotLists;
use service::Service;
use store::Store;
use top_list::TopLists;

/// Who holds it computes hot lists.
const LEASE: &str = "ranking_hot";
/// Events in a transaction.
const BATCH: BatchSize = BatchSize {
    events: 500,
    wait: Duration::from_millis(200),
};

mosaic::config! {
    /// Hot lists and the most liked.
    pub struct RankingConfig in "ranking" {
        /// Time between two computings of the hot lists.
        pub hot_every: Duration = "3m",
        /// Items in a hot list, at most 1000.
        pub hot_size: usize = "100",
        /// Items published before that are not hot.
        pub hot_window: Duration = "7d",
        /// How fast items cool down: the exponent of their age.
        pub gravity: f64 = "1.5",
        /// Rows that are read at once.
        pub page: u64 = "2000",
        /// How often a node looks whether its lists are the newest.
        pub look_every: Duration = "1s",
    }
}

/// Wires the module up.
///
/// # Errors
/// A configuration with mistakes; a database that cannot be used.
pub async fn install(m: &mut Module) -> Result<()> {
    let config = checked(m)?;
    let store = Store::new(&m.database(store::MIGRATIONS).await?, m.runtime());
    let hot = Arc::new(HotLists::new(&store, m.cache()));
    let top = Arc::new(TopLists::new(&store, m.runtime()));
    let computer = Arc::new(Computer::new(&store, hot.clone(), m.runtime(), &config));
    let changed = Arc::new(Notify::new());

    let changes = Arc::new(Changes {
        changed: changed.clone(),
    });
    let group = m
        .group("ranking")?
        .on_batch_in_transaction::<ItemPublished>(BATCH, changes.clone())
        .on_batch_in_transaction::<ItemWithdrawn>(BATCH, changes.clone())
        .on_batch_in_transaction::<LikesChanged>(BATCH, changes);
    m.consume(group);
    look(m, &hot, &top, changed, config.look_every);
    lead(m, &store, &computer);
    m.serve(RankingServer::new(Arc::new(Service {
        store,
        hot,
        top,
        computer,
        computing: tokio::sync::Mutex::default(),
    })));
    Ok(())
}

fn checked(m: &Module) -> Result<RankingConfig> {
    let config = m.config::<RankingConfig>()?;
    if !(1..=1000).contains(&config.hot_size) {
        return Err(m.misconfigured("ranking.hot_size", "must be from 1 to 1000"));
    }
    if !(0.0..=10.0).contains(&config.gravity) {
        return Err(m.misconfigured("ranking.gravity", "must be from 0 to 10"));
    }
    if !(100..=50_000).contains(&config.page) {
        return Err(m.misconfigured("ranking.page", "must be from 100 to 50000"));
    }
    Ok(config)
}

/// Keeps what this node knows new: looks every now and then, and soon after this process has changed something.
fn look(m: &Module, hot: &Arc<HotLists>, top: &Arc<TopLists>, changed: Arc<Notify>, every: Duration) {
    let (hot, top, mut stop) = (hot.clone(), top.clone(), m.background().stop_signal());
    m.background().spawn("ranking.look", async move {
        while !stop.is_stopping() {
            for refreshed in [top.refresh().await, hot.refresh().await] {
                if let Err(error) = refreshed {
                    tracing::warn!(cause = error.cause_chain(), "lists stay as they are: {error}");
                }
            }
            tokio::select! {
                () = stop.stopped() => return,
                // Changes may come all the time.
                () = async { tokio::join!(tokio::time::sleep(every / 4), changed.notified()); } => {}
                () = tokio::time::sleep(every) => {}
            }
        }
    });
}

/// Computes hot lists if, of all nodes, this one has the least to do.
fn lead(m: &Module, store: &Store, computer: &Arc<Computer>) {
    let load = CpuLoad::default();
    load.watch(m.background(), m.runtime());
    let node = m.runtime().random_hex::<8>();
    let leases = Arc::new(store.leases().clone());
    let candidate = Candidate::new(leases, m.runtime(), LEASE, &node, CandidateOptions::default())
        .with_load(LoadPolicy::default(), Arc::new(move || load.usage()));
    let (computer, stop) = (computer.clone(), m.background().stop_signal());
    m.background().spawn("ranking.hot", async move {
        candidate
            .lead(stop, |leadership| computer.clone().lead(leadership))
            .await;
    });
}

#[cfg(test)]
mod tests;
