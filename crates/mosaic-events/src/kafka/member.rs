//! Members over Kafka: a thread reads and serves the group's callbacks, whether or not anybody asks for what is next.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::{Error, Result};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::client::Client;
use super::failed;
use super::shared::{Shared, unassign};
use crate::broker::{self, BrokerOptions};
use crate::bus::{Change, Delivered, Member, fenced, unavailable};
use crate::names::TopicName;

/// How long the thread waits for messages before it looks at what else there is to do.
const TURN: Duration = Duration::from_millis(50);

/// A member of a group, or one who listens alone.
pub(super) struct ConsumerMember {
    topic: String,
    shared: Shared,
    consumer: Arc<BaseConsumer<Shared>>,
    options: BrokerOptions,
    is_group: bool,
    /// A commit that may still wait for its answer.
    committing: Option<JoinHandle<KafkaResult<()>>>,
    /// Ends when the thread does.
    ended: Option<oneshot::Receiver<()>>,
}

impl ConsumerMember {
    pub(super) fn join(client: &Client, topic: &TopicName, group: &str, options: BrokerOptions) -> Result<Self> {
        let (consumer, shared) = new_consumer(client, group, options)?;
        consumer.subscribe(&[&client.topic(topic)]).map_err(failed)?;
        Self::start(client, topic, (consumer, shared), options, true)
    }

    /// Listens to all partitions from their ends on.
    pub(super) fn listen(
        client: &Client,
        topic: &TopicName,
        group: &str,
        ends: &[i64],
        options: BrokerOptions,
    ) -> Result<Self> {
        let (consumer, shared) = new_consumer(client, group, options)?;
        let (mut list, name) = (TopicPartitionList::new(), client.topic(topic));
        for (end, partition) in ends.iter().zip(0..) {
            list.add_partition_offset(&name, partition, Offset::Offset(*end))
                .map_err(failed)?;
        }
        consumer.assign(&list).map_err(failed)?;
        shared.assign(0..ends.len() as u32);
        Self::start(client, topic, (consumer, shared), options, false)
    }

    fn start(
        client: &Client,
        topic: &TopicName,
        (consumer, shared): (Arc<BaseConsumer<Shared>>, Shared),
        options: BrokerOptions,
        is_group: bool,
    ) -> Result<Self> {
        let (running, ended) = oneshot::channel();
        let reader = Reader {
            topic: topic.clone(),
            name: client.topic(topic),
            shared: shared.clone(),
            consumer: consumer.clone(),
            _running: running,
        };
        let thread = std::thread::Builder::new().name("events.kafka".to_owned());
        thread.spawn(move || reader.run()).map_err(Error::internal)?;
        Ok(Self {
            topic: client.topic(topic),
            shared,
            consumer,
            options,
            is_group,
            committing: None,
            ended: Some(ended),
        })
    }
}

impl ConsumerMember {
    async fn commit_once(&mut self, partition: u32, position: u64) -> KafkaResult<()> {
        // Answers of a broker that is away come when it is back: no second thread waits for them.
        if self.committing.as_ref().is_some_and(|earlier| !earlier.is_finished()) {
            return Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::OperationTimedOut));
        }
        let next = i64::try_from(position).unwrap_or(i64::MAX).saturating_add(1);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition as i32, Offset::Offset(next))?;
        let consumer = self.consumer.clone();
        let committing = tokio::task::spawn_blocking(move || consumer.commit(&list, CommitMode::Sync));
        let answer = timeout(self.options.timeout, self.committing.insert(committing)).await;
        answer
            .unwrap_or(Ok(Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::OperationTimedOut))))
            .unwrap_or(Err(KafkaError::Canceled))
    }
}

fn new_consumer(client: &Client, group: &str, options: BrokerOptions) -> Result<(Arc<BaseConsumer<Shared>>, Shared)> {
    let shared = Shared::new(options.lease);
    let consumer: BaseConsumer<Shared> = client.consumer(group, shared.clone())?;
    Ok((Arc::new(consumer), shared))
}

#[async_trait]
impl Member for ConsumerMember {
    async fn next(&mut self) -> Result<Change> {
        loop {
            // A ring between the look and the wait is kept.
            if let Some(change) = self.shared.change() {
                return Ok(change);
            }
            self.shared.bell.notified().await;
        }
    }

    fn pause(&mut self, partition: u32) {
        self.shared.set_paused(partition, true);
    }

    fn resume(&mut self, partition: u32) {
        self.shared.set_paused(partition, false);
    }

    async fn commit(&mut self, partition: u32, position: u64) -> Result<()> {
        if !self.is_group {
            return Ok(());
        }
        let deadline = Instant::now() + self.options.timeout;
        loop {
            if !self.shared.has(partition) {
                return Err(fenced());
            }
            match self.commit_once(partition, position).await {
                // While a group changes, answers speak of generations; whether the partition is ours is heard in a moment.
                Err(error) if is_rebalance(&error) && Instant::now() < deadline => sleep(TURN).await,
                Err(error) => return Err(failed(error)),
                Ok(()) => return Ok(()),
            }
        }
    }

    async fn release(&mut self, partition: u32) -> Result<()> {
        self.shared.release(partition);
        Ok(())
    }

    async fn leave(&mut self) -> Result<()> {
        self.shared.close();
        match self.ended.take() {
            // An error is how the end of the thread looks.
            Some(ended) => timeout(self.options.lease, ended)
                .await
                .map(|_| ())
                .map_err(unavailable),
            None => Ok(()),
        }
    }
}

impl Drop for ConsumerMember {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// Does the error of a commit say that the group is changing, or that it has changed without us?
fn is_rebalance(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(
        code,
        Some(
            RDKafkaErrorCode::UnknownMemberId
                | RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::RebalanceInProgress
                | RDKafkaErrorCode::AssignmentLost
        )
    )
}

/// What the thread does.
struct Reader {
    topic: TopicName,
    name: String,
    shared: Shared,
    consumer: Arc<BaseConsumer<Shared>>,
    _running: oneshot::Sender<()>,
}

impl Reader {
    fn run(self) {
        while !self.shared.is_closing() {
            match self.consumer.poll(TURN) {
                Some(Ok(message)) => self.put(&message),
                // It tries again by itself; a partition that is away comes back.
                Some(Err(error)) => tracing::debug!(topic = self.name, "cannot read events: {error}"),
                None => {}
            }
            if let Some(list) = self.shared.take_released() {
                unassign(&self.consumer, &list);
            }
            self.throttle();
        }
        if let Some(list) = self.shared.take_released() {
            unassign(&self.consumer, &list);
        }
        // The group is left when the consumer is dropped, here or with the member, whoever is last.
        if let Err(error) = self.consumer.close_queue() {
            tracing::debug!(topic = self.name, "cannot leave a group: {error}");
            return;
        }
        while !self.consumer.closed() {
            self.consumer.poll(TURN);
        }
    }

    fn put(&self, message: &BorrowedMessage<'_>) {
        let headers = message.headers();
        let head = headers.and_then(|headers| headers.iter().find(|header| header.key == broker::HEADER)?.value);
        let payload = message.payload().unwrap_or_default().to_vec();
        let Some(event) = broker::message(&self.topic, head, payload.into()) else {
            return;
        };
        let position = u64::try_from(message.offset()).unwrap_or(0);
        self.shared.put(
            message.partition() as u32,
            Delivered {
                position,
                message: event,
            },
        );
    }

    /// Leaves with the broker what the member has no room for.
    fn throttle(&self) {
        let (stop, go) = self.shared.throttle();
        let list = |partitions: &[u32]| {
            let mut list = TopicPartitionList::new();
            for partition in partitions {
                list.add_partition(&self.name, *partition as i32);
            }
            list
        };
        if !stop.is_empty()
            && let Err(error) = self.consumer.pause(&list(&stop))
        {
            tracing::debug!(topic = self.name, "cannot pause partitions: {error}");
        }
        if !go.is_empty()
            && let Err(error) = self.consumer.resume(&list(&go))
        {
            tracing::debug!(topic = self.name, "cannot resume partitions: {error}");
        }
    }
}
