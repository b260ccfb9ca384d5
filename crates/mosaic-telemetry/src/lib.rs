//! Logs and metrics of a process.
//!
//! Logs go to standard error, as JSON for machines or as lines for people, each within the span of its request and so
//! with its trace id. Spans carry the names of OpenTelemetry's conventions (`rpc.method`, `http.route`), and trace ids
//! are those of W3C Trace Context from end to end: an exporter is one more layer given to [`init`]. Metrics are
//! collected in memory and read as text in Prometheus' format ([`Metrics::render`]).

mod exposition;
mod json;
mod recorder;

use std::io;
use std::sync::OnceLock;

use mosaic_core::config::{Raw, Value};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt as lines;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use recorder::Metrics;

mosaic_core::config! {
    /// Logs.
    pub struct TelemetryConfig in "telemetry" {
        /// `json` for machines, `pretty` for people.
        pub format: LogFormat = "json",
        /// Least level that is written, by target: `info,mosaic_rpc=debug`.
        pub level: LogLevel = "info",
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Pretty,
}

impl Value for LogFormat {
    fn parse(raw: &Raw) -> Result<Self, String> {
        match String::parse(raw)?.as_str() {
            "json" => Ok(Self::Json),
            "pretty" => Ok(Self::Pretty),
            _ => Err("must be json or pretty".to_owned()),
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Json => "json".to_owned(),
            Self::Pretty => "pretty".to_owned(),
        }
    }
}

/// Which log lines are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLevel(String);

impl Value for LogLevel {
    fn parse(raw: &Raw) -> Result<Self, String> {
        let text = String::parse(raw)?;
        match text.parse::<Targets>() {
            Ok(_) => Ok(Self(text)),
            Err(_) => Err("must be a level such as info, or levels by target such as info,mosaic_rpc=debug".to_owned()),
        }
    }
    fn show(&self) -> String {
        self.0.clone()
    }
}

impl LogLevel {
    fn filter(&self) -> Targets {
        // sqlx logs each statement; slow ones are logged by us, without their values.
        let targets: Targets = self.0.parse().expect("it was parsed when it was read");
        targets.with_target("sqlx", LevelFilter::WARN)
    }
}

static METRICS: OnceLock<Metrics> = OnceLock::new();

/// Sets up logs and metrics of the process; `more` is a further layer (an exporter), or `None`.
///
/// A second call changes nothing and returns the same metrics: a process has one log.
pub fn init(config: &TelemetryConfig, more: Option<Box<dyn Layer<Registry> + Send + Sync>>) -> Metrics {
    init_to(config, more, io::stderr)
}

/// As [`init`], with log lines going to `writer`; for tests that read the log.
pub fn init_to<W>(config: &TelemetryConfig, more: Option<Box<dyn Layer<Registry> + Send + Sync>>, writer: W) -> Metrics
where
    W: for<'a> lines::MakeWriter<'a> + Send + Sync + 'static,
{
    let install = || {
        let log = lines::layer().with_writer(writer);
        let log: Box<dyn Layer<_> + Send + Sync> = match config.format {
            LogFormat::Json => Box::new(log.fmt_fields(json::SpanFields).event_format(json::JsonLine)),
            LogFormat::Pretty => Box::new(log.compact().with_target(false)),
        };
        // Somebody else's subscriber (a host program's) stays.
        let _ = tracing_subscriber::registry()
            .with(more)
            .with(config.level.filter())
            .with(log)
            .try_init();
        let metrics = Metrics::default();
        // A host program's recorder stays, too; then ours shows nothing.
        let _ = metrics::set_global_recorder(metrics.clone());
        metrics
    };
    METRICS.get_or_init(install).clone()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_has_the_trace_id_of_its_request_and_stays_one_line() {
        let settings = mosaic_core::config::Layers::default().settings();
        let config = settings.read::<TelemetryConfig>().unwrap();
        let memory = Memory::default();
        let writer = memory.clone();
        let metrics = init_to(&config, None, move || writer.clone());
        tracing::info_span!("request", trace_id = "abc").in_scope(|| {
            tracing::info!(note = "a\r\nb\u{1b}[31m {\"fake\":1}", "hello");
        });
        tracing::debug!("not written");
        let log = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(
            log.contains(r#""trace_id":"abc""#) && log.contains(r#""message":"hello""#),
            "{log}"
        );
        assert!(!log.contains('\u{1b}'), "{log}");

        metrics::histogram!("x_seconds").record(0.002);
        assert!(
            metrics.render().contains("x_seconds_bucket{le=\"0.0025\"} 1"),
            "{}",
            metrics.render()
        );
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        assert!(LogLevel::parse(&Raw::Text("info,mosaic=debug".into())).is_ok());
        assert!(LogLevel::parse(&Raw::Text("mosaic=loud".into())).is_err());
    }
}
