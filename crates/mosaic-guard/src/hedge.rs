//! Hedged requests (Dean and Barroso, *The Tail at Scale*): a second attempt when the first is late, and the first answer
//! counts.
//!
//! Only for idempotent methods, and out of the budget of the retries. The delay is fixed or learnt: the 95th percentile of
//! what successful calls took, so that about one call in twenty is hedged. The attempt that loses is dropped.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::rules::words::{self, Words, rule_value};

/// When a second attempt is made: `off`, `after 50ms`, or `p95 min=5ms`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HedgeRule {
    /// Never.
    Off,
    /// This long after the first.
    After(Duration),
    /// When the first takes longer than this share of the calls before; not before `min`.
    Learnt {
        /// Share of calls that are faster.
        quantile: f64,
        /// Shortest delay.
        min: Duration,
    },
}

impl FromStr for HedgeRule {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = Words::of(text);
        let kind = words.need("off, after <duration> or p<percentile>")?;
        match (kind, kind.strip_prefix('p').map(str::parse::<f64>)) {
            ("off", _) => words.end().map(|()| Self::Off),
            ("after", _) => {
                let after = words::duration(&mut words)?;
                words.end().map(|()| Self::After(after))
            }
            (_, Some(Ok(percentile))) if (50.0..100.0).contains(&percentile) => {
                let mut min = Duration::from_millis(1);
                words.options("min", |name, words| {
                    (name == "min").then(|| words::duration(words).map(|least| min = least))
                })?;
                let quantile = percentile / 100.0;
                Ok(Self::Learnt { quantile, min })
            }
            _ => Err("must begin with off, after or a percentile from p50 to p99.9".to_owned()),
        }
    }
}

impl fmt::Display for HedgeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::After(after) => write!(f, "after {}", words::show(*after)),
            Self::Learnt { quantile, min } => {
                let percentile = words::show_percent(*quantile);
                write!(f, "p{} min={}", percentile.trim_end_matches('%'), words::show(*min))
            }
        }
    }
}

rule_value!(HedgeRule);

/// Calls before which nothing is learnt.
const SAMPLES_MIN: u32 = 20;
/// Calls after which what was learnt counts half.
const SAMPLES_MAX: u32 = 2000;
/// Four steps an octave from 16 us on: up to about 17 minutes, at most 19 % wrong.
const STEPS: usize = 104;
const FIRST_NS: f64 = 16_000.0;

/// Knows when to hedge.
#[derive(Debug)]
pub(crate) struct Hedge {
    rule: HedgeRule,
    counts: Box<[AtomicU32]>,
    n_samples: AtomicU32,
    /// Nanoseconds; zero: not known.
    learnt: AtomicU64,
}

impl Hedge {
    /// Makes the hedge of `rule`; `None` if it is off.
    pub(crate) fn new(rule: HedgeRule) -> Option<Self> {
        (rule != HedgeRule::Off).then(|| Self {
            rule,
            counts: (0..STEPS).map(|_| AtomicU32::new(0)).collect(),
            n_samples: AtomicU32::new(0),
            learnt: AtomicU64::new(0),
        })
    }

    /// Returns how long to wait for the first attempt; `None` while too little is known.
    pub(crate) fn delay(&self) -> Option<Duration> {
        match self.rule {
            HedgeRule::Off => None,
            HedgeRule::After(after) => Some(after),
            HedgeRule::Learnt { min, .. } => match self.learnt.load(Relaxed) {
                0 => None,
                learnt => Some(Duration::from_nanos(learnt).max(min)),
            },
        }
    }

    /// Learns that a call took `elapsed`.
    pub(crate) fn learn(&self, elapsed: Duration) {
        let HedgeRule::Learnt { quantile, .. } = self.rule else {
            return;
        };
        self.counts[step_of(elapsed)].fetch_add(1, Relaxed);
        let n_samples = self.n_samples.fetch_add(1, Relaxed) + 1;
        if n_samples >= SAMPLES_MIN && n_samples.is_multiple_of(SAMPLES_MIN) {
            self.conclude(quantile, n_samples);
        }
    }

    fn conclude(&self, quantile: f64, n_samples: u32) {
        let counts: Vec<u32> = self.counts.iter().map(|count| count.load(Relaxed)).collect();
        let total: u32 = counts.iter().sum();
        let (wanted, mut seen) = (f64::from(total) * quantile, 0.0);
        let reached = counts.iter().position(|count| {
            seen += f64::from(*count);
            seen >= wanted
        });
        let end_ns = FIRST_NS * ((reached.unwrap_or(STEPS - 1) + 1) as f64 / 4.0).exp2();
        self.learnt.store(end_ns as u64, Relaxed);
        if n_samples >= SAMPLES_MAX {
            // The past fades: half of it goes.
            self.n_samples.store(0, Relaxed);
            for (slot, count) in self.counts.iter().zip(counts) {
                let fade = |now: u32| Some(now.saturating_sub(count - count / 2));
                let _ = slot.fetch_update(Relaxed, Relaxed, fade); // never fails: it always has a value
            }
        }
    }
}

fn step_of(elapsed: Duration) -> usize {
    let octaves = (elapsed.as_nanos() as f64 / FIRST_NS).max(1.0).log2();
    ((octaves * 4.0) as usize).min(STEPS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_95th_percentile_is_learnt_and_follows() {
        let hedge = Hedge::new("p95 min=1ms".parse().unwrap()).unwrap();
        let teach = |calls: u64, fast_ms: u64, slow_ms: u64| {
            for n in 0..calls {
                let ms = if n % 10 == 0 { slow_ms } else { fast_ms };
                hedge.learn(Duration::from_millis(ms));
            }
            hedge.delay().map(|delay| delay.as_secs_f64() * 1000.0)
        };
        assert_eq!(teach(19, 10, 100), None);
        let learnt = teach(1000, 10, 100).unwrap();
        assert!((100.0..130.0).contains(&learnt), "{learnt}");
        teach(20_000, 10, 100);
        // All calls have become faster; a few fadings later the delay has, too.
        let learnt = teach(12_000, 2, 4).unwrap();
        assert!((4.0..6.0).contains(&learnt), "{learnt}");
    }

    #[test]
    fn a_fixed_delay_needs_no_lesson() {
        let hedge = Hedge::new("after 50ms".parse().unwrap()).unwrap();
        assert_eq!(hedge.delay(), Some(Duration::from_millis(50)));
    }
}
