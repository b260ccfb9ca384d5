//! A broker that is killed and away for a while: nothing is lost, the order stays, and everybody goes on by himself.
//!
//! The broker is a private one on ports of its own. It is away for two seconds, or as many as `MOSAIC_TEST_AWAY_SECONDS` says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mosaic_core::{Context, Runtime, TaskGroup};
use mosaic_events::{BrokerOptions, Bus, Change, Member, Message, Mode};
use tokio::time::{Instant, sleep, timeout};

use crate::bench::{Counted, group, topic, url_of};
use crate::brokers::connected;

const ACCOUNTS: [&str; 3] = ["a", "b", "c"];
/// Time for a broker to come back and for all to notice.
const RECOVERY: Duration = Duration::from_secs(60);

/// A broker of this test alone; killed when dropped.
struct Private {
    engine: &'static str,
    folder: tempfile::TempDir,
    port: u16,
}

impl Private {
    /// Starts a broker, where one is installed.
    fn start(engine: &'static str, variable: &str) -> Option<Self> {
        url_of(variable)?;
        let folder = tempfile::tempdir().unwrap();
        // Programs of other engines' folder; data of our own.
        let shared = Self::shared_programs();
        if shared.is_dir() {
            std::os::unix::fs::symlink(shared, folder.path().join("pypi")).unwrap();
        }
        let private = Self {
            engine,
            folder,
            port: free_port(),
        };
        private.run("up");
        Some(private)
    }

    fn shared_programs() -> PathBuf {
        let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        match is_root {
            true => "/var/tmp/mosaic-engines/pypi".into(),
            false => std::env::home_dir().unwrap().join(".cache/mosaic/engines/pypi"),
        }
    }

    fn script(&self, command: &str) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/local/engines.sh");
        let port = format!("MOSAIC_{}_PORT", self.engine.to_uppercase());
        let mut run = Command::new("sh");
        run.arg(script)
            .args([command, self.engine])
            .env("MOSAIC_ENGINES_DIR", self.folder.path());
        run.env(port, self.port.to_string());
        run
    }

    fn run(&self, command: &str) {
        let output = self.script(command).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn url(&self) -> String {
        let output = self.script("env").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        said.trim().split_once('=').unwrap().1.to_owned()
    }

    fn kill(&self) {
        let file = self.folder.path().join(self.engine).join("pid");
        let Ok(pid) = std::fs::read_to_string(file) else { return };
        // The emulator of Kafka keeps what it was told only if it may say goodbye; a real one has replicas.
        let signal = if self.engine == "kafka" { "-TERM" } else { "-KILL" };
        Command::new("kill").args([signal, pid.trim()]).status().unwrap();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            std::thread::yield_now();
        }
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.kill();
        if self.engine == "rabbitmq" {
            let epmd = (self.port + 2).to_string();
            // What names Erlang's nodes on this port outlives them.
            let _ = Command::new("epmd").arg("-kill").env("ERL_EPMD_PORT", epmd).output();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "tests have no configuration to ask")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns a port that is free, as the next two are.
fn free_port() -> u16 {
    loop {
        let bind = |port| std::net::TcpListener::bind(("127.0.0.1", port));
        let first = bind(0).unwrap();
        let port = first.local_addr().unwrap().port();
        if port < 65_000 && bind(port + 1).is_ok() && bind(port + 2).is_ok() {
            return port;
        }
    }
}

/// Notes what it sees first of each account, and fails if that is out of order.
#[derive(Default)]
struct Seen {
    next: BTreeMap<String, u64>,
    wrong: Vec<String>,
}

async fn read(mut member: Box<dyn Member>, seen: Arc<Mutex<Seen>>) {
    loop {
        match member.next().await {
            Ok(Change::Events { partition, events }) => {
                for delivered in &events {
                    let event: Counted = delivered.message.event().unwrap();
                    let mut seen = seen.lock().unwrap();
                    let next = seen.next.entry(event.account.clone()).or_insert(0);
                    let wrong = (event.version > *next).then(|| format!("{event:?} and not {next}"));
                    *next = (*next).max(event.version + 1);
                    seen.wrong.extend(wrong);
                }
                // What cannot be committed comes again.
                let _ = member.commit(partition, events.last().unwrap().position).await;
            }
            Ok(Change::Revoked(partition)) => member.release(partition).await.unwrap(),
            Ok(Change::Assigned(_) | Change::Lost(_)) => {}
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Publishes a version of each account until the broker took it, as a relay does.
async fn publish(bus: &Arc<dyn Bus>, runtime: &Runtime, version: u64) {
    let message = |account: &&str| {
        let event = Counted {
            account: (*account).to_owned(),
            version,
        };
        Message::of(&Context::new(runtime), &event).unwrap()
    };
    let messages: Vec<Message> = ACCOUNTS.iter().map(message).collect();
    let deadline = Instant::now() + RECOVERY;
    while let Err(error) = bus.publish(&messages).await {
        assert!(Instant::now() < deadline, "{error:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn all_seen(seen: &Arc<Mutex<Seen>>, n: u64) {
    let is_there = || {
        ACCOUNTS
            .iter()
            .all(|account| seen.lock().unwrap().next.get(*account) == Some(&n))
    };
    let deadline = Instant::now() + RECOVERY;
    while !is_there() {
        assert!(Instant::now() < deadline, "{:?} of {n}", seen.lock().unwrap().next);
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(seen.lock().unwrap().wrong, Vec::<String>::new());
}

async fn outage(engine: &'static str, variable: &str) {
    let Some(broker) = Private::start(engine, variable) else {
        return;
    };
    let away = setting("MOSAIC_TEST_AWAY_SECONDS").map_or(2, |seconds| seconds.parse().unwrap());
    let (runtime, options) = (
        Runtime::system(),
        BrokerOptions {
            timeout: Duration::from_secs(2),
            ..BrokerOptions::default()
        },
    );
    let bus = mosaic_events::open(&broker.url().parse().unwrap(), &runtime, options)
        .await
        .unwrap();
    connected(&bus).await;
    let seen = Arc::<Mutex<Seen>>::default();
    let tasks = TaskGroup::new(|panic| panic!("{panic:?}"));
    let heard = Arc::<Mutex<Seen>>::default();
    for (mode, seen) in [(group("readers"), seen.clone()), (Mode::Broadcast, heard.clone())] {
        let member = bus.subscribe(&topic(), &mode).await.unwrap();
        tasks.spawn("reader", read(member, seen));
    }
    for version in 0..20 {
        publish(&bus, &runtime, version).await;
    }
    broker.kill();
    let begun = Instant::now();
    let message = Message::of(
        &Context::new(&runtime),
        &Counted {
            account: "lost".to_owned(),
            version: 0,
        },
    )
    .unwrap();
    while begun.elapsed() < Duration::from_secs(away) {
        let refused = timeout(Duration::from_secs(6), bus.publish(std::slice::from_ref(&message))).await;
        let error = refused.expect("an answer in time").unwrap_err();
        assert_eq!(error.reason(), "EVENTS_UNAVAILABLE");
        sleep(Duration::from_millis(100)).await;
    }
    broker.run("up");
    for version in 20..40 {
        publish(&bus, &runtime, version).await;
    }
    all_seen(&seen, 40).await;
    all_seen(&heard, 40).await;
    let n_lag = async || {
        bus.lag(&topic(), &crate::bench::name("readers"))
            .await
            .map(|lags| lags.iter().map(|lag| lag.events).sum::<u64>())
    };
    let deadline = Instant::now() + RECOVERY;
    while n_lag().await.ok() != Some(0) {
        assert!(Instant::now() < deadline, "{:?}", n_lag().await);
        sleep(Duration::from_millis(50)).await;
    }
    tasks.shutdown(Duration::ZERO).await;
}

#[cfg(feature = "nats")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_is_killed_and_comes_back() {
    outage("nats", "MOSAIC_TEST_NATS").await;
}

#[cfg(feature = "rabbitmq")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_is_killed_and_comes_back() {
    outage("rabbitmq", "MOSAIC_TEST_RABBITMQ").await;
}

#[cfg(feature = "kafka")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_is_killed_and_comes_back() {
    outage("kafka", "MOSAIC_TEST_KAFKA").await;
}
