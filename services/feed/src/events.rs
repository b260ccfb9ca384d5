//! What others tell: items come and go, people follow and stop following.
//!
//! Handlers only write to this database; whom an item is to be brought to is asked by a task, so that relations being down delays
//! pushing and no event. Withdrawals take effect at once: every reading looks at the item's own row.

use std::sync::Arc;

use mosaic::events::HandleIn;
use mosaic::sql::Transaction;
use mosaic::{Context, Module, Result, Transactions};
use mosaic_api::events::{FollowChanged, ItemPublished, ItemWithdrawn};

use crate::fan_out::FanOut;
use crate::store::Store;

/// Wires the consumers up: one group for items, for a withdrawal must not overtake its publication.
pub(crate) fn install(m: &mut Module, transactions: Transactions, store: &Store, follow_brings: u32) -> Result<()> {
    let items = Arc::new(Items {
        transactions,
        store: store.clone(),
    });
    let group = m.group("feed.items")?;
    let group = group.on_in_transaction::<ItemPublished>(items.clone());
    m.consume(group.on_in_transaction::<ItemWithdrawn>(items));
    let follows = Follows {
        store: store.clone(),
        brings: follow_brings,
    };
    m.on_event::<FollowChanged>("feed.follows", Arc::new(follows))
}

struct Items {
    transactions: Transactions,
    store: Store,
}

impl HandleIn<ItemPublished> for Items {
    async fn handle(&self, cx: &Context, event: ItemPublished, tx: &Transaction) -> Result<()> {
        let Some(published) = self.store.publish(tx, cx.runtime(), &event).await? else {
            return Ok(());
        };
        FanOut::first(published)
            .enqueue(cx, &self.transactions.within(tx))
            .await
    }
}

impl HandleIn<ItemWithdrawn> for Items {
    async fn handle(&self, _: &Context, event: ItemWithdrawn, tx: &Transaction) -> Result<()> {
        self.store.withdraw(tx, &event.item).await
    }
}

struct Follows {
    store: Store,
    brings: u32,
}

impl HandleIn<FollowChanged> for Follows {
    async fn handle(&self, _: &Context, event: FollowChanged, tx: &Transaction) -> Result<()> {
        let (follower, followee) = (event.follower.get(), event.followee.get());
        if event.is_following {
            self.store.bring_newest(tx, follower, followee, self.brings).await
        } else {
            self.store.forget_author(tx, follower, followee).await
        }
    }
}
