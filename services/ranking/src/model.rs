//! The rules: what an event changes of an item, how hot an item is, which items make a list.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Longest name of a kind of items.
pub(crate) const BIZ_MAX: usize = 32;
/// Most items in a top list.
pub(crate) const TOP_MAX: u64 = 1000;
/// Events of an item come in order, but for those that were given up and are handled again by hand. One that was published so
/// much earlier than another that has been handled is of these, and says nothing any more. In units of
/// [`Runtime::next_id`](mosaic::Runtime::next_id), whose upper bits are milliseconds: one minute, more than clocks differ by.
const STALE_AFTER: i64 = 60_000 << 12;

/// Can everybody see it?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum State {
    /// Nobody has said so yet: it was liked before we heard of it.
    #[default]
    Unknown,
    Published,
    Withdrawn,
}

impl State {
    pub(crate) const fn number(self) -> i64 {
        match self {
            Self::Unknown => 0,
            Self::Published => 1,
            Self::Withdrawn => 2,
        }
    }

    pub(crate) const fn of(number: i64) -> Self {
        match number {
            1 => Self::Published,
            2 => Self::Withdrawn,
            _ => Self::Unknown,
        }
    }
}

/// What is known of an item.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Item {
    pub(crate) author: i64,
    pub(crate) published_at: i64,
    pub(crate) state: State,
    pub(crate) likes: i64,
    /// Numbers of the newest events that were handled; they rise with time.
    pub(crate) item_seen: i64,
    pub(crate) likes_seen: i64,
}

/// What an event says of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Published { author: i64, published_at: i64 },
    Withdrawn { author: i64 },
    Likes(i64),
}

impl Item {
    /// Carries out what the event with number `at` says; `false` if it is too old to say anything.
    pub(crate) fn apply(&mut self, change: Change, at: i64) -> bool {
        let seen = match change {
            Change::Published { .. } | Change::Withdrawn { .. } => &mut self.item_seen,
            Change::Likes(_) => &mut self.likes_seen,
        };
        if at.saturating_add(STALE_AFTER) < *seen {
            return false;
        }
        *seen = at.max(*seen);
        match change {
            Change::Published { author, published_at } => {
                (self.author, self.published_at, self.state) = (author, published_at, State::Published);
            }
            Change::Withdrawn { author } => (self.author, self.state) = (author, State::Withdrawn),
            Change::Likes(likes) => self.likes = likes.max(0),
        }
        true
    }

    /// Returns its likes if they count.
    pub(crate) fn standing(&self) -> Option<i64> {
        (self.state == State::Published).then_some(self.likes)
    }
}

/// Returns how hot an item of this age is: `(likes - 1) / (age in seconds + 2)^gravity`.
pub(crate) fn score(likes: i64, age: Duration, gravity: f64) -> f64 {
    (likes - 1) as f64 / (age.as_secs_f64() + 2.0).powf(gravity)
}

/// Returns a number of likes below which nothing of this age or older has a score of `worst`.
pub(crate) fn likes_min(worst: f64, age: Duration, gravity: f64) -> i64 {
    if worst < 0.0 {
        return 0;
    }
    // A little less, so that rounding excludes nobody.
    let needed = 1.0 + worst * (age.as_secs_f64() + 2.0).powf(gravity) * (1.0 - 1e-9);
    needed.floor() as i64
}

/// An item in a hot list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Hot {
    pub(crate) score: f64,
    pub(crate) biz_id: i64,
}

impl Eq for Hot {}

impl Ord for Hot {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let by_score = self.score.total_cmp(&other.score);
        by_score.then(self.biz_id.cmp(&other.biz_id))
    }
}

impl PartialOrd for Hot {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The hottest of those that were shown to it; never holds more.
#[derive(Debug)]
pub(crate) struct Hottest {
    size: usize,
    heap: BinaryHeap<Reverse<Hot>>,
}

impl Hottest {
    pub(crate) fn new(size: usize) -> Self {
        Self {
            size,
            heap: BinaryHeap::with_capacity(size),
        }
    }

    pub(crate) fn show(&mut self, hot: Hot) {
        if self.heap.len() < self.size {
            self.heap.push(Reverse(hot));
        } else if let Some(mut worst) = self.heap.peek_mut()
            && hot > worst.0
        {
            *worst = Reverse(hot);
        }
    }

    /// Returns the score that another one must have at least; `None` while there is room.
    pub(crate) fn worst(&self) -> Option<f64> {
        let worst = self.heap.peek().filter(|_| self.heap.len() >= self.size);
        worst.map(|worst| worst.0.score)
    }

    /// Returns them, hottest first.
    pub(crate) fn into_list(self) -> Vec<Hot> {
        self.heap
            .into_sorted_vec()
            .into_iter()
            .map(|Reverse(hot)| hot)
            .collect()
    }
}

#[cfg(test)]
mod tests;
