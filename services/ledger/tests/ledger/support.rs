//! What the tests share.

use mosaic::{App, Context, Module};
use mosaic_api::ledger::v1::{Account, BalanceRequest, Entry, LedgerClient, ListEntriesRequest, PostRequest};
use mosaic_testing::{Shape, TestApp, TestAppBuilder, keys};

pub(crate) fn builder(shape: Shape) -> TestAppBuilder {
    let app = App::new("bank")
        .module("front", async |_: &mut Module| Ok(()))
        .module("ledger", ledger::install)
        .everywhere("keys", keys);
    TestApp::builder(app).shape(shape)
}

/// Calls in short.
pub(crate) struct Calls {
    pub(crate) ledger: LedgerClient,
    pub(crate) cx: Context,
}

impl Calls {
    pub(crate) fn of(app: &TestApp) -> Self {
        Self {
            ledger: app.client("content"),
            cx: Context::new(app.runtime()),
        }
    }

    pub(crate) async fn balance(&self, kind: &str, owner: i64) -> i64 {
        let account = Some(account(kind, owner));
        let answer = self.ledger.balance(&self.cx, BalanceRequest { account }).await;
        answer.unwrap().balance_fen
    }

    /// Adds up the entries of an account, page by page.
    pub(crate) async fn sum_of_entries(&self, kind: &str, owner: i64) -> i64 {
        let (mut sum, mut cursor) = (0, 0);
        loop {
            let request = ListEntriesRequest {
                account: Some(account(kind, owner)),
                cursor,
                limit: 50,
            };
            let page = self.ledger.list_entries(&self.cx, request).await.unwrap();
            sum += page.entries.iter().map(|entry| entry.amount_fen).sum::<i64>();
            cursor = page.next_cursor;
            if cursor == 0 {
                return sum;
            }
        }
    }
}

pub(crate) fn account(kind: &str, owner: i64) -> Account {
    Account {
        kind: kind.to_owned(),
        owner,
    }
}

pub(crate) fn posting(biz_id: &str, entries: &[(&str, i64, i64)]) -> PostRequest {
    let entries = entries.iter().map(|(kind, owner, amount_fen)| Entry {
        account: Some(account(kind, *owner)),
        amount_fen: *amount_fen,
    });
    PostRequest {
        biz: "test".to_owned(),
        biz_id: biz_id.to_owned(),
        entries: entries.collect(),
        floors: Vec::new(),
    }
}
