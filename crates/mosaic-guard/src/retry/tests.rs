use std::sync::Arc;

use mosaic_core::SeededRandom;
use proptest::prelude::*;

use super::*;

fn runtime(seed: u64) -> Runtime {
    Runtime::new(Arc::new(mosaic_core::SystemClock), Arc::new(SeededRandom::new(seed)))
}

#[test]
fn pauses_grow_are_jittered_and_bounded() {
    let rule: RetryRule = "5 base=100ms max=300ms".parse().unwrap();
    let runtime = runtime(crate::testing::seed());
    for (n, longest) in [(1, 100), (2, 200), (3, 300), (4, 300), (40, 300)] {
        let pauses: Vec<_> = (0..200).map(|_| rule.pause(n, None, &runtime)).collect();
        let longest = Duration::from_millis(longest);
        assert!(pauses.iter().all(|pause| *pause <= longest), "{n}");
        // Full jitter: from nothing to everything.
        assert!(
            pauses.iter().any(|pause| *pause < longest / 10) && pauses.iter().any(|pause| *pause > longest * 9 / 10)
        );
    }
    let asked = Duration::from_secs(7);
    assert!(rule.pause(1, Some(asked), &runtime) >= asked);
}

#[test]
fn a_mark_survives_and_hides_nothing() {
    let error = Error::unavailable("DOWN", "down")
        .numbered(7)
        .with_http_status(599)
        .with_retry_after(Duration::from_secs(1))
        .logged()
        .caused_by("cable cut");
    assert!(!was_retried(&error));
    let marked = mark_retried(mark_retried(error));
    assert!(was_retried(&marked));
    assert_eq!(
        (marked.reason(), marked.number(), marked.http_status()),
        ("DOWN", Some(7), 599)
    );
    assert_eq!(marked.retry_after(), Some(Duration::from_secs(1)));
    assert!(!marked.is_to_be_logged());
    assert!(marked.cause_chain().contains("cable cut"), "{}", marked.cause_chain());
    assert!(
        Error::unavailable("A", "a").is_to_be_logged() && mark_retried(Error::unavailable("A", "a")).is_to_be_logged()
    );
}

proptest! {
    /// From the start on: extra attempts <= 20 % of calls + 10 a second (and the first second's ten).
    #[test]
    fn a_budget_is_never_exceeded(steps in proptest::collection::vec((0_u64..200, 0_u32..50, 0_u32..50), 1..200)) {
        let budget = Budget::new(&RetryRule::default());
        let start = runtime(0).instant();
        let (mut ms, mut n_calls, mut n_extra) = (0, 0_u64, 0_u64);
        for (pause_ms, calls, wanted) in steps {
            ms += pause_ms;
            for _ in 0..calls {
                budget.deposit();
                n_calls += 1;
            }
            let now = start + Duration::from_millis(ms);
            n_extra += (0..wanted).filter(|_| budget.withdraw(now)).count() as u64;
            let allowed = n_calls as f64 * 0.2 + 10.0 * (ms as f64 / 1000.0 + 1.0);
            prop_assert!(n_extra as f64 <= allowed, "{n_extra} > {allowed}");
        }
    }

    #[test]
    fn what_was_saved_up_is_bounded(n_calls in 0_u32..1_000_000) {
        let budget = Budget::new(&RetryRule::default());
        for _ in 0..n_calls.min(5000) {
            budget.deposit();
        }
        let now = runtime(0).instant();
        let n_extra = (0..10_000).filter(|_| budget.withdraw(now)).count();
        prop_assert!(n_extra <= 110, "{n_extra}");
    }
}
