//! What the log and the metrics say: one line a change, however many attempts there are between.

use std::io::{self, Write};
use std::sync::{Mutex, Once};
use std::time::Duration;

use mosaic_registry::Options;
use mosaic_telemetry::Metrics;

use crate::api_server::ApiServer;
use crate::etcd_server::EtcdServer;
use crate::stage::{Process, at, sees, soon};

/// The log of the test process: tests share it, and know their lines by the name of their service.
#[derive(Clone, Copy)]
struct Log;

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static START: Once = Once::new();

impl Log {
    fn keep() -> Self {
        START.call_once(|| {
            let subscriber = tracing_subscriber::fmt().with_writer(|| Self).with_ansi(false).finish();
            tracing::subscriber::set_global_default(subscriber).expect("nobody else keeps the log");
        });
        Self
    }

    /// Returns how many lines there are with `text` in them.
    fn count(self, text: &str) -> usize {
        let log = String::from_utf8(LINES.lock().expect("no panic").clone()).expect("text");
        log.lines().filter(|line| line.contains(text)).count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn an_outage_is_two_lines_and_each_attempt_is_counted() {
    let log = Log::keep();
    let metrics = Metrics::default();
    let _recording = metrics::set_default_local_recorder(&metrics);
    let mut server = ApiServer::start(None).await;
    let url = format!("kubernetes:?namespace=prod&server=http://{}", server.address());
    let process = Process::open(&url, &Options::default());
    let mut watch = process.watch("away");
    sees(&mut watch, &[]).await;
    server.stop().await;
    soon("three attempts", async {
        let n_attempts = || {
            let text = metrics.render();
            let name = "mosaic_registry_watch_restarts_total{service=\"away\"} ";
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
    assert_eq!(log.count("is not heard about away"), 1);
    assert_eq!(log.count("is heard about away again"), 1);
}

#[tokio::test]
async fn registrations_instances_and_garbage_are_counted_and_told_once() {
    let Some(server) = EtcdServer::start().await else {
        return;
    };
    let log = Log::keep();
    let metrics = Metrics::default();
    let _recording = metrics::set_default_local_recorder(&metrics);
    let process = Process::open(&server.url(), &Options::default());
    let mut watch = process.watch("strange");
    let registration = process.register("strange", at("10.0.0.1:9080"));
    sees(&mut watch, &["10.0.0.1:9080"]).await;
    for _ in 0..3 {
        server.put("service/strange/10.0.0.7:1", "{").await;
    }
    server.delete("service/strange/10.0.0.1:9080").await;
    sees(&mut watch, &[]).await;
    sees(&mut watch, &["10.0.0.1:9080"]).await;
    soon("to be registered again", async {
        while log.count("registered strange at 10.0.0.1:9080 again") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(registration.deregister().await);
    // Its line is written before its level is seen.
    let text = metrics.render();
    for line in [
        "mosaic_registry_registrations_total{service=\"strange\"} 1",
        "mosaic_registry_reregistrations_total{service=\"strange\"} 1",
        "mosaic_registry_garbage_total{service=\"strange\"} 1",
        "mosaic_registry_instances{service=\"strange\"} ",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let told = [
        "strange is registered no more",
        "an entry of strange in the registry cannot be read",
        "strange is deregistered",
    ];
    assert_eq!(told.map(|text| log.count(text)), [1, 1, 1]);
}
