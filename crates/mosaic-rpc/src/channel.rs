//! Connections to the instances of one service.
//!
//! Each address has its own lazy connection that re-connects by itself; calls go round robin. A call that could not be
//! sent because its instance refuses the connection is tried on the next one: nothing has happened yet, so that is safe
//! for every method.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tonic::transport::Endpoint;

/// Settings of connections between processes.
#[derive(Debug, Clone, Copy)]
pub struct ChannelOptions {
    /// Longest time to open a connection.
    pub connect_timeout: Duration,
    /// Time between HTTP/2 pings on a connection, also an idle one.
    pub keep_alive_interval: Duration,
    /// Time after which an unanswered ping closes the connection.
    pub keep_alive_timeout: Duration,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            keep_alive_interval: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(10),
        }
    }
}

/// An address that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Not of the form `http://host:port`.
    #[error("{0:?} is not an address of the form http://host:port")]
    BadAddress(String),
    /// A list without an address.
    #[error("a service elsewhere needs at least one address")]
    NoAddress,
}

/// See the module documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Channel {
    instances: Arc<[tonic::transport::Channel]>,
    next: Arc<AtomicUsize>,
}

impl Channel {
    /// Makes the connections; none is opened before the first call.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub fn connect(addresses: &[String], options: &ChannelOptions) -> Result<Self, ChannelError> {
        Self::check(addresses)?;
        let instances = addresses
            .iter()
            .map(|address| Ok(endpoint(address, options)?.connect_lazy()));
        Ok(Self {
            instances: instances.collect::<Result<_, ChannelError>>()?,
            next: Arc::default(),
        })
    }

    /// Checks the addresses without connecting.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub fn check(addresses: &[String]) -> Result<(), ChannelError> {
        if addresses.is_empty() {
            return Err(ChannelError::NoAddress);
        }
        addresses
            .iter()
            .try_for_each(|address| endpoint(address, &ChannelOptions::default()).map(drop))
    }

    /// Returns the instance for the next call.
    pub(crate) fn pick(&self) -> tonic::transport::Channel {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.instances[turn % self.instances.len()].clone()
    }

    /// Returns how many instances there are to try.
    pub(crate) fn n_instances(&self) -> usize {
        self.instances.len()
    }
}

fn endpoint(address: &str, options: &ChannelOptions) -> Result<Endpoint, ChannelError> {
    let bad = || ChannelError::BadAddress(address.to_owned());
    let uri: http::Uri = address.parse().map_err(|_| bad())?;
    if uri.scheme_str() != Some("http") || uri.port_u16().is_none() {
        return Err(bad());
    }
    Ok(Endpoint::from(uri)
        .connect_timeout(options.connect_timeout)
        .http2_keep_alive_interval(options.keep_alive_interval)
        .keep_alive_timeout(options.keep_alive_timeout)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .http2_adaptive_window(false))
}
