//! The tables: an item's row, and the comments under it.
//!
//! `comment.root_id` is 0 for roots, so that one index lists the roots of an item and another one all replies of a root,
//! however deep. Counters (`item.n_comments`, `comment.n_replies` of roots) change with the rows, under the item's lock.

mod lists;
mod subtree;

use mosaic::sql::sea_orm::entity::prelude::*;
use mosaic::sql::sea_orm::sea_query::{ColumnDef, Expr, ExprTrait as _, Index, OnConflict, Table};
use mosaic::sql::sea_orm::{QuerySelect as _, Set};
use mosaic::sql::{Database, Migration, Schema, Transaction, into_error, micros, timestamp, unique_violation};
use mosaic::{AccountId, Error, Result, Runtime};

use crate::model::{Comment, CommentError, CommentId, Draft, Item, Place};

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_create_item_and_comment",
    up: create_item_and_comment,
}];

fn create_item_and_comment(schema: &mut Schema) {
    schema.run(
        Table::create()
            .table("item")
            .col(ColumnDef::new("id").big_integer().not_null().primary_key())
            .col(ColumnDef::new("biz").string_len(32).not_null())
            .col(ColumnDef::new("biz_id").big_integer().not_null())
            .col(ColumnDef::new("n_comments").big_integer().not_null())
            .col(ColumnDef::new("newest_id").big_integer().not_null())
            .col(ColumnDef::new("is_gone").boolean().not_null()),
    );
    let unique = |name, table: &'static str, [first, second]: [&'static str; 2]| {
        let mut index = Index::create().unique().to_owned();
        index.name(name).table(table).col(first).col(second).to_owned()
    };
    schema.run(&unique("uq_item_biz_biz_id", "item", ["biz", "biz_id"]));
    schema.run(
        Table::create()
            .table("comment")
            .col(ColumnDef::new("id").big_integer().not_null().primary_key())
            .col(ColumnDef::new("item_id").big_integer().not_null())
            .col(ColumnDef::new("account_id").big_integer().not_null())
            .col(ColumnDef::new("root_id").big_integer().not_null())
            .col(ColumnDef::new("parent_id").big_integer().not_null())
            .col(ColumnDef::new("n_replies").big_integer().not_null())
            .col(ColumnDef::new("content").string_len(2000).not_null())
            .col(ColumnDef::new("created_at").big_integer().not_null())
            .col(ColumnDef::new("key_hash").string_len(64)),
    );
    schema.run(&unique(
        "uq_comment_account_id_key_hash",
        "comment",
        ["account_id", "key_hash"],
    ));
    for (name, columns) in [
        ("ix_comment_item_root_id", &["item_id", "root_id", "id"][..]),
        ("ix_comment_root_id", &["root_id", "id"]),
        ("ix_comment_parent", &["parent_id"]),
    ] {
        let mut index = Index::create().name(name).table("comment").to_owned();
        for &column in columns {
            index.col(column);
        }
        schema.run(&index);
    }
}

mod item {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "item")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) id: i64,
        pub(super) biz: String,
        pub(super) biz_id: i64,
        pub(super) n_comments: i64,
        pub(super) newest_id: i64,
        pub(super) is_gone: bool,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

mod comment {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "comment")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) id: i64,
        pub(super) item_id: i64,
        pub(super) account_id: i64,
        pub(super) root_id: i64,
        pub(super) parent_id: i64,
        pub(super) n_replies: i64,
        pub(super) content: String,
        pub(super) created_at: i64,
        pub(super) key_hash: Option<String>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// See the module documentation.
pub(crate) struct Store {
    database: Database,
}

impl Store {
    pub(crate) const fn new(database: Database) -> Self {
        Self { database }
    }

    /// Writes a comment, or returns the one that it repeats.
    pub(crate) async fn create(&self, runtime: &Runtime, draft: &Draft) -> Result<Comment> {
        self.database
            .transaction(|tx| async move {
                let item = locked_item(&tx, runtime, &draft.item).await?;
                if item.is_gone {
                    return Err(CommentError::ItemGone.into());
                }
                if let Some(written) = written(&tx, &item, draft).await? {
                    draft.is_repeated(&written)?;
                    return Ok(written);
                }
                let place = place(&tx, &item, draft.parent).await?;
                let comment = Comment {
                    // The clocks of processes differ; under the lock the newest one is known.
                    id: CommentId::try_from(Ord::max(runtime.next_id(), item.newest_id + 1))?,
                    account: draft.account,
                    place,
                    content: draft.content.clone(),
                    created: runtime.now(),
                    n_replies: 0,
                };
                insert(&tx, &item, &comment, draft).await?;
                count(&tx, &item, place, 1).await?;
                let newest = item::Entity::update_many()
                    .col_expr(item::Column::NewestId, comment.id.get().into())
                    .filter(item::Column::Id.eq(item.id));
                newest.exec(&tx).await.map_err(into_error)?;
                Ok(comment)
            })
            .await
    }

    /// Deletes a comment of `account` with everything below it.
    pub(crate) async fn delete(&self, id: CommentId, account: AccountId) -> Result<()> {
        self.database
            .transaction(|tx| async move {
                // Whose tree it is never changes; whether it is there is known under the lock only.
                let item_id = own(&tx, id, account).await?.item_id;
                let item = item::Entity::find_by_id(item_id).lock_exclusive().one(&tx).await;
                let item = item.map_err(into_error)?.ok_or(CommentError::NotFound)?;
                let comment = read(own(&tx, id, account).await?)?;
                let mut ids = subtree::below(&tx, id).await?;
                ids.push(id.get());
                subtree::delete(&tx, &ids).await?;
                count(&tx, &item, comment.place, -(ids.len() as i64)).await
            })
            .await
    }

    /// Deletes all comments of an item, which takes no more.
    pub(crate) async fn delete_item(&self, runtime: &Runtime, item: &Item) -> Result<()> {
        self.database
            .transaction(|tx| async move {
                let item = locked_item(&tx, runtime, item).await?;
                let comments = comment::Entity::delete_many().filter(comment::Column::ItemId.eq(item.id));
                comments.exec(&tx).await.map_err(into_error)?;
                let gone = item::ActiveModel {
                    id: Set(item.id),
                    n_comments: Set(0),
                    is_gone: Set(true),
                    ..Default::default()
                };
                item::Entity::update(gone).exec(&tx).await.map_err(into_error)?;
                Ok(())
            })
            .await
    }
}

/// Locks the row of `item`, which is there afterwards.
async fn locked_item(tx: &Transaction, runtime: &Runtime, item: &Item) -> Result<item::Model> {
    let find = || find_item(item).lock_exclusive().one(tx);
    if let Some(found) = find().await.map_err(into_error)? {
        return Ok(found);
    }
    let row = item::ActiveModel {
        id: Set(runtime.next_id()),
        biz: Set(item.biz.clone()),
        biz_id: Set(item.biz_id),
        n_comments: Set(0),
        newest_id: Set(0),
        is_gone: Set(false),
    };
    let unless_there = OnConflict::columns([item::Column::Biz, item::Column::BizId])
        .do_nothing_on([item::Column::Id])
        .to_owned();
    item::Entity::insert(row)
        .on_conflict(unless_there)
        .exec_without_returning(tx)
        .await
        .map_err(into_error)?;
    let found = find().await.map_err(into_error)?;
    found.ok_or_else(|| Error::internal("the row of the item is gone"))
}

fn find_item(item: &Item) -> Select<item::Entity> {
    item::Entity::find()
        .filter(item::Column::Biz.eq(item.biz.as_str()))
        .filter(item::Column::BizId.eq(item.biz_id))
}

/// Returns what was written with the key of `draft` under `item`.
async fn written(tx: &Transaction, item: &item::Model, draft: &Draft) -> Result<Option<Comment>> {
    let Some(key) = &draft.key else { return Ok(None) };
    let found = comment::Entity::find()
        .filter(comment::Column::AccountId.eq(draft.account.get()))
        .filter(comment::Column::KeyHash.eq(key.as_str()))
        .filter(comment::Column::ItemId.eq(item.id))
        .one(tx)
        .await
        .map_err(into_error)?;
    found.map(read).transpose()
}

/// Returns where a reply to `parent` hangs, which must be under `item`.
async fn place(tx: &Transaction, item: &item::Model, parent: Option<CommentId>) -> Result<Place> {
    let Some(id) = parent else { return Ok(Place::Root) };
    let found = comment::Entity::find_by_id(id.get())
        .filter(comment::Column::ItemId.eq(item.id))
        .one(tx)
        .await
        .map_err(into_error)?;
    let parent = read(found.ok_or(CommentError::NotFound)?)?;
    Ok(parent.place.of_reply_to(id))
}

/// Returns a comment of `account`; somebody else's does not exist.
async fn own(tx: &Transaction, id: CommentId, account: AccountId) -> Result<comment::Model> {
    let found = comment::Entity::find_by_id(id.get())
        .filter(comment::Column::AccountId.eq(account.get()))
        .one(tx)
        .await
        .map_err(into_error)?;
    Ok(found.ok_or(CommentError::NotFound)?)
}

async fn insert(tx: &Transaction, item: &item::Model, comment: &Comment, draft: &Draft) -> Result<()> {
    let row = comment::ActiveModel {
        id: Set(comment.id.get()),
        item_id: Set(item.id),
        account_id: Set(comment.account.get()),
        root_id: Set(comment.place.root().map_or(0, CommentId::get)),
        parent_id: Set(comment.place.parent().map_or(0, CommentId::get)),
        n_replies: Set(0),
        content: Set(comment.content.clone()),
        created_at: Set(micros(comment.created)),
        key_hash: Set(draft.key.as_ref().map(|key| key.as_str().to_owned())),
    };
    let inserted = comment::Entity::insert(row).exec_without_returning(tx).await;
    inserted.map(drop).map_err(|error| match unique_violation(&error) {
        // Under the lock this item has none with the key, so it was used for another one.
        Some(violation) if violation.is_on("comment", &["account_id", "key_hash"]) => CommentError::KeyReused.into(),
        _ => into_error(error),
    })
}

/// Counts `by` more comments of `item`, which hang at `place`.
async fn count(tx: &Transaction, item: &item::Model, place: Place, by: i64) -> Result<()> {
    let of_item = item::Entity::update_many()
        .col_expr(item::Column::NComments, Expr::col(item::Column::NComments).add(by))
        .filter(item::Column::Id.eq(item.id));
    of_item.exec(tx).await.map_err(into_error)?;
    if let Some(root) = place.root() {
        let of_root = comment::Entity::update_many()
            .col_expr(comment::Column::NReplies, Expr::col(comment::Column::NReplies).add(by))
            .filter(comment::Column::Id.eq(root.get()));
        of_root.exec(tx).await.map_err(into_error)?;
    }
    Ok(())
}

fn read(row: comment::Model) -> Result<Comment> {
    let place = match row.root_id {
        0 => Place::Root,
        root => Place::Reply {
            root: CommentId::try_from(root)?,
            parent: CommentId::try_from(row.parent_id)?,
        },
    };
    Ok(Comment {
        id: CommentId::try_from(row.id)?,
        account: AccountId::try_from(row.account_id)?,
        place,
        content: row.content,
        created: timestamp(row.created_at),
        n_replies: row.n_replies,
    })
}
