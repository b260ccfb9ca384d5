//! The contract over store and indexes.

use std::sync::Arc;

use mosaic::search::{Filter, Hit, Query, Value};
use mosaic::{Context, Result};
use mosaic_api::search::v1::{
    FoundItem, FoundUser, IndexItemRequest, RebuildRequest, RemoveItemRequest, Search, SearchRequest, SearchResponse,
};

use crate::boosts::Boosts;
use crate::indexes::Indexes;
use crate::model::{Entry, Kind};
use crate::store::Store;
use crate::tasks::{accept, rebuild};

const LIMIT_DEFAULT: usize = 10;

/// See the module documentation.
pub(crate) struct Service {
    store: Store,
    indexes: Arc<Indexes>,
    boosts: Boosts,
}

impl Service {
    pub(crate) const fn new(store: Store, indexes: Arc<Indexes>, boosts: Boosts) -> Self {
        Self { store, indexes, boosts }
    }
}

#[mosaic::async_trait]
impl Search for Service {
    async fn index_item(&self, cx: &Context, request: IndexItemRequest) -> Result<()> {
        let entry = Entry::removed_item(&request.biz, request.biz_id, request.version);
        let entry = entry.saying(&request.title, &request.content, &request.tags, request.author_id);
        accept(&self.store, cx, &entry).await
    }

    async fn remove_item(&self, cx: &Context, request: RemoveItemRequest) -> Result<()> {
        let entry = Entry::removed_item(&request.biz, request.biz_id, request.version);
        accept(&self.store, cx, &entry).await
    }

    async fn search(&self, cx: &Context, request: SearchRequest) -> Result<SearchResponse> {
        let limit = match request.limit {
            0 => LIMIT_DEFAULT,
            limit => limit as usize,
        };
        let words = Query::new(request.expression).page(limit, request.offset as usize);
        let mut items = words.clone();
        if !request.biz.is_empty() {
            items = items.filter(Filter::is("biz", &request.biz));
        }
        let items = async {
            let items = self.boosts.of(cx, request.account_id, &request.biz, items).await;
            self.indexes.search(Kind::Item, items).await
        };
        let (users, items) = futures::try_join!(self.indexes.search(Kind::User, words), items)?;
        Ok(SearchResponse {
            users: users.hits.iter().map(found_user).collect(),
            items: items.hits.iter().map(found_item).collect(),
        })
    }

    async fn rebuild(&self, cx: &Context, _: RebuildRequest) -> Result<()> {
        rebuild(&self.store, cx).await
    }
}

fn found_user(hit: &Hit) -> FoundUser {
    FoundUser {
        account_id: number(hit, "biz_id"),
        nickname: text(hit, "title"),
    }
}

fn found_item(hit: &Hit) -> FoundItem {
    FoundItem {
        biz: text(hit, "biz"),
        biz_id: number(hit, "biz_id"),
        title: text(hit, "title"),
        score: f64::from(hit.score),
    }
}

fn text(hit: &Hit, field: &str) -> String {
    let text = hit.values.get(field).and_then(Value::as_text);
    text.unwrap_or_default().to_owned()
}

fn number(hit: &Hit, field: &str) -> i64 {
    hit.values.get(field).and_then(Value::as_number).unwrap_or_default()
}
