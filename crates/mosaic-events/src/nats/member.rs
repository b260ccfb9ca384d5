//! A member of a group over NATS: keeps its seat in the background, and reads what it holds.
//!
//! As in the embedded bus, a keeper beats every third of the lease and leaves what the document says in a [`View`]; `next` says
//! the difference to what the member was told. When the document could not be written for a lease, the member takes all as
//! lost by its own clock: somebody else may have it by then.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use mosaic_core::{Result, TaskGroup};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::Inner;
use super::feed::{Fed, Feed, feed};
use super::group::{Held, Sightings};
use crate::broker;
use crate::bus::{Change, Delivered, Member, fenced};
use crate::names::TopicName;

/// Most events of a change.
const EVENTS_MAX: usize = 500;

/// What the document said last, and how long it surely holds.
#[derive(Debug, Clone)]
struct View {
    held: Vec<Held>,
    until: Instant,
}

/// One partition as the member goes through it.
struct Place {
    fence: i64,
    feed: Feed,
    is_paused: bool,
    is_revoked: bool,
}

/// A seat in a group.
pub(super) struct GroupMember {
    bus: Arc<Inner>,
    topic: TopicName,
    key: String,
    me: String,
    places: BTreeMap<u32, Place>,
    /// The partition that was read last.
    last: u32,
    view: watch::Receiver<View>,
    told: watch::Sender<View>,
    /// Held while the document is changed for this seat, so that no old answer overwrites a newer one.
    turn: Arc<tokio::sync::Mutex<()>>,
    keeper: TaskGroup,
    /// Rung when the keeper is to beat at once.
    bell: Arc<Notify>,
}

impl GroupMember {
    pub(super) fn new(bus: &Arc<Inner>, topic: &TopicName, key: String) -> Self {
        let told = watch::Sender::new(View {
            held: Vec::new(),
            until: Instant::now(),
        });
        let turn = Arc::<tokio::sync::Mutex<()>>::default();
        let bell = Arc::<Notify>::default();
        let me = bus.runtime.random_hex::<8>();
        let tasks = TaskGroup::new(|panic| tracing::error!(task = panic.task, panic.message, "a member panicked"));
        let keeper = Keeper {
            bus: bus.clone(),
            key: key.clone(),
            me: me.clone(),
            told: told.clone(),
            turn: turn.clone(),
            bell: bell.clone(),
        };
        tasks.spawn("events.nats.seat", keeper.run());
        Self {
            bus: bus.clone(),
            topic: topic.clone(),
            key,
            me,
            places: BTreeMap::new(),
            last: 0,
            view: told.subscribe(),
            told,
            turn,
            keeper: tasks,
            bell,
        }
    }

    /// Returns what the member was not yet told of the view.
    fn difference(&mut self) -> Option<Change> {
        let view = self.view.borrow_and_update().clone();
        let is_stale = view.until <= Instant::now();
        let held = |partition: u32| view.held.iter().find(|held| held.partition == partition && !is_stale);
        let mut places = self.places.iter();
        let lost = places.find(|(partition, place)| held(**partition).is_none_or(|held| held.fence != place.fence));
        if let Some((&partition, _)) = lost {
            self.places.remove(&partition);
            return Some(Change::Lost(partition));
        }
        for held in view.held.iter().filter(|_| !is_stale) {
            match self.places.get_mut(&held.partition) {
                None => {
                    let place = self.place(held);
                    self.places.insert(held.partition, place);
                    return Some(Change::Assigned(held.partition));
                }
                Some(place) if held.is_surplus && !place.is_revoked => {
                    place.is_revoked = true;
                    return Some(Change::Revoked(held.partition));
                }
                Some(_) => {}
            }
        }
        None
    }

    fn place(&self, held: &Held) -> Place {
        let (stream, subject) = (
            self.bus.stream(&self.topic),
            self.bus.subject(&self.topic, held.partition),
        );
        Place {
            fence: held.fence,
            feed: feed(&self.bus.jetstream, stream, subject, held.next),
            is_paused: false,
            is_revoked: false,
        }
    }

    /// Returns what is there of one partition, the next in turn that has something.
    fn poll_events(&mut self, cx: &mut Context<'_>) -> Poll<Change> {
        let mut partitions: Vec<u32> = self.places.keys().copied().collect();
        let n_first = partitions.partition_point(|partition| *partition <= self.last);
        partitions.rotate_left(n_first);
        for partition in partitions {
            let Some(place) = self.places.get_mut(&partition) else {
                continue;
            };
            if place.is_paused || place.is_revoked {
                continue;
            }
            let fed = drain(&mut place.feed, cx);
            let n_fed = fed.len();
            let events: Vec<Delivered> = fed
                .into_iter()
                .filter_map(|(position, fed)| delivered(&self.topic, position, &fed))
                .collect();
            if !events.is_empty() {
                self.last = partition;
                return Poll::Ready(Change::Events { partition, events });
            }
            // Nothing of it was ours: nobody wakes us for the rest.
            if n_fed > 0 {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    fn forget(&mut self, is_gone: impl Fn(&Held) -> bool) {
        self.told.send_modify(|view| view.held.retain(|held| !is_gone(held)));
    }
}

/// Returns what is there, and has `cx` woken for more.
fn drain(feed: &mut Feed, cx: &mut Context<'_>) -> Vec<Fed> {
    let mut fed = Vec::new();
    while fed.len() < EVENTS_MAX {
        match feed.poll_next_unpin(cx) {
            Poll::Ready(Some(message)) => fed.push(message),
            Poll::Ready(None) | Poll::Pending => break,
        }
    }
    fed
}

fn delivered(topic: &TopicName, position: u64, fed: &async_nats::jetstream::Message) -> Option<Delivered> {
    let head = fed.headers.as_ref().and_then(|headers| headers.get(broker::HEADER));
    let message = broker::message(topic, head.map(|head| head.as_str().as_bytes()), fed.payload.clone())?;
    Some(Delivered { position, message })
}

#[async_trait]
impl Member for GroupMember {
    async fn next(&mut self) -> Result<Change> {
        let mut view = self.view.clone();
        loop {
            if let Some(change) = self.difference() {
                return Ok(change);
            }
            view.mark_unchanged();
            let until = self.view.borrow().until;
            let has_places = !self.places.is_empty();
            tokio::select! {
                biased;
                // An error means that the keeper is gone; what it held runs out.
                _ = view.changed() => {}
                () = sleep_until(until), if has_places => {}
                change = poll_fn(|cx| self.poll_events(cx)) => return Ok(change),
            }
        }
    }

    fn pause(&mut self, partition: u32) {
        if let Some(place) = self.places.get_mut(&partition) {
            place.is_paused = true;
        }
    }

    fn resume(&mut self, partition: u32) {
        if let Some(place) = self.places.get_mut(&partition) {
            place.is_paused = false;
        }
    }

    async fn commit(&mut self, partition: u32, position: u64) -> Result<()> {
        let fence = self.places.get(&partition).ok_or_else(fenced)?.fence;
        match self
            .bus
            .groups
            .commit(&self.key, &self.me, partition, fence, position + 1)
            .await?
        {
            true => Ok(()),
            false => {
                self.bell.notify_one();
                Err(fenced())
            }
        }
    }

    async fn release(&mut self, partition: u32) -> Result<()> {
        let Some(fence) = self.places.get(&partition).map(|place| place.fence) else {
            return Ok(());
        };
        let turn = self.turn.clone();
        let _turn = turn.lock().await;
        self.bus.groups.release(&self.key, &self.me, partition, fence).await?;
        self.forget(|held| held.partition == partition);
        self.places.remove(&partition);
        Ok(())
    }

    async fn leave(&mut self) -> Result<()> {
        self.keeper.shutdown(Duration::ZERO).await;
        self.bus.groups.leave(&self.key, &self.me).await?;
        self.forget(|_| true);
        self.places.clear();
        Ok(())
    }
}

/// Keeps a seat.
struct Keeper {
    bus: Arc<Inner>,
    key: String,
    me: String,
    told: watch::Sender<View>,
    turn: Arc<tokio::sync::Mutex<()>>,
    bell: Arc<Notify>,
}

impl Keeper {
    async fn run(self) {
        let lease = self.bus.options.lease;
        // Others wait for what is given back no longer than this.
        let every = (lease / 3).min(Duration::from_secs(1));
        let mut seen = Sightings::new();
        loop {
            let asked = Instant::now();
            let turn = self.turn.lock().await;
            let beat = self.bus.groups.beat(&self.key, &self.me, lease, &mut seen);
            match timeout(lease / 2, beat).await {
                Ok(Ok(held)) => {
                    let until = asked + lease;
                    self.told.send_replace(View { held, until });
                }
                Ok(Err(error)) => {
                    let reason = error.reason();
                    tracing::warn!(reason, cause = error.cause_chain(), "cannot keep a seat in a group");
                }
                Err(_) => tracing::warn!("keeping a seat in a group takes too long"),
            }
            drop(turn);
            // It is time, or something changed: beat.
            let _ = timeout(every, self.bell.notified()).await;
        }
    }
}

/// A broadcast subscription.
pub(super) struct Listener {
    topic: TopicName,
    feed: Feed,
    /// Partitions not yet told.
    new: Vec<u32>,
    /// What came and was not yet told, by partition.
    waiting: BTreeMap<u32, Vec<Delivered>>,
    paused: Vec<u32>,
}

impl Listener {
    pub(super) fn new(bus: &Arc<Inner>, topic: &TopicName, n_partitions: u32, end: u64) -> Self {
        Self {
            topic: topic.clone(),
            feed: feed(&bus.jetstream, bus.stream(topic), bus.all_subjects(topic), end),
            new: (0..n_partitions).rev().collect(),
            waiting: BTreeMap::new(),
            paused: Vec::new(),
        }
    }

    /// Returns what waits of a partition that is not paused.
    fn take(&mut self) -> Option<Change> {
        let mut partitions = self.waiting.keys().copied();
        let partition = partitions.find(|partition| !self.paused.contains(partition))?;
        let events = self.waiting.remove(&partition)?;
        Some(Change::Events { partition, events })
    }

    fn keep(&mut self, fed: Vec<Fed>) {
        for (position, fed) in fed {
            let partition = fed.subject.rsplit('.').next().and_then(|token| token.parse().ok());
            let event = delivered(&self.topic, position, &fed);
            if let (Some(partition), Some(event)) = (partition, event) {
                self.waiting.entry(partition).or_default().push(event);
            }
        }
    }
}

#[async_trait]
impl Member for Listener {
    async fn next(&mut self) -> Result<Change> {
        if let Some(partition) = self.new.pop() {
            return Ok(Change::Assigned(partition));
        }
        loop {
            if let Some(change) = self.take() {
                return Ok(change);
            }
            // A partition that rests while others go on must not fill the memory.
            let is_full = self.waiting.values().map(Vec::len).sum::<usize>() >= 20 * EVENTS_MAX;
            if is_full {
                std::future::pending::<()>().await;
            }
            let fed = poll_fn(|cx| match drain(&mut self.feed, cx) {
                fed if fed.is_empty() => Poll::Pending,
                fed => Poll::Ready(fed),
            })
            .await;
            self.keep(fed);
        }
    }

    fn pause(&mut self, partition: u32) {
        self.paused.push(partition);
    }

    fn resume(&mut self, partition: u32) {
        self.paused.retain(|paused| *paused != partition);
    }

    async fn commit(&mut self, _partition: u32, _position: u64) -> Result<()> {
        Ok(())
    }

    async fn release(&mut self, _partition: u32) -> Result<()> {
        Ok(())
    }

    async fn leave(&mut self) -> Result<()> {
        Ok(())
    }
}
