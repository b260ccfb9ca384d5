//! The tables: entries, and which generation of each index is in use.

use mosaic::sql::sea_orm::entity::prelude::*;
use mosaic::sql::sea_orm::sea_query::{ColumnDef, Index, OnConflict, Table};
use mosaic::sql::sea_orm::{QueryOrder as _, QuerySelect as _, Set};
use mosaic::sql::{Migration, Schema, Transaction, into_error};
use mosaic::{Error, Result, Transactions, Tx};

use crate::model::{Entry, EntryKey, Kind};

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_create_entry_and_generation",
    up: create_entry_and_generation,
}];

fn create_entry_and_generation(schema: &mut Schema) {
    schema.run(
        Table::create()
            .table("entry")
            .col(ColumnDef::new("kind").string_len(8).not_null())
            .col(ColumnDef::new("id").string_len(64).not_null())
            .col(ColumnDef::new("biz").string_len(32).not_null())
            .col(ColumnDef::new("biz_id").big_integer().not_null())
            .col(ColumnDef::new("title").string_len(512).not_null())
            .col(ColumnDef::new("content").text().not_null())
            .col(ColumnDef::new("tags").text().not_null())
            .col(ColumnDef::new("author_id").big_integer().not_null())
            .col(ColumnDef::new("version").big_integer().not_null())
            .col(ColumnDef::new("is_removed").boolean().not_null())
            .primary_key(Index::create().col("kind").col("id")),
    );
    schema.run(
        Table::create()
            .table("generation")
            .col(ColumnDef::new("kind").string_len(8).not_null().primary_key())
            .col(ColumnDef::new("in_use").big_integer().not_null())
            .col(ColumnDef::new("being_built").big_integer().not_null()),
    );
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
        pub(super) id: String,
        pub(super) biz: String,
        pub(super) biz_id: i64,
        pub(super) title: String,
        pub(super) content: String,
        /// A list, JSON.
        pub(super) tags: String,
        pub(super) author_id: i64,
        pub(super) version: i64,
        pub(super) is_removed: bool,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

mod generation {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "generation")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) kind: String,
        pub(super) in_use: i64,
        /// 0: none.
        pub(super) being_built: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// Which generations of an index there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generations {
    /// The one that is searched.
    pub(crate) in_use: i64,
    /// The one that is to follow it.
    pub(crate) being_built: Option<i64>,
}

impl Generations {
    const FIRST: Self = Self {
        in_use: 1,
        being_built: None,
    };
}

/// See the module documentation. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    transactions: Transactions,
}

impl Store {
    pub(crate) const fn new(transactions: Transactions) -> Self {
        Self { transactions }
    }

    pub(crate) fn transactions(&self) -> &Transactions {
        &self.transactions
    }

    /// Returns an entry, also one that is removed.
    pub(crate) async fn entry(&self, key: &EntryKey) -> Result<Option<Entry>> {
        let db = self.transactions.database().connection();
        let row = find(key).one(db).await.map_err(into_error)?;
        row.map(|row| read(key.kind, row)).transpose()
    }

    /// Returns up to `limit` entries of a kind with ids after `after`, in the order of ids.
    pub(crate) async fn entries_after(&self, kind: Kind, after: &str, limit: u64) -> Result<Vec<Entry>> {
        let rows = entry::Entity::find()
            .filter(entry::Column::Kind.eq(kind.name()))
            .filter(entry::Column::Id.gt(after))
            .order_by_asc(entry::Column::Id)
            .limit(limit)
            .all(self.transactions.database().connection())
            .await
            .map_err(into_error)?;
        rows.into_iter().map(|row| read(kind, row)).collect()
    }

    pub(crate) async fn generations(&self, kind: Kind) -> Result<Generations> {
        let row = generation::Entity::find_by_id(kind.name())
            .one(self.transactions.database().connection())
            .await
            .map_err(into_error)?;
        Ok(row.as_ref().map_or(Generations::FIRST, read_generations))
    }
}

/// Keeps an entry unless a later version is known; says whether it was kept.
pub(crate) async fn keep(tx: &Tx, entry: &Entry) -> Result<bool> {
    let db: &Transaction = tx;
    // The row is there before it is locked, so that two first versions meet each other.
    let first = entry::ActiveModel {
        version: Set(0),
        ..row(entry)?
    };
    let unless_there = OnConflict::columns([entry::Column::Kind, entry::Column::Id])
        .do_nothing_on([entry::Column::Kind, entry::Column::Id])
        .to_owned();
    let inserted = entry::Entity::insert(first).on_conflict(unless_there);
    inserted.exec_without_returning(db).await.map_err(into_error)?;
    let known = find(&entry.key).lock_exclusive().one(db).await.map_err(into_error)?;
    let known = known.ok_or_else(|| Error::internal("a row that was inserted is gone"))?;
    if !entry.replaces(known.version) {
        return Ok(false);
    }
    entry::Entity::update(row(entry)?).exec(db).await.map_err(into_error)?;
    Ok(true)
}

/// Returns the generations of an index, which do not change until the transaction ends.
pub(crate) async fn lock_generations(tx: &Tx, kind: Kind) -> Result<Generations> {
    let db: &Transaction = tx;
    let unless_there = OnConflict::column(generation::Column::Kind)
        .do_nothing_on([generation::Column::Kind])
        .to_owned();
    let inserted = generation::Entity::insert(generation_row(kind, Generations::FIRST)).on_conflict(unless_there);
    inserted.exec_without_returning(db).await.map_err(into_error)?;
    let row = generation::Entity::find_by_id(kind.name())
        .lock_exclusive()
        .one(db)
        .await;
    let row = row.map_err(into_error)?;
    row.as_ref()
        .map(read_generations)
        .ok_or_else(|| Error::internal("a row that was inserted is gone"))
}

/// Changes the generations of an index; they are locked.
pub(crate) async fn save_generations(tx: &Tx, kind: Kind, generations: Generations) -> Result<()> {
    let db: &Transaction = tx;
    let update = generation::Entity::update(generation_row(kind, generations));
    update.exec(db).await.map(drop).map_err(into_error)
}

fn find(key: &EntryKey) -> Select<entry::Entity> {
    entry::Entity::find_by_id((key.kind.name().to_owned(), key.id.clone()))
}

fn row(entry: &Entry) -> Result<entry::ActiveModel> {
    Ok(entry::ActiveModel {
        kind: Set(entry.key.kind.name().to_owned()),
        id: Set(entry.key.id.clone()),
        biz: Set(entry.biz.clone()),
        biz_id: Set(entry.biz_id),
        title: Set(entry.title.clone()),
        content: Set(entry.content.clone()),
        tags: Set(serde_json::to_string(&entry.tags).map_err(Error::internal)?),
        author_id: Set(entry.author_id),
        version: Set(entry.version),
        is_removed: Set(entry.is_removed),
    })
}

fn read(kind: Kind, row: entry::Model) -> Result<Entry> {
    Ok(Entry {
        key: EntryKey { kind, id: row.id },
        biz: row.biz,
        biz_id: row.biz_id,
        title: row.title,
        content: row.content,
        tags: serde_json::from_str(&row.tags).map_err(Error::internal)?,
        author_id: row.author_id,
        version: row.version,
        is_removed: row.is_removed,
    })
}

fn generation_row(kind: Kind, generations: Generations) -> generation::ActiveModel {
    generation::ActiveModel {
        kind: Set(kind.name().to_owned()),
        in_use: Set(generations.in_use),
        being_built: Set(generations.being_built.unwrap_or(0)),
    }
}

fn read_generations(row: &generation::Model) -> Generations {
    Generations {
        in_use: row.in_use,
        being_built: (row.being_built > 0).then_some(row.being_built),
    }
}
