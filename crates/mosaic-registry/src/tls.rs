//! TLS to a registry, from files.
//!
//! The files are read for each connection and not once at the start: certificates are renewed while we run, and a file
//! that is not there yet is a connection that fails, not a process that does not start.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Whom to believe and who we are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tls {
    /// Whom to believe; the certificates of the system if it is not there.
    pub(crate) ca: Option<PathBuf>,
    /// Our own certificate and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// Reads the files and makes a configuration of them.
    pub(crate) async fn config(&self) -> io::Result<ClientConfig> {
        let tls = self.clone();
        tokio::task::spawn_blocking(move || tls.read())
            .await
            .map_err(io::Error::other)?
    }

    fn read(&self) -> io::Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(ca) => {
                for certificate in CertificateDer::pem_file_iter(ca).map_err(io::Error::other)? {
                    roots
                        .add(certificate.map_err(io::Error::other)?)
                        .map_err(io::Error::other)?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots);
        match &self.identity {
            None => Ok(config.with_no_client_auth()),
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_file_iter(certificate).map_err(io::Error::other)?;
                let chain = chain.collect::<Result<_, _>>().map_err(io::Error::other)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
                config.with_client_auth_cert(chain, key).map_err(io::Error::other)
            }
        }
    }
}
