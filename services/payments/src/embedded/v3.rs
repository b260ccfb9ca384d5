//! API v3 as the embedded provider answers it.

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Method, Request, Response, StatusCode};
use mosaic::sql::Database;
use mosaic::{Context, Error, Result, Timestamp, hex};
use serde::Serialize;
use sha1::{Digest as _, Sha1};

use super::store::{self, Trade};
use super::{BASE_URL, MERCHANT_ID, MERCHANT_SERIAL, PAIR, bill, sign, text};
use crate::model::CURRENCY;
use crate::wechat::crypto::request_text;
use crate::wechat::wire::{
    BillAnswer, CodeAnswer, PrepayAnswer, PrepayBody, RefundAmount, RefundBody, RefundWire, RefusalBody, TotalAmount,
    Trade as Shown,
};

/// What is answered: status and body.
struct Said(StatusCode, Vec<u8>);

fn yes(body: &impl Serialize) -> Result<Said> {
    Ok(Said(StatusCode::OK, serde_json::to_vec(body).map_err(Error::internal)?))
}

fn no(status: StatusCode, code: &str) -> Result<Said> {
    let body = RefusalBody {
        code: code.to_owned(),
        message: "refused by the embedded provider".to_owned(),
    };
    Ok(Said(status, serde_json::to_vec(&body).map_err(Error::internal)?))
}

/// Answers a signed request; `path` is that behind the base URL.
pub(super) async fn answer(
    cx: &Context,
    database: &Database,
    request: &Request<Bytes>,
    path: &str,
) -> Result<Response<Bytes>> {
    let said = if is_signed(request) {
        route(cx, database, request, path).await?
    } else {
        no(StatusCode::UNAUTHORIZED, "SIGN_ERROR")?
    };
    let mut response = text(said.0, said.1);
    let body = response.body().clone();
    sign(cx.runtime(), response.headers_mut(), &body)?;
    Ok(response)
}

async fn route(cx: &Context, database: &Database, request: &Request<Bytes>, path: &str) -> Result<Said> {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let body = request.body();
    match (request.method(), segments.as_slice()) {
        (&Method::POST, ["v3", "pay", "transactions", kind @ ("native" | "jsapi")]) => {
            prepay(cx, database, body, kind).await
        }
        (&Method::GET, ["v3", "pay", "transactions", "out-trade-no", no]) => query(database, no).await,
        (&Method::POST, ["v3", "pay", "transactions", "out-trade-no", no, "close"]) => close(database, no).await,
        (&Method::POST, ["v3", "refund", "domestic", "refunds"]) => refund(cx, database, body).await,
        (&Method::GET, ["v3", "refund", "domestic", "refunds", no]) => query_refund(database, no).await,
        (&Method::GET, ["v3", "bill", "tradebill"]) => trade_bill(database, &argument(request, "bill_date")).await,
        (&Method::GET, ["v3", "billdownload", "file"]) => {
            let csv = bill::of_day(database, &argument(request, "token")).await?;
            Ok(Said(StatusCode::OK, csv.into_bytes()))
        }
        _ => no(StatusCode::NOT_FOUND, "NOT_FOUND"),
    }
}

fn argument(request: &Request<Bytes>, name: &str) -> String {
    let query = request.uri().query().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs
        .find(|(key, _)| key == name)
        .map_or_else(String::new, |(_, value)| value.into_owned())
}

/// Is the request signed with the merchant's key?
fn is_signed(request: &Request<Bytes>) -> bool {
    let header = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let Some(parts) = header.and_then(|value| value.strip_prefix("WECHATPAY2-SHA256-RSA2048 ")) else {
        return false;
    };
    let part = |name: &str| {
        let mut parts = parts.split(',').filter_map(|part| part.split_once('='));
        let found = parts.find(|(key, _)| *key == name);
        found.map_or("", |(_, value)| value.trim_matches('"'))
    };
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let text = request_text(
        request.method().as_str(),
        target,
        part("timestamp"),
        part("nonce_str"),
        request.body(),
    );
    part("mchid") == MERCHANT_ID
        && part("serial_no") == MERCHANT_SERIAL
        && PAIR.merchant.verifying_key().is_valid(&text, part("signature"))
}

async fn prepay(cx: &Context, database: &Database, body: &[u8], kind: &str) -> Result<Said> {
    let Ok(asked) = serde_json::from_slice::<PrepayBody>(body) else {
        return no(StatusCode::BAD_REQUEST, "PARAM_ERROR");
    };
    let Ok(expire) = asked.time_expire.parse::<Timestamp>() else {
        return no(StatusCode::BAD_REQUEST, "PARAM_ERROR");
    };
    let trade = Trade {
        out_trade_no: asked.out_trade_no.clone(),
        app_id: asked.appid,
        description: asked.description,
        amount_fen: asked.amount.total,
        token: cx.runtime().random_hex::<8>(),
        open_id: asked.payer.map_or_else(String::new, |payer| payer.openid),
        state: "NOTPAY".to_owned(),
        transaction_id: String::new(),
        created_at: cx.runtime().now().as_micros(),
        expire_at: expire.as_micros(),
        paid_at: 0,
        out_refund_no: String::new(),
        refunded_at: 0,
    };
    let db = database.connection();
    let there = if store::insert(db, trade.clone()).await? {
        trade.clone()
    } else {
        store::find(db, &asked.out_trade_no)
            .await?
            .unwrap_or_else(|| trade.clone())
    };
    let is_same = (there.amount_fen, &there.open_id) == (trade.amount_fen, &trade.open_id);
    match (is_same, there.state.as_str(), kind) {
        (false, ..) => no(StatusCode::FORBIDDEN, "OUT_TRADE_NO_USED"),
        (true, "NOTPAY", "native") => yes(&CodeAnswer {
            code_url: format!("weixin://wxpay/bizpayurl?pr={}", there.token),
        }),
        (true, "NOTPAY", _) => yes(&PrepayAnswer {
            prepay_id: format!("wx{}", there.token),
        }),
        (true, "CLOSED", _) => no(StatusCode::BAD_REQUEST, "ORDER_CLOSED"),
        _ => no(StatusCode::BAD_REQUEST, "ORDERPAID"),
    }
}

async fn query(database: &Database, out_trade_no: &str) -> Result<Said> {
    match store::find(database.connection(), out_trade_no).await? {
        Some(trade) => yes(&shown(&trade)),
        None => no(StatusCode::NOT_FOUND, "ORDER_NOT_EXIST"),
    }
}

/// Returns a trade as answers and notifications have it.
pub(super) fn shown(trade: &Trade) -> Shown {
    let is_paid = trade.paid_at > 0;
    Shown {
        appid: trade.app_id.clone(),
        mchid: MERCHANT_ID.to_owned(),
        out_trade_no: trade.out_trade_no.clone(),
        transaction_id: is_paid.then(|| trade.transaction_id.clone()),
        trade_state: trade.state.clone(),
        success_time: is_paid.then(|| Timestamp::from_micros(trade.paid_at).to_string()),
        amount: Some(TotalAmount {
            total: trade.amount_fen,
            currency: Some(CURRENCY.to_owned()),
        }),
    }
}

async fn close(database: &Database, out_trade_no: &str) -> Result<Said> {
    let closed = store::change(database, out_trade_no, |trade| {
        (trade.state == "NOTPAY").then(|| trade.state = "CLOSED".to_owned())
    });
    match closed.await? {
        Some(_) => Ok(Said(StatusCode::NO_CONTENT, Vec::new())),
        None => no(StatusCode::BAD_REQUEST, "ORDERPAID"),
    }
}

async fn refund(cx: &Context, database: &Database, body: &[u8]) -> Result<Said> {
    let Ok(asked) = serde_json::from_slice::<RefundBody>(body) else {
        return no(StatusCode::BAD_REQUEST, "PARAM_ERROR");
    };
    let now = cx.runtime().now().as_micros();
    let refunded = store::change(database, &asked.out_trade_no, |trade| {
        let is_whole = asked.amount.refund == trade.amount_fen && asked.amount.total == trade.amount_fen;
        if trade.state == "REFUND" && trade.out_refund_no == asked.out_refund_no {
            return Some(());
        }
        (trade.state == "SUCCESS" && is_whole).then(|| {
            trade.state = "REFUND".to_owned();
            trade.out_refund_no.clone_from(&asked.out_refund_no);
            trade.refunded_at = now;
        })
    });
    match refunded.await? {
        Some(trade) => yes(&shown_refund(&trade)),
        None => no(StatusCode::FORBIDDEN, "NOT_ENOUGH"),
    }
}

async fn query_refund(database: &Database, out_refund_no: &str) -> Result<Said> {
    match store::find_refund(database.connection(), out_refund_no).await? {
        Some(trade) => yes(&shown_refund(&trade)),
        None => no(StatusCode::NOT_FOUND, "RESOURCE_NOT_EXISTS"),
    }
}

fn shown_refund(trade: &Trade) -> RefundWire {
    RefundWire {
        mchid: None,
        out_trade_no: trade.out_trade_no.clone(),
        out_refund_no: trade.out_refund_no.clone(),
        status: Some("SUCCESS".to_owned()),
        refund_status: None,
        amount: RefundAmount {
            refund: trade.amount_fen,
            total: trade.amount_fen,
            currency: Some(CURRENCY.to_owned()),
        },
    }
}

async fn trade_bill(database: &Database, date: &str) -> Result<Said> {
    let csv = bill::of_day(database, date).await?;
    yes(&BillAnswer {
        hash_type: "SHA1".to_owned(),
        hash_value: hex(Sha1::digest(csv)),
        download_url: format!("{BASE_URL}/v3/billdownload/file?token={date}"),
    })
}
