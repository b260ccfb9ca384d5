//! Keys for applications in which nobody signs in.

use std::time::Duration;

use mosaic::auth::{KeyRing, PublicKeys};
use mosaic::{Error, Module, Result};

/// Gives a process keys to verify tokens with, for [`App::everywhere`](mosaic::App::everywhere): no process is ready before it could
/// tell who signs in, though nobody does.
///
/// # Errors
/// None that is to be expected.
pub async fn keys(m: &mut Module) -> Result<()> {
    let mut ring = KeyRing::new(Duration::ZERO);
    let added = ring.add("test", m.runtime().now(), &KeyRing::generate(m.runtime()));
    added.map_err(Error::internal)?;
    let keys = PublicKeys::from_jwks(&ring.jwks()).map_err(Error::internal)?;
    m.verifier().set_keys(keys);
    Ok(())
}
