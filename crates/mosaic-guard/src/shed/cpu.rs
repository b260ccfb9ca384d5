//! Shedding by processor: above the limit a growing share of the calls is refused, below it the share shrinks in steps.
//!
//! A controller over what a sampler says five times a second. Above the limit the admitted share is scaled by `limit / usage`
//! (by three quarters when the processor is full, since then nobody can say by how much it is too much); below, it grows by at
//! most a fifth a step. A twentieth is always let in: the probe. The common form (go-zero, Kratos) instead bounds calls in
//! flight by `throughput * latency`, with the latency rounded to whole milliseconds, which sheds sub-millisecond services for
//! nothing; and in an asynchronous process the queue stands before the handlers, where no count of calls in flight sees it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use mosaic_core::{Runtime, TaskGroup};

use super::usage::CpuMeter;
use crate::dice::Dice;
use crate::rules::Priority;
use crate::rules::words::{self, Words};

/// `cpu 90% soft=80%`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CpuRule {
    /// Usage above which calls are refused, as a share of what the process may use.
    pub limit: f64,
    /// Usage above which handlers are told.
    pub soft: f64,
}

impl Default for CpuRule {
    fn default() -> Self {
        Self { limit: 0.9, soft: 0.8 }
    }
}

impl CpuRule {
    pub(super) fn read(mut words: Words<'_>) -> Result<Self, String> {
        let limit = words::percent(&mut words)?;
        let mut soft = limit - 0.1;
        words.options("soft", |name, words| {
            (name == "soft").then(|| words::percent(words).map(|share| soft = share))
        })?;
        if soft <= 0.0 || soft > limit {
            return Err("soft must be above 0% and not above the limit".to_owned());
        }
        Ok(Self { limit, soft })
    }
}

impl fmt::Display for CpuRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limit, soft) = (words::show_percent(self.limit), words::show_percent(self.soft));
        write!(f, "cpu {limit} soft={soft}")
    }
}

/// Pause between two looks at the processor.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// Weight of the newest sample: old enough to forget a hiccup, young enough to see an overload within half a second.
const NEWEST: f64 = 0.5;
const WHOLE: f64 = 1_000_000.0;

/// How busy the processor is, as all rules of the process see it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct CpuLoad(Arc<Load>);

#[derive(Debug, Default)]
struct Load {
    /// Millionths of what the process may use.
    usage: AtomicU32,
    n_samples: AtomicU64,
}

impl CpuLoad {
    /// Takes in a sample, from 0 (idle) to 1 (everything that the process may use).
    pub fn record(&self, sample: f64) {
        let before = f64::from(self.0.usage.load(Relaxed));
        let usage = before + NEWEST * (sample.clamp(0.0, 1.0) * WHOLE - before);
        self.0.usage.store(usage as u32, Relaxed);
        self.0.n_samples.fetch_add(1, Relaxed);
    }

    /// Returns the usage, smoothed.
    pub fn usage(&self) -> f64 {
        f64::from(self.0.usage.load(Relaxed)) / WHOLE
    }

    /// Samples the processor in `tasks` until they end: what the control group may use where it has a quota, else the cores.
    /// Where there is no `/proc`, usage stays zero and nothing is shed.
    pub fn watch(&self, tasks: &TaskGroup, runtime: &Runtime) {
        let (load, runtime, mut stop) = (self.clone(), runtime.clone(), tasks.stop_signal());
        tasks.spawn("guard: processor usage", async move {
            let Some(mut meter) = CpuMeter::find(runtime.instant()) else {
                return;
            };
            let gauge = metrics::gauge!("mosaic_guard_cpu_usage");
            while !stop.is_stopping() {
                tokio::select! {
                    () = stop.stopped() => return,
                    () = tokio::time::sleep(SAMPLE_EVERY) => {}
                }
                if let Some(sample) = meter.sample(runtime.instant()) {
                    load.record(sample);
                    gauge.set(load.usage());
                }
            }
        });
    }
}

/// Samples that a rule may miss before it forgets what it refused.
const MISSED_MAX: u64 = 20;
const FULL: u32 = 1_000_000;
const LEAST: f64 = 0.05;

/// A rule at work.
#[derive(Debug)]
pub(super) struct CpuShed {
    rule: CpuRule,
    load: CpuLoad,
    n_seen: AtomicU64,
    /// Millionths of the calls that are let in.
    share: AtomicU32,
    dice: Dice,
}

impl CpuShed {
    pub(super) fn new(rule: CpuRule, load: CpuLoad) -> Self {
        Self {
            rule,
            load,
            n_seen: AtomicU64::new(0),
            share: AtomicU32::new(FULL),
            dice: Dice::default(),
        }
    }

    /// Is a call of `priority` let in? Three loads while nothing is shed.
    pub(super) fn admits(&self, priority: Priority, runtime: &Runtime) -> bool {
        let n_samples = self.load.0.n_samples.load(Relaxed);
        let n_seen = self.n_seen.load(Relaxed);
        if n_samples != n_seen
            && self
                .n_seen
                .compare_exchange(n_seen, n_samples, Relaxed, Relaxed)
                .is_ok()
        {
            self.follow(n_samples - n_seen);
        }
        let share = self.share.load(Relaxed);
        if share >= FULL {
            return true;
        }
        let share = f64::from(share) / f64::from(FULL);
        let admitted = match priority {
            Priority::Low => share * share,
            Priority::Normal => share,
            Priority::High => 1.0 - (1.0 - share) * (1.0 - share),
        };
        self.dice.roll(runtime) < admitted
    }

    pub(super) fn is_soft(&self) -> bool {
        self.share.load(Relaxed) < FULL || self.load.usage() >= self.rule.soft
    }

    fn follow(&self, n_missed: u64) {
        let share = f64::from(self.share.load(Relaxed)) / f64::from(FULL);
        let next = if n_missed > MISSED_MAX {
            1.0
        } else {
            next_share(share, self.load.usage(), self.rule.limit)
        };
        self.share.store((next * f64::from(FULL)) as u32, Relaxed);
    }
}

impl fmt::Display for CpuShed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, now {}", self.rule, words::show_percent(self.load.usage()))
    }
}

/// Returns the share to let in after a sample of `usage`.
fn next_share(share: f64, usage: f64, limit: f64) -> f64 {
    let next = if usage >= limit.max(0.98) {
        share * 0.75
    } else if usage > limit {
        share * limit / usage
    } else if usage > limit * 0.95 {
        share
    } else {
        share * (limit * 0.97 / usage.max(0.01)).min(1.2) + 0.01
    };
    next.clamp(LEAST, 1.0)
}
