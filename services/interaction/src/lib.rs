//! Reads, likes and collections of the items of all products: an item is a kind (`biz`) and an id in it.
//!
//! A counter is the number of people, not of clicks: like and unlike say what is to be, and a row a person is the truth that the
//! counter follows in the same transaction. One row and one commit for each click would be far too slow for what everybody
//! clicks, so calls that come together are committed together (`committer`); a caller is answered after the commit, and
//! so reads his own write. Reads of items are events (`Reporter`), counted in batches, and another group keeps who
//! has read what (`reads`).
//!
//! A like is told to others as `LikesChanged`, with the new number. A cache that is gone only slows; a queue that is full
//! refuses (`INTERACTION_BUSY`).

mod changes;
mod committer;
mod config;
mod counts;
mod model;
mod own;
mod reads;
mod service;
mod store;

use std::sync::Arc;

use mosaic::{Module, Result};
use mosaic_api::interaction::v1::InteractionServer;

pub use config::InteractionConfig;

use changes::Changes;
use committer::{Cached, Committer};
use counts::CachedCounts;
use own::CachedOwn;
use service::Service;
use store::{Folders, Lists};

/// Wires the module up.
///
/// # Errors
/// A configuration with mistakes; a database that cannot be used.
pub async fn install(m: &mut Module) -> Result<()> {
    let config = m.config::<InteractionConfig>()?;
    let database = m.database(store::MIGRATIONS).await?;
    let counts = CachedCounts::new(&database, m.cache(), config.cached_for);
    let changes = Changes::new(&database, &m.outbox()?, m.runtime());
    let lists = Lists::new(&database);
    let own = CachedOwn::new(&lists, m.cache(), config.cached_for);
    let cached = Cached {
        counts: counts.clone(),
        own: own.clone(),
    };
    let committer = Committer::start(changes, cached, m.background(), &config);
    reads::install(m, &database, &counts, &config)?;
    m.serve(InteractionServer::new(Arc::new(Service {
        committer,
        counts,
        own,
        lists,
        folders: Folders::new(&database),
    })));
    Ok(())
}
