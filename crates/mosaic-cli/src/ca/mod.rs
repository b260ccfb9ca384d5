//! A small CA for a platform that has none.
//!
//! One directory is the CA; whoever has its key can be every service, so it stays with whoever issues certificates. In it:
//!
//! - `ca.key`: the key that signs;
//! - `ca.crt`: the bundle that processes believe, the certificate of the key and, while it is replaced, of the one before;
//! - `cross.crt`: while it is replaced, what makes those who know only the old key believe the new one, so that nothing
//!   must be replaced everywhere at once. It goes into every certificate file that is issued meanwhile;
//! - `state.json`: until when what was issued is good.

mod authority;
mod files;
mod name;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mosaic_core::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};

pub use authority::{Authority, Issued, Subject};
pub use name::ServiceName;

use files::Readers;

/// Why a command has failed.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file that is there already.
    #[error("{} is there already; --force replaces it", .0.display())]
    Exists(PathBuf),
    /// A file that cannot be read or written.
    #[error("cannot {what} {}: {cause}", file.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// No CA.
    #[error("there is no CA in {}; make one with: mosaic ca init", .0.display())]
    NoAuthority(PathBuf),
    /// A file that is not what the tool wrote.
    #[error("{} is damaged", .0.display())]
    Damaged(PathBuf),
    /// The CA is over.
    #[error("the CA has ended; make a new key with: mosaic ca rotate")]
    Ended,
    /// A rotation that was begun.
    #[error("the key is being replaced already; end that first with: mosaic ca rotate --finish")]
    Rotating,
    /// No rotation.
    #[error("the key is not being replaced; begin with: mosaic ca rotate")]
    NotRotating,
    /// Somebody would not be believed any more.
    #[error("certificates of the old key are good until {0}; once all are issued anew, add --force")]
    OldInUse(Timestamp),
    /// A key or a certificate that cannot be made.
    #[error("cannot make a certificate: {0}")]
    Crypto(#[from] rcgen::Error),
}

/// What becomes of files that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// They stay, and the command fails.
    Keep,
    /// They are replaced.
    Replace,
}

impl Existing {
    pub(crate) const fn of(force: bool) -> Self {
        if force { Self::Replace } else { Self::Keep }
    }
}

/// A certificate to be issued.
#[derive(Debug, Clone)]
pub struct Order {
    /// Services that the process runs.
    pub services: Vec<ServiceName>,
    /// Host names, for clients that look at them.
    pub dns: Vec<String>,
    /// Addresses, for clients that look at them.
    pub ips: Vec<IpAddr>,
    /// Days that it is good for.
    pub days: u32,
    /// Where it goes; `issued/<first service>` in the directory of the CA by default.
    pub out: Option<PathBuf>,
}

/// What the files do not say.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    /// When the CA ends.
    ends: i64,
    /// When the last certificate of the key ends.
    issued_until: i64,
    /// The same of the key before; there while the key is being replaced.
    old_issued_until: Option<i64>,
}

/// Files of a CA.
struct Folder<'a>(&'a Path);

impl Folder<'_> {
    fn key(&self) -> PathBuf {
        self.0.join("ca.key")
    }
    fn bundle(&self) -> PathBuf {
        self.0.join("ca.crt")
    }
    fn cross(&self) -> PathBuf {
        self.0.join("cross.crt")
    }
    fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }

    fn read(&self) -> Result<(Authority, State), CaError> {
        let Some(key) = files::read_if_there(&self.key())? else {
            return Err(CaError::NoAuthority(self.0.to_owned()));
        };
        let authority = Authority::from_key(&key).map_err(|_| CaError::Damaged(self.key()))?;
        let state = files::read(&self.state())?;
        let state = serde_json::from_str(&state).map_err(|_| CaError::Damaged(self.state()))?;
        Ok((authority, state))
    }

    fn write_state(&self, state: &State) -> Result<(), CaError> {
        let text = serde_json::to_string_pretty(state).map_err(|_| CaError::Damaged(self.state()))?;
        files::write(&self.state(), &(text + "\n"), Readers::Owner, Existing::Replace)
    }
}

/// Makes a CA in `dir`.
///
/// # Errors
/// [`CaError::Exists`], unless it is to be replaced; those of the file system.
pub fn init(dir: &Path, days: u32, existing: Existing, now: Timestamp) -> Result<String, CaError> {
    let folder = Folder(dir);
    files::create_dir(dir)?;
    let authority = Authority::generate()?;
    let ends = after(now, days);
    let certificate = authority.certificate(now, ends)?;
    // The key first: where it cannot be written, nothing has changed.
    files::write(&folder.key(), &authority.key(), Readers::Owner, existing)?;
    files::write(&folder.bundle(), &certificate, Readers::Everybody, Existing::Replace)?;
    files::remove(&folder.cross())?;
    folder.write_state(&State {
        ends: ends.as_secs(),
        issued_until: now.as_secs(),
        old_issued_until: None,
    })?;
    Ok(format!(
        "a CA until {ends}\n  {}: keep it secret, whoever has it can be every service\n  {}: tls.ca of every process",
        folder.key().display(),
        folder.bundle().display()
    ))
}

/// Issues the certificate of one process.
///
/// # Errors
/// [`CaError::Exists`], unless it is to be replaced; [`CaError::Ended`]; those of the file system.
pub fn issue(dir: &Path, order: &Order, existing: Existing, now: Timestamp) -> Result<String, CaError> {
    let folder = Folder(dir);
    let (authority, mut state) = folder.read()?;
    let ca_ends = Timestamp::from_secs(state.ends);
    if now >= ca_ends {
        return Err(CaError::Ended);
    }
    let ends = after(now, order.days).min(ca_ends);
    let subject = Subject {
        services: order.services.clone(),
        dns: order.dns.clone(),
        ips: order.ips.clone(),
    };
    let issued = authority.issue(&subject, now, ends)?;
    let mut chain = issued.certificate;
    chain.extend(files::read_if_there(&folder.cross())?);
    let first = subject.services.first().map(ServiceName::as_str).unwrap_or_default();
    let out = order.out.clone().unwrap_or_else(|| dir.join("issued").join(first));
    files::create_dir(&out)?;
    // Noted before it is out, so that a rotation does not end under it.
    state.issued_until = state.issued_until.max(ends.as_secs());
    folder.write_state(&state)?;
    files::write(&out.join("tls.key"), &issued.key, Readers::Owner, existing)?;
    files::write(&out.join("tls.crt"), &chain, Readers::Everybody, existing)?;
    let bundle = files::read(&folder.bundle())?;
    files::write(&out.join("ca.crt"), &bundle, Readers::Everybody, Existing::Replace)?;
    let names: Vec<_> = subject.services.iter().map(ServiceName::as_str).collect();
    Ok(format!(
        "a certificate for {} until {ends}\n  tls.cert = \"{}\"\n  tls.key = \"{}\"\n  tls.ca = \"{}\"",
        names.join(", "),
        out.join("tls.crt").display(),
        out.join("tls.key").display(),
        out.join("ca.crt").display()
    ))
}

/// Begins to replace the key.
///
/// # Errors
/// [`CaError::Rotating`] if that has begun already; those of the file system.
pub fn rotate(dir: &Path, days: u32, now: Timestamp) -> Result<String, CaError> {
    let folder = Folder(dir);
    let (old, state) = folder.read()?;
    if state.old_issued_until.is_some() {
        return Err(CaError::Rotating);
    }
    let new = Authority::generate()?;
    let ends = after(now, days);
    let bundle = new.certificate(now, ends)? + &files::read(&folder.bundle())?;
    // What only adds belief first, the key that is used last: cut short anywhere, it can be begun or ended once more.
    files::write(&folder.bundle(), &bundle, Readers::Everybody, Existing::Replace)?;
    let cross = old.vouch_for(&new, now, Timestamp::from_secs(state.ends))?;
    files::write(&folder.cross(), &cross, Readers::Everybody, Existing::Replace)?;
    folder.write_state(&State {
        ends: ends.as_secs(),
        issued_until: now.as_secs(),
        old_issued_until: Some(state.issued_until),
    })?;
    files::write(&folder.key(), &new.key(), Readers::Owner, Existing::Replace)?;
    Ok(format!(
        "a new key until {ends}; next:\n  issue every certificate anew, in any order: mosaic ca issue ... --force\n  \
         then: mosaic ca rotate --finish"
    ))
}

/// Ends the replacement of the key: the old one is not believed any more.
///
/// # Errors
/// [`CaError::NotRotating`]; [`CaError::OldInUse`], unless forced; those of the file system.
pub fn finish_rotation(dir: &Path, existing: Existing, now: Timestamp) -> Result<String, CaError> {
    let folder = Folder(dir);
    let (authority, mut state) = folder.read()?;
    let old_ends = Timestamp::from_secs(state.old_issued_until.ok_or(CaError::NotRotating)?);
    if now < old_ends && existing == Existing::Keep {
        return Err(CaError::OldInUse(old_ends));
    }
    let text = files::read(&folder.bundle())?;
    let ours = text
        .split_inclusive("-----END CERTIFICATE-----\n")
        .find(|pem| is_of(pem, &authority))
        .ok_or_else(|| CaError::Damaged(folder.bundle()))?;
    files::write(&folder.bundle(), ours, Readers::Everybody, Existing::Replace)?;
    files::remove(&folder.cross())?;
    state.old_issued_until = None;
    folder.write_state(&state)?;
    Ok(format!(
        "only the new key is believed by those who have {}; give it to every process, in any order",
        folder.bundle().display()
    ))
}

/// Is `pem` the certificate of the key of `authority`?
fn is_of(pem: &str, authority: &Authority) -> bool {
    let Ok(certificate) = CertificateDer::from_pem_slice(pem.as_bytes()) else {
        return false;
    };
    webpki::anchor_from_trusted_cert(&certificate).is_ok_and(|anchor| {
        anchor
            .subject_public_key_info
            .as_ref()
            .ends_with(authority.public_key())
    })
}

fn after(now: Timestamp, days: u32) -> Timestamp {
    now.plus(Duration::from_secs(u64::from(days) * 24 * 3600))
}
