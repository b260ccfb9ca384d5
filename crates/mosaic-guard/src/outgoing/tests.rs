use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use mosaic_core::Code;

use super::*;
use crate::testing::{READ, SERVICE, WRITE, cx, rules, seed};
use crate::{mark_retried, was_retried};

fn outgoing(file: &str) -> Outgoing {
    Outgoing::new(&SERVICE, rules(file).0)
}

fn down() -> Error {
    Error::unavailable("DOWN", "down")
}

/// Calls `method` with attempts that end as `ends` says, the last one for ever; returns the outcome and the attempts.
async fn calls(
    outgoing: &Outgoing,
    method: &'static MethodDescriptor,
    cx: &Context,
    ends: impl Fn(u32) -> Result<u32, Failed>,
) -> (Result<u32>, u32) {
    let n_attempts = AtomicU32::new(0);
    let attempt = |_: Context, _: Attempt| {
        let n = n_attempts.fetch_add(1, SeqCst);
        std::future::ready(ends(n))
    };
    let outcome = outgoing.call(method, cx, attempt).await;
    (outcome, n_attempts.load(SeqCst))
}

#[tokio::test(start_paused = true)]
async fn what_is_repeated_and_what_is_not() {
    let outgoing = outgoing("");
    let retried = cx(1).with_retried(true);
    let fresh = cx(1);
    type End = fn() -> Failed;
    let table: [(&str, &'static MethodDescriptor, &Context, End, u32); 8] = [
        ("a read that was unavailable", READ, &fresh, || down().into(), 3),
        ("a write may have had its effect", WRITE, &fresh, || down().into(), 1),
        ("a write that nobody began", WRITE, &fresh, || Failed::unsent(down()), 3),
        ("below a repeated attempt", READ, &retried, || down().into(), 1),
        (
            "below a repeated attempt, unsent",
            READ,
            &retried,
            || Failed::unsent(down()),
            1,
        ),
        (
            "what the callee has repeated",
            READ,
            &fresh,
            || mark_retried(down()).into(),
            1,
        ),
        ("a defect", READ, &fresh, || Error::internal("x").into(), 1),
        (
            "a limit",
            READ,
            &fresh,
            || Error::resource_exhausted("R", "r").into(),
            1,
        ),
    ];
    for (what, method, cx, end, want) in table {
        let (outcome, n_attempts) = calls(&outgoing, method, cx, |_| Err(end())).await;
        assert_eq!(n_attempts, want, "{what}");
        assert!(outcome.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_attempt_may_succeed_and_the_last_error_says_so_if_none_did() {
    let outgoing = outgoing("");
    let (outcome, n_attempts) = calls(
        &outgoing,
        READ,
        &cx(1),
        |n| if n < 2 { Err(down().into()) } else { Ok(7) },
    )
    .await;
    assert_eq!((outcome.unwrap(), n_attempts), (7, 3));
    let (outcome, _) = calls(&outgoing, READ, &cx(1), |_| Err(down().into())).await;
    let error = outcome.unwrap_err();
    assert_eq!(
        (error.code(), error.reason(), error.message()),
        (Code::Unavailable, "DOWN", "down")
    );
    assert!(was_retried(&error), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_repeats_what_a_layer_below_repeated() {
    let (upper, lower) = (outgoing(""), outgoing(""));
    let n_lowest = AtomicU32::new(0);
    let lowest = |_: Context, _: Attempt| {
        n_lowest.fetch_add(1, SeqCst);
        std::future::ready(Err::<u32, _>(down()))
    };
    let middle = async |cx: Context, _: Attempt| lower.call(READ, &cx, &lowest).await;
    upper.call(READ, &cx(1), middle).await.unwrap_err();
    assert_eq!(n_lowest.load(SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn the_callees_patience_is_honoured_and_the_deadline_more_so() {
    let outgoing = outgoing("");
    let started = tokio::time::Instant::now();
    let busy = |n| {
        if n == 0 {
            Err(down().with_retry_after(Duration::from_secs(2)).into())
        } else {
            Ok(n)
        }
    };
    calls(&outgoing, READ, &cx(1), busy).await.0.unwrap();
    assert!((2.0..2.1).contains(&started.elapsed().as_secs_f64()));
    let hurried = cx(1).with_timeout(Duration::from_secs(1));
    let (outcome, n_attempts) = calls(&outgoing, READ, &hurried, busy).await;
    assert_eq!((outcome.unwrap_err().reason(), n_attempts), ("DOWN", 1));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_ends_before_its_caller_does_and_a_panic_is_an_error() {
    let outgoing = outgoing("");
    let cx = cx(1).with_timeout(Duration::from_millis(50));
    let started = tokio::time::Instant::now();
    let hang = |_: Context, _: Attempt| std::future::pending::<Result<()>>();
    let error = outgoing.call(READ, &cx, hang).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(started.elapsed().as_millis(), 45);
    let panics = |_: Context, _: Attempt| async { panic!("broken") as Result<()> };
    assert_eq!(
        outgoing.call(READ, &cx, panics).await.unwrap_err().code(),
        Code::Internal
    );
}

#[tokio::test(start_paused = true)]
async fn a_breaker_refuses_with_its_rule_and_lets_a_probe_through() {
    let outgoing = outgoing("guard.retry = 'off'");
    let cx = cx(seed());
    for _ in 0..500 {
        let _ = calls(&outgoing, READ, &cx, |_| Err(down().into())).await;
    }
    let mut n_made = 0;
    let mut refused = None;
    for _ in 0..100 {
        let (outcome, n_attempts) = calls(&outgoing, READ, &cx, |_| Err(down().into())).await;
        n_made += n_attempts;
        refused = outcome
            .err()
            .filter(|error| error.reason() == "BREAKER_OPEN")
            .or(refused);
    }
    assert!(n_made < 20, "{n_made}");
    let refused = refused.unwrap();
    assert!(refused.message().contains("sre k=1.5 min=5 window=10s"), "{refused}");
    assert!(refused.retry_after().is_some() && was_retried(&refused));
    assert!(outgoing.is_degraded(READ, &cx) && !outgoing.is_degraded(WRITE, &cx));
}

#[tokio::test(start_paused = true)]
async fn a_hedge_answers_when_the_first_is_late_and_the_loser_is_dropped() {
    let outgoing = outgoing("guard.hedge = 'after 50ms'");
    let n_dropped = AtomicU32::new(0);
    struct Dropped<'a>(&'a AtomicU32);
    impl Drop for Dropped<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let attempt = |cx: Context, which: Attempt| {
        let dropped = Dropped(&n_dropped);
        async move {
            let _dropped = dropped;
            assert_eq!(cx.is_retried(), which.is_hedge);
            tokio::time::sleep(Duration::from_millis(if which.is_hedge { 10 } else { 1000 })).await;
            Ok::<_, Error>(which.n)
        }
    };
    let started = tokio::time::Instant::now();
    assert_eq!(outgoing.call(READ, &cx(1), attempt).await.unwrap(), 1);
    assert_eq!(started.elapsed().as_millis(), 60);
    assert_eq!(n_dropped.load(SeqCst), 2);
    // A write is made once, however late it is.
    assert_eq!(outgoing.call(WRITE, &cx(1), attempt).await.unwrap(), 0);
    assert_eq!(n_dropped.load(SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_fails_does_not_spoil_the_first() {
    let outgoing = outgoing("guard.hedge = 'after 50ms'");
    let attempt = |_: Context, which: Attempt| async move {
        if which.is_hedge {
            return Err(down());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(which.n)
    };
    assert_eq!(outgoing.call(READ, &cx(1), attempt).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_slow_callee_keeps_no_more_than_its_places() {
    let outgoing = outgoing("guard.services.stage.outgoing = '1'");
    let slow = |_: Context, _: Attempt| std::future::pending::<Result<()>>();
    let cx = cx(1);
    let hanging = outgoing.call(READ, &cx, slow);
    tokio::select! {
        biased;
        _ = hanging => unreachable!(),
        refused = outgoing.call(WRITE, &cx, slow) => {
            let refused = refused.unwrap_err();
            assert_eq!((refused.reason(), refused.code()), ("BULKHEAD_FULL", Code::Unavailable));
        }
    }
    let local = outgoing.call_local(WRITE, &cx, || std::future::ready(Ok(1))).await;
    assert_eq!(local.unwrap(), 1, "the place is free again");
}

/// How many attempts reach a dependency that fails until `fault_ms`, under `per_second` calls for `ms`, through layers that
/// all retry; and when the first success came after the fault.
async fn storm(layers: &[Outgoing], per_second: u64, ms: u64, fault_ms: u64) -> (u64, u64, Option<u64>) {
    let started = tokio::time::Instant::now();
    let elapsed_ms = || started.elapsed().as_millis() as u64;
    let (n_reached, first_ok) = (AtomicU32::new(0), AtomicU32::new(0));
    let seed = seed();
    let cx = cx(seed);
    let dependency = async |_: Context, _: Attempt| {
        n_reached.fetch_add(1, SeqCst);
        tokio::time::sleep(Duration::from_millis(1)).await;
        if elapsed_ms() < fault_ms { Err(down()) } else { Ok(()) }
    };
    let one = async |n: u64| {
        tokio::time::sleep_until(started + Duration::from_micros(n * 1_000_000 / per_second)).await;
        let cx = cx.clone().with_timeout(Duration::from_secs(2));
        let [upper, lower] = layers else {
            return layers[0].call(READ, &cx, dependency).await;
        };
        upper
            .call(READ, &cx, async |cx, _| lower.call(READ, &cx, dependency).await)
            .await
    };
    let n_calls = per_second * ms / 1000;
    let calls = futures::future::join_all((0..n_calls).map(async |n| {
        if one(n).await.is_ok() {
            let _ = first_ok.compare_exchange(0, elapsed_ms() as u32, SeqCst, SeqCst);
        }
    }));
    calls.await;
    let first_ok = Some(u64::from(first_ok.load(SeqCst))).filter(|ms| *ms > 0);
    (n_calls, u64::from(n_reached.load(SeqCst)), first_ok)
}

#[tokio::test(start_paused = true)]
async fn a_dead_dependency_gets_a_fifth_more_calls_and_ten_a_second_whatever_the_layers() {
    // Without breakers, which would hide what retries do.
    let layer = || outgoing("guard.breaker = 'off'\nguard.reserve = 'off'");
    for layers in [vec![layer()], vec![layer(), layer()]] {
        let (n_calls, n_reached, _) = storm(&layers, 200, 30_000, u64::MAX).await;
        let extra = n_reached - n_calls;
        eprintln!("{} layers: {n_calls} calls, {extra} extra", layers.len());
        assert!(extra > n_calls / 5, "retries are made: {extra}");
        assert!(
            extra <= n_calls / 5 + 10 * 31,
            "{} layers: {extra} extra of {n_calls}",
            layers.len()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_success_comes_within_two_seconds_of_the_repair() {
    for per_second in [5, 50, 500] {
        let layers = [outgoing("")];
        let (n_calls, n_reached, first_ok) = storm(&layers, per_second, 35_000, 30_000).await;
        let healed_after = first_ok.unwrap() - 30_000;
        eprintln!("{per_second}/s: {n_reached} of {n_calls} reached it, healed after {healed_after} ms");
        assert!(healed_after < 2000, "{per_second}/s: {healed_after} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_local_callee_that_is_broken_is_left_alone_and_one_that_sheds_is_not() {
    let outgoing = outgoing("");
    let cx = cx(seed());
    let made = async |error: fn() -> Error| {
        let n_made = AtomicU32::new(0);
        for _ in 0..1000 {
            let work = || {
                n_made.fetch_add(1, SeqCst);
                std::future::ready(Err::<(), _>(error()))
            };
            outgoing.call_local(READ, &cx, work).await.unwrap_err();
        }
        n_made.load(SeqCst)
    };
    assert_eq!(made(|| Error::unavailable("OVERLOADED", "busy")).await, 1000);
    let n_made = made(|| Error::internal("defect")).await;
    assert!(n_made < 200, "{n_made}");
}

#[tokio::test(start_paused = true)]
async fn extra_attempts_are_counted_and_local_calls_are_not_counted_twice() {
    let counted = crate::testing::Counted::default();
    let _recording = metrics::set_default_local_recorder(&counted);
    let outgoing = outgoing("guard.hedge = 'after 50ms'");
    calls(&outgoing, READ, &cx(1), |_| Err(down().into()))
        .await
        .0
        .unwrap_err();
    let slow = |_: Context, which: Attempt| async move {
        tokio::time::sleep(Duration::from_millis(if which.is_hedge { 1 } else { 100 })).await;
        Ok::<_, Error>(())
    };
    outgoing.call(READ, &cx(1), slow).await.unwrap();
    outgoing
        .call_local(READ, &cx(1), || std::future::ready(Ok(())))
        .await
        .unwrap();
    let extra = |labels: &[&str]| counted.total("mosaic_guard_extra_attempts_total", labels);
    assert_eq!(extra(&["kind=retry ", "outcome=sent "]), 2);
    assert_eq!(
        (extra(&["kind=hedge ", "outcome=sent "]), extra(&["outcome=won "])),
        (1, 1)
    );
    assert_eq!(
        counted.total("mosaic_calls_total", &["side=client "]),
        2,
        "the guard of a local callee counts its calls"
    );
}
