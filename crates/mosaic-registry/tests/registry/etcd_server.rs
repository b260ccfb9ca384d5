//! An etcd of a test's own: a child process that the test kills, wipes and starts again.
//!
//! What tests do behind the registry's back goes through etcd's JSON gateway, so that a mistake in our own client does
//! not hide itself.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stage::{are_engines_required, soon};

pub(crate) struct EtcdServer {
    dir: TempDir,
    /// Of clients and of peers; kept over restarts.
    ports: [u16; 2],
    scheme: &'static str,
    arguments: Vec<String>,
    child: Option<Child>,
    http: reqwest::Client,
}

impl EtcdServer {
    /// Starts etcd; `None`, with a line that says so, where there is none.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with("http", |_| Vec::new()).await
    }

    /// Starts etcd with more arguments, which may name files that are made in the directory.
    pub(crate) async fn start_with(
        scheme: &'static str,
        arguments: impl FnOnce(&std::path::Path) -> Vec<String>,
    ) -> Option<Self> {
        if Command::new("etcd")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_err()
        {
            assert!(!are_engines_required(), "there is no etcd and engines are required");
            eprintln!("skipped: there is no etcd");
            return None;
        }
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = TempDir::new().expect("a directory");
        let arguments = arguments(dir.path());
        let mut server = Self {
            ports: free_ports(),
            scheme,
            arguments,
            child: None,
            http: reqwest::Client::builder().no_proxy().build().expect("a client"),
            dir,
        };
        server.run().await;
        Some(server)
    }

    /// Starts the program with the data that are there, and waits until it answers.
    pub(crate) async fn run(&mut self) {
        let [client, peer] = self.ports.map(|port| format!("127.0.0.1:{port}"));
        let client = format!("{}://{client}", self.scheme);
        let data = self.dir.path().join("data");
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(data);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        let peer = format!("http://{peer}");
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("default={peer}")]);
        command.args(["--unsafe-no-fsync", "--logger", "zap", "--log-level", "panic"]);
        command.args(&self.arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("a program that starts"));
        soon("etcd to answer", async {
            while !self.is_ready().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// With TLS nobody here can ask; an open port must do.
    async fn is_ready(&self) -> bool {
        if self.scheme == "https" {
            return tokio::net::TcpStream::connect(self.address()).await.is_ok();
        }
        let answer = self.http.get(format!("http://{}/health", self.address())).send().await;
        match answer {
            Ok(answer) => answer.text().await.is_ok_and(|text| text.contains("true")),
            Err(_) => false,
        }
    }

    /// Kills the program as a crash does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Kills the program and removes what it knew.
    pub(crate) fn wipe(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.dir.path().join("data")).expect("data to remove");
    }

    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    pub(crate) fn url(&self) -> String {
        format!("etcd://{}?ttl=2s", self.address())
    }

    /// Asks the JSON gateway.
    pub(crate) async fn ask(&self, path: &str, body: Value) -> Value {
        let url = format!("http://{}/v3/{path}", self.address());
        let answer = self
            .http
            .post(url)
            .body(body.to_string())
            .send()
            .await
            .expect("an answer");
        let status = answer.status();
        let text = answer.text().await.expect("a text");
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    pub(crate) async fn put(&self, key: &str, value: impl AsRef<[u8]>) {
        self.ask(
            "kv/put",
            json!({ "key": STANDARD.encode(key), "value": STANDARD.encode(value) }),
        )
        .await;
    }

    pub(crate) async fn delete(&self, key: &str) {
        self.ask("kv/deleterange", json!({ "key": STANDARD.encode(key) })).await;
    }

    /// Returns value and lease of a key.
    pub(crate) async fn get(&self, key: &str) -> Option<(String, String)> {
        let answer = self.ask("kv/range", json!({ "key": STANDARD.encode(key) })).await;
        let pair = answer["kvs"].get(0)?;
        let value = STANDARD.decode(pair["value"].as_str()?).expect("base64");
        let lease = pair["lease"].as_str().unwrap_or_default().to_owned();
        Some((String::from_utf8(value).expect("text"), lease))
    }

    pub(crate) async fn revoke(&self, lease: &str) {
        self.ask("lease/revoke", json!({ "ID": lease })).await;
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}
