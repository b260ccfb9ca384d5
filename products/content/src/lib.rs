//! Articles: the API that its clients speak, over the capabilities that all products share.
//!
//! Accounts so far: e-mail and password, a code by SMS, and WeChat's scan are three doors to the account system.

mod model;
mod oauth2;
mod users;

use std::sync::Arc;

use mosaic::{Module, Result};
use mosaic_api::content::v1::{Oauth2Server, UsersServer};

use oauth2::Oauth2;
use users::Users;

mosaic::config! {
    /// The content product.
    pub struct ContentConfig in "content" {
        /// Where WeChat sends the browser back to; from here, never from a request's Host.
        pub wechat_redirect: String = "http://localhost:8080/oauth2/wechat/callback",
    }
}

/// Wires the module up.
///
/// # Errors
/// A configuration with mistakes.
pub async fn install(m: &mut Module) -> Result<()> {
    let config = m.config::<ContentConfig>()?;
    m.serve(UsersServer::new(Arc::new(Users::new(m.client(), m.client()))));
    m.serve(Oauth2Server::new(Arc::new(Oauth2::new(
        m.client(),
        config.wechat_redirect,
    ))));
    Ok(())
}
