//! The program itself: its exit codes, its modes, its end.

use std::time::Duration;

use mosaic_testing::until;

use crate::program::{Program, command};

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
    for (setting, part) in [
        ("events.url=nonsense", "events.url: "),
        ("tasks.url=nonsense", "tasks"),
        #[cfg(not(feature = "kafka"))]
        (
            "events.url=kafka://127.0.0.1:1",
            "events.url: built without the feature kafka",
        ),
    ] {
        let (code, text) = exit(&["--set", setting]).await;
        assert!(code == 2 && text.contains(part), "{setting}: {code} {text}");
    }
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
