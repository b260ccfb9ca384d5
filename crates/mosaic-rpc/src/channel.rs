//! Connections to the instances of one service.
//!
//! Each address has its own lazy connection that re-connects by itself; calls go round robin. A call that could not be
//! sent because its instance cannot be connected to is tried on each of the others: nothing has happened yet, so that is
//! safe for every method.

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

    /// Returns the instances in the order in which the next call is to try them: each once, the first in turn first.
    pub(crate) fn in_turn(&self) -> impl Iterator<Item = &tonic::transport::Channel> {
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.instances.len();
        let (before, from_first) = self.instances.split_at(first);
        from_first.iter().chain(before)
    }
}

fn endpoint(address: &str, options: &ChannelOptions) -> Result<Endpoint, ChannelError> {
    let bad = || ChannelError::BadAddress(address.to_owned());
    let uri: http::Uri = address.parse().map_err(|_| bad())?;
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    let is_bare = uri.path() == "/" && uri.query().is_none() && !address.contains('@');
    if uri.scheme_str() != Some("http") || !has_host || uri.port_u16().is_none() || !is_bare {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_told_before_any_call() {
        #[track_caller]
        fn check(address: &str, is_good: bool) {
            assert_eq!(Channel::check(&[address.to_owned()]).is_ok(), is_good, "{address}");
        }
        check("http://10.0.0.7:9080", true);
        check("http://users.internal:9080", true);
        check("http://[::1]:9080", true);
        for bad in [
            "",
            "users",
            "users:9080",
            "http://users",
            "http://:9080",
            "https://users:9080",
            "grpc://users:9080",
            "http://users:99999",
            "http://users:9080/path",
            "http://users:9080?query",
            "http://a@users:9080",
            "http://us ers:9080",
        ] {
            check(bad, false);
        }
        assert!(matches!(Channel::check(&[]), Err(ChannelError::NoAddress)));
        let good_and_bad = ["http://a:1".to_owned(), "b".to_owned()];
        assert!(Channel::check(&good_and_bad).is_err());
    }

    #[tokio::test]
    async fn each_call_tries_every_instance_once_and_the_turns_go_round() {
        let addresses = ["http://a:1", "http://b:1", "http://c:1"].map(str::to_owned);
        let channel = Channel::connect(&addresses, &ChannelOptions::default()).unwrap();
        let position =
            |found: &tonic::transport::Channel| channel.instances.iter().position(|it| std::ptr::eq(it, found));
        let orders: Vec<Vec<_>> = (0..4)
            .map(|_| channel.in_turn().filter_map(position).collect())
            .collect();
        assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
    }
}
