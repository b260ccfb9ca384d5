//! What every call passes, whether it stays in the process or crosses the wire.
//!
//! [`Guard::admit`] decides whether a method may be entered (access rule, rate of the caller); [`Guard::run`] carries
//! it out: within its deadline, with panics turned into errors, counted and timed. A local call is not a special case:
//! the in-process client and the gRPC server both come through here, so that moving a service out of the process
//! changes nothing but the distance.

mod access;
mod rate;

use std::future::Future;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use mosaic_core::{Context, Error, MethodDescriptor, Result, ServiceDescriptor, catch_panic};

pub use access::check_access;
pub use rate::RateLimiter;

/// Which end of a call is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that implements.
    Server,
    /// The one that calls another process.
    Client,
}

impl Side {
    const fn label(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// Guards the methods of one service.
#[derive(Debug)]
pub struct Guard {
    methods: Box<[MethodGuard]>,
}

#[derive(Debug)]
struct MethodGuard {
    limiter: Option<RateLimiter>,
    meter: Meter,
}

impl Guard {
    /// Makes the guard of `service` for one side of its calls.
    pub fn new(service: &'static ServiceDescriptor, side: Side) -> Self {
        let guard = |method: &'static MethodDescriptor| MethodGuard {
            // A client does not limit itself by the callee's rule: the callee would count the call twice.
            limiter: if side == Side::Server {
                method.rate.map(RateLimiter::new)
            } else {
                None
            },
            meter: Meter::new(method, side),
        };
        Self {
            methods: service.methods.iter().map(guard).collect(),
        }
    }

    /// Decides whether the caller may enter `method` now.
    ///
    /// # Errors
    /// `Unauthenticated`, `PermissionDenied`, or `ResourceExhausted` with the rule and when to come back.
    pub fn admit(&self, method: &'static MethodDescriptor, cx: &Context) -> Result<()> {
        let admitted = check_access(method, cx).and_then(|()| match &self.methods[method.index].limiter {
            Some(limiter) => limiter.admit(method, cx),
            None => Ok(()),
        });
        if let Err(error) = &admitted {
            self.methods[method.index].meter.rejected(error);
        }
        admitted
    }

    /// Carries out `work` of `method` within the deadline of `cx`.
    ///
    /// # Errors
    /// Those of `work`; `DeadlineExceeded` when time is up, and `work` is dropped; `Internal` when it panics.
    pub async fn run<T>(
        &self,
        method: &'static MethodDescriptor,
        cx: &Context,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let meter = &self.methods[method.index].meter;
        let started = cx.runtime().instant();
        let _in_flight = InFlight::enter(&meter.in_flight);
        let outcome = within(cx.remaining(), work).await;
        let elapsed = cx.runtime().instant().saturating_duration_since(started);
        match &outcome {
            Ok(_) => meter.ok.increment(1),
            Err(error) => meter.rejected(error),
        }
        meter.seconds.record(elapsed);
        outcome
    }

    /// Counts a streamed answer that began well and broke off.
    pub fn stream_failed(&self, method: &'static MethodDescriptor, error: &Error) {
        let labels = [
            ("service", method.service),
            ("method", method.name),
            ("code", error.code().name()),
        ];
        metrics::counter!("mosaic_streams_failed_total", &labels).increment(1);
    }
}

async fn within<T>(remaining: Option<Duration>, work: impl Future<Output = Result<T>>) -> Result<T> {
    let work = catch_panic(work);
    let caught = match remaining {
        Some(Duration::ZERO) => return Err(deadline_exceeded()),
        Some(remaining) => tokio::time::timeout(remaining, work)
            .await
            .map_err(|_| deadline_exceeded())?,
        None => work.await,
    };
    caught.unwrap_or_else(|panic| Err(Error::internal(format!("panic: {panic}"))))
}

fn deadline_exceeded() -> Error {
    Error::deadline_exceeded("DEADLINE_EXCEEDED", "the request took too long")
}

/// Counts a call as in flight until dropped, however it ends.
struct InFlight<'a>(&'a Gauge);

impl<'a> InFlight<'a> {
    fn enter(gauge: &'a Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Metrics of one method, looked up once.
struct Meter {
    method: &'static MethodDescriptor,
    side: Side,
    ok: Counter,
    seconds: Histogram,
    in_flight: Gauge,
}

impl Meter {
    fn new(method: &'static MethodDescriptor, side: Side) -> Self {
        let labels = [
            ("service", method.service),
            ("method", method.name),
            ("side", side.label()),
        ];
        Self {
            method,
            side,
            ok: call_counter(method, side, "OK"),
            seconds: metrics::histogram!("mosaic_call_seconds", &labels),
            in_flight: metrics::gauge!("mosaic_calls_in_flight", &labels),
        }
    }

    fn rejected(&self, error: &Error) {
        call_counter(self.method, self.side, error.code().name()).increment(1);
    }
}

fn call_counter(method: &'static MethodDescriptor, side: Side, code: &'static str) -> Counter {
    metrics::counter!(
        "mosaic_calls_total",
        "service" => method.service, "method" => method.name, "side" => side.label(), "code" => code
    )
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter")
            .field("method", &self.method.path)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
