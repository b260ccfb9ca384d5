//! Articles as clients see them: with the names of their authors and what readers did with them.
//!
//! Both come from others, and an answer may go out without them where the configuration allows it
//! ([`Degrade`](crate::degrade::Degrade)).

use std::collections::HashMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use mosaic::sql::timestamp;
use mosaic::{AccountId, Context, Result};
use mosaic_api::content::v1::{Article, Author};
use mosaic_api::interaction::v1::{GetManyRequest, GetRequest, InteractionClient, ItemState};
use mosaic_api::users::v1::{GetNicknamesRequest, UsersClient};

use super::BIZ;
use super::model::{Clockface, Draft, Published, Status, summary};
use crate::degrade::{Degrade, Dependency};

/// Most items of one question to a capability.
const BATCH: usize = 200;
/// Questions at once.
const AT_ONCE: usize = 4;

/// See the module documentation. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Show {
    pub(crate) interaction: InteractionClient,
    pub(crate) users: UsersClient,
    pub(crate) clockface: Clockface,
    pub(crate) degrade: Degrade,
}

impl Show {
    /// Returns what a reader sees of one article.
    pub(crate) async fn one(&self, cx: &Context, article: Published, viewer: Option<AccountId>) -> Result<Article> {
        let request = GetRequest {
            biz: BIZ.to_owned(),
            biz_id: article.id.get(),
            account_id: viewer.map_or(0, AccountId::get),
        };
        let (state, author) = futures::join!(self.interaction.get(cx, request), self.author(cx, article.author));
        let state = self.degrade.fill(Dependency::Interaction, state).await?;
        Ok(self.published(article, author?, &state))
    }

    /// Returns what a reader sees of articles in a list.
    pub(crate) async fn many(
        &self,
        cx: &Context,
        articles: Vec<Published>,
        viewer: Option<AccountId>,
    ) -> Result<Vec<Article>> {
        let ids: Vec<i64> = articles.iter().map(|article| article.id.get()).collect();
        let authors: Vec<_> = articles.iter().map(|article| article.author).collect();
        let (states, names) = futures::join!(self.states(cx, &ids, viewer), self.names(cx, &authors));
        let (states, names) = (states?, names?);
        let none = ItemState::default();
        let shown = articles.into_iter().map(|article| {
            let state = states.get(&article.id.get()).unwrap_or(&none);
            let author = author(article.author, &names);
            self.published(article, author, state)
        });
        Ok(shown.collect())
    }

    /// Returns what an author sees of his own article.
    pub(crate) fn draft(&self, draft: Draft, content: Content) -> Article {
        Article {
            id: draft.id.get(),
            title: draft.title,
            summary: summary(&draft.content),
            content: match content {
                Content::Whole => draft.content,
                Content::Left => String::new(),
            },
            author_id: draft.author.get(),
            status: draft.status.number(),
            ctime: self.time(draft.created_us),
            utime: self.time(draft.updated_us),
            tags: draft.tags,
            ..Article::default()
        }
    }

    /// Returns a time as clients read it.
    pub(crate) fn time(&self, micros: i64) -> String {
        self.clockface.show(timestamp(micros))
    }

    /// Returns the names of people, by account; the empty ones of people who cannot be asked for.
    pub(crate) async fn names(&self, cx: &Context, accounts: &[AccountId]) -> Result<HashMap<AccountId, String>> {
        let mut accounts = accounts.to_vec();
        accounts.sort_unstable();
        accounts.dedup();
        let batches = stream::iter(accounts.chunks(BATCH).map(<[_]>::to_vec))
            .map(async |batch| {
                let request = GetNicknamesRequest {
                    account_ids: batch.iter().map(|account| account.get()).collect(),
                };
                let answer = self.users.get_nicknames(cx, request).await;
                let answer = self.degrade.fill(Dependency::Users, answer).await?;
                Ok::<_, mosaic::Error>(batch.into_iter().zip(answer.nicknames).collect::<Vec<_>>())
            })
            .buffered(AT_ONCE);
        let names: Vec<Vec<_>> = batches.try_collect().await?;
        Ok(names.into_iter().flatten().collect())
    }

    /// Returns somebody with his name, as [`Show::names`] has it.
    async fn author(&self, cx: &Context, account: AccountId) -> Result<Author> {
        let id = account.get();
        let request = GetNicknamesRequest { account_ids: vec![id] };
        let answer = self.users.get_nicknames(cx, request).await;
        let mut answer = self.degrade.fill(Dependency::Users, answer).await?;
        let name = answer.nicknames.pop().unwrap_or_default();
        Ok(Author { id, name })
    }

    async fn states(&self, cx: &Context, ids: &[i64], viewer: Option<AccountId>) -> Result<HashMap<i64, ItemState>> {
        let batches = stream::iter(ids.chunks(BATCH).map(<[_]>::to_vec))
            .map(async |biz_ids| {
                let request = GetManyRequest {
                    biz: BIZ.to_owned(),
                    biz_ids,
                    account_id: viewer.map_or(0, AccountId::get),
                };
                let answer = self.interaction.get_many(cx, request).await;
                let answer = self.degrade.fill(Dependency::Interaction, answer).await?;
                Ok::<_, mosaic::Error>(answer.items)
            })
            .buffered(AT_ONCE);
        let states: Vec<Vec<_>> = batches.try_collect().await?;
        Ok(states
            .into_iter()
            .flatten()
            .map(|state| (state.biz_id, state))
            .collect())
    }

    fn published(&self, article: Published, author: Author, state: &ItemState) -> Article {
        Article {
            id: article.id.get(),
            title: article.title,
            summary: article.summary,
            content: article.content,
            author_id: author.id,
            author_name: author.name.clone(),
            author: Some(author),
            status: Status::Published.number(),
            ctime: self.time(article.created_us),
            utime: self.time(article.updated_us),
            read_cnt: state.reads,
            like_cnt: state.likes,
            collect_cnt: state.collects,
            liked: state.liked,
            collected: state.collected,
            tags: article.tags,
        }
    }
}

/// Whether a text goes with its article.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content {
    Whole,
    Left,
}

/// Returns somebody with his name.
pub(crate) fn author(account: AccountId, names: &HashMap<AccountId, String>) -> Author {
    Author {
        id: account.get(),
        name: names.get(&account).cloned().unwrap_or_default(),
    }
}
