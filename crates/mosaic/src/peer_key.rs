//! The key with which the processes of a platform prove themselves to each other.

use std::path::Path;

use mosaic_core::config::Settings;
use mosaic_core::{Error, Result, Runtime};
use mosaic_rpc::PeerKey;

use crate::base::StartError;
use crate::files::write_secret_file;
use crate::{Mode, RegistryConfig, RpcConfig};

/// What processes in development mode share instead of a secret.
const DEVELOPMENT_PEER_KEY: &str = "mosaic-development-key-that-is-no-secret";

/// Name of the file with the key of a platform of one process.
const PEER_KEY_FILE: &str = "peer.key";

/// Returns the key that proves services to each other.
///
/// In production a platform of several processes must be given one; a single process makes its own and keeps it.
pub(crate) fn peer_key(
    runtime: &Runtime,
    settings: &Settings,
    mode: Mode,
    rpc: &RpcConfig,
    registry: &RegistryConfig,
    data: &Path,
) -> Result<PeerKey, StartError> {
    let refuse = |what: &str| {
        settings.report("rpc.peer_key", what);
        StartError::Config(settings.problems())
    };
    let text = match (&rpc.peer_key, mode) {
        (Some(key), Mode::Production) if key.expose() == DEVELOPMENT_PEER_KEY => {
            return Err(refuse(
                "is the well-known key of development mode; production needs one of its own",
            ));
        }
        (Some(key), _) => key.expose().clone(),
        (None, Mode::Development) => DEVELOPMENT_PEER_KEY.to_owned(),
        (None, Mode::Production) if !rpc.services.is_empty() || registry.url.scheme() != "memory" => {
            return Err(refuse(
                "missing: processes that call each other in production must share a secret",
            ));
        }
        (None, Mode::Production) => kept_key(runtime, &data.join(PEER_KEY_FILE))?,
    };
    PeerKey::new(text.into_bytes()).map_err(|error| refuse(error.message()))
}

fn kept_key(runtime: &Runtime, file: &Path) -> Result<String> {
    if let Ok(text) = std::fs::read_to_string(file) {
        return Ok(text.trim().to_owned());
    }
    tracing::info!("no rpc.peer_key is set: this process makes its own, and no other process can call it");
    let key = runtime.random_hex::<32>();
    write_secret_file(file, &key)
        .map_err(|cause| Error::unavailable("DATA_UNUSABLE", format!("cannot write {}: {cause}", file.display())))?;
    Ok(key)
}
