//! What the log and the metrics say: one line a change, however many attempts there are between.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use mosaic_registry::Options;
use tracing_subscriber::fmt::MakeWriter;

use crate::api_server::ApiServer;
use crate::etcd_server::EtcdServer;
use crate::stage::{Process, at, sees, soon};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Returns how many lines there are with `text` in them.
    fn with(&self, text: &str) -> usize {
        let bytes = self.0.lock().expect("no panic").clone();
        let log = String::from_utf8(bytes).expect("text");
        log.lines().filter(|line| line.contains(text)).count()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Keeps the log of this thread, which runs all tasks of a test.
fn log() -> (Lines, tracing::subscriber::DefaultGuard) {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(lines.clone())
        .with_ansi(false)
        .finish();
    (lines, tracing::subscriber::set_default(subscriber))
}

#[tokio::test]
async fn an_outage_is_two_lines_and_each_attempt_is_counted() {
    let (lines, _guard) = log();
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let mut server = ApiServer::start(None).await;
    let url = format!("kubernetes:?namespace=prod&server=http://{}", server.address());
    let process = Process::open(&url, &Options::default());
    let mut watch = process.watch("users");
    sees(&mut watch, &[]).await;
    server.stop().await;
    soon("three attempts", async {
        let n_attempts = || {
            let text = metrics.render();
            let name = "mosaic_registry_watch_restarts_total{service=\"users\"} ";
            text.split_once(name)
                .and_then(|(_, rest)| rest.lines().next()?.parse::<u64>().ok())
                .unwrap_or(0)
        };
        while n_attempts() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    server.run_again().await;
    soon("the end of the outage", async {
        while !watch.is_live() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(lines.with("is not heard about users"), 1);
    assert_eq!(lines.with("is heard about users again"), 1);
}

#[tokio::test]
async fn registrations_instances_and_garbage_are_counted_and_told_once() {
    let Some(server) = EtcdServer::start().await else {
        return;
    };
    let (lines, _guard) = log();
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let process = Process::open(&server.url(), &Options::default());
    let mut watch = process.watch("users");
    let registration = process.register("users", at("10.0.0.1:9080"));
    sees(&mut watch, &["10.0.0.1:9080"]).await;
    for _ in 0..3 {
        server.put("service/users/10.0.0.7:1", "{").await;
    }
    server.delete("service/users/10.0.0.1:9080").await;
    sees(&mut watch, &[]).await;
    sees(&mut watch, &["10.0.0.1:9080"]).await;
    soon("to be registered again", async {
        while lines.with("registered users at 10.0.0.1:9080 again") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(registration.deregister().await);
    let text = metrics.render();
    for line in [
        "mosaic_registry_registrations_total{service=\"users\"} 1",
        "mosaic_registry_reregistrations_total{service=\"users\"} 1",
        "mosaic_registry_garbage_total{service=\"users\"} 1",
        "mosaic_registry_instances{service=\"users\"} ",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let told = [
        "users is registered no more",
        "cannot be read and is left out",
        "users is deregistered",
    ];
    assert_eq!(told.map(|text| lines.with(text)), [1, 1, 1]);
}
