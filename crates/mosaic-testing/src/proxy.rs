//! A network between two processes that does what networks do.
//!
//! What a firewall, a paused container or a full disk does to a connection can not be had from an engine that is stopped:
//! bytes that stay away, that come one by one, a reset in the middle of an answer. The mode is changed while connections
//! are open and holds for them from then on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Everything is passed on.
    Pass,
    /// Open connections are reset, new ones refused.
    Refuse,
    /// Connections are accepted, and nothing is passed on until the mode changes.
    BlackHole,
    /// Connections are reset in the middle of the next answer.
    ResetAnswers,
    /// A byte a second in each direction.
    Drip,
    /// What is sent arrives so much later.
    Delay(Duration),
}

/// Stands between clients and one server. Gone when it is dropped, with all its connections.
#[derive(Debug)]
pub struct ChaosProxy {
    address: SocketAddr,
    network: watch::Sender<Network>,
    n_connections: Arc<AtomicUsize>,
    _running: JoinSet<()>,
}

impl ChaosProxy {
    /// Stands before `target`, and passes everything on for now.
    ///
    /// # Panics
    /// If there is no free port.
    pub fn to(target: SocketAddr) -> Self {
        let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = socket.local_addr().expect("a bound socket");
        let network = watch::Sender::new(Network::Pass);
        let n_connections = Arc::default();
        let mut running = JoinSet::new();
        running.spawn(serve(socket, target, network.subscribe(), Arc::clone(&n_connections)));
        Self {
            address,
            network,
            n_connections,
            _running: running,
        }
    }

    /// Returns where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what becomes of connections, those that are open included.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Returns how many connections there have been.
    pub fn n_connections(&self) -> usize {
        self.n_connections.load(Ordering::Relaxed)
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// A socket that is bound and does not listen refuses, and keeps the port.
async fn serve(
    socket: TcpSocket,
    target: SocketAddr,
    mut network: watch::Receiver<Network>,
    n_connections: Arc<AtomicUsize>,
) {
    let address = socket.local_addr().expect("a bound socket");
    let mut socket = Some(socket);
    let mut connections = JoinSet::new();
    loop {
        if network.wait_for(|network| *network != Network::Refuse).await.is_err() {
            return;
        }
        let current = network.clone();
        let bound = socket
            .take()
            .or_else(|| bind(address).ok())
            .expect("a port that was ours");
        let listener = bound.listen(1024).expect("a socket that listens");
        tokio::select! {
            () = accept(&listener, target, &current, &n_connections, &mut connections) => {}
            _ = network.wait_for(|network| *network == Network::Refuse) => {}
        }
        drop(listener);
        socket = bind(address).ok();
    }
}

async fn accept(
    listener: &TcpListener,
    target: SocketAddr,
    network: &watch::Receiver<Network>,
    n_connections: &AtomicUsize,
    connections: &mut JoinSet<()>,
) {
    while let Ok((client, _)) = listener.accept().await {
        n_connections.fetch_add(1, Ordering::Relaxed);
        while connections.try_join_next().is_some() {}
        connections.spawn(converse(client, target, network.clone()));
    }
}

/// Passes on between a client and the server until one of them closes, then closes both; or resets both.
async fn converse(mut client: TcpStream, target: SocketAddr, network: watch::Receiver<Network>) {
    let mut opened = network.clone();
    if opened.wait_for(|network| *network != Network::BlackHole).await.is_err() {
        return;
    }
    let Ok(mut server) = TcpStream::connect(target).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    let is_whole = tokio::select! {
        is_whole = pass_on(from_client, to_server, network.clone(), Way::There) => is_whole,
        is_whole = pass_on(from_server, to_client, network.clone(), Way::Back) => is_whole,
        _ = opened.wait_for(|network| *network == Network::Refuse) => false,
    };
    if !is_whole {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

/// Returns whether it ended as the sender wanted.
async fn pass_on(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut network: watch::Receiver<Network>,
    way: Way,
) -> bool {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let Ok(len) = from.read(&mut buffer).await else {
            return false;
        };
        let mut rest = &buffer[..len];
        if rest.is_empty() {
            return true;
        }
        while !rest.is_empty() {
            let now = *network.borrow_and_update();
            let n_sent = match now {
                Network::Refuse => return false,
                Network::BlackHole => 0,
                Network::Drip => 1,
                Network::ResetAnswers if way == Way::Back => rest.len() / 2,
                Network::Delay(time) => {
                    tokio::select! {
                        () = tokio::time::sleep(time) => {}
                        _ = network.changed() => {}
                    }
                    rest.len()
                }
                Network::Pass | Network::ResetAnswers => rest.len(),
            };
            if to.write_all(&rest[..n_sent]).await.is_err() {
                return false;
            }
            rest = &rest[n_sent..];
            match now {
                Network::ResetAnswers if way == Way::Back => return false,
                Network::BlackHole if network.changed().await.is_err() => return true,
                Network::Drip => {
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_secs(1)) => {}
                        _ = network.changed() => {}
                    }
                }
                _ => {}
            }
        }
    }
}
