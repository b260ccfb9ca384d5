//! A member of the embedded bus: reads what it holds, and keeps its seat in the background.
//!
//! A keeper beats for the seat every third of the lease (and at once when a partition became free); it leaves what the store
//! said in a [`View`]. `next` compares that with what the member was told and says the difference, so nothing depends on
//! a message between the two being seen. When the store has not answered for a lease, the member takes all as lost by its
//! own monotonic clock: somebody else may have it by then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::{Result, TaskGroup};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::bus::{Inner, Known};
use super::{Bounds, Held, Log, Seat};
use crate::bus::{Change, Member, fenced};
use crate::names::TopicName;

/// What the store said last, and how long it surely holds.
#[derive(Debug, Clone)]
struct View {
    held: Vec<Held>,
    until: Instant,
}

/// One partition as the member goes through it.
#[derive(Debug)]
struct Place {
    fence: i64,
    next: u64,
    is_paused: bool,
    is_revoked: bool,
}

/// Reading of some partitions of a topic.
struct Reader {
    bus: Arc<Inner>,
    topic: TopicName,
    news: watch::Receiver<()>,
    places: BTreeMap<u32, Place>,
    /// Ends as last seen.
    ends: BTreeMap<u32, u64>,
    /// The partition that was read last.
    last: u32,
    pause: Duration,
}

impl Reader {
    fn new(bus: &Arc<Inner>, topic: &TopicName, known: &Known) -> Self {
        Self {
            bus: bus.clone(),
            topic: topic.clone(),
            news: known.news.subscribe(),
            places: BTreeMap::new(),
            ends: BTreeMap::new(),
            last: 0,
            pause: bus.options.poll_min,
        }
    }

    /// Returns events of one partition, the next in turn that has some.
    async fn read(&mut self) -> Result<Option<Change>> {
        if let Some(change) = self.read_known().await? {
            return Ok(Some(change));
        }
        if self.places.values().all(|place| place.is_paused || place.is_revoked) {
            return Ok(None);
        }
        self.news.mark_unchanged();
        let ends = self.bus.log.ends(&self.topic).await?;
        self.ends = ends.into_iter().map(|bounds| (bounds.partition, bounds.end)).collect();
        self.read_known().await
    }

    async fn read_known(&mut self) -> Result<Option<Change>> {
        while let Some((partition, next, end)) = self.turn() {
            let max = self.bus.options.fetch_bytes;
            let events = self.bus.log.fetch(&self.topic, partition, next, max).await?;
            self.last = partition;
            let Some(place) = self.places.get_mut(&partition) else {
                continue;
            };
            match events.last() {
                // What was there is deleted.
                None => place.next = end,
                Some(last) => {
                    place.next = last.position + 1;
                    return Ok(Some(Change::Events { partition, events }));
                }
            }
        }
        Ok(None)
    }

    /// Returns a partition that has something to read, with where to begin and where it ends.
    fn turn(&self) -> Option<(u32, u64, u64)> {
        let later = self.places.range(self.last.saturating_add(1)..);
        let mut places = later.chain(self.places.range(..=self.last));
        places.find_map(|(partition, place)| {
            let end = *self.ends.get(partition)?;
            let is_open = !place.is_paused && !place.is_revoked && place.next < end;
            is_open.then_some((*partition, place.next, end))
        })
    }

    /// Waits until there may be something to read.
    async fn rest(&mut self) {
        let is_rung = timeout(self.pause, self.news.changed()).await.is_ok();
        self.pause = match is_rung {
            true => self.bus.options.poll_min,
            false => (self.pause * 2).min(self.bus.options.poll_max),
        };
    }

    fn set_paused(&mut self, partition: u32, is_paused: bool) {
        if let Some(place) = self.places.get_mut(&partition) {
            place.is_paused = is_paused;
        }
    }
}

/// A seat in a group.
pub(super) struct GroupMember {
    reader: Reader,
    seat: Seat,
    view: watch::Receiver<View>,
    told: watch::Sender<View>,
    /// Held while the store is asked about the seat, so that no old answer overwrites a newer one.
    turn: Arc<tokio::sync::Mutex<()>>,
    keeper: TaskGroup,
}

impl GroupMember {
    pub(super) fn new(bus: &Arc<Inner>, seat: Seat, known: &Known) -> Self {
        let told = watch::Sender::new(View {
            held: Vec::new(),
            until: Instant::now(),
        });
        let turn = Arc::<tokio::sync::Mutex<()>>::default();
        let tasks = TaskGroup::new(|panic| tracing::error!(task = panic.task, panic.message, "a member panicked"));
        let keeper = Keeper {
            log: bus.log.clone(),
            seat: seat.clone(),
            moves: bus.moves.subscribe(),
            told: told.clone(),
            turn: turn.clone(),
        };
        tasks.spawn("events.seat", keeper.run());
        Self {
            reader: Reader::new(bus, &seat.of.topic, known),
            seat,
            view: told.subscribe(),
            told,
            turn,
            keeper: tasks,
        }
    }

    /// Returns what the member was not yet told of the view.
    fn difference(&mut self) -> Option<Change> {
        let view = self.view.borrow_and_update().clone();
        let is_stale = view.until <= Instant::now();
        let held = |partition: u32| view.held.iter().find(|held| held.partition == partition && !is_stale);
        let places = &mut self.reader.places;
        let lost = places
            .iter()
            .find(|(partition, place)| held(**partition).is_none_or(|h| h.fence != place.fence));
        if let Some((&partition, _)) = lost {
            places.remove(&partition);
            return Some(Change::Lost(partition));
        }
        for held in view.held.iter().filter(|_| !is_stale) {
            let Some(place) = places.get_mut(&held.partition) else {
                let place = Place {
                    fence: held.fence,
                    next: held.next,
                    is_paused: false,
                    is_revoked: false,
                };
                places.insert(held.partition, place);
                return Some(Change::Assigned(held.partition));
            };
            if held.is_surplus && !place.is_revoked {
                place.is_revoked = true;
                return Some(Change::Revoked(held.partition));
            }
        }
        None
    }

    fn forget(&mut self, is_gone: impl Fn(&Held) -> bool) {
        self.told.send_modify(|view| view.held.retain(|held| !is_gone(held)));
    }
}

#[async_trait]
impl Member for GroupMember {
    async fn next(&mut self) -> Result<Change> {
        loop {
            if let Some(change) = self.difference() {
                return Ok(change);
            }
            if let Some(change) = self.reader.read().await? {
                self.reader.pause = self.reader.bus.options.poll_min;
                return Ok(change);
            }
            let until = self.view.borrow().until;
            let has_places = !self.reader.places.is_empty();
            tokio::select! {
                () = self.reader.rest() => {}
                // An error means that the keeper is gone; what it held runs out.
                _ = self.view.changed() => {}
                () = tokio::time::sleep_until(until), if has_places => {}
            }
        }
    }

    fn pause(&mut self, partition: u32) {
        self.reader.set_paused(partition, true);
    }

    fn resume(&mut self, partition: u32) {
        self.reader.set_paused(partition, false);
    }

    async fn commit(&mut self, partition: u32, position: u64) -> Result<()> {
        let fence = self.reader.places.get(&partition).ok_or_else(fenced)?.fence;
        let log = &self.reader.bus.log;
        match log.commit(&self.seat, partition, fence, position + 1).await? {
            true => Ok(()),
            false => Err(fenced()),
        }
    }

    async fn release(&mut self, partition: u32) -> Result<()> {
        let Some(fence) = self.reader.places.get(&partition).map(|place| place.fence) else {
            return Ok(());
        };
        let turn = self.turn.clone();
        let _turn = turn.lock().await;
        self.reader.bus.log.release(&self.seat, partition, fence).await?;
        self.forget(|held| held.partition == partition);
        self.reader.places.remove(&partition);
        self.reader.bus.moves.send_replace(());
        Ok(())
    }

    async fn leave(&mut self) -> Result<()> {
        self.keeper.shutdown(Duration::ZERO).await;
        self.reader.bus.log.leave(&self.seat).await?;
        self.forget(|_| true);
        self.reader.places.clear();
        self.reader.bus.moves.send_replace(());
        Ok(())
    }
}

/// Keeps a seat.
struct Keeper {
    log: Arc<dyn Log>,
    seat: Seat,
    moves: watch::Receiver<()>,
    told: watch::Sender<View>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Keeper {
    async fn run(mut self) {
        // Others wait for seats of other processes no longer than this.
        let every = (self.seat.lease / 3).min(Duration::from_secs(1));
        loop {
            self.moves.mark_unchanged();
            let asked = Instant::now();
            let answer = {
                let _turn = self.turn.lock().await;
                let answer = timeout(self.seat.lease / 2, self.log.beat(&self.seat)).await;
                if let Ok(Ok(held)) = &answer {
                    let until = asked + self.seat.lease;
                    let held = held.clone();
                    self.told.send_replace(View { held, until });
                }
                answer
            };
            match answer {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(
                        reason = error.reason(),
                        cause = error.cause_chain(),
                        "cannot keep a seat in a group"
                    );
                }
                Err(_) => tracing::warn!("keeping a seat in a group takes too long"),
            }
            // The bus is gone, or it is time, or a partition is free: beat.
            let _ = timeout(every, self.moves.changed()).await;
        }
    }
}

/// A broadcast subscription.
pub(super) struct Listener {
    reader: Reader,
    /// Partitions not yet told.
    new: Vec<u32>,
}

impl Listener {
    pub(super) fn new(bus: &Arc<Inner>, topic: &TopicName, known: &Known, ends: &[Bounds]) -> Self {
        let mut reader = Reader::new(bus, topic, known);
        for bounds in ends {
            let place = Place {
                fence: 0,
                next: bounds.end,
                is_paused: false,
                is_revoked: false,
            };
            reader.places.insert(bounds.partition, place);
        }
        Self {
            new: reader.places.keys().rev().copied().collect(),
            reader,
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
            if let Some(change) = self.reader.read().await? {
                self.reader.pause = self.reader.bus.options.poll_min;
                return Ok(change);
            }
            self.reader.rest().await;
        }
    }

    fn pause(&mut self, partition: u32) {
        self.reader.set_paused(partition, true);
    }

    fn resume(&mut self, partition: u32) {
        self.reader.set_paused(partition, false);
    }

    async fn commit(&mut self, _partition: u32, _position: u64) -> Result<()> {
        Ok(())
    }

    async fn release(&mut self, _partition: u32) -> Result<()> {
        Ok(())
    }

    async fn leave(&mut self) -> Result<()> {
        self.reader.places.clear();
        Ok(())
    }
}
