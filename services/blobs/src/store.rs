//! The table of files.
//!
//! A row is written before a URL is handed out, so nothing is put that nobody knows of, and is removed after its bytes are.
//! Every step is one statement that says which state it begins from: who comes second changes no row, and knows it.

use mosaic::sql::sea_orm::entity::prelude::*;
use mosaic::sql::sea_orm::sea_query::{ColumnDef, Expr, Index, Table};
use mosaic::sql::sea_orm::{Condition, QueryOrder as _, QuerySelect as _, Set};
use mosaic::sql::{Database, Migration, Schema, into_error};
use mosaic::{AccountId, Error, Result};

use crate::model::Type;

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_create_blob",
    up: create_blob,
}];

const BEGUN: i64 = 0;
const FINISHED: i64 = 1;
/// Nobody's any more; its bytes may be there still.
const REMOVED: i64 = 2;

fn create_blob(schema: &mut Schema) {
    schema.run(
        Table::create()
            .table("blob_file")
            .col(ColumnDef::new("id").string_len(32).not_null().primary_key())
            .col(ColumnDef::new("account_id").big_integer().not_null())
            .col(ColumnDef::new("kind").big_integer().not_null())
            .col(ColumnDef::new("content_type").string_len(32).not_null())
            .col(ColumnDef::new("size_bytes").big_integer().not_null())
            .col(ColumnDef::new("state").big_integer().not_null())
            // Where the bytes that were looked at are: the attempt to finish that was first.
            .col(ColumnDef::new("attempt").string_len(32).not_null())
            .col(ColumnDef::new("begun_at").big_integer().not_null())
            .col(ColumnDef::new("finished_at").big_integer().not_null()),
    );
    for (name, columns) in [
        ("ix_blob_file_account_state", ["account_id", "state"]),
        ("ix_blob_file_state_begun", ["state", "begun_at"]),
    ] {
        let mut index = Index::create().name(name).table("blob_file").to_owned();
        schema.run(&index.col(columns[0]).col(columns[1]).to_owned());
    }
}

mod blob_file {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "blob_file")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) id: String,
        pub(super) account_id: i64,
        pub(super) kind: i64,
        pub(super) content_type: String,
        pub(super) size_bytes: i64,
        pub(super) state: i64,
        pub(super) attempt: String,
        pub(super) begun_at: i64,
        pub(super) finished_at: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}
use blob_file::{Column, Entity};

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) id: String,
    pub(crate) account: AccountId,
    /// As the contract numbers it.
    pub(crate) kind: i32,
    pub(crate) content_type: Type,
    pub(crate) size_bytes: i64,
    pub(crate) begun_us: i64,
    /// `None`: it is not finished.
    pub(crate) finished: Option<Finished>,
}

/// When a file was finished, and which attempt it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) at_us: i64,
    pub(crate) attempt: String,
}

pub(crate) struct Store(Database);

impl Store {
    pub(crate) const fn new(database: Database) -> Self {
        Self(database)
    }

    /// Writes down that an upload has begun.
    pub(crate) async fn begin(&self, file: &File) -> Result<()> {
        let row = blob_file::ActiveModel {
            id: Set(file.id.clone()),
            account_id: Set(file.account.get()),
            kind: Set(file.kind.into()),
            content_type: Set(file.content_type.name().to_owned()),
            size_bytes: Set(file.size_bytes),
            state: Set(BEGUN),
            attempt: Set(String::new()),
            begun_at: Set(file.begun_us),
            finished_at: Set(0),
        };
        let inserted = Entity::insert(row).exec_without_returning(self.0.connection()).await;
        inserted.map(drop).map_err(into_error)
    }

    /// Counts the uploads of `account` that are not finished.
    pub(crate) async fn n_unfinished(&self, account: AccountId) -> Result<u64> {
        let rows = Entity::find().filter(Column::AccountId.eq(account.get()));
        let unfinished = rows.filter(Column::State.eq(BEGUN));
        unfinished.count(self.0.connection()).await.map_err(into_error)
    }

    /// Returns a file that was not removed.
    pub(crate) async fn file(&self, id: &str) -> Result<Option<File>> {
        let row = Entity::find_by_id(id).filter(Column::State.ne(REMOVED));
        let row = row.one(self.0.connection()).await.map_err(into_error)?;
        row.map(read).transpose()
    }

    /// Says that the bytes of `attempt` are the file; false if another attempt was first, or the file is removed.
    pub(crate) async fn finish(&self, id: &str, attempt: &str, now_us: i64) -> Result<bool> {
        let update = Entity::update_many()
            .col_expr(Column::State, Expr::value(FINISHED))
            .col_expr(Column::Attempt, Expr::value(attempt))
            .col_expr(Column::FinishedAt, Expr::value(now_us))
            .filter(Column::Id.eq(id))
            .filter(Column::State.eq(BEGUN));
        let updated = update.exec(self.0.connection()).await.map_err(into_error)?;
        Ok(updated.rows_affected == 1)
    }

    /// Takes a file of `account` from everybody; false if it has none of that id.
    pub(crate) async fn remove(&self, id: &str, account: AccountId) -> Result<bool> {
        let of_account = Condition::all()
            .add(Column::Id.eq(id))
            .add(Column::AccountId.eq(account.get()));
        self.mark_removed(of_account).await
    }

    /// Gives an upload up that is not finished; false if it is.
    pub(crate) async fn give_up(&self, id: &str) -> Result<bool> {
        let unfinished = Condition::all().add(Column::Id.eq(id)).add(Column::State.ne(FINISHED));
        self.mark_removed(unfinished).await
    }

    async fn mark_removed(&self, which: Condition) -> Result<bool> {
        let update = Entity::update_many()
            .col_expr(Column::State, Expr::value(REMOVED))
            .filter(which);
        let updated = update.exec(self.0.connection()).await.map_err(into_error)?;
        Ok(updated.rows_affected > 0)
    }

    /// Forgets a file whose bytes are gone.
    pub(crate) async fn forget(&self, id: &str) -> Result<()> {
        let removed = Entity::delete_many()
            .filter(Column::Id.eq(id))
            .filter(Column::State.eq(REMOVED));
        removed.exec(self.0.connection()).await.map(drop).map_err(into_error)
    }

    /// Returns ids of files that are removed, or were begun before `begun_us` and not finished; oldest first.
    pub(crate) async fn leftovers(&self, begun_us: i64, limit: u64) -> Result<Vec<String>> {
        let abandoned = Condition::all()
            .add(Column::State.eq(BEGUN))
            .add(Column::BegunAt.lt(begun_us));
        let rows = Entity::find()
            .select_only()
            .column(Column::Id)
            .filter(Condition::any().add(Column::State.eq(REMOVED)).add(abandoned))
            .order_by_asc(Column::BegunAt)
            .limit(limit);
        rows.into_tuple().all(self.0.connection()).await.map_err(into_error)
    }
}

fn read(row: blob_file::Model) -> Result<File> {
    let unknown = || Error::internal("the table has a type that there is not");
    let finished = (row.state == FINISHED).then_some(Finished {
        at_us: row.finished_at,
        attempt: row.attempt,
    });
    Ok(File {
        account: row.account_id.try_into()?,
        kind: i32::try_from(row.kind).map_err(Error::internal)?,
        content_type: Type::named(&row.content_type).ok_or_else(unknown)?,
        id: row.id,
        size_bytes: row.size_bytes,
        begun_us: row.begun_at,
        finished,
    })
}
