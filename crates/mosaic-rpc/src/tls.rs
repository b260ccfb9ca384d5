//! Identity of a process by its certificate, at both ends of a connection.
//!
//! A platform has a CA of its own; each process has a certificate of that CA which names the services that it runs, as
//! `spiffe://mosaic/<service>` among the alternative names. Who is called must have the name that is called, whatever its
//! address is; who calls is one of the names in its certificate and no other ([`crate::Inbound`]). Certificates live
//! shortly, so they are read again while the process runs: handshakes from then on use what is new, connections that are
//! open stay. Files that do not go together change nothing; what was good goes on.
//!
//! TLS 1.3 only, as both ends are ours or recent, and without resumption: a resumed session would carry an identity that
//! nobody looks at any more.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use mosaic_core::{Runtime, StopSignal, Timestamp};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::tls_verify::{self, RuntimeClock, ServiceCallee, ServiceCaller};

/// The protocol that both ends must speak.
const ALPN: &[u8] = b"h2";
/// A certificate that ends so soon should have been renewed.
const ENDS_SOON: Duration = Duration::from_secs(3 * 24 * 3600);

/// Where certificate, key and CA bundle are, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate of this process, then those between it and the CA.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// CAs whose certificates are believed.
    pub ca: PathBuf,
}

/// Why certificate, key and CA bundle are of no use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("cannot read {}: {cause}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// A file without what it should hold.
    #[error("{0}")]
    Content(String),
    /// Certificate and key that are no pair.
    #[error("the key is not that of the certificate")]
    NoPair,
    /// A certificate that others of the platform would refuse.
    #[error("others would refuse the certificate: {0}")]
    Refused(String),
    /// A certificate that does not name what this process is.
    #[error("the certificate does not name {}; it names {}", .missing.join(", "), .named.join(", "))]
    Unnamed {
        /// Services that it should name.
        missing: Vec<String>,
        /// Services that it names.
        named: Vec<String>,
    },
}

/// See the module documentation. Cheap to clone; clones see what was read last.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

struct Shared {
    runtime: Runtime,
    files: TlsFiles,
    current: ArcSwap<Material>,
    required: Mutex<BTreeSet<String>>,
}

/// What one reading of the files gave.
struct Material {
    digest: [u8; 32],
    names: Arc<[Arc<str>]>,
    ends: Timestamp,
    is_warned_of: AtomicBool,
    roots: Arc<RootCertStore>,
    certified: Arc<CertifiedKey>,
    server: Arc<rustls::ServerConfig>,
}

impl Tls {
    /// Reads `files`.
    ///
    /// # Errors
    /// [`TlsError`] if they are of no use together, now.
    pub fn load(runtime: &Runtime, files: TlsFiles) -> Result<Self, TlsError> {
        let material = Material::new(&Pem::read(&files)?, runtime)?;
        let shared = Shared {
            runtime: runtime.clone(),
            files,
            current: ArcSwap::from_pointee(material),
            required: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Returns the services that the certificate names, in its order.
    pub fn names(&self) -> Arc<[Arc<str>]> {
        self.shared.current.load().names.clone()
    }

    /// Demands that the certificate, and every later one, names `services`.
    ///
    /// # Errors
    /// [`TlsError::Unnamed`] if this one does not.
    pub fn require<'a>(&self, services: impl IntoIterator<Item = &'a str>) -> Result<(), TlsError> {
        let mut required = self.required();
        required.extend(services.into_iter().map(str::to_owned));
        self.shared.current.load().names_all(&required)
    }

    /// Reads the files again whenever they have changed, until `stop`.
    pub async fn follow(self, every: Duration, mut stop: StopSignal) {
        let mut refused = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = stop.stopped() => return,
            }
            let tls = self.clone();
            let seen = refused.take();
            match tokio::task::spawn_blocking(move || tls.reload(seen)).await {
                Ok(outcome) => refused = outcome,
                Err(error) => tracing::error!(%error, "reading certificates failed"),
            }
        }
    }

    /// Reads the files; returns what was refused, which is told when it is seen for the second time: files that are being
    /// replaced do not go together for a moment.
    fn reload(&self, refused: Option<Refused>) -> Option<Refused> {
        self.shared.current.load().warn_of_end(self.shared.runtime.now());
        let outcome = Pem::read(&self.shared.files)
            .map_err(|error| (None, error))
            .and_then(|pem| {
                let digest = pem.digest();
                if digest == self.shared.current.load().digest {
                    return Ok(None);
                }
                let material = Material::new(&pem, &self.shared.runtime);
                let material = material.and_then(|new| new.names_all(&self.required()).map(|()| new));
                material.map(Some).map_err(|error| (Some(digest), error))
            });
        match outcome {
            Ok(None) => None,
            Ok(Some(material)) => {
                tracing::info!(names = ?material.names, ends = %material.ends, "a new certificate is in use");
                self.shared.current.store(Arc::new(material));
                None
            }
            Err((digest, error)) => {
                let is_told = refused
                    .as_ref()
                    .is_some_and(|seen| seen.digest == digest && seen.is_told);
                let is_seen = refused.is_some_and(|seen| seen.digest == digest);
                if is_seen && !is_told {
                    tracing::error!(cause = %error, "the new certificate is of no use, the old one stays");
                }
                Some(Refused {
                    digest,
                    is_told: is_seen,
                })
            }
        }
    }

    fn required(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.shared.required.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what takes connections in.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.shared.current.load().server.clone())
    }

    /// Opens TLS to an instance of `domain`.
    ///
    /// # Errors
    /// Those of the connection; what answers may be no instance of `domain`, or refuse us.
    pub(crate) async fn connect(
        &self,
        domain: &str,
        tcp: TcpStream,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let material = self.shared.current.load_full();
        let verifier = ServiceCallee::new(domain, material.roots.clone());
        let mut config = rustls::ClientConfig::builder_with_details(
            tls_verify::provider(),
            Arc::new(RuntimeClock(self.shared.runtime.clone())),
        )
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(material.certified.clone())));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        // The name of the service counts, which is none of DNS.
        config.enable_sni = false;
        let nobody = ServerName::from(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
        let stream = TlsConnector::from(Arc::new(config)).connect(nobody, tcp).await?;
        if stream.get_ref().1.alpn_protocol() == Some(ALPN) {
            Ok(stream)
        } else {
            Err(io::Error::other("speaks TLS, but not HTTP/2"))
        }
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("files", &self.shared.files)
            .field("names", &self.names())
            .finish_non_exhaustive()
    }
}

/// Files that were of no use.
struct Refused {
    /// `None` if they could not be read.
    digest: Option<[u8; 32]>,
    is_told: bool,
}

/// The bytes of the files.
struct Pem {
    cert: Vec<u8>,
    key: zeroize::Zeroizing<Vec<u8>>,
    ca: Vec<u8>,
}

impl Pem {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |file: &PathBuf| {
            std::fs::read(file).map_err(|cause| TlsError::Unreadable {
                file: file.clone(),
                cause,
            })
        };
        Ok(Self {
            cert: read(&files.cert)?,
            key: read(&files.key)?.into(),
            ca: read(&files.ca)?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for part in [&self.cert, &*self.key, &self.ca] {
            digest.update(Sha256::digest(part));
        }
        digest.finalize().into()
    }
}

impl Material {
    fn new(pem: &Pem, runtime: &Runtime) -> Result<Self, TlsError> {
        let chain = certificates(&pem.cert, "tls.cert")?;
        let key = PrivateKeyDer::from_pem_slice(&pem.key)
            .map_err(|_| TlsError::Content("tls.key holds no private key".to_owned()))?;
        let mut roots = RootCertStore::empty();
        for ca in certificates(&pem.ca, "tls.ca")? {
            roots
                .add(ca)
                .map_err(|error| TlsError::Content(format!("tls.ca holds what is no CA: {error}")))?;
        }
        let roots = Arc::new(roots);
        let provider = tls_verify::provider();
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::NoPair,
            error => TlsError::Content(error.to_string()),
        })?;
        let now = tls_verify::unix_time(runtime.now());
        let caller = ServiceCaller::new(roots.clone()).map_err(TlsError::Refused)?;
        let names = own_names(&certified, &caller, &roots, now)?;
        let ends = tls_verify::end_of(&certified.cert[0], &certified.cert[1..], &roots, runtime.now());
        metrics::gauge!("mosaic_tls_certificate_ends_seconds").set(ends.as_secs() as f64);
        let certified = Arc::new(certified);
        let server = server_config(certified.clone(), Arc::new(caller), runtime)
            .map_err(|error| TlsError::Content(error.to_string()))?;
        Ok(Self {
            digest: pem.digest(),
            names,
            ends,
            is_warned_of: AtomicBool::new(false),
            roots,
            certified,
            server: Arc::new(server),
        })
    }

    /// Tells once that the certificate should have been renewed by now.
    fn warn_of_end(&self, now: Timestamp) {
        if now.plus(ENDS_SOON) >= self.ends && !self.is_warned_of.swap(true, Ordering::Relaxed) {
            tracing::warn!(ends = %self.ends, "the certificate of this process ends soon");
        }
    }

    fn names_all(&self, required: &BTreeSet<String>) -> Result<(), TlsError> {
        let is_named = |service: &&String| self.names.iter().any(|name| **name == ***service);
        let missing: Vec<_> = required.iter().filter(|service| !is_named(service)).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let named = self.names.iter().map(ToString::to_string).collect();
        Err(TlsError::Unnamed { missing, named })
    }
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsError::Content(format!("{what} holds no certificate"))),
    }
}

/// Returns the services that our own certificate names, if others would believe it at both ends.
fn own_names(
    certified: &CertifiedKey,
    caller: &ServiceCaller,
    roots: &Arc<RootCertStore>,
    now: UnixTime,
) -> Result<Arc<[Arc<str>]>, TlsError> {
    let refused = |error: rustls::Error| TlsError::Refused(error.to_string());
    let (end, between) = certified
        .cert
        .split_first()
        .ok_or_else(|| TlsError::Content("tls.cert holds no certificate".to_owned()))?;
    caller.verify_client_cert(end, between, now).map_err(refused)?;
    let names = tls_verify::services(end);
    let first = names.first().ok_or_else(|| refused(tls_verify::unnamed()))?;
    let callee = ServiceCallee::new(first, roots.clone());
    callee.verify(end, between, now).map_err(refused)?;
    Ok(names)
}

fn server_config(
    certified: Arc<CertifiedKey>,
    verifier: Arc<dyn ClientCertVerifier>,
    runtime: &Runtime,
) -> Result<rustls::ServerConfig, rustls::Error> {
    let clock = Arc::new(RuntimeClock(runtime.clone()));
    let mut config = rustls::ServerConfig::builder_with_details(tls_verify::provider(), clock)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
