//! A Redis of a test's own, which may be killed.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::bench::url_of;

pub(crate) struct Server {
    port: u16,
    files: TempDir,
    child: Child,
}

impl Server {
    /// Starts a server that writes everything down; `None`, with a word about it, where there is none to start, or tests
    /// with engines are not wanted.
    pub(crate) fn start() -> Option<Self> {
        url_of("MOSAIC_TEST_REDIS")?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let files = tempfile::tempdir().unwrap();
        let Ok(child) = spawn(port, &files) else {
            eprintln!("skipped: no redis-server to start");
            return None;
        };
        Some(Self { port, files, child })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends the process at once.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again with what it has written down.
    pub(crate) fn again(&mut self) {
        self.child = spawn(self.port, &self.files).unwrap();
    }

    /// Lets it answer nobody.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill")
            .arg(signal)
            .arg(self.child.id().to_string())
            .status();
        assert!(kill.unwrap().success());
    }
}

fn spawn(port: u16, files: &TempDir) -> std::io::Result<Child> {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", "everysec", "--dir"])
        .arg(files.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
