//! Calls to the instances of one service.
//!
//! resolve -> connect -> pick -> call. The registry's snapshots become a set of instances, each kept connected by its own
//! task ([`endpoint`]); a call picks one that is ready ([`crate::balance`]) and goes out on its connection
//! ([`connection`]). Nothing on the way of a call resolves a name, opens a connection or waits for a lock, as long as
//! somebody is ready. A call that was not taken is made again at once, at another instance: nothing has happened yet, so
//! that is safe for every method. What may have happened is retried by the guard, if the contract says that it may.

mod affinity;
mod connection;
mod endpoint;
mod fleet;
mod outlier;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use http::HeaderMap;
use http::uri::PathAndQuery;
use mosaic_core::config::Live;
use mosaic_core::{Code, Context, Error, Result, Runtime, TaskGroup};
use mosaic_guard::Failed;
use mosaic_registry::{Address, Instance, ServiceName, Watch};
use prost::Message;
use tokio::sync::Notify;

use crate::balance::{Ask, Balance, Draws, Held, Outcome};
use crate::{Share, Streaming, Tls};
pub use affinity::Affinity;
use connection::{CallError, Connection, unreachable};
use endpoint::Endpoint;
use fleet::{Fleet, Lack, Prospect};

/// Settings of connections between processes.
#[derive(Debug, Clone)]
pub struct ChannelOptions {
    /// Longest time to open a connection and see that its instance is well.
    pub connect_timeout: Duration,
    /// Longest pause between attempts to connect to an instance that cannot be reached.
    pub reconnect_max: Duration,
    /// Longest time that a call waits for an instance to be connected, when none is.
    pub ready_timeout: Duration,
    /// Time between HTTP/2 pings on a connection, also an idle one.
    pub keep_alive_interval: Duration,
    /// Time after which an unanswered ping closes the connection.
    pub keep_alive_timeout: Duration,
    /// Time between questions for the health of an instance.
    pub health_interval: Duration,
    /// Time after which an unanswered question means that it is not well.
    pub health_timeout: Duration,
    /// Age at which a connection is replaced, give or take a fifth, so that load spreads over new instances.
    pub max_age: Duration,
    /// Time in which a new instance comes to its full share of calls.
    pub slow_start: Duration,
    /// Instances that one client connects to, if there are more; zero: all.
    pub subset: usize,
    /// What connections are secured with; without it they are plain.
    pub tls: Option<Tls>,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            reconnect_max: Duration::from_secs(1),
            ready_timeout: Duration::from_secs(2),
            keep_alive_interval: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(5),
            health_interval: Duration::from_secs(5),
            health_timeout: Duration::from_secs(2),
            max_age: Duration::from_secs(30 * 60),
            slow_start: Duration::from_secs(5),
            subset: 100,
            tls: None,
        }
    }
}

/// How calls find their instance, by domain; followed while the process runs.
#[derive(Debug, Clone)]
pub struct Routing {
    /// The balancer of every domain that `balancers` does not name.
    pub balancer: Live<Balance>,
    /// Balancers by domain.
    pub balancers: Live<BTreeMap<String, Balance>>,
    /// What keeps calls at one instance, by domain, for balancers that go by a key.
    pub affinity: Live<BTreeMap<String, Affinity>>,
    /// How much goes elsewhere of what this process serves itself, by domain.
    pub split: Live<BTreeMap<String, Share>>,
    /// Where others reach this process: it does not call itself over the wire.
    pub own: Option<Address>,
}

impl Default for Routing {
    fn default() -> Self {
        Self {
            balancer: Live::new(Balance::default()),
            balancers: Live::new(BTreeMap::new()),
            affinity: Live::new(BTreeMap::new()),
            split: Live::new(BTreeMap::new()),
            own: None,
        }
    }
}

/// What the tasks of a channel share.
#[derive(Debug)]
pub(crate) struct Setup {
    runtime: Runtime,
    epoch: Instant,
    options: ChannelOptions,
    routing: Routing,
    /// Name of a gRPC service that an instance must serve.
    probe: &'static str,
    client_seed: u64,
    draws: Draws,
    changed: Notify,
    /// Median latency of the fleet, microseconds, as bits; zero is none.
    expected_us: AtomicU64,
}

impl Setup {
    fn now_us(&self) -> u64 {
        let since = self.runtime.instant().saturating_duration_since(self.epoch);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    /// Returns the first part of the service's name, which domains are registered under.
    fn domain(&self) -> &'static str {
        self.probe.split('.').next().unwrap_or(self.probe)
    }

    fn balance(&self) -> Balance {
        let balancers = self.routing.balancers.get();
        balancers
            .get(self.domain())
            .copied()
            .unwrap_or_else(|| self.routing.balancer.copied())
    }

    fn affinity(&self) -> Affinity {
        self.routing
            .affinity
            .get()
            .get(self.domain())
            .copied()
            .unwrap_or_default()
    }

    /// Takes note of the latencies of a fleet, for those who join it: the middle one, as one that hangs is nobody's measure.
    fn expect(&self, latencies_us: impl Iterator<Item = f64>) {
        let mut latencies_us: Vec<f64> = latencies_us.collect();
        latencies_us.sort_by(f64::total_cmp);
        let median = latencies_us.get(latencies_us.len() / 2).copied().unwrap_or_default();
        self.expected_us.store(median.to_bits(), Ordering::Relaxed);
    }

    fn expected_us(&self) -> Option<f64> {
        Some(f64::from_bits(self.expected_us.load(Ordering::Relaxed))).filter(|median| *median > 0.0)
    }
}

/// See the module documentation. Cheap to clone; when the last clone is dropped the connections are closed.
#[derive(Debug, Clone)]
pub struct Channel {
    fleet: Arc<Fleet>,
    setup: Arc<Setup>,
    _tasks: TaskGroup,
}

/// How often a call that nobody has taken is made again.
const RESENDS_MAX: usize = 8;
/// How long calls wait for the first word of a registry; after that it is down, and nobody waits for it.
const REGISTRY_GRACE: Duration = Duration::from_millis(500);

/// Instances that one call has been at, so that it goes elsewhere when it is made again.
#[derive(Debug, Default)]
pub(crate) struct Tried(Mutex<Vec<Arc<Endpoint>>>);

impl Channel {
    /// Calls the `instances` that a registry names and that serve `probe`, a gRPC service.
    ///
    /// Must be called within a tokio runtime. Connects in the background, at once.
    pub fn new(
        runtime: &Runtime,
        instances: Watch,
        probe: &'static str,
        options: ChannelOptions,
        routing: Routing,
    ) -> Self {
        let tasks = TaskGroup::new(|panic| tracing::error!(task = panic.task, panic.message, "task panicked"));
        Self::with(runtime, instances, probe, options, routing, tasks)
    }

    /// Calls the instances at `addresses`, for ever.
    ///
    /// Must be called within a tokio runtime.
    pub fn listed(
        runtime: &Runtime,
        addresses: &[Address],
        probe: &'static str,
        options: ChannelOptions,
        routing: Routing,
    ) -> Self {
        let tasks = TaskGroup::new(|panic| tracing::error!(task = panic.task, panic.message, "task panicked"));
        let name: ServiceName = "listed".parse().expect("a word is a good name");
        let instances = addresses.iter().cloned().map(Instance::new).collect();
        let services = mosaic_registry::Options {
            services: BTreeMap::from([(name.clone(), instances)]),
        };
        let registry = mosaic_registry::open("static:", &services, runtime, &tasks).expect("the URL is good");
        Self::with(runtime, registry.watch(&name), probe, options, routing, tasks)
    }

    fn with(
        runtime: &Runtime,
        instances: Watch,
        probe: &'static str,
        options: ChannelOptions,
        routing: Routing,
        tasks: TaskGroup,
    ) -> Self {
        let setup = Arc::new(Setup {
            runtime: runtime.clone(),
            epoch: runtime.instant(),
            options,
            routing,
            probe,
            client_seed: runtime.random_u64(),
            draws: Draws::new(runtime.random_u64()),
            changed: Notify::new(),
            expected_us: AtomicU64::new(0),
        });
        let fleet = Arc::new(Fleet::new(&setup.draws));
        tasks.spawn("channel", fleet.clone().lead(setup.clone(), instances));
        Self {
            fleet,
            setup,
            _tasks: tasks,
        }
    }

    /// Makes a unary call; `headers` are made for each time that it is sent.
    pub(crate) async fn unary<R: Message + Default>(
        &self,
        cx: &Context,
        path: &'static str,
        headers: impl Fn() -> HeaderMap,
        message: &Bytes,
        tried: &Tried,
    ) -> Result<R, Failed> {
        let send = |connection: Arc<Connection>| {
            let (path, headers, message) = (PathAndQuery::from_static(path), headers(), message.clone());
            async move { connection.unary(path, headers, message).await }
        };
        Ok(self.call(cx, tried, send).await?.0)
    }

    /// Makes a server-streaming call; see [`Channel::unary`].
    pub(crate) async fn streaming<R: Message + Default + 'static>(
        &self,
        cx: &Context,
        path: &'static str,
        headers: impl Fn() -> HeaderMap,
        message: &Bytes,
        tried: &Tried,
    ) -> Result<Streaming<R>, Failed> {
        let send = |connection: Arc<Connection>| {
            let (path, headers, message) = (PathAndQuery::from_static(path), headers(), message.clone());
            async move { connection.streaming(path, headers, message).await }
        };
        let (items, call) = self.call(cx, tried, send).await?;
        // In flight until the last item.
        Ok(Box::pin(items.map(move |item| {
            let _in_flight = &call;
            item
        })))
    }

    /// Is there an instance that would take a call now?
    pub(crate) fn is_ready(&self) -> bool {
        !self.fleet.ready().endpoints.is_empty()
    }

    async fn call<T, F: Future<Output = Result<T, CallError>>>(
        &self,
        cx: &Context,
        tried: &Tried,
        send: impl Fn(Arc<Connection>) -> F,
    ) -> Result<(T, Call), Failed> {
        let mut last = None;
        for _ in 0..RESENDS_MAX {
            let (endpoint, connection) = self.choose(cx, tried).await.map_err(Failed::unsent)?;
            let call = Call::begin(self.setup.clone(), endpoint, cx);
            match send(connection.clone()).await {
                Ok(reply) => {
                    call.finish(Outcome::Answered);
                    return Ok((reply, call));
                }
                Err(CallError::NotTaken(cause)) => {
                    call.endpoint.retire(&connection);
                    tried.add(&call.endpoint);
                    call.finish(Outcome::Abandoned);
                    last = Some(cause);
                }
                Err(CallError::Failed(error)) => {
                    tried.add(&call.endpoint);
                    call.finish(blame(&error));
                    return Err(error.into());
                }
            }
        }
        let error = last.map_or_else(unreachable, |cause| unreachable().caused_by(cause));
        Err(Failed::unsent(error))
    }

    /// Returns an instance that is ready, if need be when one is.
    async fn choose(&self, cx: &Context, tried: &Tried) -> Result<(Arc<Endpoint>, Arc<Connection>)> {
        if let Some(chosen) = self.pick(cx, tried) {
            return Ok(chosen);
        }
        let mut published = self.fleet.subscribe();
        let wait = async {
            loop {
                // Asked after the subscription: what is published from here on is heard.
                if let Some(chosen) = self.pick(cx, tried) {
                    return Ok(chosen);
                }
                if let Prospect::None(lack) = self.fleet.ready().prospect {
                    return Err(lack_error(lack, self.setup.domain()));
                }
                if published.changed().await.is_err() {
                    return Err(unreachable());
                }
            }
        };
        let patience = match self.fleet.ready().prospect {
            Prospect::Unknown => {
                let since = self.setup.runtime.instant().saturating_duration_since(self.setup.epoch);
                REGISTRY_GRACE.saturating_sub(since)
            }
            Prospect::Soon | Prospect::Perhaps | Prospect::None(_) => self.setup.options.ready_timeout,
        };
        match tokio::time::timeout(patience, wait).await {
            Ok(outcome) => outcome,
            Err(_) if matches!(self.fleet.ready().prospect, Prospect::Unknown | Prospect::Perhaps) => {
                Err(lack_error(Lack::Nobody, self.setup.domain()))
            }
            Err(_) => Err(unreachable()),
        }
    }

    fn pick(&self, cx: &Context, tried: &Tried) -> Option<(Arc<Endpoint>, Arc<Connection>)> {
        let ready = self.fleet.ready();
        let ask = Ask {
            key: ready.affinity.key(cx).unwrap_or_else(|| self.setup.draws.next()),
            now_us: self.setup.now_us(),
        };
        let mut avoid = tried.positions(&ready.endpoints);
        // One that has just lost its connection is not ready any more, though the set still says so.
        for _ in 0..=ready.endpoints.len().min(RESENDS_MAX) {
            let position = ready.picker.pick(ask, &self.setup.draws, &avoid)?;
            let endpoint = &ready.endpoints[position];
            if let Some(connection) = endpoint.connection() {
                return Some((endpoint.clone(), connection));
            }
            avoid.push(position);
        }
        None
    }
}

impl Tried {
    fn add(&self, endpoint: &Arc<Endpoint>) {
        let mut tried = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tried.push(endpoint.clone());
    }

    fn positions(&self, endpoints: &[Arc<Endpoint>]) -> Vec<usize> {
        let tried = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let position = |tried: &Arc<Endpoint>| endpoints.iter().position(|endpoint| Arc::ptr_eq(endpoint, tried));
        tried.iter().filter_map(position).collect()
    }
}

/// A call in flight; dropped before its end it was given up.
struct Call {
    setup: Arc<Setup>,
    endpoint: Arc<Endpoint>,
    held: Held,
    deadline: Option<Instant>,
    is_finished: std::sync::atomic::AtomicBool,
}

impl Call {
    fn begin(setup: Arc<Setup>, endpoint: Arc<Endpoint>, cx: &Context) -> Self {
        Self {
            held: endpoint.node.hold(setup.now_us()),
            setup,
            endpoint,
            deadline: cx.deadline(),
            is_finished: false.into(),
        }
    }

    fn finish(&self, outcome: Outcome) {
        self.is_finished.store(true, Ordering::Relaxed);
        let now_us = self.setup.now_us();
        self.held.finish(outcome, now_us);
        if self.endpoint.outliers.note(outcome, now_us) {
            tracing::warn!(address = %self.endpoint.instance.address, "an instance fails its calls and gets none for a while");
            metrics::counter!("mosaic_instances_ejected_total").increment(1);
            self.setup.changed.notify_one();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.is_finished.load(Ordering::Relaxed) {
            let is_late = self
                .deadline
                .is_some_and(|deadline| self.setup.runtime.instant() >= deadline);
            self.finish(if is_late { Outcome::Failed } else { Outcome::Abandoned });
        }
    }
}

/// Does `error` speak against the instance that it came from?
fn blame(error: &Error) -> Outcome {
    match error.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Internal | Code::Unknown | Code::DataLoss => Outcome::Failed,
        _ => Outcome::Answered,
    }
}

fn lack_error(lack: Lack, domain: &str) -> Error {
    match lack {
        Lack::Nobody => Error::unavailable("SERVICE_UNKNOWN", format!("no instance of {domain} is known")),
        Lack::AllDown => unreachable(),
    }
}
