//! The application as processes of its own, which register in etcd.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mosaic::registry::ServiceName;
use mosaic::{Runtime, TaskGroup};
use mosaic_testing::{Shape, TestApp, until};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::stage::Stage;

/// Holds the file to write down marks in, then the arguments, one a line.
const INSTANCE: &str = "MOSAIC_TEST_INSTANCE";

/// Is an instance if it is told so, else nothing.
#[test]
#[expect(clippy::disallowed_methods, reason = "tests have no configuration to ask")]
fn child() {
    let Ok(text) = std::env::var(INSTANCE) else { return };
    let (marks, arguments) = text.split_once('\n').unwrap();
    let arguments = ["stage"].into_iter().chain(arguments.lines()).map(OsString::from);
    let code = Stage::recording(marks.as_ref())
        .app()
        .main_with(arguments.collect::<Vec<_>>());
    assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::SUCCESS));
}

/// A fleet of instances that share a registry; what they carried out outlives them.
pub(crate) struct Fleet {
    folder: TempDir,
    registry: String,
    n_started: AtomicUsize,
}

/// A process that serves one module.
pub(crate) struct Instance {
    child: Child,
    /// What it calls itself in its answers ends with this.
    pub(crate) name: String,
    pub(crate) grpc: SocketAddr,
    log: PathBuf,
}

impl Fleet {
    pub(crate) fn new(registry: &str) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            registry: registry.to_owned(),
            n_started: AtomicUsize::new(0),
        }
    }

    /// Starts an instance of `module` and waits until it is ready, as a deployment does.
    pub(crate) async fn start(&self, module: &str) -> Instance {
        self.start_at(module, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// As [`Fleet::start`], at the address of one that is gone.
    pub(crate) async fn start_at(&self, module: &str, grpc: SocketAddr) -> Instance {
        let n_before = self.n_started.fetch_add(1, Ordering::Relaxed);
        let name = format!("{module}-{n_before}");
        let [marks, log, data] = ["marks", "log", "data"].map(|kind| self.folder.path().join(format!("{name}.{kind}")));
        let mut lines = vec![marks.display().to_string(), format!("--run={module}")];
        lines.push(format!("--data={}", data.display()));
        lines.extend(["http", "admin"].map(|port| format!("--{port}=127.0.0.1:0")));
        lines.push(format!("--grpc={grpc}"));
        let registry = format!("registry.url={}", self.registry);
        let settings = [
            "mode=dev",
            "database.url=sqlite::memory:",
            "drain_timeout=4s",
            "rpc.linger=200ms",
            &registry,
        ];
        lines.extend(settings.map(|setting| format!("--set={setting}")));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["chaos::instance::child", "--exact", "--nocapture"]);
        command.env_clear().env(INSTANCE, lines.join("\n")).kill_on_drop(true);
        command.stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        let child = command.spawn().unwrap();
        until("an instance runs", Duration::from_secs(20), || async {
            std::fs::read_to_string(&log)
                .unwrap()
                .contains("\"message\":\"running\"")
        })
        .await;
        let text = std::fs::read_to_string(&log).unwrap();
        let address = |port: &str| -> SocketAddr {
            let (_, rest) = text.split_once(&format!("\"{port}\":\"")).unwrap();
            rest.split_once('"').unwrap().0.parse().unwrap()
        };
        let ready = format!("http://{}/readyz", address("admin"));
        let client = mosaic::partner_client(Duration::from_secs(2)).unwrap();
        until("an instance is ready", Duration::from_secs(10), || async {
            client
                .get(&ready)
                .send()
                .await
                .is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        let grpc = address("grpc");
        Instance { child, name, grpc, log }
    }

    /// Starts the process of the callers, which serves nothing and waits until it knows `instances`.
    pub(crate) async fn callers(&self, stage: &Stage, instances: &[&Instance]) -> TestApp {
        self.listed(instances).await;
        let builder = stage.builder(Shape::Apart(&[&["edge"]]));
        builder.set("registry.url", self.registry.as_str()).start().await
    }

    /// Waits until a newcomer would find exactly `instances`; returns how long that took.
    pub(crate) async fn listed(&self, instances: &[&Instance]) -> Duration {
        let started = Instant::now();
        let (runtime, tasks) = (Runtime::system(), TaskGroup::new(|_| {}));
        let registry = mosaic::registry::open(&self.registry, &Default::default(), &runtime, &tasks).unwrap();
        for domain in ["front", "back"] {
            let of_domain = instances.iter().filter(|instance| instance.name.starts_with(domain));
            let mut want: Vec<_> = of_domain.map(|instance| instance.grpc.to_string()).collect();
            want.sort();
            let mut watch = registry.watch(&domain.parse::<ServiceName>().unwrap());
            let found = watch.wait_for(|snapshot| {
                let instances = snapshot.instances().iter();
                let mut found: Vec<_> = instances.map(|instance| instance.address.to_string()).collect();
                found.sort();
                found == want
            });
            let found = tokio::time::timeout(Duration::from_secs(20), found).await;
            assert!(found.is_ok(), "not listed: {want:?}, but {:?}", watch.current());
        }
        started.elapsed()
    }

    /// Returns how often each mark was begun, by anybody who ever lived.
    pub(crate) fn carried_out(&self) -> HashMap<String, usize> {
        let mut n_begun = HashMap::new();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "marks") {
                for mark in std::fs::read_to_string(path).unwrap().lines() {
                    *n_begun.entry(mark.to_owned()).or_default() += 1;
                }
            }
        }
        n_begun
    }
}

impl Instance {
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Ends the process as a crash does.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends SIGTERM.
    pub(crate) fn signal(&self) {
        let id = self.child.id().unwrap().to_string();
        let status = std::process::Command::new("kill").args(["-TERM", &id]).status();
        assert!(status.unwrap().success());
    }

    /// Ends the process as a deployment does; returns how long that took.
    pub(crate) async fn terminate(self) -> Duration {
        self.signal();
        let started = Instant::now();
        let log = self.log.clone();
        assert!(self.ended().await, "{}", std::fs::read_to_string(log).unwrap());
        started.elapsed()
    }

    /// Waits for the end; says whether it was one without failure.
    pub(crate) async fn ended(mut self) -> bool {
        let ended = tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await;
        ended.expect("a process that ends").unwrap().success()
    }
}
