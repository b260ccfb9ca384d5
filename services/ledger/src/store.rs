//! The tables of the ledger: postings, their entries, and balances.
//!
//! A posting first takes its unique `(biz, biz_id)`, which makes repeated ones wait for each other, then the rows of its
//! balances in the order of accounts, which keeps different ones from waiting in a circle.

use std::collections::BTreeMap;

use mosaic::sql::sea_orm::entity::prelude::*;
use mosaic::sql::sea_orm::sea_query::{ColumnDef, Index, OnConflict, Table};
use mosaic::sql::sea_orm::{QueryOrder as _, QuerySelect as _, Set};
use mosaic::sql::{Database, Migration, Schema, Transaction, into_error, micros, timestamp, unique_violation};
use mosaic::{Result, Runtime};

use crate::model::{Account, Draft, Floors, LedgerError, Posting, PostingId};

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_create_ledger",
    up: create_ledger,
}];

fn create_ledger(schema: &mut Schema) {
    let number = |name: &'static str| ColumnDef::new(name).big_integer().not_null().to_owned();
    let text = |name: &'static str, len: u32| ColumnDef::new(name).string_len(len).not_null().to_owned();
    schema.run(
        Table::create()
            .table("posting")
            .col(number("id").primary_key())
            .col(text("biz", 32))
            .col(text("biz_id", 64))
            .col(number("posted_at")),
    );
    let unique = "uq_posting_biz_biz_id";
    schema.run(
        Index::create()
            .name(unique)
            .table("posting")
            .col("biz")
            .col("biz_id")
            .unique(),
    );
    let by_time = "ix_posting_biz_posted_at";
    schema.run(
        Index::create()
            .name(by_time)
            .table("posting")
            .col("biz")
            .col("posted_at"),
    );
    schema.run(
        Table::create()
            .table("entry")
            .col(number("posting_id"))
            .col(text("kind", 32))
            .col(number("owner"))
            .col(number("amount_fen"))
            .primary_key(Index::create().col("kind").col("owner").col("posting_id")),
    );
    let by_posting = "ix_entry_posting_id";
    schema.run(Index::create().name(by_posting).table("entry").col("posting_id"));
    schema.run(
        Table::create()
            .table("balance")
            .col(text("kind", 32))
            .col(number("owner"))
            .col(number("balance_fen"))
            .primary_key(Index::create().col("kind").col("owner")),
    );
}

mod posting {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "posting")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) id: i64,
        pub(super) biz: String,
        pub(super) biz_id: String,
        pub(super) posted_at: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

mod entry {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "entry")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) kind: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) owner: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) posting_id: i64,
        pub(super) amount_fen: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

mod balance {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "balance")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) kind: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) owner: i64,
        pub(super) balance_fen: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// A page of a window of time.
pub(crate) struct Window {
    pub(crate) biz: String,
    pub(crate) from: i64,
    pub(crate) to: i64,
    /// Id of the last one seen.
    pub(crate) after: i64,
    pub(crate) limit: u64,
}

/// See the module documentation.
pub(crate) struct Store {
    database: Database,
    floors: Floors,
}

impl Store {
    pub(crate) const fn new(database: Database, floors: Floors) -> Self {
        Self { database, floors }
    }

    /// Books `draft`, or returns what was booked under its name.
    ///
    /// # Errors
    /// `AlreadyExists` if that has another content; `FailedPrecondition` if an account has not enough.
    pub(crate) async fn post(&self, runtime: &Runtime, draft: &Draft) -> Result<Posting> {
        // Most repeated postings are found here, without a lock.
        if let Some(there) = self.posting(&draft.biz, &draft.biz_id).await? {
            return same(draft, there);
        }
        let posted = self.database.transaction(|tx| self.book(tx, runtime, draft)).await?;
        match posted {
            Some(posting) => Ok(posting),
            None => match self.posting(&draft.biz, &draft.biz_id).await? {
                Some(there) => same(draft, there),
                None => Err(mosaic::Error::aborted(
                    "SQL_CONFLICT",
                    "another posting came first, try again",
                )),
            },
        }
    }

    /// Books; `None`, with nothing changed, if the name is taken.
    async fn book(&self, tx: Transaction, runtime: &Runtime, draft: &Draft) -> Result<Option<Posting>> {
        let posting = Posting {
            id: PostingId::new(runtime),
            biz: draft.biz.clone(),
            biz_id: draft.biz_id.clone(),
            entries: draft.entries().clone(),
            at: runtime.now(),
        };
        if !insert_posting(&tx, &posting).await? {
            return Ok(None);
        }
        for (account, amount) in &posting.entries {
            let balance = lock_balance(&tx, account).await?;
            let after = self.floors.book(draft, account, balance, *amount)?;
            set_balance(&tx, account, after).await?;
        }
        let rows = posting.entries.iter().map(|(account, amount)| entry::ActiveModel {
            posting_id: Set(posting.id.get()),
            kind: Set(account.kind.clone()),
            owner: Set(account.owner),
            amount_fen: Set(*amount),
        });
        let inserted = entry::Entity::insert_many(rows).exec_without_returning(&tx).await;
        inserted.map_err(into_error)?;
        Ok(Some(posting))
    }

    pub(crate) async fn posting(&self, biz: &str, biz_id: &str) -> Result<Option<Posting>> {
        let db = self.database.connection();
        let found = posting::Entity::find()
            .filter(posting::Column::Biz.eq(biz))
            .filter(posting::Column::BizId.eq(biz_id))
            .one(db)
            .await
            .map_err(into_error)?;
        Ok(with_entries(db, found.into_iter().collect()).await?.pop())
    }

    pub(crate) async fn postings(&self, window: &Window) -> Result<Vec<Posting>> {
        let db = self.database.connection();
        let found = posting::Entity::find()
            .filter(posting::Column::Biz.eq(&window.biz))
            .filter(posting::Column::PostedAt.gte(window.from))
            .filter(posting::Column::PostedAt.lt(window.to))
            .filter(posting::Column::Id.gt(window.after))
            .order_by_asc(posting::Column::Id)
            .limit(window.limit)
            .all(db)
            .await
            .map_err(into_error)?;
        with_entries(db, found).await
    }

    pub(crate) async fn balance(&self, account: &Account) -> Result<i64> {
        let found = balance::Entity::find_by_id((account.kind.clone(), account.owner))
            .one(self.database.connection())
            .await
            .map_err(into_error)?;
        Ok(found.map_or(0, |row| row.balance_fen))
    }

    /// Returns the entries of `account` with their postings, newest first, before the posting `before` (0: all).
    pub(crate) async fn entries(&self, account: &Account, before: i64, limit: u64) -> Result<Vec<(Posting, i64)>> {
        let db = self.database.connection();
        let before = if before == 0 { i64::MAX } else { before };
        let found = entry::Entity::find()
            .filter(entry::Column::Kind.eq(&account.kind))
            .filter(entry::Column::Owner.eq(account.owner))
            .filter(entry::Column::PostingId.lt(before))
            .order_by_desc(entry::Column::PostingId)
            .limit(limit)
            .all(db)
            .await
            .map_err(into_error)?;
        let ids: Vec<i64> = found.iter().map(|row| row.posting_id).collect();
        let postings = posting::Entity::find()
            .filter(posting::Column::Id.is_in(ids))
            .all(db)
            .await;
        let postings = postings.map_err(into_error)?.into_iter().map(|row| (row.id, row));
        let mut postings: BTreeMap<i64, posting::Model> = postings.collect();
        let paired = found
            .into_iter()
            .filter_map(|row| Some((postings.remove(&row.posting_id)?, row.amount_fen)));
        paired
            .map(|(row, amount)| Ok((read(row, BTreeMap::new())?, amount)))
            .collect()
    }
}

fn same(draft: &Draft, there: Posting) -> Result<Posting> {
    if draft.is(&there) {
        Ok(there)
    } else {
        Err(LedgerError::Differs.into())
    }
}

async fn insert_posting(tx: &Transaction, posting: &Posting) -> Result<bool> {
    let row = posting::ActiveModel {
        id: Set(posting.id.get()),
        biz: Set(posting.biz.clone()),
        biz_id: Set(posting.biz_id.clone()),
        posted_at: Set(micros(posting.at)),
    };
    // Nothing else was done yet, so on PostgreSQL, where the violation ends the transaction, nothing is lost by it.
    match posting::Entity::insert(row).exec_without_returning(tx).await {
        Ok(_) => Ok(true),
        Err(error) => match unique_violation(&error) {
            Some(violation) if violation.is_on("posting", &["biz", "biz_id"]) => Ok(false),
            _ => Err(into_error(error)),
        },
    }
}

/// Reads a balance so that nobody else changes it; its row is there afterwards.
async fn lock_balance(tx: &Transaction, account: &Account) -> Result<i64> {
    let row = balance::ActiveModel {
        kind: Set(account.kind.clone()),
        owner: Set(account.owner),
        balance_fen: Set(0),
    };
    let unless_there = OnConflict::columns([balance::Column::Kind, balance::Column::Owner])
        .do_nothing_on([balance::Column::Kind, balance::Column::Owner])
        .to_owned();
    let insert = balance::Entity::insert(row).on_conflict(unless_there);
    insert.exec_without_returning(tx).await.map_err(into_error)?;
    let locked = balance::Entity::find_by_id((account.kind.clone(), account.owner))
        .lock_exclusive()
        .one(tx)
        .await
        .map_err(into_error)?;
    Ok(locked.map_or(0, |row| row.balance_fen))
}

async fn set_balance(tx: &Transaction, account: &Account, balance_fen: i64) -> Result<()> {
    let set = balance::Entity::update_many()
        .col_expr(balance::Column::BalanceFen, Expr::value(balance_fen))
        .filter(balance::Column::Kind.eq(&account.kind))
        .filter(balance::Column::Owner.eq(account.owner))
        .exec(tx)
        .await;
    set.map(drop).map_err(into_error)
}

async fn with_entries(db: &impl ConnectionTrait, rows: Vec<posting::Model>) -> Result<Vec<Posting>> {
    let ids = rows.iter().map(|row| row.id);
    let found = entry::Entity::find()
        .filter(entry::Column::PostingId.is_in(ids))
        .all(db)
        .await;
    let mut entries: BTreeMap<i64, BTreeMap<Account, i64>> = BTreeMap::new();
    for row in found.map_err(into_error)? {
        let account = Account {
            kind: row.kind,
            owner: row.owner,
        };
        entries
            .entry(row.posting_id)
            .or_default()
            .insert(account, row.amount_fen);
    }
    rows.into_iter()
        .map(|row| {
            let entries = entries.remove(&row.id).unwrap_or_default();
            read(row, entries)
        })
        .collect()
}

fn read(row: posting::Model, entries: BTreeMap<Account, i64>) -> Result<Posting> {
    Ok(Posting {
        id: PostingId::try_from(row.id)?,
        biz: row.biz,
        biz_id: row.biz_id,
        entries,
        at: timestamp(row.posted_at),
    })
}
