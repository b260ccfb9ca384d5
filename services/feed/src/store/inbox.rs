//! What was brought to readers.

use mosaic::Result;
use mosaic::sql::sea_orm::entity::prelude::*;
use mosaic::sql::sea_orm::sea_query::{ExprTrait as _, Func, OnConflict, Order, Query};
use mosaic::sql::sea_orm::{QueryOrder as _, QuerySelect as _, Set};
use mosaic::sql::{Transaction, into_error};

use super::{Publication, Store, entry, older};
use crate::model::{Entry, Position};

mod row {
    use mosaic::sql::sea_orm;
    use mosaic::sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "inbox")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) account_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) item_id: i64,
        pub(super) author_id: i64,
        pub(super) published_at: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

impl Store {
    /// Brings a publication to `accounts`; `false` if it is not the current one any more, and then to nobody.
    pub(crate) async fn bring(&self, tx: &Transaction, publication: Publication, accounts: &[i64]) -> Result<bool> {
        let Some(item) = self.published(tx, publication).await? else {
            return Ok(false);
        };
        let rows = accounts.iter().map(|&account_id| row::ActiveModel {
            account_id: Set(account_id),
            item_id: Set(item.id),
            author_id: Set(item.author_id),
            published_at: Set(item.published_at),
        });
        insert(tx, rows.collect()).await?;
        self.trim(tx, accounts).await?;
        Ok(true)
    }

    /// Brings the newest items of `author` to `account`; what is pulled needs no bringing.
    pub(crate) async fn bring_newest(&self, tx: &Transaction, account: i64, author: i64, limit: u32) -> Result<()> {
        let items = self.newest_pushed(tx, author, limit).await?;
        let rows = items.into_iter().map(|item| row::ActiveModel {
            account_id: Set(account),
            item_id: Set(item.id),
            author_id: Set(item.author_id),
            published_at: Set(item.published_at),
        });
        insert(tx, rows.collect()).await?;
        self.trim(tx, &[account]).await
    }

    /// Removes what `author` has brought to `account`.
    pub(crate) async fn forget_author(&self, tx: &Transaction, account: i64, author: i64) -> Result<()> {
        let rows = row::Entity::delete_many()
            .filter(row::Column::AccountId.eq(account))
            .filter(row::Column::AuthorId.eq(author));
        rows.exec(tx).await.map(drop).map_err(into_error)
    }

    /// Returns what was brought to `account` and can be seen, from `before` on, newest first.
    pub(crate) async fn inbox(&self, account: i64, before: Position, limit: usize) -> Result<Vec<Entry>> {
        let query = Query::select()
            .column(("item", "id"))
            .column(("item", "biz"))
            .column(("item", "biz_id"))
            .column(("item", "author_id"))
            .column(("inbox", "published_at"))
            .from("inbox")
            .inner_join("item", Expr::col(("item", "id")).equals(("inbox", "item_id")))
            .and_where(Expr::col(("inbox", "account_id")).eq(account))
            .and_where(Expr::col(("item", "is_published")).eq(true))
            .cond_where(older(("inbox", "published_at"), ("inbox", "item_id"), before))
            .order_by(("inbox", "published_at"), Order::Desc)
            .order_by(("inbox", "item_id"), Order::Desc)
            .limit(limit as u64)
            .to_owned();
        let rows = self.database.query_all(&query).await.map_err(into_error)?;
        rows.iter()
            .map(entry)
            .collect::<std::result::Result<_, _>>()
            .map_err(into_error)
    }

    /// Removes the oldest entries of those of `accounts` who have more than a tenth too many, so that most insertions need not.
    async fn trim(&self, tx: &Transaction, accounts: &[i64]) -> Result<()> {
        let n_entries = || Expr::expr(Func::count(Expr::col(row::Column::ItemId)));
        let most = i64::from(self.inbox_max + self.inbox_max / 10);
        let full: Vec<i64> = row::Entity::find()
            .select_only()
            .column(row::Column::AccountId)
            .filter(row::Column::AccountId.is_in(accounts.iter().copied()))
            .group_by(row::Column::AccountId)
            .having(n_entries().gt(most))
            .into_tuple()
            .all(tx)
            .await
            .map_err(into_error)?;
        for account in full {
            let first_to_go = row::Entity::find()
                .filter(row::Column::AccountId.eq(account))
                .order_by_desc(row::Column::PublishedAt)
                .order_by_desc(row::Column::ItemId)
                .offset(u64::from(self.inbox_max))
                .limit(1);
            let Some(row) = first_to_go.one(tx).await.map_err(into_error)? else {
                continue;
            };
            let from = Position {
                published_at: row.published_at,
                item_id: row.item_id + 1,
            };
            let rows = row::Entity::delete_many()
                .filter(row::Column::AccountId.eq(account))
                .filter(older(row::Column::PublishedAt, row::Column::ItemId, from));
            rows.exec(tx).await.map_err(into_error)?;
        }
        Ok(())
    }
}

/// Inserts `rows`, of which some may be there.
async fn insert(tx: &Transaction, rows: Vec<row::ActiveModel>) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let unless_there = OnConflict::columns([row::Column::AccountId, row::Column::ItemId])
        .do_nothing_on([row::Column::AccountId])
        .to_owned();
    row::Entity::insert_many(rows)
        .on_conflict(unless_there)
        .exec_without_returning(tx)
        .await
        .map(drop)
        .map_err(into_error)
}
