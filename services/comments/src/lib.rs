//! Comments on whatever products show: trees under an item that (biz, biz_id) names.
//!
//! One row of an item's own is the referee of its trees: whoever writes or deletes a comment locks it first. So a reply never
//! lands under what is being deleted, counters equal rows, and two transactions cannot wait for each other. A lock a root
//! would let more people write to one item at once, but they would meet at the item's counter all the same.
//!
//! Promises: a text comes back as it was written (who shows it escapes it); a create that is repeated with the same
//! idempotency key makes one comment, as long as nobody deletes it; trees may be deep: no query and no function recurses with them.

mod model;
mod service;
mod store;

use std::sync::Arc;

use mosaic::{Module, Result};
use mosaic_api::comments::v1::CommentsServer;

use service::Service;
use store::Store;

/// Wires the module up.
///
/// # Errors
/// A database that cannot be used.
pub async fn install(m: &mut Module) -> Result<()> {
    let store = Store::new(m.database(store::MIGRATIONS).await?);
    m.serve(CommentsServer::new(Arc::new(Service { store })));
    Ok(())
}
