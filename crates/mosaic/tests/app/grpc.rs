//! gRPC by hand, on one connection, so that a test can say anything, and see what it is answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, StatusCode};
use mosaic::TaskGroup;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) http: StatusCode,
    /// `grpc-status`, from the head or the trailers.
    pub(crate) status: Option<i32>,
    pub(crate) message: String,
    pub(crate) body: Vec<u8>,
}

/// One HTTP/2 connection.
pub(crate) struct Connection {
    pub(crate) send: SendRequest<Bytes>,
    _tasks: TaskGroup,
}

impl Connection {
    /// Begins HTTP/2 on a stream of bytes.
    pub(crate) async fn on(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self, h2::Error> {
        let (send, connection) = h2::client::handshake(stream).await?;
        let tasks = TaskGroup::new(|_| {});
        tasks.spawn("h2", async move {
            // Whoever sends is told as well.
            let _ = connection.await;
        });
        Ok(Self { send, _tasks: tasks })
    }

    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect(address).await.unwrap()).await.unwrap()
    }

    /// Sends `body` to `path` and reads what comes.
    pub(crate) async fn call(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer, h2::Error> {
        self.call_as("application/grpc", path, headers, body).await
    }

    pub(crate) async fn call_as(
        &self,
        content_type: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, h2::Error> {
        let mut request = Request::post(format!("http://test{path}"))
            .header("content-type", content_type)
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut send = self.send.clone().ready().await?;
        let (answer, mut stream) = send.send_request(request.body(()).unwrap(), false)?;
        // A server may have answered, and closed the stream, before it was sent all.
        let _ = stream.send_data(Bytes::copy_from_slice(body), true);
        read(answer).await
    }
}

/// Reads an answer to its end.
pub(crate) async fn read(answer: h2::client::ResponseFuture) -> Result<Answer, h2::Error> {
    let whole = async {
        let (head, mut stream) = answer.await?.into_parts();
        let mut body = Vec::new();
        while let Some(piece) = stream.data().await {
            let piece = piece?;
            let _ = stream.flow_control().release_capacity(piece.len());
            body.extend_from_slice(&piece);
        }
        let trailers = stream.trailers().await?.unwrap_or_default();
        let text = |name: &str| {
            let of = |headers: &HeaderMap| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            of(&trailers).or_else(|| of(&head.headers))
        };
        Ok(Answer {
            http: head.status,
            status: text("grpc-status").map(|status| status.parse().unwrap()),
            message: text("grpc-message").unwrap_or_default(),
            body,
        })
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), whole).await;
    in_time.expect("an answer or an end within 20 s")
}

/// Returns a message with its prefix.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len()).unwrap();
    [&[0][..], &len.to_be_bytes(), message].concat()
}

/// Connects with TLS, checking nothing of the server, with a certificate if there is one.
pub(crate) async fn open_tls(address: SocketAddr, identity: Option<(&str, &str)>) -> std::io::Result<TlsStream> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap);
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            config.with_client_auth_cert(chain.collect(), key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("test").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
}

pub(crate) type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

/// Believes every server.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let provider = rustls::crypto::ring::default_provider();
        provider.signature_verification_algorithms.supported_schemes()
    }
}
