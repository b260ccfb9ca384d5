//! Calls to partners outside the platform.

use std::time::Duration;

use mosaic_core::{Error, Result};

/// Makes ring the one cryptography of the process; the second call and a host program's own choice change nothing.
pub(crate) fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Returns an HTTP client for a partner: answers within `timeout`, redirects not followed, certificates checked.
///
/// # Errors
/// `Internal` if the client cannot be made.
pub fn partner_client(timeout: Duration) -> Result<reqwest::Client> {
    install_crypto();
    let client = reqwest::Client::builder()
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none());
    client.build().map_err(Error::internal)
}
