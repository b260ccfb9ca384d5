//! Follows people: who registers or changes his profile is asked about.
//!
//! Handlers are in a transaction and only enqueue; a users service that is away delays a nickname and no event.

use std::sync::Arc;

use mosaic::events::HandleIn;
use mosaic::sql::Transaction;
use mosaic::{AccountId, Context, Module, Result};
use mosaic_api::events::{ProfileChanged, UserRegistered};

use crate::store::Store;
use crate::tasks::{RefreshUser, patient};

/// Wires the consumer up.
pub(crate) fn install(m: &mut Module, store: &Store) -> Result<()> {
    let follower = Arc::new(Follower { store: store.clone() });
    let group = m.group("search.users")?;
    let group = group.on_in_transaction::<UserRegistered>(follower.clone());
    m.consume(group.on_in_transaction::<ProfileChanged>(follower));
    Ok(())
}

struct Follower {
    store: Store,
}

impl Follower {
    async fn refresh(&self, cx: &Context, account: AccountId, not_before_us: i64, tx: &Transaction) -> Result<()> {
        let task = RefreshUser { account, not_before_us };
        let tx = self.store.transactions().within(tx);
        tx.enqueue_with(cx, &task, patient()).await.map(drop)
    }
}

impl HandleIn<UserRegistered> for Follower {
    async fn handle(&self, cx: &Context, event: UserRegistered, tx: &Transaction) -> Result<()> {
        self.refresh(cx, event.account, 0, tx).await
    }
}

impl HandleIn<ProfileChanged> for Follower {
    async fn handle(&self, cx: &Context, event: ProfileChanged, tx: &Transaction) -> Result<()> {
        self.refresh(cx, event.account, event.updated_at_us, tx).await
    }
}
