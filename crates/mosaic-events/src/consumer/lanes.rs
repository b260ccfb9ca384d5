//! What a consumer has in hand of one partition: which events may start, and how far all is done. Pure.
//!
//! Events of one key form a lane, and a lane has at most one run going; lanes go side by side up to a limit. The position that
//! may be committed is the one below the first event that is not done, however much is done above it.

use std::collections::{HashMap, VecDeque};

use crate::bus::Delivered;

#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<String, Lane>,
    /// Lanes with something to do and no run going, in order of arrival.
    ready: VecDeque<String>,
    n_running: usize,
    /// Every event in hand, in order, and is it done?
    open: VecDeque<(u64, bool)>,
    /// The last position below which all is done.
    done: Option<u64>,
}

#[derive(Debug, Default)]
struct Lane {
    events: VecDeque<Delivered>,
    is_running: bool,
}

impl Lanes {
    /// Takes what was delivered; `lane_of` names the lane of an event.
    pub(super) fn push(&mut self, events: Vec<Delivered>, lane_of: impl Fn(&Delivered) -> &str) {
        let mut events = events.into_iter();
        while let Some(first) = events.as_slice().first() {
            let name = lane_of(first);
            let n = events
                .as_slice()
                .iter()
                .take_while(|event| lane_of(event) == name)
                .count();
            let name = name.to_owned();
            let lane = self.lanes.entry(name.clone()).or_default();
            if lane.events.is_empty() && !lane.is_running {
                self.ready.push_back(name);
            }
            for event in events.by_ref().take(n) {
                self.open.push_back((event.position, false));
                lane.events.push_back(event);
            }
        }
    }

    /// Starts the next run: up to `n_max` events, none above `last`, of a lane that has none going.
    pub(super) fn start(&mut self, n_max: usize, last: Option<u64>) -> Option<(String, Vec<Delivered>)> {
        while let Some(name) = self.ready.pop_front() {
            let Some(lane) = self.lanes.get_mut(&name) else {
                continue;
            };
            let fits = lane.events.iter().take_while(|event| Some(event.position) <= last);
            let n = fits.take(n_max).count();
            // A lane without any waits for ever: `last` never rises.
            if n > 0 {
                lane.is_running = true;
                self.n_running += 1;
                return Some((name, lane.events.drain(..n).collect()));
            }
        }
        None
    }

    /// Would [`Lanes::start`] start one?
    pub(super) fn has_ready(&self, last: Option<u64>) -> bool {
        let first = |name: &String| self.lanes.get(name).and_then(|lane| lane.events.front());
        self.ready
            .iter()
            .filter_map(first)
            .any(|event| Some(event.position) <= last)
    }

    /// Ends the run of a lane, of which the events at `positions` are done; if it was cut the lane ends with it.
    pub(super) fn end(&mut self, name: &str, positions: &[u64], is_cut: bool) {
        self.n_running -= 1;
        if let Some(lane) = self.lanes.get_mut(name) {
            lane.is_running = false;
            // What was left comes before what waits: nothing of the key may go on here.
            if is_cut || lane.events.is_empty() {
                self.lanes.remove(name);
            } else {
                self.ready.push_back(name.to_owned());
            }
        }
        let mut next = 0;
        for position in positions {
            // Events of a run mostly lie side by side.
            let at = match self.open.get(next) {
                Some((there, _)) if there == position => Ok(next),
                _ => self.open.binary_search_by_key(position, |(position, _)| *position),
            };
            if let Ok(at) = at {
                self.open[at].1 = true;
                next = at + 1;
            }
        }
        while let Some((position, true)) = self.open.front() {
            self.done = Some(*position);
            self.open.pop_front();
        }
    }

    /// Returns the position up to which all is done, once for each.
    pub(super) fn take_done(&mut self) -> Option<u64> {
        self.done.take()
    }

    pub(super) fn has_done(&self) -> bool {
        self.done.is_some()
    }

    /// Gives back what could not be committed.
    pub(super) fn put_back(&mut self, done: u64) {
        self.done = self.done.max(Some(done));
    }

    /// Returns how many events are in hand.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn n_running(&self) -> usize {
        self.n_running
    }

    /// Returns how many events of the next lane wait.
    pub(super) fn n_ready(&self) -> usize {
        let next = self.ready.front().and_then(|name| self.lanes.get(name));
        next.map_or(0, |lane| lane.events.len())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mosaic_core::Timestamp;

    use super::*;
    use crate::event::{EventId, Message, Record};
    use crate::headers::Headers;

    const ALL: Option<u64> = Some(u64::MAX);

    fn event(position: u64, key: &str) -> Delivered {
        let message = Message::from(Record {
            id: EventId::from_bits(u128::from(position)),
            topic: "t".parse().unwrap(),
            name: "n".into(),
            key: key.to_owned(),
            payload: Bytes::new(),
            headers: Headers::default(),
            at: Timestamp::EPOCH,
        });
        Delivered { position, message }
    }

    fn lanes(events: &[(u64, &str)]) -> Lanes {
        let mut lanes = Lanes::default();
        let events = events.iter().map(|(position, key)| event(*position, key)).collect();
        lanes.push(events, |event| &event.message.key);
        lanes
    }

    fn positions(run: Option<(String, Vec<Delivered>)>) -> Vec<u64> {
        run.unwrap().1.iter().map(|event| event.position).collect()
    }

    #[test]
    fn a_key_has_one_run_at_a_time_and_others_do_not_wait() {
        let mut lanes = lanes(&[(0, "a"), (1, "a"), (2, "b"), (3, "a")]);
        assert_eq!(positions(lanes.start(2, ALL)), [0, 1]);
        assert_eq!(positions(lanes.start(2, ALL)), [2]);
        assert!(lanes.start(2, ALL).is_none(), "the rest of a would overtake");
        lanes.push(vec![event(4, "a")], |event| &event.message.key);
        assert!(lanes.start(2, ALL).is_none());
        lanes.end("a", &[0, 1], false);
        assert_eq!(positions(lanes.start(9, ALL)), [3, 4]);
    }

    #[test]
    fn nothing_above_the_first_open_event_is_committed() {
        let mut lanes = lanes(&[(5, "a"), (6, "b"), (9, "c")]);
        for _ in 0..3 {
            lanes.start(1, ALL);
        }
        lanes.end("c", &[9], false);
        assert_eq!(lanes.take_done(), None);
        lanes.end("a", &[5], false);
        assert_eq!(lanes.take_done(), Some(5));
        assert_eq!(lanes.take_done(), None);
        lanes.end("b", &[6], false);
        assert_eq!((lanes.take_done(), lanes.len()), (Some(9), 0));
    }

    #[test]
    fn a_run_that_was_cut_leaves_its_events_open_and_its_lane_at_rest() {
        let mut lanes = lanes(&[(0, "a"), (1, "a"), (2, "a")]);
        lanes.start(2, ALL);
        lanes.end("a", &[0], true);
        assert_eq!((lanes.take_done(), lanes.len(), lanes.n_running()), (Some(0), 2, 0));
        assert!(!lanes.has_ready(ALL), "2 would come before 1");
        assert!(lanes.start(2, ALL).is_none());
    }

    #[test]
    fn an_ending_partition_starts_nothing_above_its_last() {
        let mut lanes = lanes(&[(0, "a"), (1, "b"), (2, "a"), (3, "c")]);
        assert!(!lanes.has_ready(None));
        assert_eq!(positions(lanes.start(9, Some(1))), [0]);
        assert_eq!(positions(lanes.start(9, Some(1))), [1]);
        assert!(!lanes.has_ready(Some(1)) && lanes.start(9, Some(1)).is_none());
    }
}
