//! What the tests of several rules share: methods, a clock that follows tokio's, rules from text.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mosaic_core::config::{Layers, Settings};
use mosaic_core::{
    Access, Clock, Context, Envelope, MethodDescriptor, Runtime, SeededRandom, ServiceDescriptor, Shape, Timestamp,
};

use crate::{GuardConfig, Rules};

pub(crate) const fn method(index: usize, name: &'static str, path: &'static str, idempotent: bool) -> MethodDescriptor {
    MethodDescriptor {
        service: "stage.v1.Stage",
        name,
        path,
        index,
        shape: Shape::Unary,
        access: Access::Public,
        idempotent,
        timeout: Duration::from_secs(10),
        rate: None,
        envelope: Envelope::Plain,
        ok_message: "",
        bare: false,
        http: &[],
    }
}

pub(crate) static METHODS: [MethodDescriptor; 2] = [
    method(0, "Read", "/stage.v1.Stage/Read", true),
    method(1, "Write", "/stage.v1.Stage/Write", false),
];
pub(crate) static READ: &MethodDescriptor = &METHODS[0];
pub(crate) static WRITE: &MethodDescriptor = &METHODS[1];
pub(crate) static SERVICE: ServiceDescriptor = ServiceDescriptor {
    name: "stage.v1.Stage",
    methods: &METHODS,
    file_descriptor_set: &[],
    openapi: "",
    sensitive: &[],
};

/// Time as tokio's tests have it: stands still while there is work, jumps to the next timer when there is none.
#[derive(Debug)]
struct TokioClock;

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::EPOCH
    }
    fn instant(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// A runtime whose time is tokio's and whose randomness repeats.
pub(crate) fn runtime(seed: u64) -> Runtime {
    eprintln!("seed {seed}");
    Runtime::new(Arc::new(TokioClock), Arc::new(SeededRandom::new(seed)))
}

pub(crate) fn cx(seed: u64) -> Context {
    Context::new(&runtime(seed))
}

/// Reads rules; the settings are there for a reload.
pub(crate) fn rules(file: &str) -> (Rules, Settings) {
    let settings = Layers::default().file("mosaic.toml", file).settings();
    let config = settings.read::<GuardConfig>();
    assert_eq!(settings.problems(), []);
    (Rules::new(config.unwrap()), settings)
}

/// A seed that differs from run to run and is printed; `MOSAIC_TEST_SEED` repeats a run.
#[expect(clippy::disallowed_methods, reason = "tests have no configuration to ask")]
pub(crate) fn seed() -> u64 {
    let given = std::env::var("MOSAIC_TEST_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| Runtime::system().random_u64())
}

/// Counts what is counted while it is the recorder.
#[derive(Debug, Default)]
pub(crate) struct Counted(std::sync::Mutex<std::collections::BTreeMap<String, Arc<std::sync::atomic::AtomicU64>>>);

impl Counted {
    /// Returns the counter of `name` whose labels include all of `labels`, added up.
    pub(crate) fn total(&self, name: &str, labels: &[&str]) -> u64 {
        let counters = self.0.lock().unwrap();
        let wanted = |key: &&String| key.starts_with(&format!("{name} ")) && labels.iter().all(|l| key.contains(l));
        let keys = counters.keys().filter(wanted);
        keys.map(|key| counters[key].load(std::sync::atomic::Ordering::Relaxed))
            .sum()
    }
}

impl metrics::Recorder for Counted {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        let labels: Vec<_> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        let name = format!("{} {} ", key.name(), labels.join(" "));
        metrics::Counter::from_arc(self.0.lock().unwrap().entry(name).or_default().clone())
    }

    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }

    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}
