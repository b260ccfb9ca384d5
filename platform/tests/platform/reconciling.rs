//! The commands by which people ask whether the books of rewards agree.

use std::time::Duration;

use mosaic::Context;
use mosaic_api::ledger::v1::{Account, Entry, LedgerClient, PostRequest};
use mosaic_testing::{Shape, TestApp};
use serde_json::Value;

use crate::program::operate;
use crate::support::start;

/// Everything, whenever it happened.
const EVER: [&str; 6] = [
    "rewards",
    "reconcile",
    "--from",
    "2020-01-01T00:00:00Z",
    "--to",
    "2100-01-01T08:00:00+08:00",
];

/// Books what nobody has paid.
async fn forge(app: &TestApp) {
    let entry = |kind: &str, owner, amount_fen| Entry {
        account: Some(Account {
            kind: kind.to_owned(),
            owner,
        }),
        amount_fen,
    };
    let request = PostRequest {
        biz: "reward".to_owned(),
        biz_id: "77".to_owned(),
        entries: vec![entry("wechat", 0, -100), entry("author", 6, 100)],
        floors: Vec::new(),
    };
    let ledger: LedgerClient = app.client("content");
    ledger.post(&Context::new(app.runtime()), request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_reconcile_by_commands() {
    let app = start(Shape::Together).await;
    let admin = app.processes()[0].addresses().admin.to_string();
    let run = async |arguments: &[&str]| operate(&admin, arguments).await;

    // Books that agree end with 0, those that do not with 1 and a table.
    assert_eq!(
        run(&["rewards", "reports"]).await,
        (0, "none\n".to_owned(), String::new())
    );
    let (code, text, complaint) = run(&EVER).await;
    assert!(code == 0 && text.contains("disagreements  0\n"), "{text}{complaint}");
    forge(&app).await;
    let (code, text, _) = run(&EVER).await;
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("disagreements  1\n") && text.contains("\n\nKIND "),
        "{text}"
    );
    assert!(text.contains("posting_without_payment"), "{text}");
    let (code, text, _) = run(&["rewards", "reconcile", "--last", "1h", "--bills"]).await;
    assert_eq!(
        code, 0,
        "the forged posting is younger than the payments that are left alone: {text}"
    );

    // Reports are kept, the newest first, and found again.
    let (_, listed, _) = run(&["rewards", "reports", "--json"]).await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let counts: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|report| &report["disagreements"])
        .collect();
    assert_eq!(counts, [0, 1, 0]);
    let ids: Vec<String> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|report| report["id"].to_string())
        .collect();
    let (code, shown, _) = run(&["rewards", "reports", &ids[1], "--json"]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(code, 0, "what has been told already is no news");
    assert_eq!(
        (&shown["id"], &shown["to"]),
        (&listed[1]["id"], &Value::from("2100-01-01T00:00:00Z"))
    );
    let line = &shown["disagreements"][0];
    assert_eq!(
        (&line["kind"], &line["reward"], &line["found_fen"]),
        (
            &Value::from("posting_without_payment"),
            &Value::from(77),
            &Value::from(100)
        )
    );
    let (_, before, complaint) = run(&["rewards", "reports", "--before", &ids[1], "--limit", "1", "--json"]).await;
    let before: Value = serde_json::from_str(&before).expect(&complaint);
    assert_eq!(before[0]["id"].to_string(), ids[2]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_cannot_be_done_say_why() {
    let app = start(Shape::Together).await;
    let admin = app.processes()[0].addresses().admin.to_string();
    for (arguments, code, reason) in [
        (&["rewards", "reports", "7"][..], 1, "REPORT_NOT_FOUND"),
        (&["rewards", "reports", "seven"], 2, "invalid value"),
        (
            &["rewards", "reconcile", "--from", "yesterday"],
            2,
            "2026-01-31T12:00:00Z",
        ),
        (&["rewards", "reconcile", "--last", "36"], 2, "must be a duration"),
        (
            &["rewards", "reconcile", "--last", "1h", "--from", "2026-01-31T12:00:00Z"],
            2,
            "cannot be used with",
        ),
        (
            &["rewards", "reconcile", "--from", "2099-01-31T12:00:00Z"],
            1,
            "WINDOW_INVALID",
        ),
        (&["rewards"], 2, "reconcile"),
        (&["reward", "reports"], 2, "rewards"),
    ] {
        let (exit, _, complaint) = operate(&admin, arguments).await;
        assert!(
            exit == code && complaint.contains(reason),
            "{arguments:?}: {exit} {complaint}"
        );
    }
    let (code, help, _) = operate(&admin, &["rewards", "reconcile", "--help"]).await;
    assert!(
        code == 0 && help.contains("--bills") && help.contains("--admin"),
        "{help}"
    );
    let (code, _, complaint) = operate("127.0.0.1:1", &["rewards", "reports"]).await;
    assert!(code == 1 && complaint.contains("--admin"), "{complaint}");

    // A page of another site may send a plain POST: it must make no report.
    let url = format!("http://{admin}/modules/rewards/reconcile");
    let client = mosaic::partner_client(Duration::from_secs(20)).unwrap();
    let refused = client.post(url).body("{}").send().await.unwrap();
    assert_eq!(refused.status(), 403);
    assert_eq!(operate(&admin, &["rewards", "reports"]).await.1, "none\n");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_without_rewards_says_so() {
    let app = start(crate::support::APART).await;
    // The first one has the products and the public port.
    let admin = app.processes()[0].addresses().admin.to_string();
    let (code, _, complaint) = operate(&admin, &["rewards", "reports"]).await;
    assert!(code == 1 && complaint.contains("MODULE_UNKNOWN"), "{complaint}");
    app.stop().await;
}
