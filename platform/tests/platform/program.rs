//! The program itself, as a process.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// The program with a directory of its own and free ports.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) http: String,
    pub(crate) admin: String,
    /// Its own directory goes with it.
    _data: Option<tempfile::TempDir>,
}

pub(crate) fn command(data: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_platform"));
    command.env_clear().arg("--data").arg(data).kill_on_drop(true);
    command.args([
        "--http",
        "127.0.0.1:0",
        "--grpc",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ]);
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program's own commands against a process; returns exit code, answer and complaint.
pub(crate) async fn operate(admin: &str, arguments: &[&str]) -> (i32, String, String) {
    let data = tempfile::tempdir().unwrap();
    let mut command = command(data.path(), &["--admin", admin]);
    let output = command.args(arguments).output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

impl Program {
    /// Starts it in a directory of its own.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut program = Self::start_in(data.path(), arguments).await;
        program._data = Some(data);
        program
    }

    /// Starts it where another one may have been.
    pub(crate) async fn start_in(data: &Path, arguments: &[&str]) -> Self {
        let mut child = command(data, arguments).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let running = loop {
            let line = lines
                .next_line()
                .await
                .unwrap()
                .expect("a line that says where it listens");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["message"] == "running" {
                break line;
            }
        };
        let text = |name: &str| running[name].as_str().unwrap_or_default().to_owned();
        let http = text("http")
            .trim_start_matches("Some(")
            .trim_end_matches(')')
            .to_owned();
        // Somebody must read on, or the program would wait for its log to be read.
        let drain = mosaic::TaskGroup::new(|_| {});
        drain.spawn("log", async move { while let Ok(Some(_)) = lines.next_line().await {} });
        std::mem::forget(drain);
        Self {
            child,
            http,
            admin: text("admin"),
            _data: None,
        }
    }

    pub(crate) async fn status(address: &str, path: &str) -> u16 {
        let client = mosaic::partner_client(Duration::from_secs(5)).unwrap();
        client
            .get(format!("http://{address}{path}"))
            .send()
            .await
            .map_or(0, |reply| reply.status().as_u16())
    }

    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().expect("a program that runs").to_string();
        assert!(
            std::process::Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
    }
}
