//! The bill of a day: CSV with Chinese headings, a backtick before each value, and a summary at the end.
//!
//! Columns are found by their headings, for there have been new ones before. Values hold no comma followed by a backtick, so
//! that is where a line is cut.

/// A trade or a refund as the provider has billed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BillLine {
    pub(crate) out_trade_no: String,
    pub(crate) transaction_id: String,
    /// `SUCCESS`, `REFUND` or `REVOKED`.
    pub(crate) trade_state: String,
    pub(crate) amount_fen: i64,
    pub(crate) refund_fen: i64,
}

/// What a bill gets wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BillError {
    #[error("the bill is no text in UTF-8")]
    NoText,
    #[error("the bill has no column {0}")]
    NoColumn(&'static str),
    #[error("line {0} of the bill cannot be read")]
    Line(usize),
    #[error("the bill has no summary, or another number of lines")]
    Cut,
}

struct Columns {
    out_trade_no: usize,
    transaction_id: usize,
    trade_state: usize,
    amount: usize,
    refund: usize,
}

impl Columns {
    fn of(heading: &str) -> Result<Self, BillError> {
        let names: Vec<&str> = heading.trim_start_matches('\u{feff}').trim().split(',').collect();
        let find = |name: &'static str| {
            let found = names.iter().position(|there| *there == name);
            found.ok_or(BillError::NoColumn(name))
        };
        Ok(Self {
            out_trade_no: find("商户订单号")?,
            transaction_id: find("微信订单号")?,
            trade_state: find("交易状态")?,
            amount: find("订单金额")?,
            refund: find("退款金额")?,
        })
    }

    fn read(&self, line: &str) -> Option<BillLine> {
        let values: Vec<&str> = line.strip_prefix('`')?.split(",`").collect();
        let text = |column: usize| values.get(column).map(|value| value.trim().to_owned());
        Some(BillLine {
            out_trade_no: text(self.out_trade_no)?,
            transaction_id: text(self.transaction_id)?,
            trade_state: text(self.trade_state)?,
            amount_fen: fen(values.get(self.amount)?.trim())?,
            refund_fen: fen(values.get(self.refund)?.trim())?,
        })
    }
}

/// Reads a bill; one that ends before its summary was cut off on its way.
pub(crate) fn parse(csv: &[u8]) -> Result<Vec<BillLine>, BillError> {
    let csv = std::str::from_utf8(csv).map_err(|_| BillError::NoText)?;
    let mut lines = csv.lines().enumerate();
    let columns = Columns::of(lines.next().map_or("", |(_, heading)| heading))?;
    let mut read = Vec::new();
    for (position, line) in &mut lines {
        if !line.starts_with('`') {
            break; // the heading of the summary
        }
        read.push(columns.read(line).ok_or(BillError::Line(position + 1))?);
    }
    let summary = lines.next().and_then(|(_, line)| line.strip_prefix('`'));
    let total = summary.and_then(|line| line.split(",`").next()?.trim().parse::<usize>().ok());
    if total == Some(read.len()) {
        Ok(read)
    } else {
        Err(BillError::Cut)
    }
}

/// Reads yuan with at most two decimals.
pub(crate) fn fen(yuan: &str) -> Option<i64> {
    let (whole, decimals) = yuan.split_once('.').unwrap_or((yuan, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) || decimals.len() > 2 {
        return None;
    }
    let cents: i64 = format!("{decimals:0<2}").parse().ok()?;
    whole.parse::<i64>().ok()?.checked_mul(100)?.checked_add(cents)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADING: &str = "交易时间,公众账号ID,商户号,微信订单号,商户订单号,交易状态,退款金额,商品名称,订单金额";
    const SUMMARY: &str = "总交易单数,应结订单总金额";

    #[test]
    fn lines_are_found_by_their_headings() {
        let bill = format!(
            "\u{feff}{HEADING}\r\n`2026-11-20 10:00:00,`wx1,`190,`42,`M7,`SUCCESS,`0.00,`a, b,`12.30\r\n\
             `2026-11-20 11:00:00,`wx1,`190,`43,`M8,`REFUND,`1.05,`x,`0.00\r\n{SUMMARY}\r\n`2,`12.30\r\n"
        );
        let line = |no: &str, id: &str, state: &str, amount_fen, refund_fen| BillLine {
            out_trade_no: no.into(),
            transaction_id: id.into(),
            trade_state: state.into(),
            amount_fen,
            refund_fen,
        };
        let want = vec![line("M7", "42", "SUCCESS", 1230, 0), line("M8", "43", "REFUND", 0, 105)];
        assert_eq!(parse(bill.as_bytes()), Ok(want));
    }

    #[test]
    fn what_is_no_whole_bill_is_refused() {
        let line = "`t,`wx1,`190,`42,`M7,`SUCCESS,`0.00,`x,`1.00";
        for (bill, want) in [
            ("<html>".to_owned(), BillError::NoColumn("商户订单号")),
            (format!("{HEADING}\n{line}\n"), BillError::Cut),
            (format!("{HEADING}\n{line}\n{SUMMARY}\n`2,`1.00\n"), BillError::Cut),
            (format!("{HEADING}\n`t,`wx\n{SUMMARY}\n`1,`1.00\n"), BillError::Line(2)),
        ] {
            assert_eq!(parse(bill.as_bytes()), Err(want), "{bill}");
        }
        assert_eq!(parse(&[0xff, 0xfe]), Err(BillError::NoText));
        assert_eq!(
            parse(format!("{HEADING}\n{SUMMARY}\n`0,`0.00\n").as_bytes()),
            Ok(vec![])
        );
    }

    #[test]
    fn yuan_become_fen_exactly() {
        for (yuan, want) in [
            ("0.01", Some(1)),
            ("12.3", Some(1230)),
            ("7", Some(700)),
            ("0.00", Some(0)),
            ("92233720368547758.07", Some(i64::MAX)),
            ("92233720368547758.08", None),
            ("1.005", None),
            ("-1.00", None),
            ("1e2", None),
            (".5", None),
            ("", None),
        ] {
            assert_eq!(fen(yuan), want, "{yuan}");
        }
    }
}
