//! Homestay booking: the API that its clients speak, over the capabilities that all products share.
//!
//! Accounts so far. A mobile number and a password are one door to the account system, the mini-program is another.

mod usercenter;

use std::sync::Arc;

use mosaic::{Module, Result};
use mosaic_api::homestay::v1::UsercenterServer;

use usercenter::Usercenter;

/// Wires the module up.
///
/// # Errors
/// None.
pub async fn install(m: &mut Module) -> Result<()> {
    m.serve(UsercenterServer::new(Arc::new(Usercenter::new(m.client(), m.client()))));
    Ok(())
}
