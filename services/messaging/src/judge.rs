//! Is the provider down? Judged by its error rate and its latency in a sliding window, against its own past.
//!
//! A fixed limit ("1 s is slow") is wrong for every provider but one, and a count of failures in a row (as
//! [`HealthFailover`](crate::failover::HealthFailover) has) never sees one that answers half of the time or ten times slower.
//! So the window of the last [`JudgeOptions::window`] is compared with a baseline, an average of windows in which all was well. While it is
//! down the baseline stands still, or a long outage would become the norm. One message at a time is let through as a probe;
//! enough good ones in a row end the outage.
//!
//! A pure state machine: it is told what happened when, and asks nobody.

use std::collections::VecDeque;
use std::time::Duration;

use mosaic::Timestamp;

/// Parts of the window, which is how exactly it slides.
const PARTS: u32 = 10;
/// How much of a new window goes into the baseline when it has passed: an average over about the last 20.
const BASELINE_WEIGHT: f64 = 0.05;
/// Latencies below this are not compared: ten times nothing is nothing.
const LATENCY_FLOOR: Duration = Duration::from_millis(50);

/// What the judge goes by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JudgeOptions {
    /// Length of the window.
    pub(crate) window: Duration,
    /// Fewer messages in a window say nothing.
    pub(crate) messages_min: u32,
    /// Down if so many more of a window fail than usual, 0 to 1.
    pub(crate) error_growth: f64,
    /// Down if a window takes so many times longer than usual.
    pub(crate) latency_growth: f64,
    /// Time between probes while it is down.
    pub(crate) probe_every: Duration,
    /// Good probes in a row that end the outage.
    pub(crate) probes: u32,
}

impl Default for JudgeOptions {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(30),
            messages_min: 20,
            error_growth: 0.3,
            latency_growth: 5.0,
            probe_every: Duration::from_secs(5),
            probes: 3,
        }
    }
}

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send it.
    Send,
    /// Send it, to see whether the provider is back.
    Probe,
    /// Do not send it now.
    Wait,
}

/// What became of a message that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) is_ok: bool,
    pub(crate) took: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    n: u32,
    n_failed: u32,
    took: Duration,
}

impl Sums {
    fn add(&mut self, other: Self) {
        self.n += other.n;
        self.n_failed += other.n_failed;
        self.took += other.took;
    }

    fn error_rate(self) -> f64 {
        f64::from(self.n_failed) / f64::from(self.n.max(1))
    }

    fn latency(self) -> Duration {
        self.took / self.n.max(1)
    }
}

#[derive(Debug, Clone, Copy)]
struct Baseline {
    error_rate: f64,
    latency: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Down { next_probe: Timestamp, n_good: u32 },
}

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Judge {
    options: JudgeOptions,
    /// Parts with their number, oldest first.
    parts: VecDeque<(i64, Sums)>,
    baseline: Option<Baseline>,
    /// The window that went into the baseline last.
    learned: i64,
    state: State,
}

impl Judge {
    pub(crate) fn new(options: JudgeOptions) -> Self {
        Self {
            options,
            parts: VecDeque::new(),
            baseline: None,
            learned: 0,
            state: State::Up,
        }
    }

    /// Is the provider judged down?
    pub(crate) fn is_down(&self) -> bool {
        self.state != State::Up
    }

    /// Says what to do with a message at `now`; a probe is given out once in its time.
    pub(crate) fn verdict(&mut self, now: Timestamp) -> Verdict {
        match &mut self.state {
            State::Up => Verdict::Send,
            State::Down { next_probe, .. } if *next_probe <= now => {
                *next_probe = now.plus(self.options.probe_every);
                Verdict::Probe
            }
            State::Down { .. } => Verdict::Wait,
        }
    }

    /// Takes what became of a message that ended at `now`.
    pub(crate) fn record(&mut self, now: Timestamp, attempt: Attempt) {
        match self.state {
            State::Up => {
                self.count(now, attempt);
                let window = self.window(now);
                if self.is_bad(window) {
                    self.state = State::Down {
                        next_probe: now.plus(self.options.probe_every),
                        n_good: 0,
                    };
                    self.parts.clear();
                }
            }
            State::Down { next_probe, n_good } => {
                let is_good = attempt.is_ok && !self.is_slow(attempt.took);
                let n_good = if is_good { n_good + 1 } else { 0 };
                self.state = if n_good >= self.options.probes {
                    State::Up
                } else {
                    // A good one is followed by the next at once.
                    let next_probe = if is_good { now } else { next_probe };
                    State::Down { next_probe, n_good }
                };
            }
        }
    }

    fn part_micros(&self) -> i64 {
        i64::try_from((self.options.window / PARTS).as_micros())
            .unwrap_or(i64::MAX)
            .max(1)
    }

    fn count(&mut self, now: Timestamp, attempt: Attempt) {
        let part = now.as_micros() / self.part_micros();
        self.learn(part);
        if self.parts.back().is_none_or(|(last, _)| *last < part) {
            self.parts.push_back((part, Sums::default()));
        }
        if let Some((_, sums)) = self.parts.back_mut() {
            sums.add(Sums {
                n: 1,
                n_failed: u32::from(!attempt.is_ok),
                took: attempt.took,
            });
        }
    }

    /// Puts the window that has just passed into the baseline, once a window.
    fn learn(&mut self, part: i64) {
        if part - self.learned < i64::from(PARTS) {
            return;
        }
        self.learned = part;
        let passed = self.sums_since(part - 2 * i64::from(PARTS));
        if passed.n < self.options.messages_min {
            return;
        }
        let (error_rate, latency) = (passed.error_rate(), passed.latency());
        self.baseline = Some(match self.baseline {
            None => Baseline { error_rate, latency },
            Some(known) => Baseline {
                error_rate: known.error_rate + (error_rate - known.error_rate) * BASELINE_WEIGHT,
                latency: known.latency.mul_f64(1.0 - BASELINE_WEIGHT) + latency.mul_f64(BASELINE_WEIGHT),
            },
        });
    }

    fn sums_since(&self, part: i64) -> Sums {
        let mut sums = Sums::default();
        for (_, of_part) in self.parts.iter().filter(|(number, _)| *number > part) {
            sums.add(*of_part);
        }
        sums
    }

    fn window(&mut self, now: Timestamp) -> Sums {
        let part = now.as_micros() / self.part_micros();
        let oldest = part - 2 * i64::from(PARTS);
        while self.parts.front().is_some_and(|(number, _)| *number < oldest) {
            self.parts.pop_front();
        }
        self.sums_since(part - i64::from(PARTS))
    }

    fn is_bad(&self, window: Sums) -> bool {
        let usual = self.baseline.map_or(0.0, |baseline| baseline.error_rate);
        window.n >= self.options.messages_min
            && (window.error_rate() > usual + self.options.error_growth || self.is_slow(window.latency()))
    }

    /// Without a past there is nothing to compare with.
    fn is_slow(&self, latency: Duration) -> bool {
        let usual = self.baseline.map(|baseline| baseline.latency.max(LATENCY_FLOOR));
        usual.is_some_and(|usual| latency > usual.mul_f64(self.options.latency_growth))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A provider that is told how to answer, under one message every 100 ms.
    struct Scene {
        judge: Judge,
        now: Timestamp,
        n_sent: u32,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                judge: Judge::new(JudgeOptions::default()),
                now: Timestamp::from_secs(1_800_000_000),
                n_sent: 0,
            }
        }

        /// Lets `secs` pass; of ten messages, those with an index below `n_failing` fail, and each takes `took`.
        fn pass(&mut self, secs: u32, n_failing: u32, took: Duration) -> &mut Self {
            for i in 0..secs * 10 {
                self.now = self.now.plus(Duration::from_millis(100));
                if self.judge.verdict(self.now) != Verdict::Wait {
                    let is_ok = i % 10 >= n_failing;
                    self.judge.record(self.now, Attempt { is_ok, took });
                    self.n_sent += 1;
                }
            }
            self
        }
    }

    const USUAL: Duration = Duration::from_millis(100);

    #[test]
    fn what_is_usual_is_not_down() {
        #[track_caller]
        fn check(before: (u32, Duration), after: (u32, Duration), is_down: bool) {
            let mut scene = Scene::new();
            scene.pass(120, before.0, before.1).pass(30, after.0, after.1);
            assert_eq!(scene.judge.is_down(), is_down, "{before:?} then {after:?}");
        }
        check((0, USUAL), (0, USUAL), false);
        check((0, USUAL), (2, USUAL), false);
        check((0, USUAL), (5, USUAL), true);
        // One that always loses a fifth is not down for losing two fifths.
        check((2, USUAL), (4, USUAL), false);
        check((2, USUAL), (7, USUAL), true);
        check((0, USUAL), (0, USUAL * 4), false);
        check((0, USUAL), (0, USUAL * 8), true);
        // A slow one is not down for being slow, nor a fast one for a little.
        check((0, USUAL * 20), (0, USUAL * 40), false);
        check((0, Duration::from_millis(1)), (0, USUAL), false);
    }

    #[test]
    fn a_few_messages_say_nothing() {
        let mut judge = Judge::new(JudgeOptions::default());
        let start = Timestamp::from_secs(1_800_000_000);
        let failed = Attempt {
            is_ok: false,
            took: USUAL,
        };
        for i in 0..19 {
            judge.record(start.plus(Duration::from_secs(i)), failed);
        }
        assert!(!judge.is_down());
        judge.record(start.plus(Duration::from_secs(19)), failed);
        assert!(judge.is_down());
    }

    #[test]
    fn an_outage_costs_probes_only_and_ends_with_good_ones() {
        let mut scene = Scene::new();
        scene.pass(120, 0, USUAL).pass(60, 10, USUAL);
        assert!(scene.judge.is_down());
        let n_before = scene.n_sent;
        scene.pass(60, 10, USUAL);
        assert!(
            (11..=13).contains(&(scene.n_sent - n_before)),
            "{}",
            scene.n_sent - n_before
        );
        scene.pass(6, 0, USUAL);
        assert!(!scene.judge.is_down(), "three good probes end it, one after the other");
        scene.pass(60, 0, USUAL);
        assert!(!scene.judge.is_down());
    }

    #[test]
    fn a_long_outage_does_not_become_the_norm() {
        let mut scene = Scene::new();
        scene.pass(120, 0, USUAL).pass(3600, 10, USUAL * 20);
        assert!(scene.judge.is_down());
        // Good answers that are as slow as those of the outage do not end it.
        scene.pass(60, 0, USUAL * 20);
        assert!(scene.judge.is_down());
        scene.pass(6, 0, USUAL);
        assert!(!scene.judge.is_down());
    }

    #[test]
    fn one_probe_at_a_time() {
        let mut scene = Scene::new();
        scene.pass(120, 0, USUAL).pass(60, 10, USUAL);
        scene.now = scene.now.plus(Duration::from_secs(10));
        let verdicts: Vec<Verdict> = (0..5).map(|_| scene.judge.verdict(scene.now)).collect();
        assert_eq!(verdicts[0], Verdict::Probe);
        assert!(verdicts[1..].iter().all(|verdict| *verdict == Verdict::Wait));
    }
}
