//! The signing keys of this platform: made on the first start, replaced as they age, or given from outside.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use mosaic::auth::{KeyRing, TokenIssuer, TokenPolicy};
use mosaic::{Error, Module, Result, Runtime, Secret, Timestamp};

use crate::IdentityConfig;

pub(crate) const ROTATION_CHECK_EVERY: Duration = Duration::from_secs(60);

/// Keys and the issuer that signs with them.
pub(crate) struct SigningKeys {
    runtime: Runtime,
    /// `None`: the key was given and is not ours to replace.
    directory: Option<PathBuf>,
    rotate_after: Duration,
    issuer: RwLock<TokenIssuer>,
}

impl SigningKeys {
    /// Opens the key that was given, else the directory, making a first key if it is empty.
    pub(crate) fn open(m: &Module, config: &IdentityConfig, policy: TokenPolicy) -> Result<Self> {
        let runtime = m.runtime().clone();
        let mut ring = KeyRing::new(config.publish_lead);
        let directory = match &config.private_key {
            Some(pem) => {
                ring.add("given", Timestamp::EPOCH, pem)
                    .map_err(|error| m.misconfigured("identity.private_key", &error.to_string()))?;
                None
            }
            None => {
                let directory = config.keys_dir.clone().unwrap_or_else(|| m.data().join("keys"));
                load(&directory, &mut ring)?;
                if ring.newest().is_none() {
                    make(&directory, &runtime, &mut ring)?;
                }
                Some(directory)
            }
        };
        let issuer = RwLock::new(TokenIssuer::new(ring, policy, runtime.clone()));
        Ok(Self {
            runtime,
            directory,
            rotate_after: config.rotate_after,
            issuer,
        })
    }

    /// Returns the issuer of now.
    pub(crate) fn issuer(&self) -> TokenIssuer {
        self.issuer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a new key if the newest is old, forgets keys that nothing needs; says whether the public keys changed.
    pub(crate) fn rotate(&self) -> Result<bool> {
        let Some(directory) = &self.directory else {
            return Ok(false);
        };
        let issuer = self.issuer();
        let mut ring = issuer.ring().clone();
        let now = self.runtime.now();
        let is_old = ring.newest().is_none_or(|made| now.since(made) >= self.rotate_after);
        if is_old {
            make(directory, &self.runtime, &mut ring)?;
        }
        let pruned = ring.prune(now, issuer.policy().refresh_ttl);
        for kid in &pruned {
            // One that stays is read at the next start and pruned again.
            let _ = std::fs::remove_file(file_of(directory, kid));
        }
        if !is_old && pruned.is_empty() {
            return Ok(false);
        }
        let policy = issuer.policy().clone();
        *self.issuer.write().unwrap_or_else(PoisonError::into_inner) =
            TokenIssuer::new(ring, policy, self.runtime.clone());
        tracing::info!(n_pruned = pruned.len(), "signing keys rotated");
        Ok(true)
    }
}

fn file_of(directory: &Path, kid: &str) -> PathBuf {
    directory.join(format!("{kid}.pem"))
}

/// Reads `<unix seconds>-<random>.pem`; the time in the name is when the key was made.
fn load(directory: &Path, ring: &mut KeyRing) -> Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unusable(directory, error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| unusable(directory, error))?.path();
        let kid = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let made = kid.split('-').next().and_then(|secs| secs.parse().ok());
        let (Some(made), Some("pem")) = (made, path.extension().and_then(|extension| extension.to_str())) else {
            continue;
        };
        let pem = std::fs::read_to_string(&path).map_err(|error| unusable(&path, error))?;
        ring.add(kid, Timestamp::from_secs(made), &Secret::new(pem))
            .map_err(|error| unusable(&path, error))?;
    }
    Ok(())
}

fn make(directory: &Path, runtime: &Runtime, ring: &mut KeyRing) -> Result<()> {
    let made = runtime.now();
    let kid = format!("{}-{}", made.as_secs(), runtime.random_hex::<4>());
    let pem = KeyRing::generate(runtime);
    std::fs::create_dir_all(directory).map_err(|error| unusable(directory, error))?;
    let file = file_of(directory, &kid);
    mosaic::write_secret_file(&file, pem.expose()).map_err(|error| unusable(&file, error))?;
    ring.add(&kid, made, &pem).map_err(|error| unusable(&file, error))
}

fn unusable(path: &Path, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unavailable("KEYS_UNUSABLE", format!("cannot use {}: {cause}", path.display())).caused_by(cause)
}
