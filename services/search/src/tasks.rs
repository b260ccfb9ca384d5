//! What is done later: rows are brought to the engine, people asked about, indexes filled and dropped.
//!
//! Each may run again at any time: it reads what is true now, and the engine keeps the later version. Attempts do not run out, for
//! what is to be found must be found when the engine is back, however long it was away.

use std::sync::Arc;
use std::time::Duration;

use mosaic::tasks::{Backoff, Options, Task, TaskContext, When};
use mosaic::{AccountId, Error, Module, Result};
use mosaic_api::users::v1::{GetProfileRequest, UsersClient};
use serde::{Deserialize, Serialize};

use crate::indexes::Indexes;
use crate::model::{Entry, EntryKey, Kind};
use crate::store::{self, Generations, Store};

/// Rows of one batch of a fill: at most 64 kB each.
const BATCH: u64 = 100;
/// Somebody may still be searching a generation that was replaced.
const DROPPED_AFTER: Duration = Duration::from_secs(60);

/// How tasks are tried: until they succeed, once a minute at last.
pub(crate) fn patient() -> Options {
    Options {
        retries_max: 1_000_000,
        backoff: Backoff {
            base: Duration::from_secs(1),
            max: Duration::from_secs(60),
        },
        ..Options::default()
    }
}

/// Wires the tasks up.
pub(crate) fn install(m: &mut Module, store: &Store, indexes: &Arc<Indexes>) -> Result<()> {
    let needs = Arc::new(Needs {
        store: store.clone(),
        indexes: indexes.clone(),
    });
    m.on_task::<IndexEntry>(needs.clone())?;
    m.on_task::<Fill>(needs.clone())?;
    m.on_task::<DropGeneration>(needs)?;
    let needs = FollowNeeds {
        store: store.clone(),
        users: m.client(),
    };
    m.on_task::<RefreshUser>(Arc::new(needs))
}

pub(crate) struct Needs {
    store: Store,
    indexes: Arc<Indexes>,
}

/// Brings an entry to the engine, as it is by then.
#[derive(Serialize, Deserialize)]
pub(crate) struct IndexEntry {
    pub(crate) key: EntryKey,
}

impl Task for IndexEntry {
    const NAME: &'static str = "search.index_entry";
    type Needs = Needs;
    type Output = ();

    async fn run(self, needs: &Needs, _: &TaskContext) -> Result<()> {
        match needs.store.entry(&self.key).await? {
            Some(entry) => needs.indexes.write(self.key.kind, vec![entry]).await,
            None => Ok(()),
        }
    }
}

/// Brings all entries of a kind to a generation of its index; then, if it is the next one, has it searched.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Fill {
    pub(crate) kind: Kind,
    pub(crate) generation: i64,
}

impl Task for Fill {
    const NAME: &'static str = "search.fill";
    type Needs = Needs;
    type Output = ();

    async fn run(self, needs: &Needs, cx: &TaskContext) -> Result<()> {
        let place = (self.kind, self.generation);
        let (mut after, mut n_entries) = (String::new(), 0);
        loop {
            let generations = needs.store.generations(self.kind).await?;
            if generations.in_use != self.generation && generations.being_built != Some(self.generation) {
                tracing::info!(
                    kind = self.kind.name(),
                    self.generation,
                    "nobody needs this generation any more"
                );
                return Ok(());
            }
            let entries = needs.store.entries_after(self.kind, &after, BATCH).await?;
            let Some(last) = entries.last() else { break };
            after.clone_from(&last.key.id);
            n_entries += entries.len();
            needs.indexes.write_to(place, entries).await?;
        }
        needs.indexes.refresh(place).await?;
        self.switch(needs, cx).await?;
        tracing::info!(kind = self.kind.name(), self.generation, n_entries, "filled an index");
        Ok(())
    }
}

impl Fill {
    /// Has the generation searched that is complete, and the one before dropped.
    async fn switch(&self, needs: &Needs, cx: &TaskContext) -> Result<()> {
        let transactions = needs.store.transactions();
        transactions
            .run(async |tx| {
                let generations = store::lock_generations(&tx, self.kind).await?;
                if generations.being_built != Some(self.generation) {
                    return Ok(());
                }
                let switched = Generations {
                    in_use: self.generation,
                    being_built: None,
                };
                store::save_generations(&tx, self.kind, switched).await?;
                let drop_old = DropGeneration {
                    kind: self.kind,
                    generation: generations.in_use,
                };
                let options = Options {
                    when: When::In(DROPPED_AFTER),
                    ..patient()
                };
                tx.enqueue_with(cx, &drop_old, options).await.map(drop)
            })
            .await
    }
}

/// Drops a generation that is not searched any more.
#[derive(Serialize, Deserialize)]
struct DropGeneration {
    kind: Kind,
    generation: i64,
}

impl Task for DropGeneration {
    const NAME: &'static str = "search.drop_generation";
    type Needs = Needs;
    type Output = ();

    async fn run(self, needs: &Needs, _: &TaskContext) -> Result<()> {
        let generations = needs.store.generations(self.kind).await?;
        if self.generation >= generations.in_use {
            return Ok(());
        }
        needs.indexes.drop_index((self.kind, self.generation)).await
    }
}

pub(crate) struct FollowNeeds {
    store: Store,
    users: UsersClient,
}

/// Asks what somebody is called, and keeps it.
#[derive(Serialize, Deserialize)]
pub(crate) struct RefreshUser {
    pub(crate) account: AccountId,
    /// An earlier profile than of this time is an answer of a cache that has not heard of the change yet.
    pub(crate) not_before_us: i64,
}

impl Task for RefreshUser {
    const NAME: &'static str = "search.refresh_user";
    type Needs = FollowNeeds;
    type Output = ();

    async fn run(self, needs: &FollowNeeds, cx: &TaskContext) -> Result<()> {
        let request = GetProfileRequest {
            account_id: self.account.get(),
        };
        let profile = needs.users.get_profile(cx, request).await?;
        if profile.updated_at_us < self.not_before_us {
            return Err(Error::unavailable(
                "PROFILE_STALE",
                "the profile is older than its change",
            ));
        }
        let entry = Entry::user(self.account, &profile.nickname, profile.updated_at_us.max(1));
        accept(&needs.store, cx, &entry).await
    }
}

/// Keeps an entry and has it brought to the engine: both, or nothing.
pub(crate) async fn accept(store: &Store, cx: &mosaic::Context, entry: &Entry) -> Result<()> {
    store
        .transactions()
        .run(async |tx| {
            if store::keep(&tx, entry).await? {
                let task = IndexEntry { key: entry.key.clone() };
                tx.enqueue_with(cx, &task, patient()).await?;
            }
            Ok(())
        })
        .await
}

/// Has every index built anew, beside the one in use.
pub(crate) async fn rebuild(store: &Store, cx: &mosaic::Context) -> Result<()> {
    store
        .transactions()
        .run(async |tx| {
            for kind in Kind::ALL {
                let generations = store::lock_generations(&tx, kind).await?;
                // One that is being built already is filled once more, from the start.
                let generation = generations.being_built.unwrap_or(generations.in_use + 1);
                let building = Generations {
                    being_built: Some(generation),
                    ..generations
                };
                store::save_generations(&tx, kind, building).await?;
                tx.enqueue_with(cx, &Fill { kind, generation }, patient()).await?;
            }
            Ok(())
        })
        .await
}
