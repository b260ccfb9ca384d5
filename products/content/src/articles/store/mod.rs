//! The tables of the two libraries, and their caches.
//!
//! Every change names the author with the id, so that somebody else's article is simply not there. A change of the readers'
//! library locks the author's row first: a publish and a withdrawal that race are one after the other, with their
//! events in the same order. Cached rows are removed after the commit.
//!
//! Cached are an article's draft, the first page of an author's list (without texts), and what readers see.

mod rows;
mod schema;

use std::sync::Arc;
use std::time::Duration;

use mosaic::cache::{Cache, CacheKey, ReadThrough};
use mosaic::sql::sea_orm::entity::prelude::*;
use mosaic::sql::sea_orm::sea_query::OnConflict;
use mosaic::sql::sea_orm::{QueryOrder as _, QuerySelect as _, Set};
use mosaic::sql::{into_error, micros};
use mosaic::{AccountId, Context, Result, Transactions};
use mosaic_api::events::{Item, ItemPublished, ItemWithdrawn};

pub(crate) use schema::MIGRATIONS;

use super::BIZ;
use super::body::Bodies;
use super::model::{ArticleId, Draft, Page, Published, Status, Text, not_found};
use rows::{DraftRow, SummaryRow, read_tags, tags_column};
use schema::{article, published};

/// How long rows are cached; a change removes them earlier.
const CACHED_FOR: Duration = Duration::from_secs(600);

/// The first page of a list that is cached.
const FIRST_PAGE: Page = Page { offset: 0, limit: 100 };

/// What two versions of the readers' library have in common.
struct Before {
    published_at: i64,
    body_key: String,
}

/// What readers may see of an article that was published once.
pub(crate) enum Visible {
    /// All of it.
    Yes(Published),
    /// Nothing.
    No {
        /// Since when, in microseconds since 1970.
        since_us: i64,
    },
}

/// See the module documentation. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    transactions: Transactions,
    bodies: Bodies,
    drafts: ReadThrough<Draft>,
    lists: ReadThrough<Vec<Draft>>,
    published: ReadThrough<Published>,
}

impl Store {
    pub(crate) fn new(transactions: Transactions, bodies: Bodies, cache: &Cache) -> Self {
        Self {
            transactions,
            bodies,
            drafts: ReadThrough::new(cache, CACHED_FOR),
            lists: ReadThrough::new(cache, CACHED_FOR),
            published: ReadThrough::new(cache, CACHED_FOR),
        }
    }

    /// Saves a draft: a new one if `id` is `None`.
    ///
    /// # Errors
    /// `NotFound` if the article is not the author's.
    pub(crate) async fn save(
        &self,
        cx: &Context,
        author: AccountId,
        id: Option<ArticleId>,
        text: &Text,
    ) -> Result<ArticleId> {
        let saved = self
            .transactions
            .run(|tx| async move { write_draft(cx, &*tx, author, id, text, Status::Draft).await });
        let id = saved.await?;
        self.forget_draft(author, id).await;
        Ok(id)
    }

    /// Saves a draft and shows it to readers; all of it or nothing.
    ///
    /// # Errors
    /// `NotFound` if the article is not the author's; `Unavailable` if its text cannot be stored.
    pub(crate) async fn publish(
        &self,
        cx: &Context,
        author: AccountId,
        id: Option<ArticleId>,
        text: &Text,
    ) -> Result<ArticleId> {
        // A text is written under a key of its own and named by the row: until the commit nobody knows of it.
        let body = self.bodies.store(cx, &text.content).await?;
        let published = self.transactions.run(|tx| {
            let body = &body;
            async move {
                let id = write_draft(cx, &*tx, author, id, text, Status::Published).await?;
                let before = before(&*tx, id).await?;
                let now = micros(cx.runtime().now());
                let published_at = before.as_ref().map_or(now, |before| before.published_at);
                let row = published::ActiveModel {
                    id: Set(id.get()),
                    author_id: Set(author.get()),
                    title: Set(text.title.clone()),
                    summary: Set(text.summary()),
                    content: Set(body.content().to_owned()),
                    body_key: Set(body.key().to_owned()),
                    tags: Set(tags_column(&text.tags)),
                    status: Set(Status::Published.number().into()),
                    published_at: Set(published_at),
                    created_at: Set(now),
                    updated_at: Set(now),
                };
                upsert(&*tx, row).await?;
                if let Some(before) = &before {
                    self.bodies.forget_in(cx, &tx, &before.body_key).await?;
                }
                let event = ItemPublished {
                    item: item(id),
                    author,
                    published_at_us: published_at,
                };
                tx.publish(cx, &event).await?;
                Ok(id)
            }
        });
        let id = published.await?;
        self.forget_draft(author, id).await;
        self.published.invalidate(&published_key(id)).await;
        // Readers come at once: the row is put where they look. If this fails, the first of them does it.
        let _ = self.published(id).await;
        Ok(id)
    }

    /// Makes an article private in both libraries.
    ///
    /// # Errors
    /// `NotFound` if the article is not the author's.
    pub(crate) async fn withdraw(&self, cx: &Context, author: AccountId, id: ArticleId) -> Result<()> {
        let withdrawn = self.transactions.run(|tx| async move {
            let now = micros(cx.runtime().now());
            let hidden = article::Entity::update_many()
                .set(article::ActiveModel {
                    status: Set(Status::Private.number().into()),
                    updated_at: Set(now),
                    ..Default::default()
                })
                .filter(article::Column::Id.eq(id.get()))
                .filter(article::Column::AuthorId.eq(author.get()));
            if hidden.exec(&*tx).await.map_err(into_error)?.rows_affected == 0 {
                return Err(not_found());
            }
            let private = published::Entity::update_many()
                .set(published::ActiveModel {
                    status: Set(Status::Private.number().into()),
                    updated_at: Set(now),
                    ..Default::default()
                })
                .filter(published::Column::Id.eq(id.get()))
                .filter(published::Column::AuthorId.eq(author.get()))
                .filter(published::Column::Status.eq(Status::Published.number()));
            if private.exec(&*tx).await.map_err(into_error)?.rows_affected > 0 {
                tx.publish(cx, &ItemWithdrawn { item: item(id), author }).await?;
            }
            Ok(())
        });
        withdrawn.await?;
        self.forget_draft(author, id).await;
        self.published.invalidate(&published_key(id)).await;
        Ok(())
    }

    /// Returns an author's articles with the beginning of their texts, the last changed first.
    pub(crate) async fn list(&self, author: AccountId, page: Page) -> Result<Vec<Draft>> {
        if page.offset > 0 {
            return self.load_list(author, page).await;
        }
        let key = list_key(author);
        let first = self.lists.get_or_load(&key, || async {
            let list = self.load_list(author, FIRST_PAGE).await?;
            // Whoever looks at his list opens the first of it next.
            if let Some(first) = list.first() {
                self.draft(author, first.id).await.map(drop)?;
            }
            Ok(Some(list))
        });
        let first = first.await?;
        let page = first
            .iter()
            .flat_map(|first| first.iter())
            .take(usize::try_from(page.limit).unwrap_or(usize::MAX));
        Ok(page.cloned().collect())
    }

    async fn load_list(&self, author: AccountId, page: Page) -> Result<Vec<Draft>> {
        let rows = article::Entity::find()
            .select_only()
            .columns([
                article::Column::Id,
                article::Column::AuthorId,
                article::Column::Title,
                article::Column::Tags,
                article::Column::Status,
                article::Column::CreatedAt,
                article::Column::UpdatedAt,
            ])
            .column_as(article::Column::Summary, "content")
            .filter(article::Column::AuthorId.eq(author.get()))
            .order_by_desc(article::Column::UpdatedAt)
            .order_by_desc(article::Column::Id)
            .offset(page.offset)
            .limit(page.limit)
            .into_model::<DraftRow>()
            .all(self.transactions.database().connection())
            .await
            .map_err(into_error)?;
        rows.into_iter().map(DraftRow::read).collect()
    }

    /// Returns an author's article as he last saved it; `None` if it is not his.
    pub(crate) async fn draft(&self, author: AccountId, id: ArticleId) -> Result<Option<Draft>> {
        let key = draft_key(id);
        let draft = self.drafts.get_or_load(&key, || async {
            let row = article::Entity::find_by_id(id.get())
                .into_model::<DraftRow>()
                .one(self.transactions.database().connection())
                .await
                .map_err(into_error)?;
            row.map(DraftRow::read).transpose()
        });
        let draft = draft.await?.filter(|draft| draft.author == author);
        Ok(draft.map(Arc::unwrap_or_clone))
    }

    /// Returns what readers see of an article; `None` if they see nothing.
    pub(crate) async fn published(&self, id: ArticleId) -> Result<Option<Published>> {
        let key = published_key(id);
        let published = self
            .published
            .look_or_load(&key, || self.load_published(id), Published::clone);
        published.await
    }

    async fn load_published(&self, id: ArticleId) -> Result<Option<Published>> {
        Ok(match self.visible(id).await? {
            Some(Visible::Yes(article)) => Some(article),
            Some(Visible::No { .. }) | None => None,
        })
    }

    /// Returns what the readers' library has of an article now, past the cache.
    pub(crate) async fn visible(&self, id: ArticleId) -> Result<Option<Visible>> {
        let row = published::Entity::find_by_id(id.get())
            .one(self.transactions.database().connection())
            .await
            .map_err(into_error)?;
        let Some(row) = row else { return Ok(None) };
        if Status::of_number(row.status) != Status::Published {
            let since_us = row.updated_at;
            return Ok(Some(Visible::No { since_us }));
        }
        let content = self.bodies.load(row.content, &row.body_key).await?;
        Ok(Some(Visible::Yes(Published {
            id,
            author: AccountId::try_from(row.author_id)?,
            title: row.title,
            summary: row.summary,
            content,
            tags: read_tags(&row.tags),
            created_us: row.created_at,
            updated_us: row.updated_at,
        })))
    }

    /// Returns the published ones of `ids`, in this order and with the beginning of their texts.
    pub(crate) async fn summaries(&self, ids: &[ArticleId]) -> Result<Vec<Published>> {
        let rows = published::Entity::find()
            .select_only()
            .columns([
                published::Column::Id,
                published::Column::AuthorId,
                published::Column::Title,
                published::Column::Summary,
                published::Column::Tags,
                published::Column::CreatedAt,
                published::Column::UpdatedAt,
            ])
            .filter(published::Column::Id.is_in(ids.iter().map(|id| id.get())))
            .filter(published::Column::Status.eq(Status::Published.number()))
            .into_model::<SummaryRow>()
            .all(self.transactions.database().connection())
            .await
            .map_err(into_error)?;
        let mut found = std::collections::HashMap::with_capacity(rows.len());
        for row in rows {
            found.insert(row.id, row.read()?);
        }
        Ok(ids.iter().filter_map(|id| found.remove(&id.get())).collect())
    }

    /// Returns where texts are.
    pub(crate) const fn bodies(&self) -> &Bodies {
        &self.bodies
    }

    /// Does a row name this text?
    pub(crate) async fn is_body(&self, key: &str) -> Result<bool> {
        let n = published::Entity::find()
            .filter(published::Column::BodyKey.eq(key))
            .count(self.transactions.database().connection())
            .await
            .map_err(into_error)?;
        Ok(n > 0)
    }

    async fn forget_draft(&self, author: AccountId, id: ArticleId) {
        self.drafts.invalidate(&draft_key(id)).await;
        self.lists.invalidate(&list_key(author)).await;
    }
}

fn item(id: ArticleId) -> Item {
    Item {
        biz: BIZ.to_owned(),
        biz_id: id.get(),
    }
}

fn draft_key(id: ArticleId) -> CacheKey {
    CacheKey::new("article_draft").part(id.get())
}

fn list_key(author: AccountId) -> CacheKey {
    CacheKey::new("article_list").part(author)
}

fn published_key(id: ArticleId) -> CacheKey {
    CacheKey::new("article").part(id.get())
}

async fn write_draft(
    cx: &Context,
    db: &impl ConnectionTrait,
    author: AccountId,
    id: Option<ArticleId>,
    text: &Text,
    status: Status,
) -> Result<ArticleId> {
    let now = micros(cx.runtime().now());
    let mut row = article::ActiveModel {
        title: Set(text.title.clone()),
        summary: Set(text.summary()),
        content: Set(text.content.clone()),
        tags: Set(tags_column(&text.tags)),
        status: Set(status.number().into()),
        updated_at: Set(now),
        ..Default::default()
    };
    let Some(id) = id else {
        let id = ArticleId::new(cx.runtime());
        row.id = Set(id.get());
        row.author_id = Set(author.get());
        row.created_at = Set(now);
        article::Entity::insert(row)
            .exec_without_returning(db)
            .await
            .map_err(into_error)?;
        return Ok(id);
    };
    let updated = article::Entity::update_many()
        .set(row)
        .filter(article::Column::Id.eq(id.get()))
        .filter(article::Column::AuthorId.eq(author.get()))
        .exec(db)
        .await
        .map_err(into_error)?;
    if updated.rows_affected == 0 {
        return Err(not_found());
    }
    Ok(id)
}

async fn before(db: &impl ConnectionTrait, id: ArticleId) -> Result<Option<Before>> {
    let row: Option<(i64, String)> = published::Entity::find_by_id(id.get())
        .select_only()
        .columns([published::Column::PublishedAt, published::Column::BodyKey])
        .into_tuple()
        .one(db)
        .await
        .map_err(into_error)?;
    Ok(row.map(|(published_at, body_key)| Before { published_at, body_key }))
}

async fn upsert(db: &impl ConnectionTrait, row: published::ActiveModel) -> Result<()> {
    let or_replace = OnConflict::column(published::Column::Id)
        .update_columns([
            published::Column::Title,
            published::Column::Summary,
            published::Column::Content,
            published::Column::BodyKey,
            published::Column::Tags,
            published::Column::Status,
            published::Column::UpdatedAt,
        ])
        .to_owned();
    let inserted = published::Entity::insert(row)
        .on_conflict(or_replace)
        .exec_without_returning(db)
        .await;
    inserted.map(drop).map_err(into_error)
}
