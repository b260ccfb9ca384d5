//! Connections to a member of etcd, with TLS if the URL says so.
//!
//! Certificates are read at each connection and not at the start: they are renewed while we run. tonic's own TLS reads
//! them once.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::Address;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// etcd ends connections that ping more often than every 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// How to speak TLS.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    /// Whom to believe; the certificates of the system if it is not there.
    pub(crate) ca: Option<PathBuf>,
    /// Our own certificate and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// Makes a channel that connects at its first call, and again after each failure.
pub(crate) fn channel(member: &Address, tls: Option<&Tls>) -> Channel {
    let uri = |scheme: &str| -> Uri {
        format!("{scheme}://{member}")
            .parse()
            .expect("an address fits into a URI")
    };
    // Said to tonic to be plain in both cases: TLS is the connector's part.
    let endpoint = Endpoint::from(uri("http"))
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let Some(tls) = tls.cloned() else {
        return endpoint.connect_lazy();
    };
    let member = member.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let (member, tls) = (member.clone(), tls.clone());
        async move { connect(&member, &tls).await.map(TokioIo::new) }
    });
    endpoint.origin(uri("https")).connect_with_connector_lazy(connector)
}

async fn connect(member: &Address, tls: &Tls) -> io::Result<TlsStream<TcpStream>> {
    let tls = tls.clone();
    let config = tokio::task::spawn_blocking(move || tls.config())
        .await
        .map_err(io::Error::other)??;
    let name = ServerName::try_from(member.host().to_owned()).map_err(io::Error::other)?;
    let stream = TcpStream::connect((member.host(), member.port())).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

impl Tls {
    /// Reads the files.
    fn config(&self) -> io::Result<ClientConfig> {
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
        let mut config = match &self.identity {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_file_iter(certificate).map_err(io::Error::other)?;
                let chain = chain.collect::<Result<_, _>>().map_err(io::Error::other)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
                config.with_client_auth_cert(chain, key).map_err(io::Error::other)?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}
