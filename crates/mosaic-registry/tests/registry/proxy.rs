//! A TCP proxy that can stop forwarding without a word, as firewalls and paused containers do.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    is_frozen: watch::Sender<bool>,
    _running: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let is_frozen = watch::Sender::new(false);
        let (target, frozen) = (Arc::new(target), is_frozen.clone());
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(target.as_str()).await else {
                    continue;
                };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                connections.spawn(forward(from_client, to_server, frozen.subscribe()));
                connections.spawn(forward(from_server, to_client, frozen.subscribe()));
            }
        });
        Self {
            address,
            is_frozen,
            _running: running,
        }
    }

    /// Forwards nothing from now on, and closes nothing either.
    pub(crate) fn freeze(&self) {
        self.is_frozen.send_replace(true);
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut is_frozen: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        let _ = is_frozen.wait_for(|is_frozen| !is_frozen).await;
        if to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}
