//! An etcd of a test's own: a child process that the test kills, wipes and starts again.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::until;

/// Of a test's own, as tests that kill it do that to nobody else. Gone when it is dropped.
#[derive(Debug)]
pub struct Etcd {
    dir: TempDir,
    /// Of clients and of peers; kept over restarts.
    ports: [u16; 2],
    child: Option<Child>,
    client: reqwest::Client,
}

impl Etcd {
    /// Starts etcd; `None`, with a line that says so, where there is none.
    ///
    /// # Panics
    /// If there is none and `MOSAIC_TEST_ENGINES` is `required`, or if it does not start.
    pub async fn start() -> Option<Self> {
        let version = Command::new("etcd").arg("--version").stdout(Stdio::null()).status();
        if version.is_err() {
            assert!(!are_engines_required(), "there is no etcd and engines are required");
            eprintln!("skipped: there is no etcd");
            return None;
        }
        let mut etcd = Self {
            dir: TempDir::new().expect("a temporary directory"),
            ports: free_ports(),
            child: None,
            client: mosaic::partner_client(Duration::from_secs(2)).expect("a client"),
        };
        etcd.run().await;
        Some(etcd)
    }

    /// Starts the program with the data that are there, and waits until it answers.
    ///
    /// # Panics
    /// If it does not.
    pub async fn run(&mut self) {
        let [client, peer] = self.ports.map(|port| format!("http://127.0.0.1:{port}"));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(self.dir.path().join("data"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("default={peer}")]);
        command.args(["--unsafe-no-fsync", "--logger", "zap", "--log-level", "panic"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("a program that starts"));
        let health = format!("{client}/health");
        until("etcd answers", Duration::from_secs(30), || async {
            match self.client.get(&health).send().await {
                Ok(answer) => answer.text().await.is_ok_and(|text| text.contains("true")),
                Err(_) => false,
            }
        })
        .await;
    }

    /// Kills the program as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Kills the program and removes what it knew.
    ///
    /// # Panics
    /// If the data can not be removed.
    pub fn wipe(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.dir.path().join("data")).expect("data to remove");
    }

    /// Returns where clients connect.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[0]))
    }

    /// Returns the URL of a registry whose leases are short.
    pub fn url(&self) -> String {
        format!("etcd://{}?ttl=2s", self.address())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

#[expect(clippy::disallowed_methods, reason = "tests have no configuration to ask")]
fn are_engines_required() -> bool {
    std::env::var("MOSAIC_TEST_ENGINES").is_ok_and(|value| value == "required")
}
