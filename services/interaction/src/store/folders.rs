//! Folders for what is collected.
//!
//! The default folder, 0, has no row. A folder that is deleted leaves what was in it in the default folder: to tidy up is not to
//! forget. The row of the owner comes first in every transaction that makes or deletes one, which keeps the limit and
//! keeps such transactions of an account apart.

use std::collections::BTreeSet;

use mosaic::sql::sea_orm::entity::prelude::*;
use mosaic::sql::sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict, Order, Query};
use mosaic::sql::{Database, Transaction, into_error, unique_violation};
use mosaic::{AccountId, Error, Result, Runtime};

use super::for_update;
use crate::changes::KnownFolders;
use crate::model::{DEFAULT_FOLDER, FolderError, FolderId, Kind};
use mosaic::sql::rows::{self, Column};

/// Most folders of an account for items of one kind.
const FOLDERS_MAX: i64 = 100;

/// A folder as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder {
    pub(crate) id: FolderId,
    pub(crate) name: String,
}

/// See the module documentation.
pub(crate) struct Folders {
    database: Database,
}

impl Folders {
    pub(crate) fn new(database: &Database) -> Self {
        Self {
            database: database.clone(),
        }
    }

    /// Makes a folder.
    pub(crate) async fn create(
        &self,
        runtime: &Runtime,
        account: AccountId,
        biz: &str,
        name: String,
    ) -> Result<Folder> {
        let folder = Folder {
            id: runtime.next_id(),
            name,
        };
        let created = self.database.transaction(|tx| {
            let folder = folder.clone();
            async move {
                count_one_more(&tx, account, biz).await?;
                let mut insert = Query::insert();
                insert
                    .into_table("folder")
                    .columns(["id", "account_id", "biz", "name"])
                    .values_panic([folder.id.into(), account.get().into(), biz.into(), folder.name.into()]);
                tx.execute(&insert).await.map(drop).map_err(name_error)
            }
        });
        created.await?;
        Ok(folder)
    }

    /// Gives a folder of `account` another name.
    pub(crate) async fn rename(&self, account: AccountId, folder: FolderId, name: &str) -> Result<()> {
        // That it is there is asked first: MySQL counts only rows that an update changes. It may go meanwhile, as it may a moment later.
        let mut find = Query::select();
        find.column("id").from("folder");
        find.and_where(Expr::col("id").eq(folder))
            .and_where(Expr::col("account_id").eq(account.get()));
        let found = self.database.query_one(&find).await.map_err(into_error)?;
        found.ok_or(FolderError::NotFound)?;
        let mut update = Query::update();
        update.table("folder").value("name", name);
        update
            .and_where(Expr::col("id").eq(folder))
            .and_where(Expr::col("account_id").eq(account.get()));
        let renamed = self
            .database
            .transaction(async |tx| tx.execute(&update).await.map_err(name_error));
        renamed.await.map(drop)
    }

    /// Deletes a folder of `account` and puts what is in it into the default folder.
    pub(crate) async fn delete(&self, account: AccountId, folder: FolderId) -> Result<()> {
        self.database
            .transaction(async |tx| {
                let mut find = Query::select();
                find.column("biz").from("folder");
                find.and_where(Expr::col("id").eq(folder))
                    .and_where(Expr::col("account_id").eq(account.get()));
                let row = tx.query_one(&find).await.map_err(into_error)?;
                let biz: String = row
                    .ok_or(FolderError::NotFound)?
                    .try_get("", "biz")
                    .map_err(into_error)?;
                count_one_less(&tx, account, &biz).await?;
                let mut delete = Query::delete();
                delete.from_table("folder").and_where(Expr::col("id").eq(folder));
                let deleted = tx.execute(&delete).await.map_err(into_error)?;
                if deleted.rows_affected() == 0 {
                    return Err(FolderError::NotFound.into());
                }
                // Nobody puts anything into it any more: who wants to locks its row, and finds none.
                let mut update = Query::update();
                update.table("mark").value("folder_id", DEFAULT_FOLDER);
                update
                    .and_where(Expr::col("account_id").eq(account.get()))
                    .and_where(Expr::col("kind").eq(Kind::Collection.number()))
                    .and_where(Expr::col("biz").eq(biz))
                    .and_where(Expr::col("folder_id").eq(folder));
                tx.execute(&update).await.map(drop).map_err(into_error)
            })
            .await
    }

    /// Returns the folders of `account`, the oldest first.
    pub(crate) async fn list(&self, account: AccountId, biz: &str) -> Result<Vec<Folder>> {
        let mut find = Query::select();
        find.columns(["id", "name"]).from("folder");
        find.and_where(Expr::col("account_id").eq(account.get()))
            .and_where(Expr::col("biz").eq(biz))
            .order_by("id", Order::Asc)
            .limit(FOLDERS_MAX as u64);
        let rows = self.database.query_all(&find).await.map_err(into_error)?;
        let folder = |row: &QueryResult| {
            Ok(Folder {
                id: row.try_get("", "id").map_err(into_error)?,
                name: row.try_get("", "name").map_err(into_error)?,
            })
        };
        rows.iter().map(folder).collect()
    }
}

/// Locks folders, in their order, until the transaction ends; returns those that are there.
pub(crate) async fn lock(tx: &Transaction, wanted: &BTreeSet<(FolderId, AccountId, String)>) -> Result<KnownFolders> {
    if wanted.is_empty() {
        return Ok(KnownFolders::new());
    }
    let backend = tx.get_database_backend();
    let from = rows::table(backend, &[Column::Number("id")]);
    let lock = for_update(backend, "t");
    let sql =
        format!("SELECT t.id, t.account_id, t.biz FROM {from} k JOIN folder t ON t.id = k.id ORDER BY k.id{lock}");
    let mut ids: Vec<_> = wanted.iter().map(|(id, ..)| *id).collect();
    ids.dedup();
    let rows = tx
        .query_all_raw(rows::statement(backend, sql, &ids, [])?)
        .await
        .map_err(into_error)?;
    let folder = |row: &QueryResult| {
        let account: i64 = row.try_get("", "account_id").map_err(into_error)?;
        Ok((
            row.try_get("", "id").map_err(into_error)?,
            AccountId::try_from(account)?,
            row.try_get("", "biz").map_err(into_error)?,
        ))
    };
    rows.iter().map(folder).collect()
}

async fn count_one_more(tx: &Transaction, account: AccountId, biz: &str) -> Result<()> {
    let mut insert = Query::insert();
    insert
        .into_table("folder_owner")
        .columns(["account_id", "biz", "n_folders"])
        .values_panic([account.get().into(), biz.into(), 0.into()])
        .on_conflict(
            OnConflict::columns(["account_id", "biz"])
                .do_nothing_on(["account_id", "biz"])
                .to_owned(),
        );
    tx.execute(&insert).await.map_err(into_error)?;
    let mut update = owner(account, biz);
    update
        .value("n_folders", Expr::col("n_folders").add(1))
        .and_where(Expr::col("n_folders").lt(FOLDERS_MAX));
    let counted = tx.execute(&update).await.map_err(into_error)?;
    match counted.rows_affected() {
        0 => Err(FolderError::TooMany.into()),
        _ => Ok(()),
    }
}

async fn count_one_less(tx: &Transaction, account: AccountId, biz: &str) -> Result<()> {
    let mut update = owner(account, biz);
    update.value("n_folders", Expr::col("n_folders").sub(1));
    tx.execute(&update).await.map(drop).map_err(into_error)
}

fn owner(account: AccountId, biz: &str) -> mosaic::sql::sea_orm::sea_query::UpdateStatement {
    let mut update = Query::update();
    update
        .table("folder_owner")
        .and_where(Expr::col("account_id").eq(account.get()))
        .and_where(Expr::col("biz").eq(biz));
    update
}

fn name_error(error: DbErr) -> Error {
    match unique_violation(&error) {
        Some(which) if which.is_on("folder", &["account_id", "biz", "name"]) => FolderError::Exists.into(),
        _ => into_error(error),
    }
}
