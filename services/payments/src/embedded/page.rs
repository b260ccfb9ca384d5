//! The page on which a trade is paid.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{Response, StatusCode};
use mosaic::sql::Database;
use mosaic::{Context, Error, Result, Timestamp};

use super::{PATH, Reaction, notice, store, text, v3};

/// Lists what can be paid.
pub(super) async fn list(database: &Database) -> Result<Response<Bytes>> {
    let trades = store::list(database.connection(), &["NOTPAY"]).await?;
    let rows: String = trades
        .iter()
        .map(|trade| {
            let (yuan, fen) = (trade.amount_fen / 100, trade.amount_fen % 100);
            let (no, what) = (escaped(&trade.out_trade_no), escaped(&trade.description));
            format!(
                "<tr><td>{no}<td>{what}<td>{yuan}.{fen:02}<td><form method=post action=\"{PATH}/pay\">\
                 <input type=hidden name=out_trade_no value=\"{no}\"><button>pay</button></form>\n"
            )
        })
        .collect();
    let html = format!(
        "<!doctype html><meta charset=utf-8><title>Embedded WeChat Pay</title>\
         <h1>Trades to be paid</h1><p>Development only: no money moves.<table>\n{rows}</table>"
    );
    let mut page = text(StatusCode::OK, html);
    let kind = "text/html; charset=utf-8"
        .parse()
        .expect("a constant that is a header value");
    page.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(page)
}

/// Pays a trade, and notifies us unless the form says `silent`.
pub(super) async fn pay(cx: &Context, database: &Database, form: &[u8]) -> Result<Reaction> {
    let field = |name: &str| {
        let mut fields = form_urlencoded::parse(form);
        fields.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    let out_trade_no = field("out_trade_no").unwrap_or_default();
    let now = cx.runtime().now();
    let transaction_id = format!("42{}", cx.runtime().next_id());
    let paid = store::change(database, &out_trade_no, |trade| {
        let can_be_paid = trade.state == "NOTPAY" && now < Timestamp::from_micros(trade.expire_at);
        can_be_paid.then(|| {
            trade.state = "SUCCESS".to_owned();
            trade.transaction_id.clone_from(&transaction_id);
            trade.paid_at = now.as_micros();
        })
    });
    let Some(trade) = paid.await? else {
        let answer = text(StatusCode::CONFLICT, "there is no such trade to be paid");
        return Ok(Reaction { answer, notice: None });
    };
    let mut answer = text(StatusCode::SEE_OTHER, "paid");
    let back = PATH.parse().expect("a constant that is a header value");
    answer.headers_mut().insert(LOCATION, back);
    let notice = match field("silent") {
        Some(_) => None,
        None => {
            let what = serde_json::to_vec(&v3::shown(&trade)).map_err(Error::internal)?;
            Some(notice(cx.runtime(), "transaction", "TRANSACTION.SUCCESS", &what)?)
        }
    };
    Ok(Reaction { answer, notice })
}

fn escaped(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            '\'' => "&#39;".to_owned(),
            c => c.to_string(),
        })
        .collect()
}
