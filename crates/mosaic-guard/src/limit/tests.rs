//! Every algorithm in memory, by tables and laws.

use mosaic_core::{Context, Runtime};
use proptest::prelude::*;

use super::*;
use crate::testing::{METHODS, READ};

mod places;

fn limiter(rule: &str) -> Arc<Limiter> {
    Arc::new(Limiter::new(rule.parse().unwrap(), "test"))
}

/// Says for each time in milliseconds whether a call was taken, or in how many milliseconds to come back.
#[track_caller]
fn check(rule: &str, calls: &[(u64, Result<(), u64>)]) {
    let limiter = limiter(rule);
    // The clock begins where a window of a second begins, so that tables can be read.
    let start = Runtime::system().instant();
    let start = start + Duration::from_nanos(60_000_000_000 - nanos(start) % 60_000_000_000);
    for (ms, want) in calls {
        let taken = limiter.take(&Key::All, start + Duration::from_millis(*ms));
        let got = taken.map_err(|wait| u64::try_from(wait.as_micros().div_ceil(1000)).unwrap());
        assert_eq!(got, *want, "{rule} at {ms} ms");
    }
}

#[test]
fn a_counter_begins_with_the_first_call() {
    check(
        "counter 2/s",
        &[
            (300, Ok(())),
            (900, Ok(())),
            (1000, Err(300)),
            (1299, Err(1)),
            (1300, Ok(())),
            (1301, Ok(())),
            (2299, Err(1)),
        ],
    );
}

#[test]
fn a_fixed_window_begins_with_the_clock() {
    check(
        "fixed-window 2/s",
        &[
            (900, Ok(())),
            (950, Ok(())),
            (999, Err(1)),
            (1000, Ok(())),
            (1001, Ok(())),
            (1002, Err(998)),
        ],
    );
}

#[test]
fn a_sliding_window_knows_no_seam() {
    check(
        "sliding-window 2/s",
        &[
            (900, Ok(())),
            (950, Ok(())),
            (1000, Err(1000)),
            (1899, Err(101)),
            (2000, Ok(())),
            (2050, Ok(())),
            (2100, Err(1000)),
            (90_000, Ok(())),
        ],
    );
}

#[test]
fn a_token_bucket_saves_up() {
    check(
        "token-bucket 10/s burst 3",
        &[
            (0, Ok(())),
            (0, Ok(())),
            (0, Ok(())),
            (0, Err(100)),
            (50, Err(50)),
            (100, Ok(())),
            (300, Ok(())),
            (300, Ok(())),
            (300, Err(100)),
        ],
    );
}

#[test]
fn a_leaky_bucket_keeps_the_distance() {
    check(
        "leaky-bucket 10/s",
        &[
            (0, Ok(())),
            (1, Err(99)),
            (100, Ok(())),
            (1000, Ok(())),
            (1001, Err(99)),
        ],
    );
    check(
        "leaky-bucket 10/s burst 2",
        &[(0, Ok(())), (0, Ok(())), (0, Err(100)), (100, Ok(()))],
    );
}

#[test]
fn nothing_is_rounded_to_milliseconds() {
    let limiter = limiter("leaky-bucket 100000/s");
    let start = Runtime::system().instant();
    let at = |us| limiter.take(&Key::All, start + Duration::from_micros(us));
    assert_eq!(at(0), Ok(()));
    assert_eq!(at(5), Err(Duration::from_micros(5)));
    assert_eq!(at(10), Ok(()));
}

#[test]
fn what_does_not_divide_is_rounded_in_favour_of_the_rule() {
    let limiter = limiter("leaky-bucket 3/s");
    let start = Runtime::system().instant();
    let at = |ns| limiter.take(&Key::All, start + Duration::from_nanos(ns));
    assert_eq!(at(0), Ok(()));
    assert_eq!(at(333_333_333), Err(Duration::from_nanos(1)));
    assert_eq!(at(333_333_334), Ok(()));
}

#[test]
fn calls_at_a_time_free_their_place() {
    let limiter = limiter("concurrent 1 by method");
    let cx = Context::new(&Runtime::system());
    let slot = limiter.admit(READ, &cx).unwrap().unwrap();
    let refused = limiter.admit(READ, &cx).unwrap_err();
    assert_eq!(refused.reason(), "RATE_LIMITED");
    assert!(limiter.admit(&METHODS[1], &cx).is_ok(), "another method");
    drop(slot);
    assert!(limiter.admit(READ, &cx).is_ok());
}

#[test]
fn a_refusal_names_rule_numbers_and_time() {
    let limiter = limiter("token-bucket 1/m burst 2 by ip");
    let cx = Context::new(&Runtime::system());
    let error = (0..3).find_map(|_| limiter.admit(READ, &cx).err()).unwrap();
    assert_eq!(error.reason(), "RATE_LIMITED");
    assert_eq!(error.http_status(), 429);
    assert!(error.message().contains("token-bucket 1/m burst 2 by ip"), "{error}");
    assert!(error.retry_after().unwrap() > Duration::from_secs(59));
}

#[test]
fn the_platform_itself_is_no_person() {
    let limiter = limiter("counter 1/h by account");
    let service = Context::new(&Runtime::system()).with_service(Some("edge".into()));
    assert!((0..9).all(|_| limiter.admit(READ, &service).is_ok()));
}

/// The most that a rule of `calls` in `per` may let through in a stretch of `length` that begins anywhere.
fn most(rule: &LimitRule, length: u64) -> f64 {
    let (calls, per) = (f64::from(rule.calls), rule.per.as_nanos() as f64);
    match rule.algorithm {
        Algorithm::TokenBucket | Algorithm::LeakyBucket => f64::from(rule.burst) + calls * length as f64 / per,
        Algorithm::SlidingWindow => calls * (length as f64 / per).ceil().max(1.0),
        // What ends and what begins within the stretch.
        _ => calls * ((length as f64 / per).floor() + 2.0),
    }
}

proptest! {
    #[test]
    fn no_limit_lets_more_through_than_it_says(
        idx in 0_usize..5,
        calls in 1_u32..50,
        burst in 1_u32..20,
        gaps in proptest::collection::vec(0_u64..120_000_000, 1..400),
    ) {
        let names = ["counter", "fixed-window", "sliding-window", "token-bucket", "leaky-bucket"];
        let bucket = if idx >= 3 { format!(" burst {burst}") } else { String::new() };
        let limiter = limiter(&format!("{} {calls}/s{bucket}", names[idx]));
        let start = Runtime::system().instant();
        let (mut now, mut taken) = (0, Vec::new());
        for gap in gaps {
            now += gap;
            if limiter.take(&Key::All, start + Duration::from_nanos(now)).is_ok() {
                taken.push(now);
            }
        }
        for (first, from) in taken.iter().enumerate() {
            for (last, to) in taken.iter().enumerate().skip(first) {
                let n_taken = (last - first + 1) as f64;
                // Both ends lie within the stretch.
                let allowed = most(&limiter.rule, to - from + 1);
                prop_assert!(n_taken <= allowed + 1e-6, "{n_taken} > {allowed} in {} ns", to - from);
            }
        }
    }

    #[test]
    fn who_waits_as_told_is_let_in(idx in 0_usize..5, calls in 1_u32..20, gaps in proptest::collection::vec(0_u64..90_000_000, 1..100)) {
        let names = ["counter", "fixed-window", "sliding-window", "token-bucket", "leaky-bucket"];
        let limiter = limiter(&format!("{} {calls}/s", names[idx]));
        let mut now = Runtime::system().instant();
        for gap in gaps {
            now += Duration::from_nanos(gap);
            if let Err(wait) = limiter.take(&Key::All, now) {
                prop_assert!(wait <= Duration::from_millis(1100));
                now += wait;
                prop_assert_eq!(limiter.take(&Key::All, now), Ok(()));
            }
        }
    }
}
