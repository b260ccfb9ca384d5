//! The one task that writes an index.
//!
//! A commit costs several fsyncs, so changes that come within a short time share one, and whoever sent them hears of it after: what is
//! acknowledged is on the disk, and found. A commit that fails, or panics, fails all of its changes; the writer is then made
//! anew, and whoever sent them sends them again.

use std::collections::HashMap;

use ::tantivy::{Index, IndexReader, IndexWriter, TantivyDocument, Term};
use mosaic_core::{Result, StopSignal, TaskGroup};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::files::{Layout, failed};
use super::{blocking, search};
use crate::{Document, Options, Removal, Value, unavailable};

/// Batches that wait; then senders do.
const QUEUE_MAX: usize = 256;

/// One change of an index.
pub(super) enum Change {
    Put(Document),
    Remove(Removal),
}

impl Change {
    fn subject(&self) -> (&str, i64) {
        match self {
            Self::Put(document) => (&document.id, document.version),
            Self::Remove(removal) => (&removal.id, removal.version),
        }
    }
}

struct Order {
    changes: Vec<Change>,
    done: oneshot::Sender<Result<()>>,
}

enum Command {
    Write(Order),
    Stop(oneshot::Sender<()>),
}

/// The door to the task.
pub(super) struct Writer(mpsc::Sender<Command>);

impl Writer {
    /// Takes the lock of the index and starts the task.
    pub(super) async fn start(
        index: &Index,
        reader: &IndexReader,
        layout: &Layout,
        options: &Options,
        background: &TaskGroup,
    ) -> Result<Self> {
        let maker = Maker {
            index: index.clone(),
            reader: reader.clone(),
            layout: layout.clone(),
            heap: options.writer_heap,
        };
        let hand = maker.clone().make().await?;
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let task = WriterTask {
            maker,
            hand: Some(hand),
            receiver,
            stop: background.stop_signal(),
            options: options.clone(),
        };
        background.spawn("search.writer", task.run());
        Ok(Self(sender))
    }

    /// Makes changes, and returns when they are on the disk and found.
    pub(super) async fn write(&self, changes: Vec<Change>) -> Result<()> {
        let (done, outcome) = oneshot::channel();
        let order = Command::Write(Order { changes, done });
        self.0.send(order).await.map_err(|_| ended())?;
        outcome.await.map_err(|_| ended())?
    }

    /// Ends the task and gives the lock back.
    pub(super) async fn stop(&self) {
        let (done, ended) = oneshot::channel();
        if self.0.send(Command::Stop(done)).await.is_ok() {
            // An error says that it has ended, too.
            let _ = ended.await;
        }
    }
}

fn ended() -> mosaic_core::Error {
    unavailable("the writer has ended")
}

struct WriterTask {
    maker: Maker,
    hand: Option<Hand>,
    receiver: mpsc::Receiver<Command>,
    stop: StopSignal,
    options: Options,
}

impl WriterTask {
    async fn run(mut self) {
        loop {
            let first = tokio::select! {
                command = self.receiver.recv() => command,
                () = self.stop.stopped() => return,
            };
            match first {
                Some(Command::Write(order)) => {
                    if let Some(done) = self.write_with(order).await {
                        return self.end(done).await;
                    }
                }
                Some(Command::Stop(done)) => return self.end(done).await,
                None => return,
            }
        }
    }

    async fn end(self, done: oneshot::Sender<()>) {
        // Joins threads: not here.
        let _ = tokio::task::spawn_blocking(move || drop(self.hand)).await;
        let _ = done.send(());
    }

    /// Gathers what comes within a moment after `first`, and commits it; returns whom to tell if it is to stop then.
    async fn write_with(&mut self, first: Order) -> Option<oneshot::Sender<()>> {
        let until = Instant::now() + self.options.commit_interval;
        let mut n_changes = first.changes.len();
        let mut orders = vec![first];
        let mut stop = None;
        while n_changes < self.options.commit_size && stop.is_none() {
            match tokio::time::timeout_at(until, self.receiver.recv()).await {
                Ok(Some(Command::Write(order))) => {
                    n_changes += order.changes.len();
                    orders.push(order);
                }
                Ok(Some(Command::Stop(done))) => stop = Some(done),
                Ok(None) | Err(_) => break,
            }
        }
        let (batches, waiting): (Vec<_>, Vec<_>) = orders.into_iter().map(|order| (order.changes, order.done)).unzip();
        let outcome = self.commit(batches.into_iter().flatten().collect()).await;
        if let Err(error) = &outcome {
            tracing::warn!(cause = error.cause_chain(), n_changes, "changes of the index failed");
        }
        for done in waiting {
            // Whoever does not wait any more needs no answer.
            let _ = done.send(match &outcome {
                Ok(()) => Ok(()),
                Err(error) => Err(unavailable(error.cause_chain())),
            });
        }
        stop
    }

    async fn commit(&mut self, changes: Vec<Change>) -> Result<()> {
        let mut hand = match self.hand.take() {
            Some(hand) => hand,
            None => self.maker.clone().make().await?,
        };
        if changes.is_empty() {
            self.hand = Some(hand);
            return Ok(());
        }
        // A hand that fails or panics is lost, and what it had not committed with it.
        self.hand = Some(
            blocking(move || {
                hand.write(&changes)?;
                Ok(hand)
            })
            .await?,
        );
        Ok(())
    }
}

/// What a hand is made of.
#[derive(Clone)]
struct Maker {
    index: Index,
    reader: IndexReader,
    layout: Layout,
    heap: usize,
}

impl Maker {
    async fn make(self) -> Result<Hand> {
        blocking(move || {
            let writer = self.index.writer_with_num_threads(1, self.heap).map_err(failed)?;
            Ok(Hand {
                writer,
                reader: self.reader,
                layout: self.layout,
            })
        })
        .await
    }
}

/// Writes; blocks.
struct Hand {
    writer: IndexWriter,
    reader: IndexReader,
    layout: Layout,
}

impl Hand {
    fn write(&mut self, changes: &[Change]) -> Result<()> {
        // Versions that are in this batch; all others are committed.
        let mut versions: HashMap<&str, i64> = HashMap::new();
        for change in changes {
            let (id, version) = change.subject();
            let known = match versions.get(id) {
                Some(known) => Some(*known),
                None => self.committed_version(id)?,
            };
            if known.is_some_and(|known| known > version) {
                continue;
            }
            versions.insert(id, version);
            self.writer.delete_term(Term::from_field_text(self.layout.id, id));
            self.writer.add_document(self.document(change)?).map_err(unavailable)?;
        }
        self.writer.commit().map_err(unavailable)?;
        self.reader.reload().map_err(unavailable)
    }

    fn committed_version(&self, id: &str) -> Result<Option<i64>> {
        let searcher = self.reader.searcher();
        let Some((segment, document)) = search::find(&searcher, &self.layout, id)? else {
            return Ok(None);
        };
        let versions = segment.fast_fields().i64(Layout::VERSION).map_err(unavailable)?;
        Ok(versions.first(document))
    }

    /// A removal is a document without fields: no word finds it, and it keeps the version.
    fn document(&self, change: &Change) -> Result<TantivyDocument> {
        let (id, version) = change.subject();
        let mut document = TantivyDocument::default();
        document.add_text(self.layout.id, id);
        let field = self
            .writer
            .index()
            .schema()
            .get_field(Layout::VERSION)
            .map_err(unavailable)?;
        document.add_i64(field, version);
        if let Change::Put(Document { values, .. }) = change {
            for (name, value) in values {
                let field = self.layout.field(name)?;
                match value {
                    Value::Texts(texts) => texts.iter().for_each(|text| document.add_text(field, text)),
                    Value::Number(number) => document.add_i64(field, *number),
                }
            }
        }
        Ok(document)
    }
}
