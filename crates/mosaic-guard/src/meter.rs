//! Metrics of one method, looked up once.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use mosaic_core::{Error, MethodDescriptor};

use crate::Side;
use crate::refusal::Refusal;

/// Counts and times the calls of one method on one side.
pub(crate) struct Meter {
    method: &'static MethodDescriptor,
    side: Side,
    ok: Counter,
    seconds: Histogram,
    in_flight: Gauge,
}

impl Meter {
    pub(crate) fn new(method: &'static MethodDescriptor, side: Side) -> Self {
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

    /// Counts a call as in flight until the result is dropped, however it ends.
    pub(crate) fn enter(&self) -> InFlight<'_> {
        self.in_flight.increment(1.0);
        InFlight(&self.in_flight)
    }

    /// Counts a call that ended.
    pub(crate) fn ended<T>(&self, outcome: &Result<T, Error>, elapsed: Duration) {
        match outcome {
            Ok(_) => self.ok.increment(1),
            Err(error) => self.failed(error),
        }
        self.seconds.record(elapsed);
    }

    /// Counts a call that failed, perhaps before it was made.
    pub(crate) fn failed(&self, error: &Error) {
        call_counter(self.method, self.side, error.code().name()).increment(1);
    }

    /// Counts a refusal by its rule.
    pub(crate) fn refused(&self, refusal: Refusal) {
        let labels = [
            ("service", self.method.service),
            ("method", self.method.name),
            ("side", self.side.label()),
            ("rule", refusal.label()),
        ];
        metrics::counter!("mosaic_guard_refused_total", &labels).increment(1);
    }

    /// Counts an extra attempt, or one that there was no budget for.
    pub(crate) fn extra(&self, kind: &'static str, outcome: &'static str) {
        let labels = [
            ("service", self.method.service),
            ("method", self.method.name),
            ("kind", kind),
            ("outcome", outcome),
        ];
        metrics::counter!("mosaic_guard_extra_attempts_total", &labels).increment(1);
    }
}

fn call_counter(method: &'static MethodDescriptor, side: Side, code: &'static str) -> Counter {
    metrics::counter!(
        "mosaic_calls_total",
        "service" => method.service, "method" => method.name, "side" => side.label(), "code" => code
    )
}

/// See [`Meter::enter`].
pub(crate) struct InFlight<'a>(&'a Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter")
            .field("method", &self.method.path)
            .finish_non_exhaustive()
    }
}
