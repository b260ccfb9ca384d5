//! A batch of changes as one transaction.
//!
//! The rows of the items are locked first, in their order: from then on nobody else changes who likes or collects them, so what
//! is there can be read, and rows, counters and events follow from it. Two processes with the same items wait for
//! each other; neither waits for what the other has while it has what the other waits for. Folders come before items: who
//! deletes one locks it before it touches what is in it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use mosaic::events::{Message, Outbox};
use mosaic::sql::sea_orm::{ConnectionTrait as _, QueryResult, Statement, TryGetable};
use mosaic::sql::{Database, Transaction, into_error, micros};
use mosaic::{AccountId, Context, Error, Result, Runtime};
use mosaic_api::events::{Item as EventItem, LikesChanged};

use crate::model::{Change, Counts, DEFAULT_FOLDER, Delta, FolderError, FolderId, Item, Kind, Mark, last_words, plan};
use crate::own::Marker;
use crate::store;
use mosaic::sql::rows::{self, Column};

/// See the module documentation.
#[derive(Clone)]
pub(crate) struct Changes {
    database: Database,
    outbox: Outbox,
    runtime: Runtime,
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) struct Applied {
    /// For each change whether it was possible.
    pub(crate) outcomes: Vec<Result<(), FolderError>>,
    /// Whose counters are others now.
    pub(crate) changed: Vec<Item>,
    /// Whose marks are others now.
    pub(crate) markers: BTreeSet<Marker>,
}

const ITEM: [Column; 2] = [Column::Text("biz"), Column::Number("biz_id")];
const MARK: [Column; 6] = [
    Column::Text("biz"),
    Column::Number("biz_id"),
    Column::Number("account_id"),
    Column::Number("kind"),
    Column::Number("folder_id"),
    Column::Number("marked_at"),
];
const SAME_ITEM: &str = "t.biz = k.biz AND t.biz_id = k.biz_id";
const SAME_MARK: &str = "t.biz = k.biz AND t.biz_id = k.biz_id AND t.account_id = k.account_id AND t.kind = k.kind";

impl Changes {
    pub(crate) fn new(database: &Database, outbox: &Outbox, runtime: &Runtime) -> Self {
        Self {
            database: database.clone(),
            outbox: outbox.clone(),
            runtime: runtime.clone(),
        }
    }

    /// Makes `changes` come true in their order, all of them that are possible or none.
    pub(crate) async fn apply(&self, changes: &[(&Context, &Change)]) -> Result<Applied> {
        self.database.transaction(|tx| self.apply_in(tx, changes)).await
    }

    async fn apply_in(&self, tx: Transaction, changes: &[(&Context, &Change)]) -> Result<Applied> {
        let folders = wanted_folders(changes);
        let known = store::lock_folders(&tx, &folders).await?;
        let possible = |change: &Change| match folder_of(change) {
            Some(folder) if !known.contains(&folder) => Err(FolderError::NotFound),
            _ => Ok(()),
        };
        let outcomes: Vec<_> = changes.iter().map(|(_, change)| possible(change)).collect();
        let possible = changes
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| outcome.is_ok())
            .map(|(asked, _)| *asked);
        let wanted = last_words(possible.clone().map(|(_, change)| change));

        let counts = lock_items(&tx, &wanted).await?;
        let there = marks_there(&tx, wanted.keys()).await?;
        let plan = plan(&wanted, &there);
        remove(&tx, &plan.gone).await?;
        insert(&tx, &plan.new, micros(self.runtime.now())).await?;
        count(&tx, &plan.deltas).await?;
        let changed = possible.map(|(cx, change)| (&change.mark.item, cx)).collect();
        self.tell(&tx, &plan.deltas, &counts, &changed).await?;
        let marks = plan.gone.iter().chain(plan.new.iter().map(|(mark, _)| mark));
        Ok(Applied {
            outcomes,
            markers: marks.map(|mark| (mark.account, mark.item.biz.clone())).collect(),
            changed: plan.deltas.into_keys().collect(),
        })
    }

    /// Publishes how many like what now, in the trace of the last who changed it.
    async fn tell(
        &self,
        tx: &Transaction,
        deltas: &BTreeMap<Item, Delta>,
        before: &HashMap<Item, Counts>,
        changed_in: &HashMap<&Item, &Context>,
    ) -> Result<()> {
        let mut messages = Vec::new();
        for (item, delta) in deltas.iter().filter(|(_, delta)| delta.likes != 0) {
            let event = LikesChanged {
                item: EventItem {
                    biz: item.biz.to_string(),
                    biz_id: item.biz_id,
                },
                likes: before.get(item).copied().unwrap_or_default().likes + delta.likes,
            };
            let cx = changed_in
                .get(item)
                .ok_or_else(|| Error::internal("nobody changed it"))?;
            messages.push(Message::of(cx, &event)?);
        }
        if messages.is_empty() {
            return Ok(());
        }
        self.outbox.publish_all(tx, &messages).await
    }
}

fn wanted_folders(changes: &[(&Context, &Change)]) -> BTreeSet<(FolderId, AccountId, String)> {
    changes.iter().filter_map(|(_, change)| folder_of(change)).collect()
}

/// Returns the folder that must be there.
fn folder_of(change: &Change) -> Option<(FolderId, AccountId, String)> {
    let folder = change.wanted.filter(|folder| *folder != DEFAULT_FOLDER)?;
    Some((folder, change.mark.account, change.mark.item.biz.to_string()))
}

/// Locks the items of `wanted` in their order and returns their counters; makes those that are to have their first mark.
async fn lock_items(tx: &Transaction, wanted: &BTreeMap<Mark, Option<FolderId>>) -> Result<HashMap<Item, Counts>> {
    let items: BTreeSet<&Item> = wanted.keys().map(|mark| &mark.item).collect();
    let mut locked = lock_known(tx, &items).await?;
    // Nothing can be taken from an item that nobody ever had to do with.
    let of_new = wanted
        .iter()
        .filter(|(mark, wanted)| wanted.is_some() && !locked.contains_key(&mark.item));
    let new: BTreeSet<&Item> = of_new.map(|(mark, _)| &mark.item).collect();
    if !new.is_empty() {
        let keys: Vec<_> = new.iter().map(|item| (&*item.biz, item.biz_id)).collect();
        let from = rows::table(tx.get_database_backend(), &ITEM);
        let sql = store::insert_or_ignore(
            tx.get_database_backend(),
            "item (biz, biz_id, n_reads, n_likes, n_collects)",
            &format!("SELECT k.biz, k.biz_id, 0, 0, 0 FROM {from} k"),
        );
        execute(tx, rows::statement(tx.get_database_backend(), sql, &keys, [])?).await?;
        locked.extend(lock_known(tx, &new).await?);
    }
    Ok(locked)
}

async fn lock_known(tx: &Transaction, items: &BTreeSet<&Item>) -> Result<HashMap<Item, Counts>> {
    let backend = tx.get_database_backend();
    let keys: Vec<_> = items.iter().map(|item| (&*item.biz, item.biz_id)).collect();
    let (from, lock) = (rows::table(backend, &ITEM), store::for_update(backend, "t"));
    let sql = format!(
        "SELECT t.biz, t.biz_id, t.n_reads, t.n_likes, t.n_collects FROM {from} k JOIN item t ON {SAME_ITEM} \
         ORDER BY k.biz, k.biz_id{lock}"
    );
    let rows = tx
        .query_all_raw(rows::statement(backend, sql, &keys, [])?)
        .await
        .map_err(into_error)?;
    rows.iter().map(|row| Ok((item(row)?, store::counts(row)?))).collect()
}

/// Returns which of `marks` are there, and in which folder.
async fn marks_there(tx: &Transaction, marks: impl Iterator<Item = &Mark>) -> Result<HashMap<Mark, FolderId>> {
    let backend = tx.get_database_backend();
    let from = rows::table(backend, &MARK);
    let sql =
        format!("SELECT t.biz, t.biz_id, t.account_id, t.kind, t.folder_id FROM {from} k JOIN mark t ON {SAME_MARK}");
    let keys: Vec<_> = marks.map(|mark| row(mark, DEFAULT_FOLDER, 0)).collect();
    let rows = tx
        .query_all_raw(rows::statement(backend, sql, &keys, [])?)
        .await
        .map_err(into_error)?;
    rows.iter()
        .map(|row| Ok((mark(row)?, get(row, "folder_id")?)))
        .collect()
}

async fn remove(tx: &Transaction, marks: &[Mark]) -> Result<()> {
    if marks.is_empty() {
        return Ok(());
    }
    let backend = tx.get_database_backend();
    let from = rows::table(backend, &MARK);
    let sql = store::delete_matching(backend, "mark", &["biz", "biz_id", "account_id", "kind"], &from);
    let keys: Vec<_> = marks.iter().map(|mark| row(mark, DEFAULT_FOLDER, 0)).collect();
    execute(tx, rows::statement(backend, sql, &keys, [])?).await
}

async fn insert(tx: &Transaction, marks: &[(Mark, FolderId)], now: i64) -> Result<()> {
    if marks.is_empty() {
        return Ok(());
    }
    let backend = tx.get_database_backend();
    let from = rows::table(backend, &MARK);
    let columns = "biz, biz_id, account_id, kind, folder_id, marked_at";
    let sql = format!("INSERT INTO mark ({columns}) SELECT {columns} FROM {from} k");
    let rows: Vec<_> = marks.iter().map(|(mark, folder)| row(mark, *folder, now)).collect();
    execute(tx, rows::statement(backend, sql, &rows, [])?).await
}

async fn count(tx: &Transaction, deltas: &BTreeMap<Item, Delta>) -> Result<()> {
    if deltas.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = deltas
        .iter()
        .map(|(item, delta)| (&*item.biz, item.biz_id, 0, delta.likes, delta.collects))
        .collect();
    store::add_counts(tx, &rows).await
}

type Row<'a> = (&'a str, i64, i64, i64, i64, i64);

fn row(mark: &Mark, folder: FolderId, at: i64) -> Row<'_> {
    let Mark { item, account, kind } = mark;
    (&item.biz, item.biz_id, account.get(), kind.number(), folder, at)
}

fn item(row: &QueryResult) -> Result<Item> {
    Ok(Item {
        biz: get::<String>(row, "biz")?.into(),
        biz_id: get(row, "biz_id")?,
    })
}

fn mark(row: &QueryResult) -> Result<Mark> {
    let kind = Kind::of(get(row, "kind")?).ok_or_else(|| Error::internal("a mark of an unknown kind"))?;
    Ok(Mark {
        item: item(row)?,
        account: AccountId::try_from(get::<i64>(row, "account_id")?)?,
        kind,
    })
}

async fn execute(tx: &Transaction, statement: Statement) -> Result<()> {
    tx.execute_raw(statement).await.map(drop).map_err(into_error)
}

fn get<T: TryGetable>(row: &QueryResult, column: &str) -> Result<T> {
    row.try_get("", column).map_err(into_error)
}

/// The folders that were asked for and are there.
pub(crate) type KnownFolders = HashSet<(FolderId, AccountId, String)>;
