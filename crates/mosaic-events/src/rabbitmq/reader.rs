//! One queue, read in the background, whatever becomes of the connection.
//!
//! A task keeps a channel with a consumer on the queue and puts what comes into a [`Hand`]; when the channel is lost, so is what
//! was in hand, and the broker hands it out again. A channel of its own for each queue: acknowledging everything up to a
//! delivery means that queue alone.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use mosaic_core::Result;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;

use super::Inner;
use crate::bus::{fenced, unavailable};

/// Most messages of a queue that are handed out and not acknowledged.
const PREFETCH: u16 = 1000;
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a channel may take to close.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// What came of a queue. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Hand(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Rung when something changed; one for all queues of a member.
    bell: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Delivery>,
    channel: Option<Channel>,
    /// Was something handed out that was lost since?
    is_lost: bool,
    n_received: u64,
    n_acknowledged: u64,
}

impl Hand {
    pub(super) fn new(bell: &Arc<Notify>) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            bell: bell.clone(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many messages are in hand.
    pub(super) fn count(&self) -> u64 {
        let state = self.state();
        state.n_received - state.n_acknowledged
    }

    /// Was what was taken lost since this was asked last?
    pub(super) fn take_lost(&self) -> bool {
        std::mem::take(&mut self.state().is_lost)
    }

    /// Takes at most `n` messages.
    pub(super) fn take(&self, n: usize) -> Vec<Delivery> {
        let mut state = self.state();
        let n = n.min(state.waiting.len());
        state.waiting.drain(..n).collect()
    }

    /// Acknowledges everything up to a delivery.
    pub(super) async fn acknowledge(&self, tag: u64) -> Result<()> {
        let channel = {
            let state = self.state();
            state.channel.clone().filter(|_| !state.is_lost).ok_or_else(fenced)?
        };
        if tag <= self.state().n_acknowledged {
            return Ok(());
        }
        let acknowledged = channel.basic_ack(tag, BasicAckOptions { multiple: true }).await;
        acknowledged.map_err(unavailable)?;
        let mut state = self.state();
        // Tags count the deliveries of a channel; another channel may have come meanwhile.
        if state.channel.as_ref().is_some_and(|now| now.id() == channel.id()) {
            state.n_acknowledged = tag.min(state.n_received);
        }
        Ok(())
    }

    fn open(&self, channel: Channel) {
        let mut state = self.state();
        state.channel = Some(channel);
        (state.n_received, state.n_acknowledged) = (0, 0);
    }

    fn put(&self, delivery: Delivery) {
        let mut state = self.state();
        state.n_received = delivery.delivery_tag;
        state.waiting.push_back(delivery);
        drop(state);
        self.0.bell.notify_one();
    }

    fn lose(&self) {
        let mut state = self.state();
        state.is_lost |= state.n_received > 0;
        state.waiting.clear();
        (state.n_received, state.n_acknowledged) = (0, 0);
        state.channel = None;
        drop(state);
        self.0.bell.notify_one();
    }
}

/// Tells readers to end, when it is dropped or asked to; they give back what is in hand.
#[derive(Debug)]
pub(super) struct Readers {
    stop: watch::Sender<bool>,
    /// Ends when all readers have.
    ended: mpsc::Receiver<()>,
    /// What every reader gets.
    tools: Tools,
}

#[derive(Debug, Clone)]
struct Tools {
    stop: watch::Receiver<bool>,
    _is_running: Option<mpsc::Sender<()>>,
}

impl Readers {
    pub(super) fn new() -> Self {
        let (stop, stopping) = watch::channel(false);
        let (is_running, ended) = mpsc::channel(1);
        let tools = Tools {
            stop: stopping,
            _is_running: Some(is_running),
        };
        Self { stop, ended, tools }
    }

    /// Starts to read a queue.
    pub(super) fn start(&self, bus: &Arc<Inner>, queue: &str, hand: &Hand) {
        let (tools, weak, queue, hand) = (self.tools.clone(), Arc::downgrade(bus), queue.to_owned(), hand.clone());
        bus.tasks.spawn("events.rabbitmq.read", async move {
            read(weak, &queue, &hand, tools.stop).await
        });
    }

    /// Waits until everything in hand is given back.
    pub(super) async fn stop(&mut self) {
        self.stop.send_replace(true);
        self.tools._is_running = None;
        while self.ended.recv().await.is_some() {}
    }
}

/// Reads a queue until told to stop, or the bus is gone.
///
/// Not cut in the middle: a channel whose consumer was never answered would stay open, and hold what the broker hands out.
async fn read(bus: Weak<Inner>, queue: &str, hand: &Hand, mut stop: watch::Receiver<bool>) {
    let mut pause = PAUSE_MIN;
    while !is_stopping(&stop) {
        let Some(bus) = bus.upgrade() else { return };
        let consuming = consume(&bus, queue).await;
        drop(bus);
        match consuming {
            Ok((channel, mut consumer)) => {
                hand.open(channel.clone());
                loop {
                    tokio::select! {
                        biased;
                        _ = stop.changed() => break,
                        delivery = consumer.next() => match delivery {
                            Some(Ok(delivery)) => hand.put(delivery),
                            Some(Err(_)) | None => break,
                        }
                    }
                    pause = PAUSE_MIN;
                }
                hand.lose();
                // A channel that is gone is as good.
                let _ = timeout(CLOSE_MAX, channel.close(200, "left".into())).await;
            }
            Err(error) => tracing::debug!(queue, cause = error.cause_chain(), "cannot read a queue"),
        }
        // Returns at once when told to stop.
        let _ = timeout(pause, stop.changed()).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn is_stopping(stop: &watch::Receiver<bool>) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}

async fn consume(bus: &Inner, queue: &str) -> Result<(Channel, Consumer)> {
    let channel = bus.reading.channel().await?;
    let consuming = async {
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        channel
            .basic_consume(queue.into(), "".into(), options, FieldTable::default())
            .await
    };
    let consumer = timeout(bus.options.timeout, consuming).await;
    let consumer = consumer.map_err(unavailable)?.map_err(unavailable)?;
    Ok((channel, consumer))
}
