//! What follows from a registration: an event, a task, a welcome. Once, whatever happens on the way.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use mosaic_testing::{Shape, TestApp, engine_url, in_every_shape, until};
use serde_json::{Value, json};

use crate::program::{Program, operate};
use crate::support::{APART, PASSWORD, homestay_token, platform, start};

const SOON: Duration = Duration::from_secs(20);

in_every_shape!(APART; who_registers_is_welcomed_once);

/// Returns how many welcomes each receiver got.
async fn welcomes(app: &TestApp) -> BTreeMap<String, usize> {
    counted(&app.anonymous().get("/dev/outbox").await.json())
}

fn counted(sent: &Value) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for message in sent.as_array().into_iter().flatten() {
        if message["template"] == "welcome" {
            *counts.entry(message["to"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    counts
}

async fn who_registers_is_welcomed_once(shape: Shape) {
    let app = start(shape).await;
    homestay_token(&app, "13800138001").await;
    homestay_token(&app, "13800138002").await;
    let expected: BTreeMap<String, usize> = ["13800138001", "13800138002"].map(|to| (to.to_owned(), 1)).into();
    until("both are welcomed", SOON, || async { welcomes(&app).await == expected }).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_read_again_changes_nothing() {
    let app = start(Shape::Together).await;
    homestay_token(&app, "13800138001").await;
    until("she is welcomed", SOON, || async { welcomes(&app).await.len() == 1 }).await;
    let admin = app.processes()[0].addresses().admin.to_string();
    let done = operate(
        &admin,
        &["events", "replay", "messaging.welcome", "users", "--from", "beginning"],
    )
    .await;
    assert_eq!(done, (0, "done  1\n".to_owned(), String::new()));
    homestay_token(&app, "13800138002").await;
    until("he is welcomed", SOON, || async { welcomes(&app).await.len() == 2 }).await;
    assert!(welcomes(&app).await.values().all(|n| *n == 1));
    app.stop().await;
}

/// Tasks of transactions travel to Redis by the outbox.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_may_be_in_redis() {
    let Some(url) = engine_url("MOSAIC_TEST_REDIS") else {
        return;
    };
    let app = platform(Shape::Together).set("tasks.url", url).start().await;
    let mobile = format!("138{}", app.runtime().random_digits(8));
    homestay_token(&app, &mobile).await;
    until("she is welcomed", SOON, || async {
        welcomes(&app).await.get(&mobile) == Some(&1)
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_look_after_tasks_and_events_by_commands() {
    let app = start(Shape::Together).await;
    let admin = app.processes()[0].addresses().admin.to_string();
    homestay_token(&app, "13800138001").await;
    until("she is welcomed", SOON, || async { welcomes(&app).await.len() == 1 }).await;
    let run = async |arguments: &[&str]| operate(&admin, arguments).await;

    // A paused queue keeps what comes, and shows it.
    assert_eq!(run(&["tasks", "pause", "messaging", "default"]).await.0, 0);
    homestay_token(&app, "13800138002").await;
    let ls = ["tasks", "ls", "messaging", "default", "pending", "--json"];
    until("it waits", SOON, || async {
        run(&ls).await.1.contains("messaging.send_welcome")
    })
    .await;
    let waiting: Value = serde_json::from_str(&run(&ls).await.1).unwrap();
    let id = waiting[0]["id"].as_str().unwrap().to_owned();
    let (code, shown, _) = run(&["tasks", "show", "messaging", &id]).await;
    assert!(
        code == 0 && shown.contains("\"account\":") && shown.contains("traceparent"),
        "{shown}"
    );
    assert_eq!(run(&["tasks", "archive", "messaging", &id]).await.0, 0);
    let (code, _, complaint) = run(&["tasks", "cancel", "messaging", &id]).await;
    assert!(code == 1 && complaint.contains("TASK_STATE"), "{complaint}");
    assert_eq!(run(&["tasks", "resume", "messaging", "default"]).await.0, 0);
    assert_eq!(
        run(&["tasks", "run", "messaging", "--all", "default", "archived"])
            .await
            .1,
        "done  1\n"
    );
    until("he is welcomed", SOON, || async { welcomes(&app).await.len() == 2 }).await;

    let (_, lag, _) = run(&["events", "lag"]).await;
    assert!(lag.contains("messaging.welcome") && lag.starts_with("MODULE"), "{lag}");
    assert_eq!(run(&["events", "dlq", "ls", "messaging.welcome"]).await.1, "none\n");
    for (arguments, reason) in [
        (&["tasks", "show", "messaging", "zz"][..], "TASK_ID_INVALID"),
        (&["tasks", "ls", "nobody", "default", "pending"], "MODULE_UNKNOWN"),
        (
            &["tasks", "ls", "messaging", "nothing", "pending"],
            "TASK_QUEUE_UNKNOWN",
        ),
        (&["tasks", "ls", "messaging", "default", "happy"], "TASK_STATE_UNKNOWN"),
        (&["events", "dlq", "replay", "nobody", "--all"], "EVENTS_GROUP_UNKNOWN"),
        (
            &["events", "dlq", "show", "messaging.welcome", "7"],
            "DEAD_LETTER_NOT_FOUND",
        ),
        (
            &["events", "replay", "messaging.welcome", "users", "--from", "yesterday"],
            "EVENTS_POSITION_INVALID",
        ),
    ] {
        let (code, _, complaint) = run(arguments).await;
        assert!(code == 1 && complaint.contains(reason), "{arguments:?}: {complaint}");
    }
    assert_eq!(run(&["tasks", "run", "messaging"]).await.0, 2, "which task?");
    let (code, _, complaint) = operate("127.0.0.1:1", &["tasks", "ls"]).await;
    assert!(code == 1 && complaint.contains("--admin"), "{complaint}");
    app.stop().await;
}

/// A page of another site may send a plain POST: it must change nothing.
#[tokio::test]
async fn a_change_without_the_header_is_refused() {
    let app = start(Shape::Together).await;
    let url = format!(
        "http://{}/tasks/messaging/queues/default/pause",
        app.processes()[0].addresses().admin
    );
    let refused = mosaic::partner_client(SOON).unwrap().post(url).send().await.unwrap();
    assert_eq!(refused.status(), 403);
    assert!(refused.text().await.unwrap().contains("ADMIN_HEADER_MISSING"));
    app.stop().await;
}

/// Registers people until the program is gone; returns those whose registration was acknowledged.
async fn register_until_killed(http: &str, round: u64) -> Vec<String> {
    let client = mosaic::partner_client(Duration::from_secs(5)).unwrap();
    let mut acknowledged = Vec::new();
    for i in 0.. {
        let mobile = format!("138{round:04}{i:04}");
        let body = json!({"mobile": mobile, "password": PASSWORD});
        let url = format!("http://{http}/usercenter/v1/user/register");
        match client.post(url).json(&body).send().await {
            Ok(reply) if reply.status() == 200 => acknowledged.push(mobile),
            Ok(_) | Err(_) => return acknowledged,
        }
    }
    acknowledged
}

async fn start_in(data: &Path) -> Program {
    let settings = ["mode=dev", "tasks.lease=2s", "messaging.per_receiver_day=1000000"];
    let arguments: Vec<String> = settings
        .iter()
        .flat_map(|set| ["--set".to_owned(), (*set).to_owned()])
        .collect();
    Program::start_in(data, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// `kill -9`, again and again: whatever was acknowledged is there, and has its consequence, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "tests have no configuration to ask")]
async fn killed_programs_lose_nothing_and_repeat_nothing() {
    let n_kills: u64 = std::env::var("MOSAIC_TEST_KILLS").map_or(15, |n| n.parse().unwrap());
    let runtime = mosaic::Runtime::system();
    let data = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..n_kills {
        let mut program = start_in(data.path()).await;
        let pause = Duration::from_millis(200 + runtime.random_below(1200));
        let kill = async {
            tokio::time::sleep(pause).await;
            program.child.kill().await.unwrap();
        };
        let (more, ()) = tokio::join!(register_until_killed(&program.http, round), kill);
        acknowledged.extend(more);
    }
    eprintln!(
        "{} registrations were acknowledged over {n_kills} kills",
        acknowledged.len()
    );
    assert!(!acknowledged.is_empty());
    let mut program = start_in(data.path()).await;
    let client = mosaic::partner_client(Duration::from_secs(5)).unwrap();
    let welcomes_of = async |mobile: &str| {
        let url = format!("http://{}/dev/outbox?to={mobile}", program.http);
        let sent: Value = client.get(url).send().await.unwrap().json().await.unwrap();
        counted(&sent).get(mobile).copied().unwrap_or(0)
    };
    for mobile in &acknowledged {
        until("a welcome has come", Duration::from_secs(60), || async {
            welcomes_of(mobile).await > 0
        })
        .await;
    }
    for mobile in &acknowledged {
        assert_eq!(welcomes_of(mobile).await, 1, "{mobile}");
        let body = json!({"mobile": mobile, "password": PASSWORD});
        let url = format!("http://{}/usercenter/v1/user/login", program.http);
        assert_eq!(client.post(url).json(&body).send().await.unwrap().status(), 200);
    }
    program.signal("-TERM");
    assert_eq!(program.child.wait().await.unwrap().code(), Some(0));
}
