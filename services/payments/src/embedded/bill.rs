//! The bill of a day, as the embedded provider writes it.

use std::fmt::Write as _;
use std::time::Duration;

use mosaic::sql::Database;
use mosaic::{Result, Timestamp};

use super::store;

/// Days begin in Beijing.
const OFFSET: Duration = Duration::from_secs(8 * 3600);
const HEADING: &str = "交易时间,公众账号ID,商户号,微信订单号,商户订单号,交易状态,货币种类,退款金额,商品名称,订单金额";

/// Writes the bill of a day, `YYYY-MM-DD`.
pub(super) async fn of_day(database: &Database, date: &str) -> Result<String> {
    let mut lines = String::new();
    let mut count = 0_u32;
    for trade in store::list(database.connection(), &["SUCCESS", "REFUND"]).await? {
        let mut line = |at: i64, state: &str, refund: i64, amount: i64| {
            let at = Timestamp::from_micros(at).plus(OFFSET).to_string();
            if at.starts_with(date) {
                count += 1;
                let (no, id) = (&trade.out_trade_no, &trade.transaction_id);
                let what = trade.description.replace(['`', '\n', '\r'], " ");
                let (refund, amount) = (yuan(refund), yuan(amount));
                let written = writeln!(
                    lines,
                    "`{at},`{},`{},`{id},`{no},`{state},`CNY,`{refund},`{what},`{amount}",
                    trade.app_id,
                    super::MERCHANT_ID,
                );
                written.expect("a string takes everything");
            }
        };
        line(trade.paid_at, "SUCCESS", 0, trade.amount_fen);
        if trade.refunded_at > 0 {
            line(trade.refunded_at, "REFUND", trade.amount_fen, 0);
        }
    }
    Ok(format!("{HEADING}\n{lines}总交易单数,应结订单总金额\n`{count},`0.00\n"))
}

fn yuan(fen: i64) -> String {
    format!("{}.{:02}", fen / 100, fen % 100)
}
