//! Claims tasks as there is room for them, and moves on what is due.

use std::sync::Arc;
use std::time::Duration;

use mosaic_core::StopSignal;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::running::Stop;
use super::{InHand, Parts, QueueOrder, SWEEP_MAX, warn};
use crate::engine::{Claim, Claimed, Lease};
use crate::id::QueueName;

/// A task that was claimed and waits for a slot.
pub(super) struct Ready {
    pub(super) claimed: Claimed,
    pub(super) lease: Lease,
    pub(super) stopped: oneshot::Receiver<Stop>,
    pub(super) in_hand: InHand,
}

/// The first pause of a worker that has nothing to do is this part of its poll; it doubles up to the whole.
const FIRST_PAUSE: u32 = 16;

impl Parts {
    /// Claims tasks until asked to stop; a claim that is on its way is waited for.
    pub(super) async fn fetch(self: &Arc<Self>, ready: mpsc::UnboundedSender<Ready>, mut stop: StopSignal) {
        let mut bell = self.queue.bell();
        let mut promote_at = Instant::now();
        let mut pause = self.options.poll / FIRST_PAUSE;
        loop {
            let Some(room) = self.wait_for_room(&mut stop).await else {
                return;
            };
            bell.mark_unchanged();
            if Instant::now() >= promote_at {
                promote_at = Instant::now() + self.promote().await;
            }
            let asked = Instant::now();
            let claimed = self.claim(room).await;
            if !claimed.is_empty() {
                pause = self.options.poll / FIRST_PAUSE;
                self.hand_on(claimed, asked, &ready);
                continue;
            }
            let until = promote_at.min(asked + self.runtime().jittered(pause));
            pause = (pause * 2).min(self.options.poll);
            tokio::select! {
                () = sleep_until(until) => {}
                () = stop.stopped() => return,
                // What was rung for may be due in less time than we knew of.
                _ = bell.changed() => promote_at = Instant::now(),
                () = self.freed.notified() => promote_at = Instant::now(),
            }
        }
    }

    /// Returns for how many tasks there is room, at least one; `None` when asked to stop.
    async fn wait_for_room(&self, stop: &mut StopSignal) -> Option<usize> {
        loop {
            let room = self.room();
            if stop.is_stopping() {
                return None;
            }
            if room > 0 {
                return Some(room);
            }
            tokio::select! {
                () = stop.stopped() => return None,
                () = self.changed.notified() => {}
            }
        }
    }

    fn hand_on(self: &Arc<Self>, claimed: Vec<Claimed>, asked: Instant, ready: &mpsc::UnboundedSender<Ready>) {
        for claimed in claimed {
            let lease = Lease {
                id: claimed.task.id,
                fence: claimed.task.fence,
            };
            let stopped = self.running.add(lease, asked + self.options.lease);
            let in_hand = InHand::new(self);
            // Nobody takes it once we are asked to stop: then it is handed back at the end.
            let _ = ready.send(Ready {
                claimed,
                lease,
                stopped,
                in_hand,
            });
        }
    }

    /// Lets go what is due; returns when to do so again.
    async fn promote(&self) -> Duration {
        match self.engine().promote(SWEEP_MAX).await {
            Ok(promoted) if promoted.n_due >= SWEEP_MAX => Duration::ZERO,
            Ok(promoted) => promoted
                .next_in
                .map_or(self.options.poll, |next| next.min(self.options.poll)),
            Err(error) => {
                warn(&error, "cannot look for tasks that are due");
                self.options.poll
            }
        }
    }

    /// Claims at most `limit` tasks: with weights each queue gets its share first, then who has more gets the rest.
    async fn claim(&self, limit: usize) -> Vec<Claimed> {
        let queues = self.queues_in_turn();
        let total: u64 = queues.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let share = |weight: u32| match self.options.order {
            QueueOrder::Strict => limit,
            QueueOrder::Weighted => (limit as u64 * u64::from(weight)).div_ceil(total.max(1)) as usize,
        };
        let mut claimed: Vec<Vec<Claimed>> = Vec::with_capacity(queues.len());
        let mut left = limit;
        for (queue, weight) in &queues {
            let some = self.claim_from(queue, share(*weight).clamp(1, limit).min(left)).await;
            left -= some.len();
            claimed.push(some);
        }
        for ((queue, weight), some) in queues.iter().zip(&mut claimed) {
            if left > 0 && some.len() >= share(*weight).clamp(1, limit) {
                let more = self.claim_from(queue, left).await;
                left -= more.len();
                some.extend(more);
            }
        }
        match self.options.order {
            QueueOrder::Strict => claimed.into_iter().flatten().collect(),
            QueueOrder::Weighted => interleaved(claimed),
        }
    }

    async fn claim_from(&self, queue: &QueueName, limit: usize) -> Vec<Claimed> {
        if limit == 0 {
            return Vec::new();
        }
        let claim = Claim {
            queue: queue.clone(),
            kinds: self.handlers.kinds(),
            limit,
            lease: self.options.lease,
        };
        self.engine().claim(&claim).await.unwrap_or_else(|error| {
            warn(&error, "cannot claim tasks");
            Vec::new()
        })
    }

    /// Returns all queues: heavier ones in front, or in random order, heavier ones more often in front.
    fn queues_in_turn(&self) -> Vec<(QueueName, u32)> {
        let mut left = self.options.queues.clone();
        if self.options.order == QueueOrder::Strict {
            left.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
            return left;
        }
        let mut order = Vec::with_capacity(left.len());
        while !left.is_empty() {
            let total = left.iter().map(|(_, weight)| u64::from(*weight)).sum();
            let mut drawn = self.runtime().random_below(total);
            let position = left.iter().position(|(_, weight)| {
                let is_it = drawn < u64::from(*weight);
                drawn = drawn.saturating_sub(u64::from(*weight));
                is_it
            });
            order.push(left.remove(position.unwrap_or(0)));
        }
        order
    }
}

/// Puts tasks of several queues in one order, those of each in theirs and spread over the whole.
fn interleaved(queues: Vec<Vec<Claimed>>) -> Vec<Claimed> {
    let mut all = Vec::new();
    for tasks in queues {
        let n = tasks.len();
        all.extend(
            tasks
                .into_iter()
                .enumerate()
                .map(|(position, task)| ((2 * position + 1) * 1000 / n, task)),
        );
    }
    all.sort_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, task)| task).collect()
}
