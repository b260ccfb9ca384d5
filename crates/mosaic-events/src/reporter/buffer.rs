//! Where reports gather: many threads put them in, one task takes them out.
//!
//! Every reading of an article ends here, so a thread puts into a part of its own: on one queue of all, each report would wait for
//! several lines of memory that another processor has just written to. What is taken is in order all the same: each report has
//! the moment at which it came, and all parts are emptied at one moment, so of two reports of which one came after the other was
//! in, the first is never behind.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use mosaic_core::{Striped, lock};
use tokio::sync::Notify;

use crate::event::Message;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Buffer {
    parts: Striped<Part>,
    /// Messages that wait here at most, give or take one for each thread.
    capacity: usize,
    /// Messages that were taken out of the parts, and still wait.
    n_left: AtomicUsize,
    is_awaited: AtomicBool,
    came: Notify,
}

#[derive(Debug, Default)]
struct Part {
    queue: Mutex<Queue>,
    /// Of the queue, for who does not lock it.
    len: AtomicUsize,
}

#[derive(Debug, Default)]
struct Queue {
    messages: Vec<(Instant, Message)>,
    is_closed: bool,
}

/// Why a message is not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
}

impl Buffer {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            parts: Striped::default(),
            capacity,
            n_left: AtomicUsize::new(0),
            is_awaited: AtomicBool::new(false),
            came: Notify::new(),
        }
    }

    /// Puts in `message`, which comes `now`.
    pub(super) fn put(&self, message: Message, now: Instant) -> Result<(), Refused> {
        let part = self.parts.own();
        let mut queue = lock(&part.queue);
        if queue.is_closed {
            return Err(Refused::Closed);
        }
        // Mostly told without a look at what others write.
        let share = self.capacity / self.parts.all().count();
        if queue.messages.len() >= share && self.len() >= self.capacity {
            return Err(Refused::Full);
        }
        queue.messages.push((now, message));
        part.len.store(queue.messages.len(), Relaxed);
        drop(queue);
        if self.is_awaited.load(Relaxed) && self.is_awaited.swap(false, Relaxed) {
            self.came.notify_one();
        }
        Ok(())
    }

    /// Returns how many messages wait here.
    pub(super) fn len(&self) -> usize {
        let in_parts: usize = self.parts.all().map(|part| part.len.load(Relaxed)).sum();
        in_parts + self.n_left.load(Relaxed)
    }

    /// Waits until there is a message. Cancel safe.
    pub(super) async fn filled(&self) {
        loop {
            // Before the look: who puts something in later has had the lock of his part after us, and sees that it is awaited.
            self.is_awaited.store(true, Relaxed);
            let is_empty = self.locked().iter().all(|queue| queue.messages.is_empty());
            if !is_empty || self.n_left.load(Relaxed) > 0 {
                self.is_awaited.store(false, Relaxed);
                return;
            }
            self.came.notified().await;
        }
    }

    /// Takes nothing in from now on.
    pub(super) fn close(&self) {
        for mut queue in self.locked() {
            queue.is_closed = true;
        }
    }

    fn locked(&self) -> Vec<MutexGuard<'_, Queue>> {
        self.parts.all().map(|part| lock(&part.queue)).collect()
    }
}

/// Takes messages out of a [`Buffer`]; there is one.
#[derive(Debug, Default)]
pub(super) struct Taker {
    /// Takes the place of what is taken, so that nobody makes room anew.
    spares: Vec<Vec<(Instant, Message)>>,
    /// In order of their moments.
    left: VecDeque<Message>,
}

impl Taker {
    /// Moves at most `n_max` messages to the end of `batch`.
    pub(super) fn take(&mut self, buffer: &Buffer, batch: &mut Vec<Message>, n_max: usize) {
        if self.left.len() < n_max {
            self.empty(buffer);
        }
        batch.extend(self.left.drain(..n_max.min(self.left.len())));
        buffer.n_left.store(self.left.len(), Relaxed);
    }

    /// Takes all that is in the parts.
    fn empty(&mut self, buffer: &Buffer) {
        self.spares.resize_with(buffer.parts.all().count(), Vec::new);
        let mut queues = buffer.locked();
        for ((queue, part), spare) in queues.iter_mut().zip(buffer.parts.all()).zip(&mut self.spares) {
            std::mem::swap(&mut queue.messages, spare);
            part.len.store(0, Relaxed);
        }
        drop(queues);
        let mut taken: Vec<(Instant, Message)> = Vec::with_capacity(self.spares.iter().map(Vec::len).sum());
        for spare in &mut self.spares {
            taken.append(spare);
        }
        // Stable, so that each thread's stay in order; and quick for a few parts that are sorted.
        taken.sort_by_key(|(came, _)| *came);
        self.left.extend(taken.into_iter().map(|(_, message)| message));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use mosaic_core::{Context, Runtime, TaskGroup};
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::event::Event;

    #[derive(Debug, Serialize, Deserialize)]
    struct Counted(u64);

    impl Event for Counted {
        const TOPIC: &'static str = "counted";
        const NAME: &'static str = "counted";

        fn key(&self) -> String {
            String::new()
        }
    }

    fn message(n: u64) -> Message {
        Message::of(&Context::new(&Runtime::system()), &Counted(n)).unwrap()
    }

    fn put(buffer: &Buffer, n: u64) -> Result<(), Refused> {
        buffer.put(message(n), Runtime::system().instant())
    }

    fn number(message: &Message) -> u64 {
        message.event::<Counted>().unwrap().0
    }

    #[test]
    fn what_comes_after_another_is_in_is_never_before_it() {
        const THREADS: usize = 4;
        const REPORTS: u64 = 20_000;
        let buffer = Buffer::new(usize::MAX);
        let (next, n_done) = (Mutex::new(0), AtomicUsize::new(0));
        let mut taken = Vec::new();
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    loop {
                        // One after the other, whichever thread it is.
                        let mut next = lock(&next);
                        if *next == REPORTS {
                            break;
                        }
                        put(&buffer, *next).unwrap();
                        *next += 1;
                    }
                    n_done.fetch_add(1, Relaxed);
                });
            }
            let mut taker = Taker::default();
            let mut batch = Vec::new();
            while taken.len() < REPORTS as usize || n_done.load(Relaxed) < THREADS {
                taker.take(&buffer, &mut batch, 64);
                taken.extend(batch.drain(..).map(|message| number(&message)));
            }
        });
        assert!(taken.iter().copied().eq(0..REPORTS));
        assert_eq!(buffer.len(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn whoever_waits_is_woken_by_every_message() {
        const REPORTS: u64 = 2_000;
        let buffer = Arc::new(Buffer::new(usize::MAX));
        let (n_put, mut n_taken) = (Arc::new(AtomicU64::new(0)), 0);
        let (mut taker, mut batch) = (Taker::default(), Vec::new());
        let tasks = TaskGroup::new(|panic| panic!("{panic:?}"));
        for _ in 0..REPORTS {
            let (there, n_put) = (buffer.clone(), n_put.clone());
            tasks.spawn(
                "report",
                async move { put(&there, n_put.fetch_add(1, Relaxed)).unwrap() },
            );
            // Ends with the time that the test has, should one be missed.
            buffer.filled().await;
            taker.take(&buffer, &mut batch, 10);
            n_taken += batch.drain(..).count() as u64;
        }
        assert_eq!(n_taken, REPORTS);
    }

    #[test]
    fn what_is_full_or_closed_takes_nothing_in() {
        let buffer = Buffer::new(10);
        let (mut taker, mut batch) = (Taker::default(), Vec::new());
        for n in 0..10 {
            put(&buffer, n).unwrap();
        }
        assert_eq!(put(&buffer, 10), Err(Refused::Full));
        taker.take(&buffer, &mut batch, 4);
        assert_eq!((batch.len(), buffer.len()), (4, 6), "what is left still waits here");
        for n in 10..14 {
            put(&buffer, n).unwrap();
        }
        assert_eq!(put(&buffer, 14), Err(Refused::Full));
        buffer.close();
        assert_eq!(put(&buffer, 14), Err(Refused::Closed));
        taker.take(&buffer, &mut batch, 100);
        assert!(batch.iter().map(number).eq(0..14));
    }
}
