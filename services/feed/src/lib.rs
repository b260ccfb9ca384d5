//! What those whom one follows have published.
//!
//! An item of an author with few followers is **pushed**: a task copies a reference to it into the inbox of each, a page of
//! followers at a time. One of an author with more than `feed.push_max_followers` is **pulled**: the reader's page is merged from his
//! inbox and the outboxes of such authors. Pushing to millions would take longer than anybody waits for an item; pulling from
//! everybody would make each page as expensive as the list of followees is long.
//!
//! Which of the two is decided for each item, when it is published, and kept with it: so an author who crosses the threshold leaves his
//! older items where readers find them. What is found both ways is shown once.
//!
//! Promises: a withdrawn item is in no feed from the moment its withdrawal is known, whatever inboxes hold; nor is an author who is not
//! followed any more, as long as relations answer. If they do not, a page is made of the inbox alone, and pushing waits. An
//! inbox keeps the newest `feed.inbox_max`.

mod events;
mod fan_out;
mod model;
mod service;
mod store;

use std::sync::Arc;

use mosaic::{Module, Result};
use mosaic_api::feed::v1::FeedServer;

use fan_out::FanOut;
use service::Service;
use store::Store;

mosaic::config! {
    /// Feeds.
    pub struct FeedConfig in "feed" {
        /// Items of an author with more followers are fetched by who reads instead of being brought to all of them.
        pub push_max_followers: u32 = "1000",
        /// Followers to whom one task brings an item; at most 1000.
        pub push_page: u32 = "500",
        /// Newest items that an inbox keeps.
        pub inbox_max: u32 = "1000",
        /// Newest items of an author that come with following him.
        pub follow_brings: u32 = "20",
        /// Authors whose items are fetched for one page: those of the reader's followees who published last.
        pub pull_max_authors: u32 = "200",
    }
}

/// Wires the module up.
///
/// # Errors
/// A configuration with mistakes; a database that cannot be used.
pub async fn install(m: &mut Module) -> Result<()> {
    let config = m.config::<FeedConfig>()?;
    if !(1..=1000).contains(&config.push_page) {
        return Err(m.misconfigured("feed.push_page", "must be from 1 to 1000"));
    }
    let database = m.database(store::MIGRATIONS).await?;
    let transactions = m.transactions()?;
    let store = Store::new(database, config.inbox_max);
    let needs = fan_out::Needs {
        transactions: transactions.clone(),
        store: store.clone(),
        relations: m.client(),
        push_max_followers: config.push_max_followers,
        page: config.push_page,
    };
    m.on_task::<FanOut>(Arc::new(needs))?;
    events::install(m, transactions, &store, config.follow_brings)?;
    m.serve(FeedServer::new(Arc::new(Service {
        store,
        relations: m.client(),
        pull_max_authors: config.pull_max_authors,
    })));
    Ok(())
}
