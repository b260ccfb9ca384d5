use std::time::Duration;

use mosaic_core::{Runtime, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::options::{NewTask, Options, UniqueFor};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const LEASE: Duration = Duration::from_secs(30);

fn task(options: Options) -> Record {
    enqueued(
        &NewTask::new(&Runtime::system(), "mail", vec![1], options).unwrap(),
        NOW,
    )
}

/// A task in `state` that has an hour of retention.
fn task_in(state: State) -> Record {
    let pending = task(Options {
        retention: Duration::from_secs(3600),
        ..Options::default()
    });
    match state {
        State::Pending => pending,
        State::Scheduled | State::Retry => waiting(&pending, state, NOW.plus(LEASE)),
        State::Active => claimed(&pending, NOW.plus(LEASE)),
        State::Completed => ended(&pending, state, NOW, pending.retention),
        State::Archived => archived(&pending, NOW, "x"),
    }
}

fn events() -> [Event; 12] {
    [
        Event::Due,
        Event::Claim { lease: LEASE },
        Event::Extend { lease: LEASE },
        Event::Succeed,
        fail(),
        Event::Release,
        Event::Expire { roll: 0 },
        Event::Cancel,
        Event::RunNow,
        Event::Archive,
        Event::Delete,
        Event::Purge,
    ]
}

fn fail() -> Event {
    Event::Fail {
        error: "no".to_owned(),
        is_final: false,
        roll: 0,
    }
}

fn letter(next: &Result<Next, Refused>) -> char {
    match next {
        Err(_) => '.',
        Ok(Next::Gone) => 'x',
        Ok(Next::Kept(task)) => match task.state {
            State::Pending => 'P',
            State::Scheduled => 'S',
            State::Active => 'A',
            State::Retry => 'R',
            State::Completed => 'C',
            State::Archived => 'Z',
        },
    }
}

/// Every state times every event, once before all times in the task have come and once after.
#[test]
fn every_state_answers_every_event() {
    let table = |now| {
        State::ALL.map(|state| {
            events()
                .iter()
                .map(|event| letter(&apply(&task_in(state), event, now)))
                .collect::<String>()
        })
    };
    // Due Claim Extend Succeed Fail Release Expire Cancel RunNow Archive Delete Purge
    let early = [
        ".A.....ZPZx.",
        ".......ZPZx.",
        "..ACRP.A....",
        ".......ZPZx.",
        "..........x.",
        "........P.x.",
    ];
    let late = [
        ".A.....ZPZx.",
        "P......ZPZx.",
        "..ACRPRA....",
        "P......ZPZx.",
        "..........xx",
        "........P.xx",
    ];
    assert_eq!(table(NOW), early);
    assert_eq!(table(NOW.plus(ARCHIVED_FOR)), late);
}

#[track_caller]
fn kept(task: &Record, event: &Event, now: Timestamp) -> Record {
    match apply(task, event, now) {
        Ok(Next::Kept(task)) => *task,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_poison_task_is_archived_after_its_retries() {
    let mut task = task(Options {
        retries_max: 3,
        ..Options::default()
    });
    for attempt in 1..=4 {
        let active = kept(&task, &Event::Claim { lease: LEASE }, NOW);
        let failed = kept(&active, &fail(), NOW);
        assert_eq!(failed.n_failed, attempt);
        assert_eq!(failed.state, if attempt <= 3 { State::Retry } else { State::Archived });
        task = Record {
            state: State::Pending,
            ..failed
        };
    }
}

#[test]
fn a_final_failure_is_archived_at_once() {
    let event = Event::Fail {
        error: "no".to_owned(),
        is_final: true,
        roll: 0,
    };
    let archived = kept(&task_in(State::Active), &event, NOW);
    assert_eq!((archived.state, archived.n_failed), (State::Archived, 1));
}

#[test]
fn past_its_deadline_a_task_is_not_handed_out() {
    let late = task(Options {
        deadline: Some(NOW),
        ..Options::default()
    });
    assert_eq!(kept(&late, &Event::Claim { lease: LEASE }, NOW).state, State::Archived);
}

#[test]
fn a_task_cancelled_while_it_runs_ends_with_its_attempt() {
    let cancelled = kept(&task_in(State::Active), &Event::Cancel, NOW);
    for event in [fail(), Event::Release, Event::Expire { roll: 0 }] {
        let after = NOW.plus(LEASE);
        assert_eq!(kept(&cancelled, &event, after).state, State::Archived, "{event:?}");
    }
    assert_eq!(kept(&cancelled, &Event::Succeed, NOW).state, State::Completed);
}

#[test]
fn a_claim_outdates_the_one_before() {
    let first = task_in(State::Active);
    let back = kept(&first, &Event::Release, NOW);
    let second = kept(&back, &Event::Claim { lease: LEASE }, NOW);
    assert!(holds(&first, first.fence) && !holds(&second, first.fence) && holds(&second, second.fence));
    assert!(!holds(&back, back.fence));
}

#[test]
fn pauses_double_up_to_their_most_and_keep_at_least_half() {
    let backoff = Backoff {
        base: Duration::from_secs(4),
        max: Duration::from_secs(20),
    };
    let whole: Vec<u64> = (1..6).map(|n| backoff.pause(n, u32::MAX).as_secs()).collect();
    let half: Vec<u64> = (1..6).map(|n| backoff.pause(n, 0).as_secs()).collect();
    assert_eq!((whole, half), (vec![4, 8, 16, 20, 20], vec![2, 4, 8, 10, 10]));
    assert_eq!(backoff.pause(u32::MAX, u32::MAX), backoff.max);
}

#[test]
fn what_is_too_large_or_not_plain_is_refused() {
    let new = |kind: &str, n_bytes, options| NewTask::new(&Runtime::system(), kind, vec![0; n_bytes], options);
    let error = new("a", crate::PAYLOAD_MAX + 1, Options::default()).unwrap_err();
    assert_eq!((error.reason(), error.http_status()), ("TASK_PAYLOAD_TOO_LARGE", 413));
    assert!(new("a", crate::PAYLOAD_MAX, Options::default()).is_ok());
    let unique = |key: String| Options {
        unique: Some(UniqueFor { key, hold: LEASE }),
        ..Options::default()
    };
    assert!(new("", 0, Options::default()).is_err());
    assert!(new("a\0", 0, Options::default()).is_err());
    assert!(new("a", 0, unique("x".repeat(190))).is_err());
    assert!(new("a", 0, unique("x".repeat(180))).is_ok());
}

proptest! {
    /// Whatever happens in whatever order: a task goes only by success, by deletion, or after having been kept.
    #[test]
    fn no_task_vanishes(steps in prop::collection::vec((0..12_usize, 0..7_200_u64), 0..60), retries_max in 0..4_u32) {
        let mut current = task(Options { retries_max, ..Options::default() });
        let mut now = NOW;
        for (event, secs) in steps {
            now = now.plus(Duration::from_secs(secs));
            let event = &events()[event];
            match apply(&current, event, now) {
                Err(_) => {}
                Ok(Next::Gone) => {
                    let is_kept_for_long = current.keep_until.is_some_and(|until| until <= now);
                    let is_right = match event {
                        Event::Succeed => current.state == State::Active,
                        Event::Delete => current.state != State::Active,
                        Event::Purge => is_kept_for_long,
                        _ => false,
                    };
                    prop_assert!(is_right, "{:?} made {:?} go", event, current);
                    return Ok(());
                }
                Ok(Next::Kept(next)) => {
                    prop_assert!(next.fence >= current.fence);
                    prop_assert_eq!(next.lease_until.is_some(), next.state == State::Active);
                    let has_ended = matches!(next.state, State::Completed | State::Archived);
                    prop_assert_eq!(next.keep_until.is_some(), has_ended);
                    prop_assert!(!(has_ended && next.unique.is_some()));
                    prop_assert!(next.n_failed <= retries_max + 1);
                    current = *next;
                }
            }
        }
    }
}
