//! What people do with the reconciler: `platform rewards ...`, and the routes of the admin port that the commands ask.
//!
//! The process decides what "now" is and which window is meant, so that a command and its schedule look at the same: without
//! times it is the window of the hourly run.

use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Subcommand;
use mosaic::config::{Raw, Value as _};
use mosaic::operate::{AdminRequest, Failed, Operate, render};
use mosaic::{Context, Error, Runtime, Timestamp};
use mosaic_api::rewards::v1::{ListReportsRequest, ReconcileRequest, Report, RewardsClient};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::reconcile::HOURLY_HOURS;

/// Reports on a page, unless asked for fewer or more.
const PAGE: u32 = 10;

/// Compares what rewards, payments, ledger and the provider's bills say of the same money
#[derive(Debug, Subcommand)]
pub enum RewardsCommands {
    /// Compares now and keeps the report; ends with 1 if anything disagrees or could not be compared
    Reconcile {
        /// What happened at this time or later, 2026-01-31T12:00:00+08:00; else two hours before the end
        #[arg(long, value_name = "TIME", value_parser = time)]
        from: Option<Timestamp>,
        /// And before this time; else ten minutes ago (rewards.reconcile_lag)
        #[arg(long, value_name = "TIME", value_parser = time)]
        to: Option<Timestamp>,
        /// Instead of --from: so long before the end, 36h or 7d
        #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "from")]
        last: Option<Duration>,
        /// Also compares with the provider's bills of the days that the window touches and that have ended
        #[arg(long)]
        bills: bool,
    },
    /// Lists past reports, newest first, or shows one with all that disagrees
    Reports {
        /// The report
        id: Option<i64>,
        /// Those before this one
        #[arg(long, value_name = "ID", conflicts_with = "id")]
        before: Option<i64>,
        /// At most so many
        #[arg(long, default_value_t = PAGE, value_parser = clap::value_parser!(u32).range(1..=50))]
        limit: u32,
    },
}

fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|error: Error| error.message().to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    Duration::parse(&Raw::Text(text.to_owned()))
}

impl Operate for RewardsCommands {
    fn request(&self) -> AdminRequest {
        match self {
            Self::Reconcile { from, to, last, bills } => AdminRequest {
                body: json!(Asked {
                    from: from.map(|time| time.to_string()),
                    to: to.map(|time| time.to_string()),
                    last_s: last.map(|last| last.as_secs()),
                    bills: *bills,
                })
                .to_string()
                .into_bytes(),
                ..AdminRequest::post("/reconcile")
            },
            Self::Reports { id: Some(id), .. } => AdminRequest::get(format!("/reports/{id}")),
            Self::Reports { before, limit, .. } => {
                AdminRequest::get(format!("/reports?before={}&limit={limit}", before.unwrap_or(0)))
            }
        }
    }

    fn text(&self, answer: &Value) -> String {
        let Some(lines) = answer["disagreements"].as_array() else {
            return render(answer);
        };
        let mut head = answer.clone();
        head["disagreements"] = lines.len().into();
        let head = render(&head);
        if lines.is_empty() {
            head
        } else {
            format!("{head}\n{}", render(&answer["disagreements"]))
        }
    }

    fn is_well(&self, answer: &Value) -> bool {
        match self {
            Self::Reconcile { .. } => answer["disagreements"] == json!([]) && answer["incomplete"].is_null(),
            Self::Reports { .. } => true,
        }
    }
}

/// What is compared: times as of RFC 3339.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    last_s: Option<u64>,
    #[serde(default)]
    bills: bool,
}

impl Asked {
    fn request(&self, now: Timestamp, lag: Duration) -> Result<ReconcileRequest, Error> {
        let parsed = |time: &Option<String>| time.as_deref().map(str::parse::<Timestamp>).transpose();
        let to = parsed(&self.to)?.unwrap_or_else(|| now.minus(lag));
        let last = self
            .last_s
            .map_or(Duration::from_secs(3600) * HOURLY_HOURS, Duration::from_secs);
        let from = parsed(&self.from)?.unwrap_or_else(|| to.minus(last));
        Ok(ReconcileRequest {
            from_us: from.as_micros(),
            to_us: to.as_micros(),
            with_bills: self.bills,
        })
    }
}

/// What the routes need.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) runtime: Runtime,
    pub(crate) rewards: RewardsClient,
    /// Age up to which payments are left alone unless somebody says otherwise.
    pub(crate) lag: Duration,
}

type Answer = Result<Json<Value>, Failed>;

/// Returns the routes of the admin port.
pub(crate) fn router(desk: Desk) -> Router {
    Router::new()
        .route("/reconcile", post(reconcile))
        .route("/reports", get(reports))
        .route("/reports/{id}", get(report))
        .with_state(desk)
}

async fn reconcile(State(desk): State<Desk>, Json(asked): Json<Asked>) -> Answer {
    let request = asked.request(desk.runtime.now(), desk.lag)?;
    let report = desk.rewards.reconcile(&Context::new(&desk.runtime), request).await?;
    Ok(Json(shown(&report)))
}

/// Which reports.
#[derive(Debug, Deserialize)]
struct Which {
    #[serde(default)]
    before: i64,
    limit: Option<u32>,
}

async fn reports(State(desk): State<Desk>, Query(which): Query<Which>) -> Answer {
    let found = desk.list(which.before, which.limit.unwrap_or(PAGE)).await?;
    let line = |report: &Report| {
        let mut line = shown(report);
        line["disagreements"] = report.disagreements.len().into();
        line
    };
    Ok(Json(found.iter().map(line).collect()))
}

async fn report(State(desk): State<Desk>, Path(id): Path<i64>) -> Answer {
    let newest = desk.list(id.saturating_add(1), 1).await?;
    let unknown = || Error::not_found("REPORT_NOT_FOUND", "there is no such report, or it is no longer kept");
    let found = newest
        .iter()
        .find(|report| report.report_id == id)
        .ok_or_else(unknown)?;
    Ok(Json(shown(found)))
}

impl Desk {
    async fn list(&self, cursor: i64, limit: u32) -> Result<Vec<Report>, Error> {
        let request = ListReportsRequest { cursor, limit };
        let page = self.rewards.list_reports(&Context::new(&self.runtime), request).await?;
        Ok(page.reports)
    }
}

fn shown(report: &Report) -> Value {
    let time = |us: i64| Timestamp::from_micros(us).to_string();
    let lines = report.disagreements.iter().map(|line| {
        json!({
            "kind": line.kind().as_str_name().to_lowercase(),
            "reward": line.reward_id,
            "trade_no": line.trade_no,
            "expected_fen": line.expected_fen,
            "found_fen": line.found_fen,
            "detail": line.detail,
        })
    });
    json!({
        "id": report.report_id,
        "at": time(report.at_us),
        "from": time(report.from_us),
        "to": time(report.to_us),
        "compared": report.compared,
        "disagreements": lines.collect::<Vec<_>>(),
        "truncated": report.is_truncated,
        "incomplete": Some(report.incomplete.trim_end_matches([';', ' '])).filter(|what| !what.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_the_hourly_one_unless_said() {
        let now = "2026-11-21T12:00:00Z".parse::<Timestamp>().unwrap();
        #[track_caller]
        fn check(now: Timestamp, asked: Value, from: &str, to: &str) {
            let asked: Asked = serde_json::from_value(asked).unwrap();
            let request = asked.request(now, Duration::from_secs(600)).unwrap();
            let us = |text: &str| text.parse::<Timestamp>().unwrap().as_micros();
            assert_eq!((request.from_us, request.to_us), (us(from), us(to)));
        }
        check(now, json!({}), "2026-11-21T09:50:00Z", "2026-11-21T11:50:00Z");
        check(
            now,
            json!({"last_s": 60}),
            "2026-11-21T11:49:00Z",
            "2026-11-21T11:50:00Z",
        );
        check(
            now,
            json!({"to": "2026-11-20T00:00:00+08:00"}),
            "2026-11-19T14:00:00Z",
            "2026-11-19T16:00:00Z",
        );
        check(
            now,
            json!({"from": "2026-11-01T00:00:00Z", "to": null}),
            "2026-11-01T00:00:00Z",
            "2026-11-21T11:50:00Z",
        );
        let bad: Asked = serde_json::from_value(json!({"from": "yesterday"})).unwrap();
        assert_eq!(bad.request(now, Duration::ZERO).unwrap_err().reason(), "TIME_INVALID");
    }

    #[test]
    fn a_report_is_read_by_people() {
        let reconcile = RewardsCommands::Reconcile {
            from: None,
            to: None,
            last: None,
            bills: false,
        };
        let mut report = shown(&Report::default());
        assert!(reconcile.is_well(&report));
        assert!(
            reconcile.text(&report).contains("disagreements  0\n"),
            "{}",
            reconcile.text(&report)
        );
        report["incomplete"] = "no bill".into();
        assert!(!reconcile.is_well(&report), "what was not compared may be wrong");
        report["disagreements"] = json!([{"kind": "posting_missing", "reward": 7}]);
        report["incomplete"] = Value::Null;
        assert!(!reconcile.is_well(&report));
        let text = reconcile.text(&report);
        assert!(
            text.ends_with("\n\nKIND             REWARD\nposting_missing  7\n"),
            "{text}"
        );
    }
}
