//! The certificate of a process, by configuration.
//!
//! What is wrong with it is found at the start, where somebody looks: files that do not go together, a certificate that
//! others would refuse, or one that does not name what the process runs. Later, a renewed certificate that is no good is
//! a line in the log, and the old one stays.

use std::path::PathBuf;

use mosaic_core::config::Settings;
use mosaic_core::{Runtime, ServiceDescriptor, TaskGroup};
use mosaic_rpc::{Tls, TlsError, TlsFiles};

use crate::TlsConfig;
use crate::app::Definition;
use crate::base::StartError;

/// Opens what `config` names; `None` if that is nothing.
pub(crate) fn open(runtime: &Runtime, config: &TlsConfig, settings: &Settings) -> Result<Option<Tls>, StartError> {
    let files = match (&config.cert, &config.key, &config.ca) {
        (None, None, None) => return Ok(None),
        (Some(cert), Some(key), Some(ca)) => TlsFiles {
            cert: cert.clone(),
            key: key.clone(),
            ca: ca.clone(),
        },
        given => {
            let missing = [("tls.cert", given.0), ("tls.key", given.1), ("tls.ca", given.2)];
            for (key, _) in missing.iter().filter(|(_, file)| file.is_none()) {
                settings.report(
                    *key,
                    "missing: tls.cert, tls.key and tls.ca are set together or not at all",
                );
            }
            return Err(StartError::Config(settings.problems()));
        }
    };
    warn_of_readers(&files.key);
    Tls::load(runtime, files.clone()).map(Some).map_err(|error| {
        let key = match &error {
            TlsError::Unreadable { file, .. } if *file == files.key => "tls.key",
            TlsError::Unreadable { file, .. } if *file == files.ca => "tls.ca",
            TlsError::NoPair => "tls.key",
            TlsError::Unreadable { .. } | TlsError::Content(_) | TlsError::Refused(_) | TlsError::Unnamed { .. } => {
                "tls.cert"
            }
        };
        settings.report(key, error.to_string());
        StartError::Config(settings.problems())
    })
}

/// Demands that the certificate names what this process runs and serves; not what every process runs.
pub(crate) fn check(tls: &Tls, chosen: &[&Definition], services: &[&'static ServiceDescriptor], settings: &Settings) {
    let modules = chosen.iter().filter(|module| !module.always).map(|module| module.name);
    let domains = services.iter().map(|service| service.domain());
    if let Err(error) = tls.require(modules.chain(domains)) {
        settings.report("tls.cert", error.to_string());
    }
}

/// Reads the files again while the process runs.
pub(crate) fn follow(tls: Tls, config: &TlsConfig, background: &TaskGroup) {
    let (every, stop) = (config.reload, background.stop_signal());
    background.spawn("certificates", tls.follow(every, stop));
}

/// A key that everybody on the machine can read is nobody's proof.
fn warn_of_readers(key: &PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;
    const OTHERS: u32 = 0o004;
    let mode = std::fs::metadata(key).map(|metadata| metadata.permissions().mode());
    if mode.is_ok_and(|mode| mode & OTHERS != 0) {
        tracing::warn!(file = %key.display(), "every user of this machine can read the private key");
    }
}
