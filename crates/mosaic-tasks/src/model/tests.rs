use std::time::Duration;

use mosaic_core::{Context, Runtime, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::id::TaskId;
use crate::new_task::NewTask;
use crate::options::{Backoff, Group, KeyLimit, Options, Rate, UniqueFor};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const LEASE: Duration = Duration::from_secs(30);

fn task(options: Options) -> Record {
    enqueued(&new(options), 0, NOW)
}

fn new(options: Options) -> NewTask {
    NewTask::new(&Context::new(&Runtime::system()), "mail", vec![1], options).unwrap()
}

/// A task in `state` that has an hour of retention.
fn task_in(state: State) -> Record {
    let pending = task(Options {
        retention: Duration::from_secs(3600),
        ..Options::default()
    });
    match state {
        State::Pending => pending,
        State::Scheduled | State::Retry => Record {
            state,
            due_at: NOW.plus(LEASE),
            ..pending
        },
        State::Active => kept(&pending, &Event::Claim { lease: LEASE }, NOW),
        State::Completed => kept(&task_in(State::Active), &Event::Succeed, NOW),
        State::Archived => kept(&pending, &Event::Cancel, NOW),
        State::Waiting => waiting_for(Wait::Predecessors),
    }
}

fn waiting_for(waits_for: Wait) -> Record {
    Record {
        state: State::Waiting,
        waits_for: Some(waits_for),
        n_awaited: u32::from(waits_for == Wait::Predecessors),
        limit: Some(limit(Some(1), None)),
        ..task(Options::default())
    }
}

fn limit(concurrency: Option<u32>, rate: Option<Rate>) -> KeyLimit {
    KeyLimit {
        key: "k".to_owned(),
        concurrency,
        rate,
    }
}

fn events() -> [Event; 18] {
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
        Event::Evict,
        Event::PredecessorSucceeded,
        Event::PredecessorGone { id: TaskId::MIN },
        Event::Hold,
        Event::Turn,
        Event::Merge,
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
            State::Waiting => 'W',
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
    // Due Claim Extend Succeed Fail Release Expire Cancel RunNow Archive Delete Purge; Evict Succeeded Gone Hold Turn Merge
    let early = [
        ".A.....ZPZx.......",
        ".......ZPZx.......",
        "..ACRP.A..........",
        ".......ZPZx.......",
        "..........x.x.....",
        "........P.x.x.....",
        ".......ZPZx..PZ...",
    ];
    let late = [
        ".A.....ZPZx.......",
        "P......ZPZx.......",
        "..ACRPRA..........",
        "P......ZPZx.......",
        "..........xxx.....",
        "........P.xxx.....",
        ".......ZPZx..PZ...",
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
    let cx = Context::new(&Runtime::system());
    let new = |kind: &str, n_bytes, options| NewTask::new(&cx, kind, vec![0; n_bytes], options);
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

#[test]
fn whoever_waits_goes_on_by_what_it_waits_for() {
    let answers = |task: &Record| {
        let [.., succeeded, gone, _, turn, merge] = events();
        [succeeded, gone, turn, merge].map(|event| letter(&apply(task, &event, NOW)))
    };
    assert_eq!(answers(&waiting_for(Wait::Predecessors)), ['P', 'Z', '.', '.']);
    assert_eq!(answers(&waiting_for(Wait::Turn)), ['.', '.', 'P', '.']);
    assert_eq!(answers(&waiting_for(Wait::Group)), ['.', '.', '.', 'x']);
    let pending = task(Options {
        limit: Some(limit(Some(1), None)),
        ..Options::default()
    });
    assert_eq!(letter(&apply(&pending, &Event::Hold, NOW)), 'W');
    let of_two = Record {
        n_awaited: 2,
        ..waiting_for(Wait::Predecessors)
    };
    let of_one = kept(&of_two, &Event::PredecessorSucceeded, NOW);
    assert_eq!((of_one.state, of_one.n_awaited), (State::Waiting, 1));
    let later = Record {
        due_at: NOW.plus(LEASE),
        ..of_one
    };
    assert_eq!(kept(&later, &Event::PredecessorSucceeded, NOW).state, State::Scheduled);
}

#[test]
fn no_period_sees_more_starts_than_allowed_and_few_less() {
    for n in [1, 2, 7, 10, 100, 1000] {
        let per = Duration::from_secs(1);
        let limit = limit(None, Some(Rate { n, per }));
        let (mut time, mut starts) = (Timestamp::EPOCH, Vec::new());
        // Somebody asks every 100 us, for 3 s.
        for tick in 0..30_000 {
            let now = NOW.plus(Duration::from_micros(100) * tick);
            while let Turn::Now(next) = admit(&limit, 0, time, now) {
                (time, starts) = (next, [starts, vec![now]].concat());
            }
        }
        let most = starts.iter().map(|from| {
            starts
                .iter()
                .filter(|start| **start >= *from && start.since(*from) < per)
                .count()
        });
        assert!(most.max().unwrap() <= n as usize, "{n}");
        assert!(starts.len() as u32 >= 3 * n * 8 / 10, "{n}: {}", starts.len());
    }
}

#[test]
fn as_many_are_let_go_as_may_start() {
    let released = |concurrency, n_active, n_waiting| {
        release(&limit(concurrency, None), n_active, n_waiting, Timestamp::EPOCH, NOW).n
    };
    assert_eq!(released(Some(3), 1, 9), 2);
    assert_eq!(released(Some(3), 3, 9), 0);
    assert_eq!(released(Some(3), 0, 1), 1);
    let rate = Rate {
        n: 1,
        per: Duration::from_secs(60),
    };
    let once = release(&limit(None, Some(rate)), 0, 9, Timestamp::EPOCH, NOW);
    assert_eq!((once.n, once.again_at), (1, NOW.plus(rate.per)));
    assert_eq!(release(&limit(None, Some(rate)), 0, 9, once.again_at, NOW).n, 0);
}

#[test]
fn a_group_is_flushed_when_quiet_old_or_full() {
    let group = Group {
        key: String::new(),
        grace: Duration::from_secs(2),
        max_delay: Duration::from_secs(5),
        max_size: 10,
    };
    let at = |secs| NOW.plus(Duration::from_secs(secs));
    let first = gathered(None, &group, NOW);
    assert_eq!(first.flush_at, at(2));
    let second = gathered(Some(first), &group, at(1));
    assert_eq!((second.n, second.flush_at), (2, at(3)));
    let old = gathered(Some(second), &group, at(4));
    assert_eq!(old.flush_at, at(5));
    let full = Gathering { n: 9, ..old };
    assert_eq!(gathered(Some(full), &group, at(4)).flush_at, at(4));
    assert_eq!(n_to_merge([10; 20], 10), 10);
    assert_eq!(n_to_merge([300_000; 9], 10), 3);
}

proptest! {
    #[test]
    fn payloads_are_what_they_were_when_taken_apart(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..9)) {
        let framed = frame(payloads.iter().map(Vec::as_slice));
        prop_assert_eq!(unframe(&framed).unwrap(), payloads);
    }

    #[test]
    fn what_was_never_put_together_does_not_crash(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = unframe(&bytes);
    }

    /// Whatever happens in whatever order: a task goes only by success, by deletion, or after having been kept.
    #[test]
    fn no_task_vanishes(steps in prop::collection::vec((0..18_usize, 0..7_200_u64), 0..60), retries_max in 0..4_u32) {
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
                        Event::Evict => current.keep_until.is_some(),
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
