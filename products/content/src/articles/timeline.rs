//! Articles in the order in which somebody read or collected them, in pages.
//!
//! A page ends where its last entry was, not at a number of entries: what is added meanwhile shifts nothing.

use mosaic::{Context, Error, Result};
use mosaic_api::content::v1::Article;
use mosaic_api::interaction::v1::Cursor;

use super::model::ArticleId;
use super::show::Show;
use super::store::Store;
use crate::model::number;

/// An article, when something was done with it, and what a client sends for the entries before it.
pub(crate) struct Entry {
    pub(crate) article: Article,
    pub(crate) at: String,
    pub(crate) cursor: String,
}

/// Returns the entries of `marks`, each the id of an article and a time in microseconds since 1970. Those of articles that were
/// withdrawn meanwhile are missing.
pub(crate) async fn entries(cx: &Context, store: &Store, show: &Show, marks: &[(i64, i64)]) -> Result<Vec<Entry>> {
    let ids = marks.iter().map(|(id, _)| ArticleId::try_from(*id));
    let articles = store.summaries(&ids.collect::<Result<Vec<_>>>()?).await?;
    let mut articles = show.many(cx, articles, None).await?.into_iter().peekable();
    let entries = marks.iter().filter_map(|(id, at_us)| {
        let article = articles.next_if(|article| article.id == *id)?;
        Some(Entry {
            article,
            at: show.time(*at_us),
            cursor: format!("{at_us}-{id}"),
        })
    });
    Ok(entries.collect())
}

/// Reads where a page is to begin; empty: with the newest.
///
/// # Errors
/// `InvalidArgument` (`PAGE_INVALID`) for what is no cursor of ours.
pub(crate) fn parse_cursor(text: &str) -> Result<Option<Cursor>> {
    if text.is_empty() {
        return Ok(None);
    }
    let parts = text
        .split_once('-')
        .and_then(|(at, id)| Some((at.parse().ok()?, id.parse().ok()?)));
    let (at_us, biz_id) =
        parts.ok_or_else(|| Error::invalid_argument("PAGE_INVALID", "分页参数错误").numbered(number::USER))?;
    Ok(Some(Cursor { at_us, biz_id }))
}
