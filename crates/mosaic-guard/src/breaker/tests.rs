//! Breakers against a dependency that breaks and heals, in simulated time.

use mosaic_core::Clock as _;

use super::*;
use crate::testing::{READ, seed};

const MS: u64 = 1_000_000;
/// Where simulated time begins.
const START: u64 = 1_000_000_000_000;

fn still(seed: u64) -> Runtime {
    eprintln!("seed {seed}");
    let clock = mosaic_core::ManualClock::at(mosaic_core::Timestamp::EPOCH);
    assert_eq!(clock.instant(), clock.instant());
    Runtime::new(
        std::sync::Arc::new(clock),
        std::sync::Arc::new(mosaic_core::SeededRandom::new(seed)),
    )
}

/// What callers saw in a stretch of time.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Seen {
    offered: u32,
    made: u32,
    ok: u32,
}

/// One dependency and those who call it, once every `every`.
struct World {
    kind: Kind,
    runtime: Runtime,
    now: u64,
    every: u64,
}

impl World {
    fn new(rule: &str, per_second: u64, seed: u64) -> Self {
        let kind = match rule.parse().unwrap() {
            BreakerRule::Sre(rule) => Kind::Sre(Sre::new(rule)),
            BreakerRule::Classic(rule) => Kind::Classic(Classic::new(rule)),
            BreakerRule::Off => unreachable!(),
        };
        Self {
            kind,
            runtime: still(seed),
            now: START,
            every: 1000 * MS / per_second,
        }
    }

    /// Calls for `ms`; `fails` says whether the nth call that is made fails.
    fn run(&mut self, ms: u64, mut fails: impl FnMut(u32) -> bool) -> Seen {
        let (end, mut seen) = (self.now + ms * MS, Seen::default());
        while self.now < end {
            seen.offered += 1;
            let admitted = match &self.kind {
                Kind::Sre(sre) => sre.admit(self.now, &self.runtime),
                Kind::Classic(classic) => classic.admit(self.now, &self.runtime),
            };
            if admitted.is_ok() {
                let failed = fails(seen.made);
                seen.made += 1;
                seen.ok += u32::from(!failed);
                match &self.kind {
                    Kind::Sre(sre) => sre.record(self.now, failed),
                    Kind::Classic(classic) => classic.record(self.now, failed),
                }
            }
            self.now += self.every;
        }
        seen
    }
}

const RULES: [&str; 2] = ["sre", "classic open=1s"];

#[test]
fn a_healthy_dependency_gets_every_call() {
    for rule in RULES {
        let mut world = World::new(rule, 1000, seed());
        let seen = world.run(60_000, |n| n % 20 == 0);
        assert_eq!(
            seen.made, seen.offered,
            "{rule}: one failure in twenty is nobody's business"
        );
    }
}

#[test]
fn a_dead_dependency_is_called_little_and_never_forgotten() {
    for rule in RULES {
        let mut world = World::new(rule, 1000, seed());
        world.run(60_000, |_| false);
        world.run(20_000, |_| true);
        for second in 0..60 {
            let seen = world.run(1000, |_| true);
            assert!((1..=100).contains(&seen.made), "{rule}, second {second}: {seen:?}");
        }
    }
}

#[test]
fn it_is_back_two_seconds_after_a_quarter_of_an_hour_of_failure() {
    for rule in RULES {
        for per_second in [10, 100, 1000, 10_000] {
            let mut world = World::new(rule, per_second, seed());
            // Ten thousand a second for a minute tell as much as for a quarter of an hour.
            world.run(if per_second == 10_000 { 60_000 } else { 900_000 }, |_| true);
            let healing = world.run(2000, |_| false);
            assert!(healing.ok > 0, "{rule} at {per_second}/s: {healing:?}");
            if rule == "sre" || per_second >= 100 {
                let healed = world.run(1000, |_| false);
                assert!(
                    healed.ok * 10 >= healed.offered * 9,
                    "{rule} at {per_second}/s: {healed:?}"
                );
            }
        }
    }
}

#[test]
fn own_refusals_do_not_feed_the_breaker() {
    // Ten times the callers must not make it ten times as hard to come back (go-zero counts its refusals as calls).
    let recovered_after = |per_second| {
        let mut world = World::new("sre", per_second, 7);
        world.run(30_000, |_| true);
        let mut ms = 0;
        loop {
            let seen = world.run(100, |_| false);
            ms += 100;
            if seen.ok == seen.offered {
                return ms;
            }
            assert!(ms < 10_000, "{seen:?}");
        }
    };
    let (few, many) = (recovered_after(100), recovered_after(10_000));
    assert!(few <= 2000 && many <= 2000, "{few} {many}");
}

#[test]
fn a_call_a_second_is_let_through_whatever_the_numbers_say() {
    let mut world = World::new("sre window=1h", 100, seed());
    let Kind::Sre(sre) = &world.kind else { unreachable!() };
    for _ in 0..100_000 {
        sre.record(START, true);
    }
    for second in 0..60 {
        let seen = world.run(1000, |_| true);
        assert!((1..=3).contains(&seen.made), "second {second}: {seen:?}");
    }
}

#[test]
fn half_a_failure_is_half_a_breaker() {
    let mut world = World::new("sre", 1000, seed());
    let mut n = 0_u64;
    let seen = world.run(60_000, |_| {
        n += 1;
        // Half of the calls, without a pattern.
        (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63) == 1
    });
    assert!(seen.made < seen.offered * 95 / 100, "{seen:?}");
    assert!(seen.ok > seen.offered / 4, "{seen:?}");
}

#[test]
fn a_classic_breaker_opens_step_by_step() {
    let mut world = World::new("classic min=10 open=1s probes=20", 1000, seed());
    world.run(1000, |_| true);
    assert!(world.run(500, |_| true).made <= 20, "open");
    world.run(500, |_| false);
    let shares: Vec<u32> = (0..4).map(|_| world.run(100, |_| false).made).collect();
    assert!(shares[0] < 60 && shares[3] > shares[0], "{shares:?}");
    world.run(1000, |_| false);
    assert_eq!(world.run(1000, |_| false).made, 1000, "closed");
}

#[test]
fn a_classic_breaker_opens_again_at_the_first_failure_of_a_probe() {
    let mut world = World::new("classic min=10 open=1s", 1000, seed());
    world.run(1000, |_| true);
    let seen = world.run(10_000, |_| true);
    assert!((8..=12).contains(&seen.made), "one probe a second: {seen:?}");
}

#[test]
fn what_counts_as_a_failure() {
    use Outcome::{Failure, Ignored, Success};
    for code in Code::ALL {
        let want = match code {
            Code::Unknown | Code::DeadlineExceeded | Code::Internal | Code::Unavailable | Code::DataLoss => Failure,
            Code::ResourceExhausted | Code::Cancelled => Ignored,
            _ => Success,
        };
        assert_eq!(Outcome::of(READ, Some(code), Duration::from_secs(1)), want, "{code}");
    }
    assert_eq!(Outcome::of(READ, None, Duration::ZERO), Success);
    let hurried = Outcome::of(READ, Some(Code::DeadlineExceeded), Duration::from_millis(3));
    assert_eq!(hurried, Ignored, "a caller in a hurry closes nobody's door");
}
