//! The accept loop of the gRPC port.
//!
//! Ours because tonic's keeps its socket while it drains (the kernel goes on accepting connections that nobody will
//! serve), forgets connections when it is dropped (work goes on after the end of the process' drain), has no caps, and
//! ends calls at `grpc-timeout` with a timer of its own that answers `CANCELLED`.
//!
//! ```text
//! Open --told to stop--> Lingering --after options.linger--> Closing
//! ```
//! Lingering is for those who have not heard yet that this process goes: registries and load balancers tell them with a
//! delay. They are still let in and served, while connections from before are told to go. Then the socket closes, the last
//! connections are told, and waited for ([`conversation`]). Whoever drops the loop cuts them.

mod conversation;
mod slots;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mosaic_core::{Runtime, TaskGroup};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::ServerOptions;
use crate::dispatch::Dispatch;
use conversation::Conversation;
use slots::ByAddress;

/// See the module documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    Lingering,
    Closing,
}

/// Who is let in, and what they meet.
struct Door {
    options: Arc<ServerOptions>,
    dispatch: Dispatch,
    runtime: Runtime,
    phase: watch::Sender<Phase>,
    connections: TaskGroup,
    by_address: Arc<ByAddress>,
}

/// Serves until `stop` completes, then lets running calls end. Whoever drops it cuts them.
pub(crate) async fn listen(
    listener: TcpListener,
    dispatch: Dispatch,
    options: ServerOptions,
    runtime: Runtime,
    stop: impl Future<Output = ()> + Send,
) {
    let slots = Arc::new(Semaphore::new(options.max_connections));
    let door = Door {
        options: Arc::new(options),
        dispatch,
        runtime,
        phase: watch::Sender::new(Phase::Open),
        connections: TaskGroup::new(|panic| {
            tracing::error!(task = panic.task, panic.message, "connection panicked");
        }),
        by_address: Arc::default(),
    };
    let end = async {
        stop.await;
        door.phase.send_replace(Phase::Lingering);
        tokio::time::sleep(door.options.linger).await;
    };
    tokio::select! {
        () = door.accept(&listener, &slots) => {}
        () = end => {}
    }
    for (stream, peer) in backlog(listener) {
        if let Ok(slot) = slots.clone().try_acquire_owned() {
            door.enter(stream, peer, slot);
        }
    }
    door.phase.send_replace(Phase::Closing);
    door.connections.shutdown(Duration::MAX).await;
}

impl Door {
    /// Lets in who comes, for ever.
    async fn accept(&self, listener: &TcpListener, slots: &Arc<Semaphore>) {
        // A slot first: beyond the cap, connections wait in the kernel and cost us nothing.
        while let Ok(slot) = slots.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, peer)) => self.enter(stream, peer, slot),
                Err(error) => {
                    // Out of file descriptors, most likely: give the connections that are open time to end.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn enter(&self, stream: TcpStream, peer: SocketAddr, slot: OwnedSemaphorePermit) {
        // The machine itself (a proxy, a developer) may open as many connections as there are.
        let max = match peer.ip().to_canonical().is_loopback() {
            true => self.options.max_connections,
            false => self.options.max_connections_per_ip,
        };
        let Some(address) = self.by_address.clone().enter(peer.ip(), max) else {
            metrics::counter!("mosaic_grpc_connections_refused_total", "cause" => "per_ip").increment(1);
            return;
        };
        let conversation = Conversation {
            peer,
            options: self.options.clone(),
            dispatch: self.dispatch.clone(),
            began: *self.phase.borrow(),
            phase: self.phase.subscribe(),
            age: age(&self.options, &self.runtime),
        };
        self.connections.spawn("grpc connection", async move {
            conversation.hold(stream).await;
            drop((slot, address));
        });
    }
}

/// Returns the age at which a connection is told to go, give or take a tenth: those that began together, after a restart,
/// are not to end together.
fn age(options: &ServerOptions, runtime: &Runtime) -> Duration {
    options
        .max_connection_age
        .mul_f64(0.9 + runtime.random_fraction() * 0.2)
}

/// Returns who was let in by the kernel before it was told to refuse.
///
/// Asked without tokio, which may not have heard of the last ones yet.
fn backlog(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else {
        return Vec::new();
    };
    let mut streams = Vec::new();
    while let Ok((stream, peer)) = listener.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            streams.push((stream, peer));
        }
    }
    streams
}
