//! The reconciler: three books and the provider's bill say the same of the same money, or it is told where they do not.
//!
//! It looks at every reward that any of the three books touched in a window of time, reads it in all three, and lets the
//! [rules](crate::model::compare) say what disagrees. It changes nothing: what disagrees is a defect or a fraud, and a human decides.
//! It runs by itself every hour without bills, and once a day, when the provider's bill of yesterday is there, with it.

mod bills;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use mosaic::tasks::{Periodic, Task, TaskContext};
use mosaic::{Code, Context, Module, Result, Timestamp};
use mosaic_api::ledger::v1::{GetPostingRequest, LedgerClient, ListPostingsRequest};
use mosaic_api::payments::v1::{GetRequest, ListParkedRequest, ListSettledRequest, PaymentsClient};
use mosaic_api::rewards::v1::{Disagreement, DisagreementKind, Report};
use serde::{Deserialize, Serialize};

use crate::RewardsConfig;
use crate::model::{BIZ, Books, Entry, Found, Kind, RewardId, compare};
use crate::reports::Reports;
use crate::settle::paid;
use crate::store::Store;

/// Rewards that one report compares at most.
const COMPARED_MAX: usize = 100_000;
/// Disagreements that one report lists at most.
const LISTED_MAX: usize = 1_000;
const PAGE: u32 = 500;
/// Hours that the hourly run looks back: twice its interval, so that what one run was too early for is seen by the next.
pub(crate) const HOURLY_HOURS: u32 = 2;
/// Hours that the daily run looks back: over the whole of yesterday in Beijing, whose bill is new.
const DAILY_HOURS: u32 = 36;
/// Rewards that are read at once.
const AT_ONCE: usize = 8;

/// Times in microseconds, the end excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// See the module documentation. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reconciler {
    pub(crate) store: Store,
    pub(crate) payments: PaymentsClient,
    pub(crate) ledger: LedgerClient,
    pub(crate) reports: Reports,
}

impl Reconciler {
    /// Compares what happened in `window`, keeps the report and returns it.
    ///
    /// # Errors
    /// Those of the services: a book that cannot be read agrees with nothing. A bill that is not there is only noted.
    pub(crate) async fn reconcile(&self, cx: &Context, window: Window, with_bills: bool) -> Result<Report> {
        let mut report = Report {
            report_id: cx.runtime().next_id(),
            from_us: window.from,
            to_us: window.to,
            at_us: cx.runtime().now().as_micros(),
            ..Report::default()
        };
        let rewards = self.touched(cx, window, &mut report).await?;
        report.compared += i64::try_from(rewards.len()).unwrap_or(i64::MAX);
        let rewards: Vec<RewardId> = rewards.into_iter().collect();
        for ids in rewards.chunks(AT_ONCE) {
            let read = futures::future::try_join_all(ids.iter().map(|id| self.books(cx, *id))).await?;
            for (id, books) in ids.iter().zip(&read) {
                for found in compare(books) {
                    add(&mut report, disagreement(*id, found));
                }
            }
        }
        self.parked(cx, window, &mut report).await?;
        if with_bills {
            bills::compare(&self.payments, cx, window, &mut report).await?;
        }
        let n_found = report.disagreements.len();
        if n_found > 0 {
            tracing::error!(report.id = report.report_id, n_found, "books disagree: see the report");
        }
        self.reports.keep(&report).await?;
        Ok(report)
    }

    /// Returns the rewards that one of the books touched in `window`.
    async fn touched(&self, cx: &Context, window: Window, report: &mut Report) -> Result<HashSet<RewardId>> {
        let mut touched = HashSet::new();
        let mut after = 0;
        while touched.len() < COMPARED_MAX {
            let page = self.store.settled((window.from, window.to), after, PAGE.into()).await?;
            touched.extend(page.iter().map(|reward| reward.id));
            let Some(last) = page.last() else { break };
            after = last.id.get();
        }
        let mut cursor = String::new();
        while touched.len() < COMPARED_MAX {
            let request = ListSettledRequest {
                biz: BIZ.to_owned(),
                from_us: window.from,
                to_us: window.to,
                cursor,
                limit: PAGE,
            };
            let page = self.payments.list_settled(cx, request).await?;
            for payment in page.payments {
                match RewardId::of_trade_no(&payment.trade_no) {
                    Some(id) => drop(touched.insert(id)),
                    None => add(report, stranger(&payment.trade_no, payment.amount_fen)),
                }
            }
            cursor = page.next_cursor;
            if cursor.is_empty() {
                break;
            }
        }
        self.touched_in_ledger(cx, window, &mut touched).await?;
        if touched.len() >= COMPARED_MAX {
            report.incomplete.push_str("the window is too large; ");
        }
        Ok(touched)
    }

    async fn touched_in_ledger(&self, cx: &Context, window: Window, touched: &mut HashSet<RewardId>) -> Result<()> {
        let mut cursor = String::new();
        while touched.len() < COMPARED_MAX {
            let request = ListPostingsRequest {
                biz: BIZ.to_owned(),
                from_us: window.from,
                to_us: window.to,
                cursor,
                limit: PAGE,
            };
            let page = self.ledger.list_postings(cx, request).await?;
            touched.extend(
                page.postings
                    .iter()
                    .filter_map(|posting| RewardId::of_posting(&posting.biz_id)),
            );
            cursor = page.next_cursor;
            if cursor.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Reads a reward in all three books.
    async fn books(&self, cx: &Context, id: RewardId) -> Result<Books> {
        let request = GetRequest {
            biz: BIZ.to_owned(),
            trade_no: id.trade_no(),
        };
        let payment = if_there(self.payments.get(cx, request).await)?;
        Ok(Books {
            reward: self.store.find(id).await?,
            payment: payment.map(|payment| (paid(&payment), payment.amount_fen)),
            posting: self.posting(cx, id.posting()).await?,
            reversal: self.posting(cx, id.reversal()).await?,
        })
    }

    async fn posting(&self, cx: &Context, biz_id: String) -> Result<Option<Vec<Entry>>> {
        let biz = BIZ.to_owned();
        let posting = if_there(self.ledger.get_posting(cx, GetPostingRequest { biz, biz_id }).await)?;
        Ok(posting.map(|posting| {
            let entries = posting.entries.into_iter().map(|entry| {
                let account = entry.account.unwrap_or_default();
                (account.kind, account.owner, entry.amount_fen)
            });
            entries.collect()
        }))
    }

    async fn parked(&self, cx: &Context, window: Window, report: &mut Report) -> Result<()> {
        let mut cursor = String::new();
        loop {
            let request = ListParkedRequest {
                biz: BIZ.to_owned(),
                from_us: window.from,
                to_us: window.to,
                cursor,
                limit: PAGE,
            };
            let page = self.payments.list_parked(cx, request).await?;
            for payment in page.payments {
                let id = RewardId::of_trade_no(&payment.trade_no);
                let parked = Disagreement {
                    kind: DisagreementKind::PaymentParked.into(),
                    reward_id: id.map_or(0, RewardId::get),
                    trade_no: payment.trade_no,
                    expected_fen: payment.amount_fen,
                    found_fen: 0,
                    detail: payment.parked_reason,
                };
                add(report, parked);
            }
            cursor = page.next_cursor;
            if cursor.is_empty() || report.is_truncated {
                return Ok(());
            }
        }
    }
}

fn if_there<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(there) => Ok(Some(there)),
        Err(error) if error.code() == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Adds a disagreement while there is room.
fn add(report: &mut Report, disagreement: Disagreement) {
    if report.disagreements.len() < LISTED_MAX {
        report.disagreements.push(disagreement);
    } else {
        report.is_truncated = true;
    }
}

/// A payment that was made for a reward and names none.
fn stranger(trade_no: &str, amount_fen: i64) -> Disagreement {
    Disagreement {
        kind: DisagreementKind::PaymentWithoutReward.into(),
        reward_id: 0,
        trade_no: trade_no.to_owned(),
        expected_fen: 0,
        found_fen: amount_fen,
        detail: words(Kind::PaymentWithoutReward).1.to_owned(),
    }
}

fn disagreement(id: RewardId, found: Found) -> Disagreement {
    let (kind, detail) = words(found.kind);
    Disagreement {
        kind: kind.into(),
        reward_id: id.get(),
        trade_no: id.trade_no(),
        expected_fen: found.expected_fen,
        found_fen: found.found_fen,
        detail: detail.to_owned(),
    }
}

const fn words(kind: Kind) -> (DisagreementKind, &'static str) {
    match kind {
        Kind::PaymentWithoutReward => (
            DisagreementKind::PaymentWithoutReward,
            "paid, but there is no such reward",
        ),
        Kind::RewardWithoutPayment => (
            DisagreementKind::RewardWithoutPayment,
            "the reward is paid, its payment is not",
        ),
        Kind::RewardBehindPayment => (
            DisagreementKind::RewardBehindPayment,
            "the payment is paid, its reward is not",
        ),
        Kind::RewardBehindRefund => (
            DisagreementKind::RewardBehindRefund,
            "given back, but the reward stands",
        ),
        Kind::PaymentAmountDiffers => (
            DisagreementKind::PaymentAmountDiffers,
            "another amount than the reward's",
        ),
        Kind::PostingMissing => (DisagreementKind::PostingMissing, "not in the ledger"),
        Kind::PostingWithoutPayment => (
            DisagreementKind::PostingWithoutPayment,
            "in the ledger without a payment",
        ),
        Kind::PostingDiffers => (
            DisagreementKind::PostingDiffers,
            "other entries than the reward's shares",
        ),
    }
}

/// Wires the task and its schedules up.
pub(crate) fn install(m: &mut Module, reconciler: &Reconciler, config: &RewardsConfig) -> Result<()> {
    m.on_task::<Reconcile>(Arc::new(Needs {
        reconciler: reconciler.clone(),
        lag: config.reconcile_lag,
        kept: config.reports_kept,
    }))?;
    let hourly = Reconcile {
        hours: HOURLY_HOURS,
        with_bills: false,
    };
    m.periodic(Periodic::new("rewards.reconcile", "17 * * * *", "UTC", &hourly)?)?;
    // WeChat's bill of yesterday is there after 10:00; the window touches yesterday and today, which has no bill yet.
    let daily = Reconcile {
        hours: DAILY_HOURS,
        with_bills: true,
    };
    m.periodic(Periodic::new(
        "rewards.reconcile_bill",
        "40 10 * * *",
        "Asia/Shanghai",
        &daily,
    )?)
}

struct Needs {
    reconciler: Reconciler,
    lag: Duration,
    kept: Duration,
}

/// Compares the last hours.
#[derive(Serialize, Deserialize)]
struct Reconcile {
    hours: u32,
    with_bills: bool,
}

impl Task for Reconcile {
    const NAME: &'static str = "rewards.reconcile";
    type Needs = Needs;
    type Output = ();

    async fn run(self, needs: &Needs, cx: &TaskContext) -> Result<()> {
        let now: Timestamp = cx.runtime().now();
        let to = now.minus(needs.lag);
        let from = to.minus(Duration::from_secs(3600) * self.hours);
        let window = Window {
            from: from.as_micros(),
            to: to.as_micros(),
        };
        let report = needs.reconciler.reconcile(cx, window, self.with_bills).await?;
        // Each kind of run by itself: one without bills, or over a window that somebody asked for, does not know what the other found.
        let found = metrics::gauge!("rewards_disagreements", "bills" => self.with_bills.to_string());
        found.set(report.disagreements.len() as f64);
        needs.reconciler.reports.forget(now.minus(needs.kept)).await
    }
}
