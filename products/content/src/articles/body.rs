//! Where the texts that readers see are: in the row, or in the object store with only its key in the row.
//!
//! A text in the object store is written under a key of its own before the row names it, so that a publish is whole or not there
//! at all: until the commit nobody knows of the new text, and after it nobody asks for the old one. What no row names is dropped an
//! hour later by a task, which was enqueued before the text was written or with the change that left it behind; those who
//! had read the row just before still find theirs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mosaic::blob::{BlobKey, Blobs, ContentType};
use mosaic::tasks::{Options, Queue, Task, TaskContext, When};
use mosaic::{Context, Error, Module, Result, Tx};
use serde::{Deserialize, Serialize};

use super::model::CONTENT_BYTES_MAX;
use super::store::Store;

/// How long a text that no row names is kept.
const KEPT_FOR: Duration = Duration::from_secs(3600);

/// See the module documentation. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Bodies {
    /// In the row.
    Database,
    /// In the object store.
    Blobs {
        /// It.
        blobs: Arc<dyn Blobs>,
        /// For what is to be dropped later.
        queue: Queue,
    },
}

/// A text as its row names it.
pub(crate) enum Body {
    Here(String),
    There(BlobKey),
}

impl Body {
    /// Returns what the row has of the text.
    pub(crate) fn content(&self) -> &str {
        match self {
            Self::Here(content) => content,
            Self::There(_) => "",
        }
    }

    /// Returns where the rest is; empty: there is none.
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Here(_) => "",
            Self::There(key) => key.as_str(),
        }
    }
}

impl Bodies {
    /// Stores a text; nobody reads it before a row names it.
    ///
    /// # Errors
    /// `BLOBS_UNAVAILABLE` and those of the queue; then nothing names the text.
    pub(crate) async fn store(&self, cx: &Context, content: &str) -> Result<Body> {
        let Self::Blobs { blobs, queue } = self else {
            return Ok(Body::Here(content.to_owned()));
        };
        let key: BlobKey = format!("articles/{}", cx.runtime().random_hex::<16>()).parse()?;
        queue.enqueue(cx, &drop_body(key.as_str()), later()).await?;
        let text: ContentType = "text/plain".parse()?;
        blobs
            .put(&key, Bytes::copy_from_slice(content.as_bytes()), &text)
            .await?;
        Ok(Body::There(key))
    }

    /// Returns the text of a row.
    ///
    /// # Errors
    /// `BLOBS_UNAVAILABLE`; internal if the text is not where the row says.
    pub(crate) async fn load(&self, content: String, key: &str) -> Result<String> {
        if key.is_empty() {
            return Ok(content);
        }
        let Self::Blobs { blobs, .. } = self else {
            return Err(Error::internal(
                "an article's text is in an object store, and content.body names none",
            ));
        };
        let found = blobs.get(&key.parse()?, CONTENT_BYTES_MAX as u64).await?;
        let body = found.ok_or_else(|| Error::internal(format!("the text {key} is not in the object store")))?;
        String::from_utf8(body.bytes.into()).map_err(Error::internal)
    }

    /// Has the text of a row dropped that is about to name another one.
    pub(crate) async fn forget_in(&self, cx: &Context, tx: &Tx, key: &str) -> Result<()> {
        if !key.is_empty() {
            tx.enqueue_with(cx, &drop_body(key), later()).await?;
        }
        Ok(())
    }
}

/// Wires the task up.
pub(crate) fn install(m: &mut Module, store: &Store) -> Result<()> {
    m.on_task::<DropBody>(Arc::new(store.clone()))
}

fn drop_body(key: &str) -> DropBody {
    DropBody { key: key.to_owned() }
}

fn later() -> Options {
    Options {
        when: When::In(KEPT_FOR),
        ..Options::default()
    }
}

/// Drops a text unless a row names it.
#[derive(Serialize, Deserialize)]
struct DropBody {
    key: String,
}

impl Task for DropBody {
    const NAME: &'static str = "content.drop_body";
    type Needs = Store;
    type Output = ();

    async fn run(self, store: &Store, _: &TaskContext) -> Result<()> {
        match store.bodies() {
            Bodies::Blobs { blobs, .. } if !store.is_body(&self.key).await? => blobs.delete(&self.key.parse()?).await,
            _ => Ok(()),
        }
    }
}
