//! Reads: events of products, counted in batches; and, by another group, who has read what.
//!
//! Counting is not repeatable, so a batch has one transaction and an inbox. The history keeps the last time, which may be written
//! twice, so it needs neither. That these are two groups lets each go on while the other stands still.
//!
//! What everybody reads is counted many times a second. If its counters left the cache each time, most of those who read it would wait for
//! the database, so they leave it at most once in [`FORGET_EVERY`].
//!
//! [`install`] is the table of what is read: a product's event is one implementation of [`Readable`] and one line there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mosaic::events::{Arrived, BatchSize, Event, Group, HandleBatch, HandleBatchIn};
use mosaic::sql::{Database, Transaction, micros};
use mosaic::{AccountId, Module, Result, Runtime, StopSignal, lock};
use mosaic_api::events::ArticleRead;

use crate::config::InteractionConfig;
use crate::counts::CachedCounts;
use crate::model::Item;
use crate::store::{self, Visit};

/// How often counters whose reads have changed leave the cache.
const FORGET_EVERY: Duration = Duration::from_secs(1);

/// An event that says that an item was read.
trait Readable: Event {
    /// The kind of item.
    const BIZ: &'static str;

    /// Returns which one, by whom if known, and when in microseconds since 1970.
    fn read(&self) -> (i64, Option<AccountId>, i64);
}

impl Readable for ArticleRead {
    const BIZ: &'static str = "article";

    fn read(&self) -> (i64, Option<AccountId>, i64) {
        (self.article_id, self.reader, self.at_us)
    }
}

/// Wires up who counts what and who remembers it.
pub(crate) fn install(
    m: &mut Module,
    database: &Database,
    counts: &CachedCounts,
    config: &InteractionConfig,
) -> Result<()> {
    let size = BatchSize {
        events: config.reads_batch_max.max(1),
        wait: config.reads_wait,
    };
    let count = Arc::new(Count::default());
    m.background().spawn(
        "interaction.forget",
        forget(count.changed.clone(), counts.clone(), m.background().stop_signal()),
    );
    let remember = Arc::new(Remember {
        database: database.clone(),
        runtime: m.runtime().clone(),
    });
    let counting: Group = m
        .group("interaction.reads")?
        .on_batch_in_transaction::<ArticleRead>(size, count);
    let remembering: Group = m.group("interaction.history")?.on_batch::<ArticleRead>(size, remember);
    m.consume(counting);
    m.consume(remembering);
    Ok(())
}

/// Counts reads.
#[derive(Default)]
struct Count {
    /// Items whose counters are not those of the cache.
    changed: Arc<Mutex<BTreeSet<Item>>>,
}

/// Has the cache forget what has changed, every now and then and in the end.
async fn forget(changed: Arc<Mutex<BTreeSet<Item>>>, counts: CachedCounts, mut stop: StopSignal) {
    while !stop.is_stopping() {
        tokio::select! {
            () = stop.stopped() => {}
            () = tokio::time::sleep(FORGET_EVERY) => {}
        }
        let items: Vec<_> = std::mem::take(&mut *lock(&changed)).into_iter().collect();
        counts.forget(&items).await;
    }
}

impl<E: Readable> HandleBatchIn<E> for Count {
    async fn handle(&self, events: Vec<Arrived<E>>, tx: &Transaction) -> Result<()> {
        let mut n_reads: BTreeMap<i64, i64> = BTreeMap::new();
        for arrived in &events {
            *n_reads.entry(arrived.event.read().0).or_default() += 1;
        }
        let biz: Arc<str> = E::BIZ.into();
        let item = |biz_id: i64| Item {
            biz: biz.clone(),
            biz_id,
        };
        let reads: BTreeMap<Item, i64> = n_reads.into_iter().map(|(id, n)| (item(id), n)).collect();
        store::add_reads(tx, reads.iter().map(|(item, n)| (item, *n))).await?;
        let changed = self.changed.clone();
        tx.on_commit(move || lock(&changed).extend(reads.into_keys()));
        Ok(())
    }
}

/// Keeps who has read what when.
struct Remember {
    database: Database,
    runtime: Runtime,
}

impl<E: Readable> HandleBatch<E> for Remember {
    async fn handle(&self, events: Vec<Arrived<E>>) -> Result<()> {
        let (biz, now): (Arc<str>, i64) = (E::BIZ.into(), micros(self.runtime.now()));
        let mut last: BTreeMap<Visit, i64> = BTreeMap::new();
        for arrived in &events {
            let (biz_id, Some(account), at_us) = arrived.event.read() else {
                continue;
            };
            let item = Item {
                biz: biz.clone(),
                biz_id,
            };
            let at = last.entry(Visit { account, item }).or_default();
            // What comes from the future would stay on top.
            *at = (*at).max(at_us.min(now));
        }
        store::keep_history(&self.database, &last).await
    }
}
