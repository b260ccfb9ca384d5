//! Articles: the API that its clients speak, over the capabilities that all products share.
//!
//! Two things are its own: the articles themselves, in two libraries (`articles`), and its words. Accounts, likes, comments,
//! follows, rankings, search and money are capabilities that it asks.

mod articles;
mod collections;
mod comments;
mod degrade;
mod follows;
mod model;
mod oauth2;
mod rewards;
mod users;
mod words;

use std::sync::Arc;

use mosaic::config::{Raw, Value};
use mosaic::{Module, Result};
use mosaic_api::content::v1::{
    ArticleCommentsServer, ArticlesServer, CollectionsServer, FollowsServer, Oauth2Server, RewardsServer, UsersServer,
};

use articles::Articles;
use articles::body::{self, Bodies};
use articles::index;
use articles::model::Clockface;
use articles::show::Show;
use articles::store::{MIGRATIONS, Store};
use collections::Collections;
use comments::ArticleComments;
use degrade::Degrade;
use follows::Follows;
use oauth2::Oauth2;
use rewards::Rewards;
use users::Users;

/// Where the texts that readers see are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyPlace {
    /// In this module's database.
    Database,
    /// In the object store of `blobs.url`; what was published to it needs it from then on.
    Blobs,
}

impl Value for BodyPlace {
    fn parse(raw: &Raw) -> std::result::Result<Self, String> {
        match String::parse(raw)?.as_str() {
            "database" => Ok(Self::Database),
            "blobs" => Ok(Self::Blobs),
            _ => Err("must be database or blobs".to_owned()),
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Database => "database".to_owned(),
            Self::Blobs => "blobs".to_owned(),
        }
    }
}

mosaic::config! {
    /// The content product.
    pub struct ContentConfig in "content" {
        /// Where WeChat sends the browser back to; from here, never from a request's Host.
        pub wechat_redirect: String = "http://localhost:8080/oauth2/wechat/callback",
        /// Where the texts of published articles are: `database` or `blobs`.
        pub body: BodyPlace = "database",
        /// Whose failure an answer survives without what it would have said: `interaction` (counters), `users` (names).
        pub degrade: Vec<String> = "interaction, users",
        /// The time zone of the times that clients read.
        pub time_zone: String = "Asia/Shanghai",
    }
}

/// Wires the module up.
///
/// # Errors
/// A configuration with mistakes; a database that cannot be used.
pub async fn install(m: &mut Module) -> Result<()> {
    let config = m.config::<ContentConfig>()?;
    m.serve(UsersServer::new(Arc::new(Users::new(m.client(), m.client()))));
    m.serve(Oauth2Server::new(Arc::new(Oauth2::new(
        m.client(),
        config.wechat_redirect.clone(),
    ))));
    install_articles(m, &config).await
}

async fn install_articles(m: &mut Module, config: &ContentConfig) -> Result<()> {
    let clockface = Clockface::of_zone(&config.time_zone)
        .ok_or_else(|| m.misconfigured("content.time_zone", "is no time zone of the IANA database"))?;
    let degrade = Degrade::parse(&config.degrade);
    let show = Show {
        interaction: m.client(),
        users: m.client(),
        clockface,
        degrade: degrade.map_err(|error| m.misconfigured("content.degrade", error.message()))?,
    };
    m.database(MIGRATIONS).await?;
    let bodies = match config.body {
        BodyPlace::Database => Bodies::Database,
        BodyPlace::Blobs => Bodies::Blobs {
            blobs: m.blobs(),
            queue: m.tasks()?,
        },
    };
    let store = Store::new(m.transactions()?, bodies, m.cache());
    body::install(m, &store)?;
    index::install(m, &store)?;
    let reads = m.reporter();
    let articles = Articles::new(store.clone(), show.clone(), m.client(), m.client(), reads);
    m.serve(ArticlesServer::new(Arc::new(articles)));
    let collections = Collections::new(store.clone(), show.clone());
    m.serve(CollectionsServer::new(Arc::new(collections)));
    let comments = ArticleComments::new(store.clone(), show.clone(), m.client());
    m.serve(ArticleCommentsServer::new(Arc::new(comments)));
    let follows = Follows::new(store.clone(), show, m.client(), m.client());
    m.serve(FollowsServer::new(Arc::new(follows)));
    m.serve(RewardsServer::new(Arc::new(Rewards::new(store, m.client()))));
    Ok(())
}
