//! Connections to a member of etcd, with TLS if the URL says so.
//!
//! The connector is ours because tonic's own TLS reads its certificates once, and they are renewed while we run.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::Address;
use crate::tls::Tls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// etcd ends connections that ping more often than every 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

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
    let mut config = tls.config().await?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(member.host().to_owned()).map_err(io::Error::other)?;
    let stream = TcpStream::connect((member.host(), member.port())).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}
