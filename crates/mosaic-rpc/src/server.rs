//! The gRPC listener of a process: every service it serves, health and reflection on one port.
//!
//! Who serves is put together here; how connections are accepted, limited and ended is [`crate::listen`].

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use mosaic_core::{Error, Result, ServiceDescriptor};
use mosaic_guard::Rules;
use tokio::net::TcpListener;
use tonic::service::RoutesBuilder;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::dispatch::{Called, Dispatch};
use crate::listen::listen;
use crate::{Directory, Inbound, Serve, Tls};

/// Largest message in either direction.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Limits of the listener.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Calls in flight on one connection; more are refused.
    pub max_concurrent_streams: u32,
    /// Connections in all; more wait in the kernel.
    pub max_connections: usize,
    /// Connections of one address that is not this machine; more are closed.
    pub max_connections_per_ip: usize,
    /// Time until the first bytes of HTTP/2 must be there.
    pub first_byte_timeout: Duration,
    /// Time until TLS must be established.
    pub handshake_timeout: Duration,
    /// Age at which a connection is asked to go, give or take a tenth, so that clients meet new instances.
    pub max_connection_age: Duration,
    /// Time that the calls of a connection have after it was asked to go; then it is cut.
    pub max_connection_age_grace: Duration,
    /// Time that new connections are still served after the end was asked for.
    pub linger: Duration,
    /// Time between HTTP/2 pings.
    pub keep_alive_interval: Duration,
    /// Time after which an unanswered ping closes the connection.
    pub keep_alive_timeout: Duration,
    /// What connections are secured with; without it they are plain, with it no plain one is served.
    pub tls: Option<Tls>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 100,
            max_connections: 10_000,
            max_connections_per_ip: 1_000,
            first_byte_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            max_connection_age: Duration::from_secs(30 * 60),
            max_connection_age_grace: Duration::from_secs(60),
            linger: Duration::ZERO,
            keep_alive_interval: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(10),
            tls: None,
        }
    }
}

/// Collects services, then serves them.
pub struct GrpcServer {
    ours: HashMap<&'static str, Box<dyn Called>>,
    others: RoutesBuilder,
    inbound: Inbound,
    rules: Rules,
    services: Vec<&'static ServiceDescriptor>,
    health: HealthReporter,
}

impl GrpcServer {
    /// Makes a server without services; `inbound` reads who calls, and calls come in by `rules`.
    pub fn new(inbound: Inbound, rules: Rules) -> Self {
        let (health, health_service) = tonic_health::server::health_reporter();
        let mut others = RoutesBuilder::default();
        others.add_service(health_service);
        Self {
            ours: HashMap::new(),
            others,
            inbound,
            rules,
            services: Vec::new(),
            health,
        }
    }

    /// Adds a service, also to `directory` for the callers of this process.
    pub fn add<S: Serve>(&mut self, mut server: S, directory: &Directory) {
        server.served_mut().set_inbound(self.inbound.clone());
        server.served_mut().set_rules(self.rules.clone());
        self.services.push(server.served().service());
        directory.add(server.served().clone());
        self.ours.insert(server.served().service().name, Box::new(server));
    }

    /// Returns the services added so far.
    pub fn services(&self) -> &[&'static ServiceDescriptor] {
        &self.services
    }

    /// Serves until `stop` completes; says that it is not well from then on, lingers, refuses new connections and lets the
    /// running calls end. Whoever drops the returned future cuts them.
    ///
    /// # Errors
    /// `Internal` if the descriptors of the services are none, which those of generated code are not.
    pub async fn serve(
        mut self,
        listener: TcpListener,
        options: ServerOptions,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<()> {
        self.add_reflection()?;
        for service in &self.services {
            self.health
                .set_service_status(service.name, ServingStatus::Serving)
                .await;
        }
        let health = self.health.clone();
        let services = self.services;
        let stop = async move {
            stop.await;
            for service in services {
                health.set_service_status(service.name, ServingStatus::NotServing).await;
            }
        };
        let runtime = self.inbound.runtime().clone();
        let dispatch = Dispatch::new(self.ours, self.others.routes().prepare());
        listen(listener, dispatch, options, runtime, stop).await;
        Ok(())
    }

    fn add_reflection(&mut self) -> Result<()> {
        let sets: BTreeSet<&'static [u8]> = self
            .services
            .iter()
            .map(|service| service.file_descriptor_set)
            .collect();
        let mut builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        for set in sets.into_iter().filter(|set| !set.is_empty()) {
            builder = builder.register_encoded_file_descriptor_set(set);
        }
        self.others.add_service(builder.build_v1().map_err(Error::internal)?);
        Ok(())
    }
}

impl std::fmt::Debug for GrpcServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrpcServer")
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

/// Binds `address`.
///
/// # Errors
/// `Unavailable` (`ADDRESS_IN_USE` and the like) that names the address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|cause| {
        Error::unavailable("CANNOT_LISTEN", format!("cannot listen on {address}: {cause}")).caused_by(cause)
    })
}
