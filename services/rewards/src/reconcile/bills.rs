//! The fourth book: what the provider has billed, for all products.
//!
//! A bill is of a day in Beijing, and payments are on the day that the provider says they were paid. What was given back is
//! looked for up to a day later: we may have heard of it after midnight.

use std::collections::HashMap;

use mosaic::{Context, Result};
use mosaic_api::payments::v1::{BillLine, GetBillRequest, ListSettledRequest, Payment, PaymentsClient};
use mosaic_api::rewards::v1::{Disagreement, DisagreementKind, Report};

use super::{PAGE, Window, add};
use crate::model::{BIZ, RewardId};

const DAY_US: i64 = 86_400_000_000;
/// Beijing is eight hours ahead.
const OFFSET_US: i64 = 8 * 3_600_000_000;
/// Lines of a bill that are compared at most.
const LINES_MAX: usize = 500_000;
/// Days that one report looks at at most.
const DAYS_MAX: i64 = 31;

/// Compares the bills of the days that `window` touches and that have ended.
pub(super) async fn compare(
    payments: &PaymentsClient,
    cx: &Context,
    window: Window,
    report: &mut Report,
) -> Result<()> {
    let now = cx.runtime().now().as_micros();
    for (date, day) in days(window, now) {
        match bill(payments, cx, &date).await {
            Ok(lines) => compare_day(payments, cx, day, lines, report).await?,
            Err(error) => {
                tracing::warn!(date, %error, cause = error.cause_chain(), "there is no bill");
                report.incomplete.push_str(&format!("no bill of {date}; "));
            }
        }
    }
    Ok(())
}

/// Returns the days in Beijing that `window` touches and that have ended by `now`, with their names.
fn days(window: Window, now: i64) -> Vec<(String, Window)> {
    let first = (window.from + OFFSET_US).div_euclid(DAY_US);
    let last = (window.to - 1 + OFFSET_US).div_euclid(DAY_US);
    let today = (now + OFFSET_US).div_euclid(DAY_US);
    let last = last.min(today - 1);
    let first = first.max(last - DAYS_MAX + 1);
    let named = (first..=last).filter_map(|day| {
        let time = jiff::Timestamp::from_microsecond(day * DAY_US).ok()?;
        let from = day * DAY_US - OFFSET_US;
        let to = from + DAY_US;
        Some((time.to_string().get(..10)?.to_owned(), Window { from, to }))
    });
    named.collect()
}

async fn bill(payments: &PaymentsClient, cx: &Context, date: &str) -> Result<Vec<BillLine>> {
    let mut lines = Vec::new();
    let mut offset = 0;
    loop {
        let request = GetBillRequest {
            date: date.to_owned(),
            offset,
        };
        let page = payments.get_bill(cx, request).await?;
        lines.extend(page.lines);
        offset = page.next_offset;
        if offset == 0 || lines.len() >= LINES_MAX {
            return Ok(lines);
        }
    }
}

async fn compare_day(
    payments: &PaymentsClient,
    cx: &Context,
    day: Window,
    lines: Vec<BillLine>,
    report: &mut Report,
) -> Result<()> {
    report.compared += i64::try_from(lines.len()).unwrap_or(i64::MAX);
    let (refunds, paid): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.trade_state == "REFUND");
    let by_number = |lines: Vec<BillLine>| lines.into_iter().map(|line| (line.out_trade_no.clone(), line));
    let mut paid: HashMap<_, _> = by_number(paid).collect();
    let mut refunds: HashMap<_, _> = by_number(refunds).collect();
    let mut cursor = String::new();
    loop {
        let request = ListSettledRequest {
            biz: String::new(),
            from_us: day.from,
            to_us: day.to + DAY_US,
            cursor,
            limit: PAGE,
        };
        let page = payments.list_settled(cx, request).await?;
        for payment in page.payments {
            if (day.from..day.to).contains(&payment.paid_at_us) {
                match_paid(&payment, paid.remove(&payment.out_trade_no), report);
            }
            if payment.refunded_at_us > 0 {
                match_refund(&payment, refunds.remove(&payment.out_trade_no), report);
            }
        }
        cursor = page.next_cursor;
        if cursor.is_empty() {
            break;
        }
    }
    for line in paid.into_values().chain(refunds.into_values()) {
        let billed = Disagreement {
            kind: DisagreementKind::BillWithoutPayment.into(),
            reward_id: 0,
            trade_no: line.out_trade_no,
            expected_fen: 0,
            found_fen: line.amount_fen.max(line.refund_fen),
            detail: format!("billed as {}, not known as that", line.trade_state),
        };
        add(report, billed);
    }
    Ok(())
}

fn match_paid(payment: &Payment, line: Option<BillLine>, report: &mut Report) {
    match line {
        None => add(report, of(payment, DisagreementKind::PaymentWithoutBill, 0)),
        Some(line) if line.amount_fen != payment.amount_fen => {
            add(
                report,
                of(payment, DisagreementKind::BillAmountDiffers, line.amount_fen),
            );
        }
        Some(_) => {}
    }
}

fn match_refund(payment: &Payment, line: Option<BillLine>, report: &mut Report) {
    if let Some(line) = line.filter(|line| line.refund_fen != payment.amount_fen) {
        add(
            report,
            of(payment, DisagreementKind::BillAmountDiffers, line.refund_fen),
        );
    }
}

fn of(payment: &Payment, kind: DisagreementKind, found_fen: i64) -> Disagreement {
    let reward = Some(&payment.trade_no).filter(|_| payment.biz == BIZ);
    let reward = reward.and_then(|trade_no| RewardId::of_trade_no(trade_no));
    Disagreement {
        kind: kind.into(),
        reward_id: reward.map_or(0, RewardId::get),
        trade_no: payment.trade_no.clone(),
        expected_fen: payment.amount_fen,
        found_fen,
        detail: format!("{} of {}", payment.out_trade_no, payment.biz),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(time: &str) -> i64 {
        time.parse::<mosaic::Timestamp>().unwrap().as_micros()
    }

    #[track_caller]
    fn check(from: &str, to: &str, now: &str, want: &[&str]) {
        let window = Window {
            from: us(from),
            to: us(to),
        };
        let days = days(window, us(now));
        let names: Vec<&str> = days.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, want);
    }

    #[test]
    fn days_are_beijings_and_have_ended() {
        // 16:00 UTC is midnight in Beijing.
        check(
            "2026-11-20T15:59:59Z",
            "2026-11-20T16:00:01Z",
            "2026-11-22T16:00:00Z",
            &["2026-11-20", "2026-11-21"],
        );
        check(
            "2026-11-20T15:00:00Z",
            "2026-11-20T16:00:00Z",
            "2026-11-22T16:00:00Z",
            &["2026-11-20"],
        );
        check(
            "2026-11-20T15:00:00Z",
            "2026-11-21T15:00:00Z",
            "2026-11-21T15:59:59Z",
            &["2026-11-20"],
        );
        check(
            "2026-11-21T15:00:00Z",
            "2026-11-21T15:30:00Z",
            "2026-11-21T15:59:59Z",
            &[],
        );
    }

    #[test]
    fn a_day_has_its_window() {
        let noon = us("2026-11-20T04:00:00Z");
        let [(name, day)] = days(
            Window {
                from: noon,
                to: noon + 1,
            },
            us("2026-12-01T00:00:00Z"),
        )
        .try_into()
        .unwrap();
        assert_eq!(name, "2026-11-20");
        assert_eq!(
            (day.from, day.to),
            (us("2026-11-19T16:00:00Z"), us("2026-11-20T16:00:00Z"))
        );
    }
}
