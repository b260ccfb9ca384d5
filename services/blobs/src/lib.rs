//! Files that users upload: who may, and what a file is.
//!
//! The bytes never pass through here: a client puts them where a presigned URL lets it, and tells that it has. Then they
//! are copied to where no URL can write, and the copy is looked at: its length, and whether it begins as its type does. A
//! client that puts something else through a URL that is still good changes what nobody reads. An upload that is not
//! finished within a day is removed, with all that came of it.
//!
//! Not done: images are not decoded, so neither their dimensions nor what is in their metadata is looked at.

mod clean_up;
mod model;
mod service;
mod store;

use std::sync::Arc;

use mosaic::{Module, Result};
use mosaic_api::blobs::v1::BlobsServer;

use service::Service;
use store::Store;

/// Wires the module up.
///
/// # Errors
/// A database that cannot be used.
pub async fn install(m: &mut Module) -> Result<()> {
    let store = Store::new(m.database(store::MIGRATIONS).await?);
    let service = Arc::new(Service::new(store, m.blobs()));
    clean_up::install(m, &service)?;
    m.serve_blobs();
    m.serve(BlobsServer::new(service));
    Ok(())
}
