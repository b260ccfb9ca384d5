//! The two processes that the edge is compared in.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use mosaic::config::Layers;
use mosaic::{Context, Runtime, async_trait};
use mosaic_api::ranking::v1::{self as ranking, RankingClient};
use mosaic_api::users::v1::{GetProfileRequest, UsersClient};
use serde_json::Value;
use tempfile::TempDir;

use crate::contract::bench::v1::{
    Detail, DetailServer, GetDetailReply, GetDetailRequest, Ranker, RankerServer, RefreshRequest, detail_routes,
    ranker_routes,
};
use crate::report::{Result, say};

/// A detail that is one cached row: the token is checked, one service is asked, nothing else.
struct Reader(UsersClient);

#[async_trait]
impl Detail for Reader {
    async fn get_detail(&self, cx: &Context, _: GetDetailRequest) -> mosaic::Result<GetDetailReply> {
        let account_id = cx.account()?.get();
        let profile = self.0.get_profile(cx, GetProfileRequest { account_id }).await?;
        Ok(GetDetailReply {
            id: profile.account_id,
            nickname: profile.nickname,
            sex: profile.sex,
            avatar: profile.avatar,
            about_me: profile.about_me,
        })
    }
}

/// Has the hot list computed when it is due for those who measure, not every few minutes.
struct Refresher(RankingClient);

#[async_trait]
impl Ranker for Refresher {
    async fn refresh(&self, cx: &Context, request: RefreshRequest) -> mosaic::Result<()> {
        let request = ranking::RefreshRequest { biz: request.biz };
        self.0.refresh(cx, request).await.map(drop)
    }
}

/// Runs the platform with one module more until this process is ended.
pub(crate) async fn serve_platform(logged: bool) -> Result<()> {
    let data = TempDir::new()?;
    let app = platform::app().module("bench", async |m| {
        m.serve(DetailServer::new(Arc::new(Reader(m.client()))));
        m.routes(detail_routes(m.client()));
        m.serve(RankerServer::new(Arc::new(Refresher(m.client()))));
        m.routes(ranker_routes(m.client()));
        Ok(())
    });
    let mut layers = Layers::default()
        .set("mode", "dev")
        .set("data", data.path().display().to_string())
        .set("edge.access_log", logged.to_string());
    for key in ["http", "grpc", "admin"] {
        layers = layers.set(key, "127.0.0.1:0");
    }
    let process = app.start(&Runtime::system(), layers).await?;
    let http = process.addresses().http.ok_or("the platform has a public port")?;
    say(&http.to_string());
    std::future::pending().await
}

/// Answers every path with `json`, parsed once and written anew for each request, until this process is ended.
pub(crate) async fn serve_bare(json: &str) -> Result<()> {
    let answer: Arc<Value> = Arc::new(serde_json::from_str(json)?);
    let router = Router::new()
        .route("/detail", get(bare_get).post(bare_post))
        .with_state(answer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    say(&listener.local_addr()?.to_string());
    Ok(axum::serve(listener, router).await?)
}

async fn bare_get(State(answer): State<Arc<Value>>) -> Json<Arc<Value>> {
    Json(answer)
}

async fn bare_post(State(answer): State<Arc<Value>>, Json(_): Json<Value>) -> Json<Arc<Value>> {
    Json(answer)
}
