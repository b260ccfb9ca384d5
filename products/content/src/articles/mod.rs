//! Articles: written, published, read, liked, collected, ranked and found.

pub(crate) mod body;
mod charts;
pub(crate) mod index;
pub(crate) mod model;
pub(crate) mod show;
pub(crate) mod store;
pub(crate) mod timeline;

use mosaic::events::Reporter;
use mosaic::sql::micros;
use mosaic::{AccountId, Context, Error, Result};
use mosaic_api::content::v1::{
    self as proto, Article, ArticleDetailRequest, ArticleId as IdResponse, ArticleList, Author, CollectRequest,
    EditArticleRequest, History, HistoryEntry, HistoryRequest, LikeRequest, ListArticlesRequest, SearchRequest,
    SearchResponse, TopByLikesRequest, WithdrawRequest,
};
use mosaic_api::events::ArticleRead;
use mosaic_api::interaction::v1::{ListHistoryRequest, SetCollectedRequest, SetLikeRequest};
use mosaic_api::ranking::v1::{GetHotRequest, GetTopRequest, RankingClient};
use mosaic_api::search::v1::{self as search, SearchClient};

use crate::model::number;
use crate::words::{in_our_words, say};
use charts::Chart;
use model::{ArticleId, Page, Text, article_id, not_found, parse_id};
use show::{Content, Show};
use store::Store;

/// What capabilities call an article.
pub(crate) const BIZ: &str = "article";
/// Articles of the hot list.
const HOT_LEN: u32 = 50;
/// Articles of the two lists by likes that are kept ready, and thus the longest.
const TOP_LEN: [u32; 2] = [100, 1000];
/// Articles of a page of history, and people and articles of a page of search, unless asked otherwise.
const PAGE_DEFAULT: u32 = 20;
const PAGE_MAX: u32 = 50;

/// See the module documentation.
pub(crate) struct Articles {
    store: Store,
    show: Show,
    ranking: RankingClient,
    search: SearchClient,
    reads: Reporter<ArticleRead>,
    hot: Chart,
    top: [Chart; 2],
}

impl Articles {
    pub(crate) fn new(
        store: Store,
        show: Show,
        ranking: RankingClient,
        search: SearchClient,
        reads: Reporter<ArticleRead>,
    ) -> Self {
        Self {
            store,
            show,
            ranking,
            search,
            reads,
            hot: Chart::default(),
            top: Default::default(),
        }
    }

    /// Returns the published ones of `ids` as everybody sees them.
    async fn listed(&self, cx: &Context, ids: impl Iterator<Item = i64>) -> Result<Vec<Article>> {
        let ids = ids.map(ArticleId::try_from).collect::<Result<Vec<_>>>()?;
        let articles = self.store.summaries(&ids).await?;
        self.show.many(cx, articles, None).await
    }

    async fn make_hot(&self, cx: &Context) -> Result<Vec<Article>> {
        let request = GetHotRequest {
            biz: BIZ.to_owned(),
            limit: HOT_LEN,
        };
        let hot = self.ranking.get_hot(cx, request).await?;
        self.listed(cx, hot.items.iter().map(|item| item.biz_id)).await
    }

    async fn make_top(&self, cx: &Context, n: u32) -> Result<Vec<Article>> {
        let biz = BIZ.to_owned();
        let top = self.ranking.get_top(cx, GetTopRequest { biz, n }).await?;
        self.listed(cx, top.items.iter().map(|item| item.biz_id)).await
    }

    /// Is there such an article for readers? What belongs to one that is not there is not taken.
    async fn readable(&self, id: i64) -> Result<ArticleId> {
        let id = article_id(id)?;
        self.store
            .published(id)
            .await?
            .map(|article| article.id)
            .ok_or_else(not_found)
    }
}

#[mosaic::async_trait]
impl proto::Articles for Articles {
    async fn edit(&self, cx: &Context, request: EditArticleRequest) -> Result<IdResponse> {
        let (id, text) = written(request)?;
        let saved = self.store.save(cx, cx.account()?, id, &text).await;
        saved.map(id_response).map_err(article_internal)
    }

    async fn publish(&self, cx: &Context, request: EditArticleRequest) -> Result<IdResponse> {
        let (id, text) = written(request)?;
        let text = text.publishable()?;
        let published = self.store.publish(cx, cx.account()?, id, &text).await;
        published.map(id_response).map_err(article_internal)
    }

    async fn withdraw(&self, cx: &Context, request: WithdrawRequest) -> Result<()> {
        let id = article_id(request.id)?;
        let withdrawn = self.store.withdraw(cx, cx.account()?, id).await;
        withdrawn.map_err(article_internal)
    }

    async fn list(&self, cx: &Context, request: ListArticlesRequest) -> Result<ArticleList> {
        let page = Page::parse(request.offset, request.limit)?;
        let drafts = self.store.list(cx.account()?, page).await?;
        let articles = drafts.into_iter().map(|draft| self.show.draft(draft, Content::Left));
        Ok(ArticleList {
            articles: articles.collect(),
        })
    }

    async fn detail(&self, cx: &Context, request: ArticleDetailRequest) -> Result<Article> {
        let id = parse_id(&request.id)?;
        let draft = self.store.draft(cx.account()?, id).await?.ok_or_else(not_found)?;
        Ok(self.show.draft(draft, Content::Whole))
    }

    async fn read(&self, cx: &Context, request: ArticleDetailRequest) -> Result<Article> {
        let id = parse_id(&request.id)?;
        let reader = cx.account()?;
        let article = self.store.published(id).await?.ok_or_else(not_found)?;
        let shown = self.show.one(cx, article, Some(reader)).await?;
        let event = ArticleRead {
            article_id: id.get(),
            reader: Some(reader),
            at_us: micros(cx.runtime().now()),
        };
        self.reads.report(cx, &event);
        Ok(shown)
    }

    async fn like(&self, cx: &Context, request: LikeRequest) -> Result<()> {
        let account = cx.account()?;
        // A like of an article that was withdrawn meanwhile may still be taken back.
        let id = match request.like {
            true => self.readable(request.id).await?,
            false => article_id(request.id)?,
        };
        let request = SetLikeRequest {
            biz: BIZ.to_owned(),
            biz_id: id.get(),
            account_id: account.get(),
            liked: request.like,
        };
        let liked = self.show.interaction.set_like(cx, request).await;
        liked.map_err(in_our_words)
    }

    async fn collect(&self, cx: &Context, request: CollectRequest) -> Result<()> {
        let account = cx.account()?;
        let collected = request.collect.unwrap_or(true);
        let id = match collected {
            true => self.readable(request.id).await?,
            false => article_id(request.id)?,
        };
        let request = SetCollectedRequest {
            biz: BIZ.to_owned(),
            biz_id: id.get(),
            account_id: account.get(),
            folder_id: request.cid,
            collected,
        };
        let collected = self.show.interaction.set_collected(cx, request).await;
        collected.map_err(in_our_words)
    }

    async fn history(&self, cx: &Context, request: HistoryRequest) -> Result<History> {
        let account = cx.account()?;
        let request = ListHistoryRequest {
            account_id: account.get(),
            biz: BIZ.to_owned(),
            before: timeline::parse_cursor(&request.before)?,
            limit: page_limit(request.limit)?,
        };
        let read = self.show.interaction.list_history(cx, request).await;
        let read = read.map_err(in_our_words)?.entries;
        let marks: Vec<_> = read.iter().map(|entry| (entry.biz_id, entry.at_us)).collect();
        let entries = timeline::entries(cx, &self.store, &self.show, &marks).await?;
        let entries = entries.into_iter().map(|entry| HistoryEntry {
            article: Some(entry.article),
            read_at: entry.at,
            cursor: entry.cursor,
        });
        Ok(History {
            entries: entries.collect(),
        })
    }

    async fn hot(&self, cx: &Context, (): ()) -> Result<ArticleList> {
        let hot = self.hot.get(cx, async || self.make_hot(cx).await).await;
        let articles = hot.map_err(in_our_words)?.to_vec();
        Ok(ArticleList { articles })
    }

    async fn top_by_likes(&self, cx: &Context, request: TopByLikesRequest) -> Result<ArticleList> {
        let n = match request.n {
            0 => TOP_LEN[0],
            n => u32::try_from(n).ok().filter(|n| *n <= TOP_LEN[1]).ok_or_else(|| {
                Error::invalid_argument("N_INVALID", "n 必须在 1 到 1000 之间").numbered(number::USER)
            })?,
        };
        let which = usize::from(n > TOP_LEN[0]);
        let made = self.top[which].get(cx, async || self.make_top(cx, TOP_LEN[which]).await);
        let top = made.await.map_err(in_our_words)?;
        let articles = top.iter().take(n as usize).cloned().collect();
        Ok(ArticleList { articles })
    }

    async fn search(&self, cx: &Context, request: SearchRequest) -> Result<SearchResponse> {
        let bad = || Error::invalid_argument("EXPRESSION_INVALID", "搜索条件不合法").numbered(number::USER);
        let expression = request.expression.trim();
        if expression.is_empty() || expression.chars().count() > 256 {
            return Err(bad());
        }
        let viewer = cx.account().ok();
        let request = search::SearchRequest {
            expression: expression.to_owned(),
            account_id: viewer.map_or(0, AccountId::get),
            biz: BIZ.to_owned(),
            limit: page_limit(request.limit)?,
            offset: u32::try_from(request.offset)
                .ok()
                .filter(|offset| *offset <= 1000)
                .ok_or_else(bad)?,
        };
        let found = self.search.search(cx, request).await;
        let found = found.map_err(|error| match error.reason() {
            "SEARCH_UNAVAILABLE" => say(&error, number::SYSTEM, "搜索暂不可用").caused_by(error),
            _ => in_our_words(error),
        })?;
        let ids: Vec<_> = found.items.iter().map(|item| item.biz_id).collect();
        let ids = ids.into_iter().map(ArticleId::try_from).collect::<Result<Vec<_>>>()?;
        let articles = self.store.summaries(&ids).await?;
        let users = found.users.into_iter().map(|user| Author {
            id: user.account_id,
            name: user.nickname,
        });
        Ok(SearchResponse {
            users: users.collect(),
            articles: self.show.many(cx, articles, viewer).await?,
        })
    }
}

fn written(request: EditArticleRequest) -> Result<(Option<ArticleId>, Text)> {
    let id = match request.id {
        0 => None,
        id => Some(article_id(id)?),
    };
    Ok((id, Text::draft(request.title, request.content, request.tags)?))
}

const fn id_response(id: ArticleId) -> IdResponse {
    IdResponse { id: id.get() }
}

/// What fails for a reason of ours when an article is written has a number of its own.
fn article_internal(error: Error) -> Error {
    if error.number().is_none() && error.code().is_fault() {
        say(&error, number::ARTICLE_INTERNAL, "系统错误").caused_by(error)
    } else {
        in_our_words(error)
    }
}

/// Reads how many entries of a page a client wants; 0 is as many as usual.
///
/// # Errors
/// `InvalidArgument` (`PAGE_INVALID`) for less and for more than a page has.
pub(crate) fn page_limit(limit: i64) -> Result<u32> {
    let limit = u32::try_from(limit).ok().filter(|limit| *limit <= PAGE_MAX);
    let invalid = || Error::invalid_argument("PAGE_INVALID", "分页参数错误").numbered(number::USER);
    Ok(match limit.ok_or_else(invalid)? {
        0 => PAGE_DEFAULT,
        limit => limit,
    })
}
