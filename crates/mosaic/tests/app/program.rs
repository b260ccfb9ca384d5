//! The application as a program of its own, with a configuration file that changes while it runs.
//!
//! The program is this test binary, started again: [`child`] is the test that becomes it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mosaic_testing::until;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::stage::Stage;

/// Holds the arguments of the child, one a line.
const ARGUMENTS: &str = "MOSAIC_TEST_ARGUMENTS";

/// Values that no log and no output may show.
const SECRETS: [&str; 2] = ["canary-password", "canary-key-of-thirty-two-bytes-or-more"];

/// Is the program if it is told so, else nothing.
#[test]
#[expect(clippy::disallowed_methods, reason = "tests have no configuration to ask")]
fn child() {
    if let Ok(arguments) = std::env::var(ARGUMENTS) {
        let arguments = ["stage"].into_iter().chain(arguments.lines()).map(OsString::from);
        Stage::new().app().main_with(arguments.collect::<Vec<_>>());
    }
}

/// A program with a file and a directory of its own.
struct Program {
    folder: TempDir,
}

impl Program {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = Self { folder };
        program.write("greeting = \"first\"");
        program
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("mosaic.toml")
    }

    /// Writes the file with `front` as the last lines of the front's section.
    fn write(&self, front: &str) {
        let data = self.folder.path().join("data");
        let [password, peer_key] = SECRETS;
        let text = format!(
            "mode = \"dev\"\ndata = {data:?}\nhttp = \"127.0.0.1:0\"\ngrpc = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
             run = [\"edge\", \"front\", \"back\"]\n[rpc]\npeer_key = \"{peer_key}\"\n\
             [front]\npassword = \"{password}\"\n{front}\n"
        );
        // As editors and mounted files do it: a new file in the place of the old one.
        let fresh = self.folder.path().join("fresh.toml");
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, self.file()).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let file = self.file().display().to_string();
        let arguments: Vec<&str> = ["--config", &file]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        command.args(["program::child", "--exact", "--nocapture"]);
        command
            .env_clear()
            .env(ARGUMENTS, arguments.join("\n"))
            .kill_on_drop(true);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn start(&self) -> Running {
        let mut child = self.command(&[]).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let (tasks, kept) = (mosaic::TaskGroup::new(|_| {}), log.clone());
        tasks.spawn("log", async move {
            while let Ok(Some(line)) = lines.next_line().await {
                kept.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        let running = Running {
            child,
            log,
            _tasks: tasks,
        };
        running.says("\"message\":\"running\"").await;
        running
    }
}

struct Running {
    child: Child,
    log: Arc<Mutex<String>>,
    _tasks: mosaic::TaskGroup,
}

impl Running {
    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log has `text`.
    async fn says(&self, text: &'static str) {
        until(text, Duration::from_secs(10), || async { self.log().contains(text) }).await;
    }

    async fn greeting(&self) -> String {
        let log = self.log();
        let (_, rest) = log.split_once("\"http\":\"Some(").unwrap();
        let (http, _) = rest.split_once(')').unwrap();
        let client = mosaic::partner_client(Duration::from_secs(5)).unwrap();
        let reply = client.get(format!("http://{http}/front/v1/tell")).send().await.unwrap();
        let body: serde_json::Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
        body["greeting"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn live_values_follow_the_file_and_a_wrong_file_changes_nothing() {
    let program = Program::new();
    let mut running = program.start().await;
    assert_eq!(running.greeting().await, "first");

    program.write("greeting = \"second\"\n[edge]\nmax_body = \"1KiB\"");
    until("the new greeting", Duration::from_secs(5), || async {
        running.greeting().await == "second"
    })
    .await;
    running.says("applied\":\"[\\\"front.greeting\\\"]\"").await;
    running.says("needs_restart\":\"[\\\"edge.max_body\\\"]\"").await;

    for (wrong, what) in [
        ("greeting = \"third\"\ngreting = \"x\"", "front.greting: unknown key"),
        (
            "greeting = \"third\"\n[edge]\nmax_in_flight = \"many\"",
            "edge.max_in_flight: must be",
        ),
        ("greeting = ", "is not valid TOML"),
    ] {
        program.write(wrong);
        running.says(what).await;
        assert_eq!(running.greeting().await, "second", "{wrong}");
    }
    assert_eq!(running.log().matches("nothing was taken over").count(), 3);

    program.write("greeting = \"fourth\"");
    until("a file that is right again", Duration::from_secs(5), || async {
        running.greeting().await == "fourth"
    })
    .await;
    std::fs::remove_file(program.file()).unwrap();

    running.says("\"password\":\"Some(***)\"").await;
    let id = running.child.id().unwrap().to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .unwrap()
            .success()
    );
    assert!(running.child.wait().await.unwrap().success());
    for secret in SECRETS {
        assert!(!running.log().contains(secret), "{secret} in {}", running.log());
    }
}

#[tokio::test]
async fn what_took_effect_is_printed_without_secrets() {
    let program = Program::new();
    let arguments = ["--print-config", "--set", "front.greeting=from the command line"];
    let output = program.command(&arguments).output().await.unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{stderr}");
    for line in [
        "front.greeting = \"from the command line\"",
        "front.password = \"***\"",
        "rpc.peer_key = \"***\"",
        "mode = \"dev\"",
    ] {
        assert!(stdout.contains(line), "{line} in {stdout}");
    }
    assert!(stdout.contains("(file)") && stdout.contains("(command line)") && stdout.contains("(default)"));
    for secret in SECRETS {
        assert!(!stdout.contains(secret) && !stderr.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_mistake_is_told_without_the_value_of_a_secret() {
    let program = Program::new();
    let short = "rpc.peer_key=canary-password";
    let output = program.command(&["--set", short]).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("rpc.peer_key") && !text.contains("canary-password"),
        "{text}"
    );
}
