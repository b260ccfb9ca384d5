//! What handles events: typed outside, one shape inside.
//!
//! Whatever the kind of handler, the runtime gives it a run of events of one name and gets "all" or "none": that is what retries,
//! bisection and dead letters are built on.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::{Context, Result, Runtime, Trace};
use mosaic_sql::{Database, Transaction};

use super::inbox::Inbox;
use crate::bus::Delivered;
use crate::event::{Event, EventId, Message, context_of};

/// Handles events one by one, without a transaction: may run more than once for the same event.
pub trait Handle<E: Event>: Send + Sync + 'static {
    /// Handles `event`. An error is a failed attempt; so is a panic. Dropped at the timeout and when the partition is lost.
    fn handle(&self, cx: &Context, event: E) -> impl Future<Output = Result<()>> + Send;
}

/// Handles events one by one in a transaction, which also notes that they were handled: effects in it happen once.
pub trait HandleIn<E: Event>: Send + Sync + 'static {
    /// Handles `event` with changes in `tx`. May run again for the same event if the transaction does not commit.
    fn handle(&self, cx: &Context, event: E, tx: &Transaction) -> impl Future<Output = Result<()>> + Send;
}

/// Handles events in batches, all or none, without a transaction: may run more than once for the same events.
pub trait HandleBatch<E: Event>: Send + Sync + 'static {
    /// Handles events of one partition in order.
    fn handle(&self, events: Vec<Arrived<E>>) -> impl Future<Output = Result<()>> + Send;
}

/// Handles events in batches in one transaction, which also notes that they were handled.
pub trait HandleBatchIn<E: Event>: Send + Sync + 'static {
    /// Handles events of one partition in order, with changes in `tx`.
    fn handle(&self, events: Vec<Arrived<E>>, tx: &Transaction) -> impl Future<Output = Result<()>> + Send;
}

/// An event of a batch.
#[derive(Debug, Clone)]
pub struct Arrived<E> {
    /// What happened.
    pub event: E,
    id: EventId,
    trace: Option<Trace>,
    limit: Duration,
}

impl<E> Arrived<E> {
    /// Returns what names the event wherever it is.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Returns the context to handle the event in, as those get it who handle events one by one: most batches need none.
    pub fn context(&self, runtime: &Runtime) -> Context {
        context_of(self.id, self.trace, runtime).with_timeout(self.limit)
    }
}

/// A handler as the runtime sees it.
#[async_trait]
pub(super) trait Handler: Send + Sync {
    /// Handles a run of events of one name, all or none; returns how many of them were handled before.
    async fn run(&self, run: Run<'_>) -> Result<usize>;
}

/// Events of one name, and what the contexts to handle them in are made of.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) events: &'a [Delivered],
    pub(super) runtime: &'a Runtime,
    /// Time for all of them.
    pub(super) limit: Duration,
}

impl<'a> Run<'a> {
    fn messages(self) -> impl Iterator<Item = &'a Message> {
        self.events.iter().map(|delivered| &delivered.message)
    }

    /// Reads some of the events, for a handler of batches.
    fn arrived<E: Event>(self, messages: impl IntoIterator<Item = &'a Message>) -> Result<Vec<Arrived<E>>> {
        let arrived = |message: &Message| {
            Ok(Arrived {
                event: message.event()?,
                id: message.id,
                trace: message.headers.trace(),
                limit: self.limit,
            })
        };
        messages.into_iter().map(arrived).collect()
    }

    /// Reads some of the events, for a handler of one after the other.
    fn single<E: Event>(self, messages: impl IntoIterator<Item = &'a Message>) -> Result<Vec<(Context, E)>> {
        let single = |message: &Message| {
            let cx = message.context(self.runtime).with_timeout(self.limit);
            Ok((cx, message.event()?))
        };
        messages.into_iter().map(single).collect()
    }
}

/// How a typed handler takes what was read: plain or batch.
pub(super) struct Plain<E, H>(Arc<H>, PhantomData<fn() -> E>);
pub(super) struct Batch<E, H>(Arc<H>, PhantomData<fn() -> E>);

pub(super) fn plain<E: Event, H: Handle<E>>(handler: Arc<H>) -> Arc<dyn Handler> {
    Arc::new(Plain::<E, H>(handler, PhantomData))
}

pub(super) fn batch<E: Event, H: HandleBatch<E>>(handler: Arc<H>) -> Arc<dyn Handler> {
    Arc::new(Batch::<E, H>(handler, PhantomData))
}

#[async_trait]
impl<E: Event, H: Handle<E>> Handler for Plain<E, H> {
    async fn run(&self, run: Run<'_>) -> Result<usize> {
        for (cx, event) in run.single::<E>(run.messages())? {
            self.0.handle(&cx, event).await?;
        }
        Ok(0)
    }
}

#[async_trait]
impl<E: Event, H: HandleBatch<E>> Handler for Batch<E, H> {
    async fn run(&self, run: Run<'_>) -> Result<usize> {
        self.0.handle(run.arrived(run.messages())?).await?;
        Ok(0)
    }
}

/// What a handler with a transaction needs.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) database: Database,
    pub(super) inbox: Inbox,
    pub(super) runtime: Runtime,
}

impl Desk {
    /// Notes the events in `tx` and returns the new ones.
    async fn take<'a>(&self, tx: &Transaction, run: Run<'a>) -> Result<Vec<&'a Message>> {
        let ids: Vec<_> = run.messages().map(|message| message.id).collect();
        let mut new = self.inbox.take(tx, &ids, self.runtime.now()).await?;
        if new.len() == run.events.len() {
            return Ok(run.messages().collect());
        }
        // `remove`, so that an event that is twice in the run counts once.
        Ok(run.messages().filter(|message| new.remove(&message.id)).collect())
    }
}

pub(super) struct PlainIn<E, H>(Arc<H>, Desk, PhantomData<fn() -> E>);
pub(super) struct BatchIn<E, H>(Arc<H>, Desk, PhantomData<fn() -> E>);

pub(super) fn plain_in<E: Event, H: HandleIn<E>>(handler: Arc<H>, desk: Desk) -> Arc<dyn Handler> {
    Arc::new(PlainIn::<E, H>(handler, desk, PhantomData))
}

pub(super) fn batch_in<E: Event, H: HandleBatchIn<E>>(handler: Arc<H>, desk: Desk) -> Arc<dyn Handler> {
    Arc::new(BatchIn::<E, H>(handler, desk, PhantomData))
}

#[async_trait]
impl<E: Event, H: HandleIn<E>> Handler for PlainIn<E, H> {
    async fn run(&self, run: Run<'_>) -> Result<usize> {
        let handled = self.1.database.transaction(async |tx| {
            let new = self.1.take(&tx, run).await?;
            let n_new = new.len();
            for (cx, event) in run.single::<E>(new)? {
                self.0.handle(&cx, event, &tx).await?;
            }
            Ok(run.events.len() - n_new)
        });
        handled.await
    }
}

#[async_trait]
impl<E: Event, H: HandleBatchIn<E>> Handler for BatchIn<E, H> {
    async fn run(&self, run: Run<'_>) -> Result<usize> {
        let handled = self.1.database.transaction(async |tx| {
            let new = self.1.take(&tx, run).await?;
            let n_new = new.len();
            if n_new > 0 {
                self.0.handle(run.arrived::<E>(new)?, &tx).await?;
            }
            Ok(run.events.len() - n_new)
        });
        handled.await
    }
}
