//! Rows as queries return them, and what they say.

use mosaic::sql::sea_orm;
use mosaic::sql::sea_orm::FromQueryResult;
use mosaic::{AccountId, Result};

use crate::articles::model::{ArticleId, Draft, Published, Status};

/// Tags have no line breaks ([`Text::draft`]).
pub(super) fn tags_column(tags: &[String]) -> String {
    tags.join("\n")
}

pub(super) fn read_tags(column: &str) -> Vec<String> {
    column.lines().map(str::to_owned).collect()
}

/// An article of its author's library.
#[derive(FromQueryResult)]
pub(super) struct DraftRow {
    id: i64,
    author_id: i64,
    title: String,
    content: String,
    tags: String,
    status: i64,
    created_at: i64,
    updated_at: i64,
}

impl DraftRow {
    pub(super) fn read(self) -> Result<Draft> {
        Ok(Draft {
            id: ArticleId::try_from(self.id)?,
            author: AccountId::try_from(self.author_id)?,
            title: self.title,
            content: self.content,
            tags: read_tags(&self.tags),
            status: Status::of_number(self.status),
            created_us: self.created_at,
            updated_us: self.updated_at,
        })
    }
}

/// A published article without its text.
#[derive(FromQueryResult)]
pub(super) struct SummaryRow {
    pub(super) id: i64,
    author_id: i64,
    title: String,
    summary: String,
    tags: String,
    created_at: i64,
    updated_at: i64,
}

impl SummaryRow {
    pub(super) fn read(self) -> Result<Published> {
        Ok(Published {
            id: ArticleId::try_from(self.id)?,
            author: AccountId::try_from(self.author_id)?,
            title: self.title,
            summary: self.summary,
            content: String::new(),
            tags: read_tags(&self.tags),
            created_us: self.created_at,
            updated_us: self.updated_at,
        })
    }
}
