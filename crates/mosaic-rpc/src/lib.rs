//! Calls between services: one client, three distances.
//!
//! A generated client holds a [`Client`]; where the implementation is (in this process, in this process but through
//! encode and decode, or behind gRPC) is decided once by the [`Directory`] when the first call is made, so that modules
//! start in any order and callers cannot tell. A generated server holds a [`Served`]: the one place where access,
//! checks, deadline and panics of a method are handled, for local and remote callers alike. The wire is standard gRPC:
//! any client of any language may call, and a service may be replaced by one that knows nothing of Mosaic.

pub mod balance;
mod channel;
mod client;
mod directory;
mod dispatch;
mod frames;
mod inbound;
mod items;
mod listen;
mod metadata;
mod peer;
mod served;
mod server;
mod split;
mod status;
mod tls;
mod tls_verify;
mod wire;

use std::pin::Pin;

pub use channel::{Affinity, Channel, ChannelOptions, Routing};
pub use client::{Client, Connect};
pub use directory::{Directory, LocalCalls, Remote};
pub use inbound::Inbound;
pub use peer::PeerKey;
pub use served::{Serve, Served, unknown_method};
pub use server::{GrpcServer, ServerOptions, bind};
pub use split::Share;
pub use status::{error_from_status, status_from_error};
pub use tls::{Tls, TlsError, TlsFiles};

pub use {http, tonic, tower};

/// A boxed future that may borrow.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Replies of a server-streaming method.
pub type Streaming<T> = Pin<Box<dyn futures::Stream<Item = mosaic_core::Result<T>> + Send + 'static>>;
