//! The engine of blobs, from the configuration.
//!
//! Opening asks nothing of the engine: a process starts while it is down.

use mosaic_blob::{OpenOptions, Opened};
use mosaic_core::Runtime;
use mosaic_core::config::Settings;
use mosaic_rpc::PeerKey;

use crate::base::Base;

/// Opens the engine; `None` if its URL is mistaken, which `settings` is told.
pub(crate) fn open(base: &Base, peers: &PeerKey, runtime: &Runtime, settings: &Settings) -> Option<Opened> {
    let options = OpenOptions {
        data: base.platform.data.clone(),
        signing_key: peers.derive("blobs"),
        public_url: base.blobs.public_url.clone(),
        credentials: base.blobs.access_key.clone().zip(base.blobs.secret_key.clone()),
    };
    let opened = mosaic_blob::open(base.blobs.url.expose(), options, runtime);
    let report = |error: mosaic_core::Error| settings.report("blobs.url", error.message());
    opened.map_err(report).ok()
}
