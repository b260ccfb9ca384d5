//! The contract over what this node knows.

use std::sync::Arc;

use mosaic::{Context, Result};
use mosaic_api::ranking::v1::{
    GetHotRequest, GetHotResponse, GetTopRequest, GetTopResponse, HotItem, Ranking, RefreshRequest, RefreshResponse,
    TopItem,
};
use tokio::sync::Mutex;

use crate::hot::Computer;
use crate::hot_list::HotLists;
use crate::store::Store;
use crate::top_list::TopLists;

/// See the module documentation.
pub(crate) struct Service {
    pub(crate) store: Store,
    pub(crate) hot: Arc<HotLists>,
    pub(crate) top: Arc<TopLists>,
    pub(crate) computer: Arc<Computer>,
    /// One computing at a time, however many ask.
    pub(crate) computing: Mutex<()>,
}

#[mosaic::async_trait]
impl Ranking for Service {
    async fn get_hot(&self, _: &Context, request: GetHotRequest) -> Result<GetHotResponse> {
        let Some(list) = self.hot.get(&request.biz).await? else {
            return Ok(GetHotResponse::default());
        };
        let limit = match request.limit {
            0 => usize::MAX,
            limit => limit as usize,
        };
        let items = list.items.iter().take(limit);
        Ok(GetHotResponse {
            items: items.map(|&(biz_id, score)| HotItem { biz_id, score }).collect(),
            computed_at_us: list.computed_at,
        })
    }

    async fn get_top(&self, _: &Context, request: GetTopRequest) -> Result<GetTopResponse> {
        let Some(top) = self.top.get(&request.biz).await? else {
            return Ok(GetTopResponse::default());
        };
        let items = top.items.iter().take(request.n as usize);
        Ok(GetTopResponse {
            items: items.map(|&(biz_id, likes)| TopItem { biz_id, likes }).collect(),
            as_of_us: top.as_of.as_micros(),
        })
    }

    async fn refresh(&self, _: &Context, request: RefreshRequest) -> Result<RefreshResponse> {
        if self.store.version(&request.biz).await?.is_none() {
            return Ok(RefreshResponse::default());
        }
        let _turn = self.computing.lock().await;
        self.top.refresh().await?;
        let list = self.computer.compute(&request.biz, None).await?;
        Ok(RefreshResponse {
            computed_at_us: list.computed_at,
            n: u32::try_from(list.items.len()).unwrap_or(u32::MAX),
        })
    }
}
