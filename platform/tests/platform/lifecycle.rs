//! The program itself: its exit codes, its modes, its end.

use std::process::Stdio;
use std::time::Duration;

use mosaic_testing::until;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// The program with a directory of its own and free ports.
struct Program {
    child: Child,
    http: String,
    admin: String,
    _data: tempfile::TempDir,
}

fn command(data: &std::path::Path, arguments: &[&str]) -> Command {
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

impl Program {
    async fn start(arguments: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut child = command(data.path(), arguments).spawn().unwrap();
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
            _data: data,
        }
    }

    async fn status(address: &str, path: &str) -> u16 {
        let client = mosaic::partner_client(Duration::from_secs(5)).unwrap();
        client
            .get(format!("http://{address}{path}"))
            .send()
            .await
            .map_or(0, |reply| reply.status().as_u16())
    }

    fn signal(&self, signal: &str) {
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

async fn exit(arguments: &[&str]) -> (i32, String) {
    let data = tempfile::tempdir().unwrap();
    let output = command(data.path(), arguments).output().await.unwrap();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[tokio::test]
async fn a_bad_configuration_is_exit_code_2_with_every_mistake() {
    let (code, text) = exit(&[
        "--set",
        "auth.access_ttl=soon",
        "--set",
        "edge.max_bdy=1KiB",
        "--run",
        "edge,nobody",
    ])
    .await;
    assert_eq!(code, 2, "{text}");
    for part in [
        "auth.access_ttl: must be a duration",
        "edge.max_bdy: unknown key",
        "edge.max_body?",
        "no module \"nobody\"",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(exit(&["--nonsense"]).await.0, 2);
    assert_eq!(exit(&["--config", "/does/not/exist.toml"]).await.0, 2);
    assert_eq!(exit(&["--set", "cache.url=nonsense"]).await.0, 2);
}

#[tokio::test]
async fn default_secrets_are_refused_in_production() {
    let development = "rpc.peer_key=mosaic-development-key-that-is-no-secret";
    let (code, text) = exit(&["--set", development]).await;
    assert!(code == 2 && text.contains("rpc.peer_key"), "{text}");
    let (code, text) = exit(&["--set", "rpc.services.users=http://127.0.0.1:1"]).await;
    assert!(code == 2 && text.contains("rpc.peer_key: missing"), "{text}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_exit_code_1_with_the_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (code, text) = exit(&["--http", &address]).await;
    assert!(code == 1 && text.contains(&address), "{code} {text}");
}

#[tokio::test]
async fn production_has_no_dev_and_a_signal_is_exit_code_0() {
    let mut program = Program::start(&[]).await;
    assert_eq!(Program::status(&program.admin, "/healthz").await, 200);
    until("ready", Duration::from_secs(5), || async {
        Program::status(&program.admin, "/readyz").await == 200
    })
    .await;
    assert_eq!(Program::status(&program.http, "/dev/outbox").await, 404);
    program.signal("-TERM");
    assert_eq!(program.child.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let mut program = Program::start(&["--set", "mode=dev", "--set", "drain_timeout=60s"]).await;
    assert_eq!(Program::status(&program.http, "/dev/outbox").await, 200);
    // A request that never ends its body keeps the drain busy.
    let mut stuck = tokio::net::TcpStream::connect(&program.http).await.unwrap();
    let head = b"POST /users/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    tokio::io::AsyncWriteExt::write_all(&mut stuck, head).await.unwrap();
    program.signal("-TERM");
    until("not ready", Duration::from_secs(5), || async {
        Program::status(&program.admin, "/readyz").await == 503
    })
    .await;
    assert!(program.child.try_wait().unwrap().is_none(), "it drains");
    program.signal("-TERM");
    assert_eq!(program.child.wait().await.unwrap().code(), Some(1));
}

#[tokio::test]
async fn a_drain_ends_at_its_hard_deadline() {
    let mut program = Program::start(&["--set", "drain_timeout=1s"]).await;
    let mut stuck = tokio::net::TcpStream::connect(&program.http).await.unwrap();
    let head = b"POST /users/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    tokio::io::AsyncWriteExt::write_all(&mut stuck, head).await.unwrap();
    program.signal("-TERM");
    let ended = tokio::time::timeout(Duration::from_secs(10), program.child.wait()).await;
    assert_eq!(ended.expect("within its deadline").unwrap().code(), Some(0));
}
