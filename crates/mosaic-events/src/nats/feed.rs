//! Messages of a stream from a position on, whatever happens on the way.
//!
//! A consumer without a name and without acknowledgements, made anew from the last position whenever it fails, skips a message
//! or is silent: it lives in the memory of one server, and goes when that server does.

use std::pin::Pin;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::{self, Message};
use futures::{Stream, StreamExt as _, stream};
use tokio::time::sleep;

/// Most messages and bytes that are on their way.
const BATCH_MAX: usize = 500;
/// A silence twice as long means that the consumer is gone.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long the broker keeps a consumer that nobody asks.
const UNUSED_MAX: Duration = Duration::from_secs(60);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A message and its position in the stream.
pub(super) type Fed = (u64, Message);

/// Never ends.
pub(super) type Feed = Pin<Box<dyn Stream<Item = Fed> + Send>>;

struct Source {
    jetstream: jetstream::Context,
    stream: String,
    subjects: String,
    next: u64,
    open: Option<Open>,
    pause: Duration,
}

struct Open {
    messages: pull::Stream,
    n_delivered: u64,
}

/// Returns messages of `subjects` from position `next` on.
pub(super) fn feed(jetstream: &jetstream::Context, stream: String, subjects: String, next: u64) -> Feed {
    let source = Source {
        jetstream: jetstream.clone(),
        stream,
        subjects,
        next: next.max(1),
        open: None,
        pause: PAUSE_MIN,
    };
    stream::unfold(source, |mut source| async move {
        let fed = source.fed().await;
        Some((fed, source))
    })
    .boxed()
}

impl Source {
    async fn fed(&mut self) -> Fed {
        loop {
            if let Some(fed) = self.read().await {
                return fed;
            }
            self.open = None;
            match self.consume().await {
                Ok(messages) => {
                    self.open = Some(Open {
                        messages,
                        n_delivered: 0,
                    })
                }
                Err(error) => {
                    tracing::debug!(stream = self.stream, "cannot read the stream: {error}");
                    sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Returns the next message; `None` if the consumer is of no more use.
    async fn read(&mut self) -> Option<Fed> {
        let open = self.open.as_mut()?;
        let message = open.messages.next().await?.ok()?;
        let (position, n_delivered) = message
            .info()
            .ok()
            .map(|info| (info.stream_sequence, info.consumer_sequence))?;
        open.n_delivered += 1;
        // One was lost between the server and us.
        if n_delivered != open.n_delivered {
            return None;
        }
        self.next = position + 1;
        self.pause = PAUSE_MIN;
        Some((position, message))
    }

    async fn consume(&self) -> Result<pull::Stream, async_nats::Error> {
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: self.next,
            },
            ack_policy: AckPolicy::None,
            filter_subject: self.subjects.clone(),
            inactive_threshold: UNUSED_MAX,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let consumer = self
            .jetstream
            .create_consumer_on_stream(config, self.stream.as_str())
            .await?;
        let stream = consumer.stream().max_messages_per_batch(BATCH_MAX).heartbeat(HEARTBEAT);
        Ok(stream.messages().await?)
    }
}
