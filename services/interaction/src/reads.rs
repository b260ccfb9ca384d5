//! Reads: events of products, counted in batches; and, by another group, who has read what.
//!
//! Counting is not repeatable, so a batch has one transaction and an inbox. The history keeps the last time, which may be written
//! twice, so it needs neither. That these are two groups lets each go on while the other stands still.
//!
//! [`install`] is the table of what is read: a product's event is one implementation of [`Readable`] and one line there.

use std::collections::BTreeMap;
use std::sync::Arc;

use mosaic::events::{BatchSize, Event, Group, HandleBatch, HandleBatchIn};
use mosaic::sql::{Database, Transaction, micros};
use mosaic::{AccountId, Context, Module, Result, Runtime, TaskGroup};
use mosaic_api::events::ArticleRead;

use crate::config::InteractionConfig;
use crate::counts::CachedCounts;
use crate::model::Item;
use crate::store::{self, Visit};

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
    let count = Arc::new(Count {
        counts: counts.clone(),
        group: m.background().clone(),
    });
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
struct Count {
    counts: CachedCounts,
    group: TaskGroup,
}

impl<E: Readable> HandleBatchIn<E> for Count {
    async fn handle(&self, events: Vec<(Context, E)>, tx: &Transaction) -> Result<()> {
        let mut n_reads: BTreeMap<i64, i64> = BTreeMap::new();
        for (_, event) in &events {
            *n_reads.entry(event.read().0).or_default() += 1;
        }
        let biz: Arc<str> = E::BIZ.into();
        let item = |biz_id: i64| Item {
            biz: biz.clone(),
            biz_id,
        };
        let reads: BTreeMap<Item, i64> = n_reads.into_iter().map(|(id, n)| (item(id), n)).collect();
        store::add_reads(tx, reads.iter().map(|(item, n)| (item, *n))).await?;
        let (counts, group) = (self.counts.clone(), self.group.clone());
        tx.on_commit(move || {
            let items: Vec<_> = reads.into_keys().collect();
            group.spawn("interaction.forget", async move { counts.forget(&items).await });
        });
        Ok(())
    }
}

/// Keeps who has read what when.
struct Remember {
    database: Database,
    runtime: Runtime,
}

impl<E: Readable> HandleBatch<E> for Remember {
    async fn handle(&self, events: Vec<(Context, E)>) -> Result<()> {
        let (biz, now): (Arc<str>, i64) = (E::BIZ.into(), micros(self.runtime.now()));
        let mut last: BTreeMap<Visit, i64> = BTreeMap::new();
        for (_, event) in &events {
            let (biz_id, Some(account), at_us) = event.read() else {
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
