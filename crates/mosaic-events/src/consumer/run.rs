//! One run of events through its handler: attempts, pauses, bisection, dead letters.
//!
//! A run ends when each of its events is handled or kept as a dead letter, or when the partition is wanted elsewhere; then what
//! is left comes again, there. A failed batch that another attempt may heal (the database is away) is repeated as it is; any
//! other is cut in halves until the event that fails stands alone. A dead letter that cannot be stored is another reason to try
//! the event again: nothing is given up while the database is away.

use std::sync::Arc;
use std::time::Duration;

use mosaic_core::{Code, Error, Result, Runtime, catch_panic};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::dead_letter::DeadLetters;
use super::group::{ConsumerOptions, TopicHandlers};
use super::handler::{Handler, Run};
use crate::bus::Delivered;
use crate::event::Message;
use crate::names::TopicName;
use crate::text::describe;

/// Is the partition still ours to work on?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Go on; the highest position that was begun, if any.
    Working(Option<u64>),
    /// Begin nothing above this position, and repeat nothing. Below it what is not done would make others repeat what is.
    Ending(Option<u64>),
}

impl Phase {
    /// Begins the events up to `position`, if that is still allowed.
    fn begin(phase: &watch::Sender<Self>, position: u64) -> bool {
        let mut may = false;
        phase.send_if_modified(|phase| {
            match phase {
                Self::Working(begun) => {
                    *begun = (*begun).max(Some(position));
                    may = true;
                }
                Self::Ending(last) => may = Some(position) <= *last,
            }
            false
        });
        may
    }

    /// Ends after what was begun.
    pub(super) fn end(phase: &watch::Sender<Self>) {
        phase.send_modify(|phase| {
            if let Self::Working(begun) = *phase {
                *phase = Self::Ending(begun);
            }
        });
    }
}

/// What runs of a topic have in common.
pub(super) struct Shop {
    pub(super) label: String,
    pub(super) topic: TopicName,
    pub(super) handlers: TopicHandlers,
    pub(super) options: ConsumerOptions,
    pub(super) runtime: Runtime,
    pub(super) dead: Option<DeadLetters>,
}

impl Shop {
    /// Returns how many events of a partition may be in hand: of batches one that is handled and one that fills, at least.
    pub(super) fn in_hand_max(&self) -> usize {
        let batches = self.handlers.batch.map_or(0, |size| 2 * size.events);
        self.options.in_hand_max.max(batches)
    }

    /// Handles a run; returns the positions that are done.
    pub(super) async fn run(&self, events: Vec<Delivered>, phase: &watch::Sender<Phase>) -> Vec<u64> {
        let begun = Instant::now();
        let mut done = Vec::with_capacity(events.len());
        let positions = |events: &[Delivered]| events.iter().map(|event| event.position).collect::<Vec<_>>();
        let mut start = 0;
        while start < events.len() {
            let end = start + self.piece(&events[start..]);
            if !Phase::begin(phase, events[end - 1].position) {
                break;
            }
            let handler = self.handlers.by_name.get(&*events[start].message.name);
            match handler {
                None => self.count("events_skipped_total", end - start),
                Some(handler) => {
                    let n_settled = self.settle(handler, &events[start..end], phase).await;
                    if n_settled < end - start {
                        done.extend(positions(&events[start..start + n_settled]));
                        return done;
                    }
                }
            }
            done.extend(positions(&events[start..end]));
            start = end;
        }
        let labels = [("group", self.label.clone()), ("topic", self.topic.to_string())];
        metrics::histogram!("events_run_seconds", &labels).record(begun.elapsed().as_secs_f64());
        done
    }

    /// Returns how many events go to the handler together.
    fn piece(&self, events: &[Delivered]) -> usize {
        let name = &events[0].message.name;
        match self.handlers.batch {
            None => 1,
            Some(_) => events.iter().take_while(|event| event.message.name == *name).count(),
        }
    }

    /// Handles events together, or in halves; returns how many from the first on are settled.
    async fn settle(&self, handler: &Arc<dyn Handler>, events: &[Delivered], phase: &watch::Sender<Phase>) -> usize {
        // Halves that are still to be handled, the first on top.
        let mut halves = vec![events];
        let mut n_settled = 0;
        while let Some(events) = halves.pop() {
            match self.attempts(handler, events, phase).await {
                Settled::Done => n_settled += events.len(),
                Settled::Cut => {
                    let (first, second) = events.split_at(events.len() / 2);
                    halves.extend([second, first]);
                }
                Settled::Left => break,
            }
        }
        n_settled
    }

    async fn attempts(
        &self,
        handler: &Arc<dyn Handler>,
        events: &[Delivered],
        phase: &watch::Sender<Phase>,
    ) -> Settled {
        let mut attempt = 1;
        loop {
            let error = match self.attempt(handler, events).await {
                Ok(()) => return Settled::Done,
                Err(error) => error,
            };
            self.count("events_failures_total", 1);
            let is_final = is_decoding(&error) || attempt >= self.options.attempts_max;
            if events.len() > 1 && (is_final || !error.is_retryable()) {
                return Settled::Cut;
            }
            let message = &events[0].message;
            if is_final && self.bury(message, attempt, &error).await {
                return Settled::Done;
            }
            tracing::debug!(group = self.label, event.id = %message.id, attempt, "an event failed: {}", describe(&error));
            let mut watched = phase.subscribe();
            tokio::select! {
                biased;
                _ = watched.wait_for(|phase| matches!(phase, Phase::Ending(_))) => return Settled::Left,
                () = sleep(self.pause_after(attempt)) => {}
            }
            self.count("events_retries_total", 1);
            attempt = attempt.saturating_add(1);
        }
    }

    async fn attempt(&self, handler: &Arc<dyn Handler>, events: &[Delivered]) -> Result<()> {
        let limit = self.options.timeout;
        let run = Run {
            events,
            runtime: &self.runtime,
            limit,
        };
        let begun = Instant::now();
        let ran = timeout(limit, catch_panic(handler.run(run))).await;
        let labels = [("group", self.label.clone()), ("topic", self.topic.to_string())];
        metrics::histogram!("events_handle_seconds", &labels).record(begun.elapsed().as_secs_f64());
        let n_duplicates = match ran {
            Ok(Ok(result)) => result?,
            Ok(Err(panic)) => return Err(Error::internal(format!("panicked: {panic}"))),
            Err(_) => {
                return Err(Error::deadline_exceeded(
                    "EVENT_TIMEOUT",
                    "took longer than its timeout",
                ));
            }
        };
        self.count("events_duplicates_total", n_duplicates);
        self.count("events_handled_total", events.len() - n_duplicates);
        Ok(())
    }

    /// Keeps an event that cannot be handled; `false` if that failed as well.
    async fn bury(&self, message: &Message, attempts: u32, error: &Error) -> bool {
        let what = describe(error);
        tracing::error!(group = self.label, event.id = %message.id, event.name = &*message.name, attempts, "gave an event up: {what}");
        let kept = match &self.dead {
            Some(dead) => dead.put(message, attempts, &what, self.runtime.now()).await,
            None => Ok(()),
        };
        match &kept {
            Ok(()) => self.count("events_dead_total", 1),
            Err(error) => tracing::error!(group = self.label, "cannot keep a dead letter: {}", describe(error)),
        }
        kept.is_ok()
    }

    /// Handles an event that was given up, once.
    pub(super) async fn replay(&self, message: &Message) -> Result<()> {
        let handler = self.handlers.by_name.get(&*message.name);
        let handler =
            handler.ok_or_else(|| Error::unimplemented("EVENT_UNKNOWN", "the group has no handler of this event"))?;
        let event = Delivered {
            position: 0,
            message: message.clone(),
        };
        self.attempt(handler, &[event]).await
    }

    fn pause_after(&self, attempt: u32) -> Duration {
        let longest = self
            .options
            .backoff_min
            .saturating_mul(2_u32.saturating_pow(attempt - 1));
        let longest = longest.min(self.options.backoff_max);
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        longest / 2 + Duration::from_micros(self.runtime.random_below(micros / 2 + 1))
    }

    fn count(&self, name: &'static str, n: usize) {
        if n > 0 {
            let labels = [("group", self.label.clone()), ("topic", self.topic.to_string())];
            metrics::counter!(name, &labels).increment(n as u64);
        }
    }
}

enum Settled {
    Done,
    Cut,
    Left,
}

/// What cannot be read today cannot be read in a minute.
fn is_decoding(error: &Error) -> bool {
    error.code() == Code::InvalidArgument && error.reason() == "EVENT_PAYLOAD_INVALID"
}
