//! Metrics of the process: counted by each thread for itself, added up when somebody reads.
//!
//! A request touches two dozen metrics. Were each one number, as recorders usually have it, all processors would write to the same lines
//! of memory in turn and wait for one another; and a histogram that keeps what it was given until it is read is megabytes a
//! second that nobody has asked for. Here a metric has a part for each of a few threads, on lines of its own, and a histogram
//! counts into its buckets at once, so that nothing piles up and nothing needs upkeep.
//! What is read is written by [`exposition`](crate::exposition).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use metrics_util::registry::{Registry, Storage};
use mosaic_core::Striped;

use crate::exposition::{Buckets, Exposition, N_BOUNDS, Value, plain};

/// Seconds (names that end in `_seconds`): from a cached local call to a request that somebody has given up on.
const SECONDS: [f64; N_BOUNDS] = [
    0.000_01, 0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];
/// Everything else: how many.
const AMOUNTS: [f64; N_BOUNDS] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 1e5,
];

/// Metrics of a process, and what records them. Cheap to clone: clones are the same metrics.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Parts>);

struct Parts {
    registry: Registry<Key, ThreadParts>,
    help: Mutex<BTreeMap<String, SharedString>>,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            registry: Registry::new(ThreadParts),
            help: Mutex::default(),
        }
    }
}

impl Metrics {
    /// Returns everything in Prometheus' text format, by name and then by labels.
    pub fn render(&self) -> String {
        let registry = &self.0.registry;
        let mut exposition = Exposition::default();
        registry.visit_counters(|key, counter| exposition.add(key, "counter", Value::Count(counter.total())));
        registry.visit_gauges(|key, gauge| exposition.add(key, "gauge", Value::Level(gauge.total())));
        registry.visit_histograms(|key, histogram| exposition.add(key, "histogram", Value::Buckets(histogram.total())));
        let help = self.0.help.lock().unwrap_or_else(PoisonError::into_inner);
        exposition.write(&help)
    }

    fn describe(&self, name: &KeyName, what: SharedString) {
        let mut help = self.0.help.lock().unwrap_or_else(PoisonError::into_inner);
        help.insert(plain(name.as_str()), what);
    }
}

impl Recorder for Metrics {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&key, description);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&key, description);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&key, description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let registry = &self.0.registry;
        registry.get_or_create_counter(key, |counter| Counter::from_arc(counter.clone()))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let registry = &self.0.registry;
        registry.get_or_create_gauge(key, |gauge| Gauge::from_arc(gauge.clone()))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let registry = &self.0.registry;
        registry.get_or_create_histogram(key, |histogram| Histogram::from_arc(histogram.clone()))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Makes metrics of a part for each thread.
struct ThreadParts;

impl Storage<Key> for ThreadParts {
    type Counter = Arc<ThreadCounter>;
    type Gauge = Arc<ThreadGauge>;
    type Histogram = Arc<ThreadHistogram>;

    fn counter(&self, _: &Key) -> Self::Counter {
        Arc::new(ThreadCounter {
            least: AtomicU64::new(0),
            parts: Striped::default(),
        })
    }

    fn gauge(&self, _: &Key) -> Self::Gauge {
        Arc::new(ThreadGauge {
            base: Mutex::new(0.0),
            parts: Striped::default(),
        })
    }

    fn histogram(&self, key: &Key) -> Self::Histogram {
        let is_time = key.name().ends_with("_seconds");
        Arc::new(ThreadHistogram {
            bounds: if is_time { &SECONDS } else { &AMOUNTS },
            parts: Striped::default(),
        })
    }
}

/// Adds to a number that is kept as its bits.
fn add(bits: &AtomicU64, value: f64) {
    // Always adds: the closure returns a number.
    let _ = bits.fetch_update(Relaxed, Relaxed, |bits| Some((f64::from_bits(bits) + value).to_bits()));
}

struct ThreadCounter {
    /// What [`CounterFn::absolute`] was told.
    least: AtomicU64,
    parts: Striped<AtomicU64>,
}

impl ThreadCounter {
    fn total(&self) -> u64 {
        let counts = self.parts.all().map(|part| part.load(Relaxed));
        let counted = counts.fold(0, u64::wrapping_add);
        self.least.load(Relaxed).max(counted)
    }
}

impl CounterFn for ThreadCounter {
    fn increment(&self, value: u64) {
        self.parts.own().fetch_add(value, Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.least.fetch_max(value, Relaxed);
    }
}

struct ThreadGauge {
    /// What it was when it was set, without the parts.
    base: Mutex<f64>,
    /// Bits of what was added since the beginning.
    parts: Striped<AtomicU64>,
}

impl ThreadGauge {
    fn added(&self) -> f64 {
        self.parts.all().map(|part| f64::from_bits(part.load(Relaxed))).sum()
    }

    fn total(&self) -> f64 {
        let base = *self.base.lock().unwrap_or_else(PoisonError::into_inner);
        base + self.added()
    }
}

impl GaugeFn for ThreadGauge {
    fn increment(&self, value: f64) {
        add(self.parts.own(), value);
    }

    fn decrement(&self, value: f64) {
        add(self.parts.own(), -value);
    }

    fn set(&self, value: f64) {
        let mut base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        *base = value - self.added();
    }
}

struct ThreadHistogram {
    bounds: &'static [f64; N_BOUNDS],
    parts: Striped<HistogramPart>,
}

/// Two lines of memory.
#[derive(Default)]
struct HistogramPart {
    /// Values up to each bound and above the one before; those above the last.
    counts: [AtomicU64; N_BOUNDS + 1],
    /// Bits of the sum.
    sum: AtomicU64,
}

impl ThreadHistogram {
    fn total(&self) -> Buckets {
        let mut total = Buckets {
            bounds: self.bounds,
            counts: [0; N_BOUNDS + 1],
            sum: 0.0,
        };
        for part in self.parts.all() {
            for (count, counted) in total.counts.iter_mut().zip(&part.counts) {
                *count += counted.load(Relaxed);
            }
            total.sum += f64::from_bits(part.sum.load(Relaxed));
        }
        total
    }
}

impl HistogramFn for ThreadHistogram {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        let part = self.parts.own();
        part.counts[bucket].fetch_add(count as u64, Relaxed);
        add(&part.sum, value * count as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(record: impl FnOnce()) -> String {
        let recorder = Metrics::default();
        metrics::with_local_recorder(&recorder, record);
        recorder.render()
    }

    #[test]
    fn metrics_are_written_as_prometheus_reads_them() {
        let text = rendered(|| {
            metrics::describe_counter!("calls_total", "Calls,\nall of them.");
            metrics::counter!("calls_total", "what" => "a \"b\"\\\n").increment(2);
            metrics::counter!("calls_total", "what" => "c").increment(1);
            metrics::gauge!("open.now").set(1.5);
        });
        let want = "# HELP calls_total Calls,\\nall of them.\n# TYPE calls_total counter\n\
                    calls_total{what=\"a \\\"b\\\"\\\\\\n\"} 2\ncalls_total{what=\"c\"} 1\n\n\
                    # TYPE open_now gauge\nopen_now 1.5\n\n";
        assert_eq!(text, want);
    }

    #[test]
    fn a_histogram_counts_up_to_and_with_its_bounds() {
        let text = rendered(|| {
            let histogram = metrics::histogram!("wait_seconds", "who" => "me");
            for value in [0.0, 0.001, 0.001_1, 31.0] {
                histogram.record(value);
            }
            histogram.record_many(0.001, 2);
            metrics::histogram!("rows").record(3.0);
        });
        for line in [
            "# TYPE rows histogram",
            "rows_bucket{le=\"2\"} 0",
            "rows_bucket{le=\"5\"} 1",
            "rows_bucket{le=\"100000\"} 1",
            "wait_seconds_bucket{who=\"me\",le=\"0.00001\"} 1",
            "wait_seconds_bucket{who=\"me\",le=\"0.0005\"} 1",
            "wait_seconds_bucket{who=\"me\",le=\"0.001\"} 4",
            "wait_seconds_bucket{who=\"me\",le=\"0.0025\"} 5",
            "wait_seconds_bucket{who=\"me\",le=\"30\"} 5",
            "wait_seconds_bucket{who=\"me\",le=\"+Inf\"} 6",
            "wait_seconds_count{who=\"me\"} 6",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is not in\n{text}");
        }
        let sum = text
            .lines()
            .find_map(|line| line.strip_prefix("wait_seconds_sum{who=\"me\"} "));
        assert!((sum.unwrap().parse::<f64>().unwrap() - 31.004_1).abs() < 1e-9);
    }

    #[test]
    fn what_many_threads_count_is_added_up() {
        const THREADS: usize = 9;
        let recorder = Metrics::default();
        let (counter, gauge, histogram) = metrics::with_local_recorder(&recorder, || {
            (
                metrics::counter!("n"),
                metrics::gauge!("level"),
                metrics::histogram!("x_seconds"),
            )
        });
        gauge.set(5.0);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        counter.increment(1);
                        gauge.increment(2.0);
                        gauge.decrement(1.0);
                        histogram.record(0.5);
                    }
                });
            }
        });
        let text = recorder.render();
        for line in ["n 9000", "level 9005", "x_seconds_sum 4500", "x_seconds_count 9000"] {
            assert!(text.lines().any(|there| there == line), "{line} is not in\n{text}");
        }
        gauge.set(7.0);
        counter.absolute(8000);
        counter.increment(1);
        assert!(recorder.render().contains("level 7\n") && recorder.render().contains("n 9001\n"));
        counter.absolute(10_000);
        assert!(recorder.render().contains("n 10000\n"));
    }
}
