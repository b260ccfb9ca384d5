//! The contract over rules and store.

use std::collections::BTreeMap;

use mosaic::{Context, Error, Result};
use mosaic_api::ledger::v1::{
    Account as ShownAccount, AccountEntry, BalanceRequest, BalanceResponse, Entry, GetPostingRequest, Ledger,
    ListEntriesRequest, ListEntriesResponse, ListPostingsRequest, ListPostingsResponse, PostRequest, Posting as Shown,
};

use crate::model::{Account, Draft, LedgerError, Posting};
use crate::store::{Store, Window};

const PAGE_DEFAULT: u32 = 100;

/// See the module documentation.
pub(crate) struct Service {
    store: Store,
}

impl Service {
    pub(crate) const fn new(store: Store) -> Self {
        Self { store }
    }
}

#[mosaic::async_trait]
impl Ledger for Service {
    async fn post(&self, cx: &Context, request: PostRequest) -> Result<Shown> {
        let entries = request
            .entries
            .into_iter()
            .map(|entry| (account(entry.account), entry.amount_fen));
        let floors = request
            .floors
            .into_iter()
            .map(|floor| (account(floor.account), floor.min_fen));
        let draft = Draft::new(request.biz, request.biz_id, entries.collect(), floors.collect())?;
        self.store.post(cx.runtime(), &draft).await.map(shown)
    }

    async fn get_posting(&self, _: &Context, request: GetPostingRequest) -> Result<Shown> {
        let found = self.store.posting(&request.biz, &request.biz_id).await?;
        Ok(shown(found.ok_or(LedgerError::NotFound)?))
    }

    async fn list_postings(&self, _: &Context, request: ListPostingsRequest) -> Result<ListPostingsResponse> {
        let invalid = |_| Error::invalid_argument("CURSOR_INVALID", "the cursor is not one of ours");
        let after = match request.cursor.as_str() {
            "" => 0,
            cursor => cursor.parse().map_err(invalid)?,
        };
        let window = Window {
            biz: request.biz,
            from: request.from_us,
            to: request.to_us,
            after,
            limit: limit(request.limit),
        };
        let found = self.store.postings(&window).await?;
        let last = found.last().filter(|_| found.len() as u64 == window.limit);
        Ok(ListPostingsResponse {
            next_cursor: last.map_or_else(String::new, |posting| posting.id.to_string()),
            postings: found.into_iter().map(shown).collect(),
        })
    }

    async fn balance(&self, _: &Context, request: BalanceRequest) -> Result<BalanceResponse> {
        let balance_fen = self.store.balance(&account(request.account)).await?;
        Ok(BalanceResponse { balance_fen })
    }

    async fn list_entries(&self, _: &Context, request: ListEntriesRequest) -> Result<ListEntriesResponse> {
        let limit = limit(request.limit);
        let found = self
            .store
            .entries(&account(request.account), request.cursor, limit)
            .await?;
        let last = found.last().filter(|_| found.len() as u64 == limit);
        let next_cursor = last.map_or(0, |(posting, _)| posting.id.get());
        let entries = found.into_iter().map(|(posting, amount_fen)| AccountEntry {
            posting_id: posting.id.get(),
            biz: posting.biz,
            biz_id: posting.biz_id,
            amount_fen,
            at_us: posting.at.as_micros(),
        });
        Ok(ListEntriesResponse {
            entries: entries.collect(),
            next_cursor,
        })
    }
}

fn limit(asked: u32) -> u64 {
    if asked == 0 { PAGE_DEFAULT } else { asked }.into()
}

/// The contract's check has seen that it is there.
fn account(shown: Option<ShownAccount>) -> Account {
    let ShownAccount { kind, owner } = shown.unwrap_or_default();
    Account { kind, owner }
}

fn shown(posting: Posting) -> Shown {
    Shown {
        id: posting.id.get(),
        biz: posting.biz,
        biz_id: posting.biz_id,
        entries: entries(posting.entries),
        at_us: posting.at.as_micros(),
    }
}

fn entries(entries: BTreeMap<Account, i64>) -> Vec<Entry> {
    let shown = entries.into_iter().map(|(Account { kind, owner }, amount_fen)| Entry {
        account: Some(ShownAccount { kind, owner }),
        amount_fen,
    });
    shown.collect()
}
