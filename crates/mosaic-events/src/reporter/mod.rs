//! Reports: events that are not worth a transaction, gathered in memory and published in batches.
//!
//! That somebody has read an article is no change of anything in the request that saw it: an outbox row each would make a page view
//! the dearest write of the platform. A [`Reporter`] takes an event without waiting; a task publishes what has gathered, and
//! while one batch is on its way the next one gathers. The price: **what is in the buffer is lost with the process**, a tenth
//! of a second of events in a crash, and what does not fit into the buffer while the bus is away is dropped and counted
//! (`events_reports_dropped_total`). So: for counts and traces of use, never for what somebody relies on; that belongs
//! into an [`Outbox`](crate::Outbox).
//!
//! Published at least once (a batch whose fate is unknown is published again, with the same ids), in order for each key of one
//! process. A process that stops publishes what it has first.

mod buffer;

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mosaic_core::{Code, Context, StopSignal, lock};
use tokio::time::{Instant, sleep, timeout_at};

use crate::bus::Bus;
use crate::event::{Event, Message, topic_of};
use crate::names::TopicName;
use crate::text::describe;
use buffer::{Buffer, Refused, Taker};

/// First pause after a failure, doubled for each further one.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Looks for more while a batch gathers.
const LOOKS: u32 = 10;
/// Longest pause between attempts.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How reports are gathered; `default()` suits a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportOptions {
    /// Reports that wait for the bus; more are dropped. Default 65,536.
    pub buffer_max: usize,
    /// Reports published at once. Default 10,000.
    pub batch_max: usize,
    /// Fewer, if the first of them has waited so long. Default 100 ms: a batch, however small, costs the embedded bus and its
    /// readers dozens of statements, and who counts waits longer than that anyway.
    pub wait: Duration,
    /// Time to publish what is left when asked to stop. Default 1 s.
    pub drain: Duration,
}

impl Default for ReportOptions {
    fn default() -> Self {
        Self {
            buffer_max: 1 << 16,
            batch_max: 10_000,
            wait: Duration::from_millis(100),
            drain: Duration::from_secs(1),
        }
    }
}

/// What gathers the reports of a module. Cheap to clone: clones are the same.
#[derive(Debug, Clone)]
pub struct Reports {
    buffer: Arc<Buffer>,
    /// Has the first who runs them.
    taker: Arc<Mutex<Option<Taker>>>,
    options: ReportOptions,
}

impl Reports {
    /// Makes a buffer; nothing leaves it before [`Reports::run`].
    pub fn new(options: ReportOptions) -> Self {
        Self {
            buffer: Arc::new(Buffer::new(options.buffer_max)),
            taker: Arc::new(Mutex::new(Some(Taker::default()))),
            options,
        }
    }

    /// Returns the door for events of one type.
    ///
    /// # Panics
    /// If the topic of the type is no topic's name.
    pub fn reporter<E: Event>(&self) -> Reporter<E> {
        Reporter {
            topic: topic_of::<E>(),
            buffer: self.buffer.clone(),
            event: PhantomData,
        }
    }

    /// Publishes what is reported until asked to stop, and then what is left, for as long as `options.drain`. The second to run
    /// them finds nothing to do.
    pub async fn run(&self, bus: Arc<dyn Bus>, stop: StopSignal) {
        let Some(mut taker) = lock(&self.taker).take() else {
            return;
        };
        let (buffer, batch_max) = (&*self.buffer, self.options.batch_max.max(1));
        let mut batch = Vec::new();
        let mut stopping = stop.clone();
        loop {
            tokio::select! {
                () = self.gathered(batch_max) => {}
                () = stopping.stopped() => break,
            }
            taker.take(buffer, &mut batch, batch_max);
            // A batch that is given up half-way at the end is published again below.
            tokio::select! {
                () = publish(&*bus, &batch) => batch.clear(),
                () = stopping.stopped() => break,
            }
        }
        let end = Instant::now() + self.options.drain;
        // Who reports from now on is refused, and counted.
        buffer.close();
        let left = timeout_at(end, async {
            loop {
                publish(&*bus, &batch).await;
                batch.clear();
                taker.take(buffer, &mut batch, batch_max);
                if batch.is_empty() {
                    return;
                }
            }
        });
        if left.await.is_err() {
            taker.take(buffer, &mut batch, usize::MAX);
            dropped(&batch, "stopped");
        }
    }

    /// Waits for a report and a little for more, and looks for them now and then: to be woken for each would cost more than the report.
    async fn gathered(&self, batch_max: usize) {
        self.buffer.filled().await;
        let end = Instant::now() + self.options.wait;
        while self.buffer.len() < batch_max && Instant::now() < end {
            sleep(self.options.wait / LOOKS).await;
        }
    }
}

/// Publishes `batch`, as often as it takes.
async fn publish(bus: &dyn Bus, batch: &[Message]) {
    if batch.is_empty() {
        return;
    }
    let mut pause = PAUSE_MIN;
    while let Err(error) = bus.publish(batch).await {
        if error.code() == Code::InvalidArgument {
            tracing::error!("reports that no bus takes: {}", describe(&error));
            return dropped(batch, "invalid");
        }
        tracing::warn!(n = batch.len(), "cannot publish reports yet: {}", describe(&error));
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn dropped(batch: &[Message], why: &'static str) {
    for message in batch {
        count_dropped(message.topic.as_str(), why);
    }
}

fn count_dropped(topic: &str, why: &'static str) {
    metrics::counter!("events_reports_dropped_total", "topic" => topic.to_owned(), "why" => why).increment(1);
}

/// Reports events of one type; see the module documentation. Cheap to clone.
pub struct Reporter<E> {
    topic: TopicName,
    buffer: Arc<Buffer>,
    event: PhantomData<fn() -> E>,
}

impl<E: Event> Reporter<E> {
    /// Reports that `event` has happened, as part of the trace of `cx`. Never waits and never fails: what cannot be kept is dropped
    /// and counted.
    pub fn report(&self, cx: &Context, event: &E) {
        match Message::on(self.topic.clone(), cx, event) {
            Ok(message) => match self.buffer.put(message, cx.runtime().instant()) {
                Ok(()) => {}
                Err(Refused::Full) => count_dropped(E::TOPIC, "full"),
                Err(Refused::Closed) => count_dropped(E::TOPIC, "stopped"),
            },
            Err(error) => {
                tracing::error!("a report that no bus takes: {}", describe(&error));
                count_dropped(E::TOPIC, "invalid");
            }
        }
    }
}

impl<E> Clone for Reporter<E> {
    fn clone(&self) -> Self {
        Self {
            topic: self.topic.clone(),
            buffer: self.buffer.clone(),
            event: PhantomData,
        }
    }
}

impl<E: Event> fmt::Debug for Reporter<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reporter")
            .field("event", &E::NAME)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;
    use mosaic_core::{Result, Runtime, TaskGroup};
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::GroupName;
    use crate::bus::{Capabilities, Lag, Member, Mode, Position, Topic, unavailable};

    #[derive(Debug, Serialize, Deserialize)]
    struct Seen(u32);

    impl Event for Seen {
        const TOPIC: &'static str = "seen";
        const NAME: &'static str = "thing.seen";

        fn key(&self) -> String {
            "one".to_owned()
        }
    }

    /// Takes what is published, unless it is away.
    #[derive(Debug, Default)]
    struct Taker {
        is_away: AtomicBool,
        batches: Mutex<Vec<Vec<u32>>>,
    }

    #[async_trait]
    impl Bus for Taker {
        fn capabilities(&self) -> Capabilities {
            unreachable!("nobody asks")
        }
        async fn declare(&self, _: &Topic) -> Result<()> {
            unreachable!("nobody declares")
        }
        async fn publish(&self, messages: &[Message]) -> Result<()> {
            sleep(Duration::from_millis(1)).await;
            if self.is_away.load(Ordering::SeqCst) {
                return Err(unavailable("away"));
            }
            let numbers = messages.iter().map(|m| m.event::<Seen>().unwrap().0).collect();
            lock(&self.batches).push(numbers);
            Ok(())
        }
        async fn subscribe(&self, _: &TopicName, _: &Mode) -> Result<Box<dyn Member>> {
            unreachable!("nobody subscribes")
        }
        async fn seek(&self, _: &TopicName, _: &GroupName, _: &Position) -> Result<()> {
            unreachable!("nobody seeks")
        }
        async fn lag(&self, _: &TopicName, _: &GroupName) -> Result<Vec<Lag>> {
            unreachable!("nobody measures")
        }
        async fn ping(&self) -> Result<()> {
            Ok(())
        }
    }

    struct Bench {
        taker: Arc<Taker>,
        tasks: TaskGroup,
        reporter: Reporter<Seen>,
        cx: Context,
    }

    fn bench(buffer_max: usize, batch_max: usize) -> Bench {
        let reports = Reports::new(ReportOptions {
            buffer_max,
            batch_max,
            wait: Duration::from_millis(5),
            ..ReportOptions::default()
        });
        let taker = Arc::new(Taker::default());
        let tasks = TaskGroup::new(|panic| panic!("{panic:?}"));
        let (bus, stop, running) = (taker.clone(), tasks.stop_signal(), reports.clone());
        tasks.spawn("reports", async move { running.run(bus, stop).await });
        let cx = Context::new(&Runtime::system());
        Bench {
            taker,
            tasks,
            reporter: reports.reporter(),
            cx,
        }
    }

    impl Bench {
        fn report(&self, numbers: std::ops::Range<u32>) {
            numbers.for_each(|n| self.reporter.report(&self.cx, &Seen(n)));
        }

        fn taken(&self) -> Vec<u32> {
            lock(&self.taker.batches).concat()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reports_gather_for_a_few_milliseconds_and_go_together() {
        let bench = bench(100, 10);
        sleep(Duration::from_millis(1)).await;
        bench.report(0..2);
        sleep(Duration::from_millis(3)).await;
        bench.report(2..4);
        sleep(Duration::from_millis(10)).await;
        assert_eq!(*lock(&bench.taker.batches), [vec![0, 1, 2, 3]]);
        bench.report(4..29);
        sleep(Duration::from_millis(30)).await;
        assert_eq!(bench.taken(), Vec::from_iter(0..29));
        assert_eq!(lock(&bench.taker.batches).len(), 4, "by ten");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_is_dropped_and_the_rest_goes_when_the_bus_is_back() {
        let bench = bench(20, 10);
        bench.taker.is_away.store(true, Ordering::SeqCst);
        sleep(Duration::from_millis(1)).await;
        bench.report(0..10);
        sleep(Duration::from_millis(100)).await;
        bench.report(10..100);
        sleep(Duration::from_secs(10)).await;
        bench.taker.is_away.store(false, Ordering::SeqCst);
        sleep(Duration::from_secs(3)).await;
        assert_eq!(bench.taken(), Vec::from_iter(0..30));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_goes_at_the_end() {
        let bench = bench(100, 10);
        bench.report(0..55);
        assert_eq!(bench.tasks.shutdown(Duration::from_secs(2)).await, 0);
        assert_eq!(bench.taken(), Vec::from_iter(0..55));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_does_not_wait_for_a_bus_that_is_away() {
        let bench = bench(100, 10);
        bench.taker.is_away.store(true, Ordering::SeqCst);
        bench.report(0..55);
        assert_eq!(bench.tasks.shutdown(Duration::from_secs(2)).await, 0);
        assert_eq!(bench.taken(), [0; 0]);
    }
}
