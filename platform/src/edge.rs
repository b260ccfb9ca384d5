//! The public port: the routes of every service, built on clients, so that this process needs no implementation.

use mosaic::{Mode, Module, Result};
use mosaic_api::{content, homestay, identity};

use crate::dev;

/// Wires the module up.
///
/// # Errors
/// None.
pub(crate) async fn install(m: &mut Module) -> Result<()> {
    m.routes(identity::v1::identity_routes(m.client()));
    m.routes(homestay::v1::usercenter_routes(m.client()));
    m.routes(content::v1::users_routes(m.client()));
    m.routes(content::v1::oauth2_routes(m.client()));
    m.routes(content::v1::articles_routes(m.client()));
    m.routes(content::v1::collections_routes(m.client()));
    m.routes(content::v1::article_comments_routes(m.client()));
    m.routes(content::v1::follows_routes(m.client()));
    m.routes(content::v1::rewards_routes(m.client()));
    m.router(payments::router(m.runtime().clone(), m.client()));
    if m.mode() == Mode::Development {
        m.router(dev::router(m.runtime().clone(), m.client()));
        m.router(payments::dev_router(m.runtime().clone(), m.client()));
    }
    Ok(())
}
