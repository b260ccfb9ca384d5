//! One instance: its connection, and whether it is to be called.
//!
//! ```text
//! Connecting --connected, healthy--> Ready --lost--> Connecting --failed--> Down --connected, healthy--> Ready
//! ```
//! A call that finds nobody ready waits for `Connecting`, not for `Down`: what has just failed is tried again by its own
//! task, with growing pauses, and not by those who call. An instance that is ready may be ejected for a while because of
//! how its calls ended ([`Outliers`]).
//!
//! A connection is replaced before it is given up: when it is told to go, or is old, the next one is opened first and the
//! calls of the old one end on it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue};
use mosaic_core::Runtime;
use mosaic_registry::Instance;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::connection::{CallError, Connection, Io};
use super::outlier::Outliers;
use super::{ChannelOptions, Setup};
use crate::balance::Node;
use crate::frames;

/// See the module documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// On its way, for the first time or after it was ready.
    Connecting,
    /// May be called.
    Ready,
    /// Cannot be reached, or is not well.
    Down,
}

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) instance: Instance,
    pub(crate) node: Arc<Node>,
    pub(crate) outliers: Outliers,
    connection: ArcSwapOption<Connection>,
    state: AtomicU8,
    /// Told by calls that find the connection to take no more.
    used_up: Notify,
    /// Told when there is reason to try again before the pause is over.
    hoped_for: Notify,
}

impl Endpoint {
    pub(crate) fn new(instance: Instance, options: &ChannelOptions) -> Self {
        let slow_start_us = u64::try_from(options.slow_start.as_micros()).unwrap_or(u64::MAX);
        Self {
            node: Arc::new(Node::new(
                &instance.address.to_string(),
                instance.weight(),
                slow_start_us,
            )),
            instance,
            outliers: Outliers::default(),
            connection: ArcSwapOption::empty(),
            state: AtomicU8::new(State::Connecting as u8),
            used_up: Notify::new(),
            hoped_for: Notify::new(),
        }
    }

    pub(crate) fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Connecting,
            1 => State::Ready,
            _ => State::Down,
        }
    }

    /// Returns the connection to call on, if there is one.
    pub(crate) fn connection(&self) -> Option<Arc<Connection>> {
        self.connection.load_full()
    }

    /// Takes `connection`, which takes no more calls, out of use.
    pub(crate) fn retire(&self, connection: &Arc<Connection>) {
        let current = self.connection.load();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            self.connection.store(None);
            self.used_up.notify_one();
        }
    }

    /// Tries again at once if it is down; calls wait for how that ends.
    pub(crate) fn hope(&self, setup: &Setup) {
        if self.state() == State::Down {
            self.set_state(State::Connecting, setup);
            self.hoped_for.notify_one();
        }
    }

    fn set_state(&self, state: State, setup: &Setup) {
        if self.state.swap(state as u8, Ordering::AcqRel) != state as u8 {
            tracing::debug!(address = %self.instance.address, ?state, "instance");
            setup.changed.notify_one();
        }
    }
}

/// Keeps `endpoint` connected until `removed`; then lets its running calls end.
pub(crate) async fn keep_connected(endpoint: Arc<Endpoint>, setup: Arc<Setup>, removed: Arc<Notify>) {
    let mut drivers = JoinSet::new();
    let mut life = Box::pin(connect_for_ever(&endpoint, &setup, &mut drivers));
    tokio::select! {
        never = &mut life => match never {},
        () = removed.notified() => {}
    }
    drop(life);
    endpoint.connection.store(None);
    while drivers.join_next().await.is_some() {}
}

/// A connection that ends sooner than this counts as one that could not be made.
const SHORT_LIFE: Duration = Duration::from_secs(1);

async fn connect_for_ever(
    endpoint: &Arc<Endpoint>,
    setup: &Setup,
    drivers: &mut JoinSet<()>,
) -> std::convert::Infallible {
    let mut n_failures = 0;
    loop {
        let opened = tokio::time::timeout(setup.options.connect_timeout, open(endpoint, setup)).await;
        let failure = match opened {
            Ok(Ok(opened)) => {
                let began = setup.runtime.instant();
                let end = run(endpoint, setup, opened, drivers).await;
                let lived = setup.runtime.instant().saturating_duration_since(began);
                if end == End::OfAge || lived >= SHORT_LIFE {
                    n_failures = 0;
                    continue;
                }
                None
            }
            Ok(Err(why)) => Some(why),
            Err(_) => Some("no connection in time".to_owned()),
        };
        if let Some(why) = &failure
            && n_failures == 0
        {
            tracing::warn!(address = %endpoint.instance.address, why, "an instance cannot be called");
        }
        // The first attempt after a lost connection is made at once, and calls wait for it; not for those after a pause.
        if failure.is_some() || n_failures > 0 {
            endpoint.connection.store(None);
            endpoint.set_state(State::Down, setup);
            tokio::select! {
                () = tokio::time::sleep(backoff(n_failures, &setup.options, &setup.runtime)) => {}
                () = endpoint.hoped_for.notified() => {}
            }
        }
        n_failures += 1;
    }
}

/// A connection that has proved itself, and what drives it.
struct Opened {
    connection: Arc<Connection>,
    driver: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Connects and asks whether the instance is what we look for.
async fn open(endpoint: &Endpoint, setup: &Setup) -> Result<Opened, String> {
    let address = &endpoint.instance.address;
    let tcp = TcpStream::connect((address.host(), address.port()))
        .await
        .map_err(|error| error.to_string())?;
    tcp.set_nodelay(true).map_err(|error| error.to_string())?;
    let (io, scheme): (Box<dyn Io>, Scheme) = match &setup.options.tls {
        None => (Box::new(tcp), Scheme::HTTP),
        Some(tls) => {
            let secured = tls.connect(setup.domain(), tcp).await;
            (
                Box::new(secured.map_err(|error| format!("TLS: {error}"))?),
                Scheme::HTTPS,
            )
        }
    };
    let authority = address.to_string().parse().map_err(|_| "no host name".to_owned())?;
    let opened = Connection::open(io, scheme, authority, &setup.options);
    let (connection, driver) = opened.await.map_err(|error| error.to_string())?;
    let (connection, mut driver) = (Arc::new(connection), Box::pin(driver));
    tokio::select! {
        health = check_health(&connection, setup.probe) => health?,
        () = &mut driver => return Err("the connection was closed at once".to_owned()),
    }
    Ok(Opened { connection, driver })
}

/// Why a connection is not to be used any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is old; it stays in use until the next is open.
    OfAge,
    /// It takes no more calls, or its instance is not well.
    OfUse,
}

/// Lets calls use the connection until it is not to be used any longer.
async fn run(endpoint: &Arc<Endpoint>, setup: &Setup, opened: Opened, drivers: &mut JoinSet<()>) -> End {
    while drivers.try_join_next().is_some() {}
    let Opened { connection, driver } = opened;
    let (tell, mut ended) = tokio::sync::oneshot::channel::<()>();
    let driver = drivers.spawn(async move {
        driver.await;
        drop(tell);
    });
    endpoint.connection.store(Some(connection.clone()));
    if endpoint.state() != State::Ready {
        endpoint.node.set_ready(setup.now_us(), setup.expected_us());
        endpoint.outliers.forgive();
    }
    endpoint.set_state(State::Ready, setup);
    tokio::select! {
        _ = &mut ended => {
            endpoint.connection.store(None);
            endpoint.set_state(State::Connecting, setup);
        }
        () = endpoint.used_up.notified() => endpoint.set_state(State::Connecting, setup),
        () = tokio::time::sleep(age(&setup.options, &setup.runtime)) => return End::OfAge,
        why = unhealthy(&connection, setup) => {
            tracing::warn!(address = %endpoint.instance.address, why, "an instance is not well");
            endpoint.connection.store(None);
            endpoint.set_state(State::Down, setup);
            if why == SILENT {
                driver.abort();
            }
        }
    }
    End::OfUse
}

const HEALTH: &str = "/grpc.health.v1.Health/Check";
const SILENT: &str = "does not answer";

/// Completes when the instance says that it is not well, or nothing.
async fn unhealthy(connection: &Connection, setup: &Setup) -> String {
    loop {
        let interval = setup.options.health_interval;
        tokio::time::sleep(interval.mul_f64(0.75 + setup.runtime.random_fraction() / 2.0)).await;
        match tokio::time::timeout(setup.options.health_timeout, check_health(connection, setup.probe)).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return why,
            Err(_) => return SILENT.to_owned(),
        }
    }
}

/// Asks for the health of `service` (the gRPC health checking protocol); a server that does not know the protocol is well.
async fn check_health(connection: &Connection, service: &str) -> Result<(), String> {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let message = frames::encode(&request).map_err(|status| status.message().to_owned())?;
    let path = PathAndQuery::from_static(HEALTH);
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert("grpc-timeout", HeaderValue::from_static("5S"));
    match connection.unary::<HealthCheckResponse>(path, headers, message).await {
        Ok(reply) if reply.status() == ServingStatus::Serving => Ok(()),
        Ok(reply) => Err(format!("says {}", reply.status().as_str_name())),
        Err(CallError::NotTaken(_)) => Err("takes no calls".to_owned()),
        Err(CallError::Failed(error)) => match error.code() {
            mosaic_core::Code::Unimplemented => Ok(()),
            mosaic_core::Code::NotFound => Err(format!("does not serve {service}")),
            _ => Err(format!("cannot say how it is: {error}")),
        },
    }
}

fn age(options: &ChannelOptions, runtime: &Runtime) -> Duration {
    options.max_age.mul_f64(0.8 + runtime.random_fraction() * 0.4)
}

/// Full jitter over half of an exponential pause (AWS architecture blog, 2015).
fn backoff(n_failures: u32, options: &ChannelOptions, runtime: &Runtime) -> Duration {
    const FIRST: Duration = Duration::from_millis(50);
    let pause = FIRST.saturating_mul(1 << n_failures.min(16)).min(options.reconnect_max);
    pause.mul_f64(0.5 + runtime.random_fraction() / 2.0)
}
