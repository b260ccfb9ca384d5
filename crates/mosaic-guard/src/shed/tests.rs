//! Shedding against a process with a known capacity, in simulated time (P13).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use mosaic_core::{Clock as _, ManualClock, Runtime, SeededRandom, Timestamp};

use super::*;
use crate::testing::seed;

const US: u64 = 1000;
const SECOND: u64 = 1_000_000_000;

/// A process with `cores` that answers a call in `service_ns` of processor time, after a queue.
struct World {
    shed: Option<Shed>,
    load: CpuLoad,
    cx: Context,
    start: Instant,
    cores: u64,
    service_ns: u64,
    now: u64,
    rolled: u64,
    queue: VecDeque<Job>,
    ends: BinaryHeap<Reverse<(u64, u64)>>,
    jobs: std::collections::BTreeMap<u64, Job>,
    n_jobs: u64,
    busy_ns: u64,
    sampled: u64,
    next: u64,
}

struct Job {
    arrived: u64,
    measured: Option<Measured>,
}

#[derive(Debug, Default)]
struct Seen {
    offered: u64,
    refused: u64,
    latencies: Vec<u64>,
}

impl Seen {
    fn goodput(&self, ms: u64) -> f64 {
        self.latencies.len() as f64 * 1000.0 / ms as f64
    }

    fn p99(&mut self) -> u64 {
        self.latencies.sort_unstable();
        self.latencies
            .get(self.latencies.len() * 99 / 100)
            .copied()
            .unwrap_or(0)
    }
}

impl World {
    fn new(rule: &str, seed: u64) -> Self {
        eprintln!("seed {seed}");
        let load = CpuLoad::default();
        let clock = Arc::new(ManualClock::at(Timestamp::EPOCH));
        let start = clock.instant();
        Self {
            shed: Shed::new(rule.parse().unwrap(), &load, true),
            load,
            cx: Context::new(&Runtime::new(clock, Arc::new(SeededRandom::new(seed)))),
            start,
            cores: 4,
            service_ns: 4000 * US, // 1000 calls a second
            now: 0,
            rolled: seed | 1,
            queue: VecDeque::new(),
            ends: BinaryHeap::new(),
            jobs: std::collections::BTreeMap::new(),
            n_jobs: 0,
            busy_ns: 0,
            sampled: 0,
            next: 0,
        }
    }

    fn roll(&mut self) -> f64 {
        self.rolled ^= self.rolled << 13;
        self.rolled ^= self.rolled >> 7;
        self.rolled ^= self.rolled << 17;
        (self.rolled >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn at(&self, ns: u64) -> Instant {
        self.start + Duration::from_nanos(ns)
    }

    /// Offers `per_second` calls for `ms`, at random moments.
    fn run(&mut self, per_second: f64, ms: u64) -> Seen {
        let (end, mut seen) = (self.now + ms * 1_000_000, Seen::default());
        loop {
            let done = self.ends.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
            let sample = self.sampled + 200_000_000;
            self.now = self.next.min(done).min(sample);
            if self.now >= end {
                self.now = end;
                return seen;
            }
            if self.now == done {
                self.finish(&mut seen);
            } else if self.now == sample {
                self.sampled = sample;
                let capacity = (200_000_000 * self.cores) as f64;
                self.load.record(std::mem::take(&mut self.busy_ns) as f64 / capacity);
            } else {
                seen.offered += 1;
                self.arrive(&mut seen);
                let gap = -(1.0 - self.roll()).ln() / per_second;
                self.next = self.now + (gap * SECOND as f64) as u64;
            }
        }
    }

    fn arrive(&mut self, seen: &mut Seen) {
        let measured = match &self.shed {
            None => None,
            Some(shed) => match shed.admit(Priority::Normal, &self.cx) {
                Ok(measured) => measured,
                Err(error) => {
                    assert_eq!(error.reason(), "OVERLOADED");
                    assert!(error.retry_after().is_some());
                    // Saying no is not free.
                    self.busy_ns += 20 * US;
                    seen.refused += 1;
                    return;
                }
            },
        };
        self.queue.push_back(Job {
            arrived: self.now,
            measured,
        });
        self.work();
    }

    fn work(&mut self) {
        while (self.ends.len() as u64) < self.cores {
            let Some(job) = self.queue.pop_front() else { return };
            self.n_jobs += 1;
            let took = (self.service_ns as f64 * (0.5 + self.roll())) as u64;
            self.busy_ns += took;
            self.ends.push(Reverse((self.now + took, self.n_jobs)));
            self.jobs.insert(self.n_jobs, job);
        }
    }

    fn finish(&mut self, seen: &mut Seen) {
        let Some(Reverse((_, id))) = self.ends.pop() else {
            return;
        };
        let job = self.jobs.remove(&id).unwrap();
        if let Some(measured) = &job.measured {
            measured.ended(self.at(job.arrived), self.at(self.now));
        }
        seen.latencies.push(self.now - job.arrived);
        self.work();
    }
}

#[test]
fn three_times_the_load_is_shed_and_not_suffered() {
    for rule in ["cpu 90%", "gradient", "cpu 90%; gradient"] {
        let mut world = World::new(rule, seed());
        let calm = world.run(700.0, 20_000).p99();
        // While it is learnt that it is too much.
        world.run(3000.0, 5000);
        let mut seen = world.run(3000.0, 60_000);
        let (goodput, refused, p99) = (seen.goodput(60_000), seen.refused, seen.p99());
        let [p99, calm] = [p99, calm].map(Duration::from_nanos);
        eprintln!("{rule}: goodput {goodput}/s of 1000/s, refused {refused}, p99 {p99:?}, calm {calm:?}");
        assert!(goodput >= 800.0, "{rule}: {goodput}");
        // The processor's share bounds how much comes in and not how long it queues; the gradient does both.
        let bound = if rule == "cpu 90%" {
            Duration::from_millis(200)
        } else {
            3 * calm
        };
        assert!(p99 < bound, "{rule}: {p99:?}");
    }
}

#[test]
fn without_shedding_nothing_is_answered_in_time() {
    let mut world = World::new("off", seed());
    world.run(3000.0, 30_000);
    let mut seen = world.run(3000.0, 10_000);
    assert!(seen.p99() > 10 * SECOND, "the simulation can tell the difference");
}

#[test]
fn a_modest_load_is_left_alone() {
    for rule in ["cpu 90%", "gradient"] {
        let mut world = World::new(rule, seed());
        world.run(600.0, 10_000);
        let seen = world.run(600.0, 30_000);
        assert!(
            seen.refused * 200 <= seen.offered,
            "{rule}: {} of {}",
            seen.refused,
            seen.offered
        );
    }
}

#[test]
fn all_are_let_in_again_when_the_storm_is_over() {
    for rule in ["cpu 90%", "gradient"] {
        let mut world = World::new(rule, seed());
        world.run(500.0, 10_000);
        world.run(5000.0, 30_000);
        world.run(500.0, 3000);
        let seen = world.run(500.0, 10_000);
        assert!(
            seen.refused * 200 <= seen.offered,
            "{rule}: {} of {}",
            seen.refused,
            seen.offered
        );
    }
}

#[test]
fn sub_millisecond_services_are_measured_as_they_are() {
    let mut world = World::new("gradient", seed());
    world.service_ns = 200 * US; // 20,000 calls a second
    world.run(10_000.0, 3000);
    let calm = world.run(10_000.0, 3000);
    assert!(
        calm.refused * 100 <= calm.offered,
        "{} of {}",
        calm.refused,
        calm.offered
    );
    world.run(60_000.0, 2000);
    let mut seen = world.run(60_000.0, 5000);
    assert!(seen.goodput(5000) > 16_000.0, "{}", seen.goodput(5000));
    assert!(seen.p99() < 10_000 * US, "{} us", seen.p99() / US);
}

#[test]
fn a_service_that_has_become_slower_is_measured_anew() {
    let mut world = World::new("gradient", seed());
    (world.cores, world.service_ns) = (16, 16_000 * US); // 1000 calls a second
    world.run(500.0, 5000);
    world.run(3000.0, 20_000);
    world.service_ns *= 3;
    world.run(3000.0, 60_000);
    let seen = world.run(3000.0, 30_000);
    assert!(seen.goodput(30_000) >= 280.0, "{} of 333", seen.goodput(30_000));
}

#[test]
fn who_matters_more_is_refused_less() {
    let shed = Shed::new("cpu 90%".parse().unwrap(), &CpuLoad::default(), true).unwrap();
    let load = CpuLoad::default();
    let shed = Shed {
        cpu: Some(CpuShed::new(CpuRule::default(), load.clone())),
        ..shed
    };
    let cx = Context::new(&Runtime::new(
        Arc::new(ManualClock::at(Timestamp::EPOCH)),
        Arc::new(SeededRandom::new(5)),
    ));
    let admitted = |priority| (0..2000).filter(|_| shed.admit(priority, &cx).is_ok()).count();
    assert_eq!(admitted(Priority::Low), 2000);
    assert!(!shed.is_soft());
    for _ in 0..3 {
        load.record(1.0);
    }
    assert!(shed.is_soft(), "handlers are told before anybody is refused");
    for _ in 0..3 {
        load.record(1.0);
        admitted(Priority::Normal);
    }
    let [low, normal, high] = [Priority::Low, Priority::Normal, Priority::High].map(admitted);
    assert!(low + 200 < normal && normal + 200 < high, "{low} {normal} {high}");
    // Nobody called for five seconds: what was too much then says nothing now.
    for _ in 0..25 {
        load.record(0.0);
    }
    assert_eq!(admitted(Priority::Low), 2000);
}

#[test]
fn auto_sheds_in_production_only() {
    let made = |is_production| Shed::new(ShedRule::Auto, &CpuLoad::default(), is_production).is_some();
    assert!(made(true) && !made(false));
}
