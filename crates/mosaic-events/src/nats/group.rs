//! Groups: one document each, changed by compare-and-set.
//!
//! Who gives no sign is dead by the watch of whoever looks: every member counts its beats up in the document, and a count
//! that did not change for a lease, by the looker's own monotonic clock, belongs to a dead one. No two clocks are compared. Who
//! is late finds its partitions with a higher fencing number: its commits are refused.
//!
//! One document makes every change of a group atomic; it is written some times a second for each partition that has events. That
//! suits dozens of members, not hundreds.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::kv::{self, CreateErrorKind, UpdateErrorKind};
use mosaic_core::{Error, Result, Runtime, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use crate::bus::unavailable;
use crate::log::group::{Row, plan};

/// How often a change is tried that others overtake.
const ATTEMPTS_MAX: u32 = 50;

/// A group as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Group {
    /// Beats of each member.
    pub(super) members: BTreeMap<String, u64>,
    /// By partition.
    pub(super) places: Vec<Place>,
}

/// One partition of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) owner: Option<String>,
    /// Rises with each grant and each move.
    pub(super) fence: i64,
    /// Where to go on reading.
    pub(super) next: u64,
}

/// A partition that a member has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) partition: u32,
    pub(super) fence: i64,
    pub(super) next: u64,
    /// Somebody else should have it.
    pub(super) is_surplus: bool,
}

/// What one process has seen of the members of a group: the last beat of each, and when it was new.
pub(super) type Sightings = HashMap<String, (u64, Instant)>;

/// The groups of a bus.
#[derive(Debug)]
pub(super) struct Groups {
    jetstream: jetstream::Context,
    runtime: Runtime,
    bucket: String,
    replicas: usize,
    store: OnceCell<kv::Store>,
    /// Documents as they were written last, with their revisions.
    known: Mutex<HashMap<String, (Arc<Group>, u64)>>,
}

impl Groups {
    pub(super) fn new(jetstream: &jetstream::Context, runtime: &Runtime, prefix: &str, replicas: usize) -> Self {
        Self {
            jetstream: jetstream.clone(),
            runtime: runtime.clone(),
            bucket: format!("{prefix}_groups"),
            replicas,
            store: OnceCell::new(),
            known: Mutex::default(),
        }
    }

    async fn store(&self) -> Result<&kv::Store> {
        let opened = self.store.get_or_try_init(async || {
            if let Ok(store) = self.jetstream.get_key_value(&self.bucket).await {
                return Ok(store);
            }
            let config = kv::Config {
                bucket: self.bucket.clone(),
                history: 1,
                num_replicas: self.replicas,
                ..kv::Config::default()
            };
            self.jetstream.create_key_value(config).await
        });
        opened.await.map_err(unavailable)
    }

    /// Makes a group unless it is there.
    pub(super) async fn open(&self, key: &str, n_partitions: u32, next: u64) -> Result<()> {
        let place = Place {
            next,
            ..Place::default()
        };
        let group = Group {
            members: BTreeMap::new(),
            places: vec![place; n_partitions as usize],
        };
        match self.store().await?.create(key, written(&group)?).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == CreateErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Reads a group.
    pub(super) async fn find(&self, key: &str) -> Result<Option<Arc<Group>>> {
        Ok(self.read(key).await?.map(|(group, _)| group))
    }

    async fn read(&self, key: &str) -> Result<Option<(Arc<Group>, u64)>> {
        let entry = self.store().await?.entry(key).await.map_err(unavailable)?;
        let Some(entry) = entry.filter(|entry| entry.operation == kv::Operation::Put) else {
            return Ok(None);
        };
        let group: Group = serde_json::from_slice(&entry.value).map_err(Error::internal)?;
        Ok(Some((Arc::new(group), entry.revision)))
    }

    fn known(&self, key: &str) -> Option<(Arc<Group>, u64)> {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned()
    }

    fn learn(&self, key: &str, known: Option<(Arc<Group>, u64)>) {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known {
            Some(known) => all.insert(key.to_owned(), known),
            None => all.remove(key),
        };
    }

    /// Changes a group by `decide`, which is asked again whenever somebody else was faster; nothing is written if it changes
    /// nothing, unless what it decided upon was remembered and not read.
    async fn update<T>(&self, key: &str, mut decide: impl FnMut(&mut Group) -> T) -> Result<T> {
        let mut remembered = self.known(key);
        for attempt in 0..ATTEMPTS_MAX {
            let (was_remembered, found) = match remembered.take() {
                Some(known) => (true, Some(known)),
                None => (false, self.read(key).await?),
            };
            let (group, revision) = found.ok_or_else(|| unavailable("the group is gone"))?;
            let mut changed = Group::clone(&group);
            let decided = decide(&mut changed);
            if changed == *group && !was_remembered {
                return Ok(decided);
            }
            match self.store().await?.update(key, written(&changed)?, revision).await {
                Ok(revision) => {
                    self.learn(key, Some((Arc::new(changed), revision)));
                    return Ok(decided);
                }
                Err(error) => {
                    self.learn(key, None);
                    if error.kind() != UpdateErrorKind::WrongLastRevision {
                        return Err(unavailable(error));
                    }
                }
            }
            // Those who were too late do not come back in step.
            let longest = 200 * u64::from(attempt + 1).min(50);
            sleep(Duration::from_micros(self.runtime.random_below(longest))).await;
        }
        Err(unavailable("too many change the group at once"))
    }

    /// Keeps a seat, and takes what its member should have and nobody holds.
    pub(super) async fn beat(&self, key: &str, me: &str, lease: Duration, seen: &mut Sightings) -> Result<Vec<Held>> {
        self.update(key, |group| {
            let is_dead = look(group, me, lease, seen);
            beat(group, me, &is_dead)
        })
        .await
    }

    /// Stores that reading goes on at `next`, unless that moves it back; `false` if the partition is not held under this fence.
    pub(super) async fn commit(&self, key: &str, me: &str, partition: u32, fence: i64, next: u64) -> Result<bool> {
        self.update(key, |group| match held(group, me, partition, fence) {
            Some(place) => {
                place.next = place.next.max(next);
                true
            }
            None => false,
        })
        .await
    }

    /// Gives up a partition, if it is held under this fence.
    pub(super) async fn release(&self, key: &str, me: &str, partition: u32, fence: i64) -> Result<()> {
        self.update(key, |group| {
            if let Some(place) = held(group, me, partition, fence) {
                place.owner = None;
            }
        })
        .await
    }

    /// Gives up a seat and every partition.
    pub(super) async fn leave(&self, key: &str, me: &str) -> Result<()> {
        self.update(key, |group| {
            group.members.remove(me);
            let mine = group
                .places
                .iter_mut()
                .filter(|place| place.owner.as_deref() == Some(me));
            mine.for_each(|place| place.owner = None);
        })
        .await
    }

    /// Moves a group, or one partition of it; who held it has lost it.
    pub(super) async fn seek(&self, key: &str, only: Option<u32>, next: u64) -> Result<()> {
        self.update(key, |group| {
            let moved = group.places.iter_mut().zip(0..);
            for (place, _) in moved.filter(|(_, partition)| only.is_none_or(|only| only == *partition)) {
                place.fence += 1;
                place.next = next;
            }
        })
        .await
    }
}

fn written(group: &Group) -> Result<bytes::Bytes> {
    Ok(serde_json::to_vec(group).map_err(Error::internal)?.into())
}

fn held<'a>(group: &'a mut Group, me: &str, partition: u32, fence: i64) -> Option<&'a mut Place> {
    let place = group.places.get_mut(partition as usize)?;
    (place.owner.as_deref() == Some(me) && place.fence == fence).then_some(place)
}

/// Notes the beats of all members; returns those whose count rests for a lease.
fn look(group: &Group, me: &str, lease: Duration, seen: &mut Sightings) -> Vec<String> {
    let now = Instant::now();
    seen.retain(|member, _| group.members.contains_key(member));
    let others = group.members.iter().filter(|(member, _)| *member != me);
    let mut dead = Vec::new();
    for (member, beats) in others {
        let (last, since) = seen.entry(member.clone()).or_insert((*beats, now));
        if last != beats {
            (*last, *since) = (*beats, now);
        } else if now.duration_since(*since) >= lease {
            dead.push(member.clone());
        }
    }
    dead
}

/// One beat of `me`: the dead go, what is free is taken as far as the share of `me` goes.
fn beat(group: &mut Group, me: &str, dead: &[String]) -> Vec<Held> {
    group.members.retain(|member, _| !dead.contains(member));
    *group.members.entry(me.to_owned()).or_insert(0) += 1;
    let members: Vec<String> = group.members.keys().cloned().collect();
    for place in &mut group.places {
        place.owner = place.owner.take().filter(|owner| members.contains(owner));
    }
    let row = |(place, partition): (&Place, u32)| Row {
        partition,
        owner: place.owner.clone(),
        fence: place.fence,
        lease_until: Timestamp::from_micros(i64::MAX),
        next: place.next,
    };
    let rows: Vec<Row> = group.places.iter().zip(0..).map(row).collect();
    let plan = plan(&rows, &members, me, Timestamp::EPOCH);
    for partition in &plan.take {
        let place = &mut group.places[*partition as usize];
        place.owner = Some(me.to_owned());
        place.fence += 1;
    }
    let mine = group
        .places
        .iter()
        .zip(0..)
        .filter(|(place, _)| place.owner.as_deref() == Some(me));
    mine.map(|(place, partition)| Held {
        partition,
        fence: place.fence,
        next: place.next,
        is_surplus: plan.give.contains(&partition),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(n_partitions: usize) -> Group {
        Group {
            members: BTreeMap::new(),
            places: vec![Place::default(); n_partitions],
        }
    }

    fn partitions(held: &[Held]) -> Vec<(u32, bool)> {
        held.iter().map(|held| (held.partition, held.is_surplus)).collect()
    }

    #[test]
    fn the_second_member_gets_half_when_the_first_gives_it() {
        let mut group = group(2);
        assert_eq!(partitions(&beat(&mut group, "a", &[])), [(0, false), (1, false)]);
        assert_eq!(beat(&mut group, "b", &[]), []);
        assert_eq!(partitions(&beat(&mut group, "a", &[])), [(0, false), (1, true)]);
        held(&mut group, "a", 1, 1).unwrap().owner = None;
        assert_eq!(partitions(&beat(&mut group, "b", &[])), [(1, false)]);
        assert_eq!(group.places[1].fence, 2);
        assert!(held(&mut group, "a", 1, 1).is_none(), "its commits are refused");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_beat_for_a_lease_is_dead() {
        let lease = Duration::from_secs(10);
        let (mut group, mut seen) = (group(1), Sightings::new());
        beat(&mut group, "a", &[]);
        assert_eq!(look(&group, "b", lease, &mut seen), Vec::<String>::new());
        tokio::time::advance(Duration::from_secs(9)).await;
        beat(&mut group, "a", &[]);
        assert_eq!(look(&group, "b", lease, &mut seen), Vec::<String>::new());
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(look(&group, "b", lease, &mut seen), Vec::<String>::new());
        tokio::time::advance(Duration::from_secs(1)).await;
        let dead = look(&group, "b", lease, &mut seen);
        assert_eq!(dead, ["a"]);
        assert_eq!(partitions(&beat(&mut group, "b", &dead)), [(0, false)]);
    }
}
