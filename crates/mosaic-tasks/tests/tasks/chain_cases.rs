//! Tasks that come after others, on every engine.

use std::time::Duration;

use mosaic_tasks::{Command, Earlier, Enqueued, NewTask, Options, State, TaskId, UniqueFor, When, after_all, chain};

use crate::bench::{Bench, failed, report, succeeded};

const SECOND: Duration = Duration::from_secs(1);

async fn state(bench: &Bench, id: TaskId) -> Option<State> {
    bench.engine.look(id).await.unwrap().map(|seen| seen.task.state)
}

fn news<const N: usize>(bench: &Bench) -> [NewTask; N] {
    std::array::from_fn(|_| bench.new_task(Options::default()))
}

pub(crate) async fn a_chain_runs_in_its_order_and_hands_results_on(bench: &Bench) {
    let mut tasks = chain(news::<3>(bench)).unwrap();
    let ids: Vec<TaskId> = tasks.iter().map(NewTask::id).collect();
    // The order within the call does not matter.
    tasks.reverse();
    bench.engine.enqueue(&tasks).await.unwrap();
    for (position, id) in ids.iter().enumerate() {
        let mut claimed = bench.claim(9).await;
        assert_eq!(claimed.len(), 1);
        let claimed = claimed.remove(0);
        assert_eq!(claimed.task.id, *id);
        let earlier = claimed.earlier.iter().map(|earlier| earlier.result.clone().unwrap());
        assert_eq!(
            earlier.collect::<Vec<_>>(),
            vec![format!("{}", position).into_bytes(); position.min(1)]
        );
        let left = format!("{}", position + 1);
        assert!(report(bench, &claimed, succeeded(left.as_bytes())).await);
    }
    assert_eq!(state(bench, ids[2]).await, None);
}

pub(crate) async fn a_task_waits_for_all_before_it(bench: &Bench) {
    let last = bench.new_task(Options {
        when: When::In(10 * SECOND),
        ..Options::default()
    });
    let tasks = after_all(news::<3>(bench).to_vec(), last).unwrap();
    let last = tasks[3].id();
    bench.engine.enqueue(&tasks).await.unwrap();
    let claimed = bench.claim(9).await;
    assert_eq!(claimed.len(), 3);
    for claimed in &claimed[..2] {
        assert!(report(bench, claimed, succeeded(b"")).await);
        assert_eq!(state(bench, last).await, Some(State::Waiting));
    }
    assert!(report(bench, &claimed[2], succeeded(b"x")).await);
    assert_eq!(state(bench, last).await, Some(State::Scheduled));
    bench.clock.advance(10 * SECOND);
    bench.engine.promote(9).await.unwrap();
    let want = claimed.iter().map(|claimed| Earlier {
        id: claimed.task.id,
        result: Some(if claimed.task.id == tasks[2].id() {
            b"x".to_vec()
        } else {
            Vec::new()
        }),
    });
    let want: Vec<Earlier> = want.collect();
    assert_eq!(bench.claim(9).await[0].earlier, want);
}

pub(crate) async fn an_archived_task_holds_up_those_after_it_until_it_is_run_again(bench: &Bench) {
    let [first, second] = news(bench);
    let first = NewTask::new(
        &mosaic_core::Context::new(&bench.runtime),
        "mail",
        Vec::new(),
        Options {
            retries_max: 0,
            ..first.options().clone()
        },
    );
    let first = first.unwrap();
    let second = second.after(&[first.id()]).unwrap();
    let (one, two) = (first.id(), second.id());
    bench.engine.enqueue(&[first]).await.unwrap();
    bench.engine.enqueue(&[second]).await.unwrap();
    report(bench, &bench.claim(9).await[0], failed()).await;
    assert_eq!(state(bench, one).await, Some(State::Archived));
    assert_eq!(state(bench, two).await, Some(State::Waiting));
    bench.engine.command(one, Command::RunNow).await.unwrap();
    report(bench, &bench.claim(9).await[0], succeeded(b"")).await;
    assert_eq!(state(bench, two).await, Some(State::Pending));
}

pub(crate) async fn what_comes_after_a_deleted_task_is_archived_with_the_reason(bench: &Bench) {
    let tasks = chain(news::<3>(bench)).unwrap();
    let [one, two, three] = [0, 1, 2].map(|position: usize| tasks[position].id());
    bench.engine.enqueue(&tasks).await.unwrap();
    bench.engine.command(one, Command::Delete).await.unwrap();
    let seen = bench.engine.look(two).await.unwrap().unwrap();
    assert_eq!(seen.task.state, State::Archived);
    assert!(seen.task.last_error.unwrap().contains(&one.to_string()));
    assert_eq!(state(bench, three).await, Some(State::Waiting));
    // Somebody wants it nevertheless, and the chain goes on.
    bench.engine.command(two, Command::RunNow).await.unwrap();
    report(bench, &bench.claim(9).await[0], succeeded(b"")).await;
    assert_eq!(state(bench, three).await, Some(State::Pending));
}

pub(crate) async fn a_task_after_one_that_has_succeeded_runs_at_once(bench: &Bench) {
    let kept = Options {
        retention: 60 * SECOND,
        ..Options::default()
    };
    let one = bench.add(kept).await;
    report(bench, &bench.claim(9).await[0], succeeded(b"7")).await;
    let [second, third] = news(bench);
    let second = second.after(&[one]).unwrap();
    bench.engine.enqueue(&[second]).await.unwrap();
    let claimed = bench.claim(9).await.remove(0);
    assert_eq!(claimed.earlier[0].result.as_deref(), Some(&b"7"[..]));
    // The edge keeps the result when the task is gone, and those after it do not mind.
    bench.clock.advance(60 * SECOND);
    assert_eq!(bench.engine.purge(9).await.unwrap(), 1);
    let seen = bench.engine.look(claimed.task.id).await.unwrap().unwrap();
    assert_eq!((seen.task.state, seen.earlier.len()), (State::Active, 1));
    let error = bench.engine.enqueue(&[third.after(&[one]).unwrap()]).await.unwrap_err();
    assert_eq!(error.reason(), "TASK_UNKNOWN_PREDECESSOR");
}

pub(crate) async fn a_task_comes_after_the_one_that_holds_the_key(bench: &Bench) {
    let unique = || {
        bench.new_task(Options {
            unique: Some(UniqueFor {
                key: "k".to_owned(),
                hold: 60 * SECOND,
            }),
            ..Options::default()
        })
    };
    let first = unique();
    let of = first.id();
    bench.engine.enqueue(&[first]).await.unwrap();
    let tasks = chain([unique(), bench.new_task(Options::default())]).unwrap();
    let answers = bench.engine.enqueue(&tasks).await.unwrap();
    assert_eq!(answers, [Enqueued::Duplicate { of }, Enqueued::Added(tasks[1].id())]);
    assert_eq!(bench.claim(9).await.len(), 1);
    assert_eq!(
        bench.engine.look(tasks[1].id()).await.unwrap().unwrap().earlier[0].id,
        of
    );
}

pub(crate) async fn two_that_turn_out_to_be_one_are_waited_for_once(bench: &Bench) {
    let unique = || {
        bench.new_task(Options {
            unique: Some(UniqueFor {
                key: "k".to_owned(),
                hold: 60 * SECOND,
            }),
            retention: 60 * SECOND,
            ..Options::default()
        })
    };
    let mut last = Vec::new();
    // The first time the one has not succeeded yet, the second time it has.
    for _ in 0..2 {
        let batch = after_all(vec![unique(), unique()], bench.new_task(Options::default())).unwrap();
        last.push(batch[2].id());
        bench.engine.enqueue(&batch).await.unwrap();
        for claimed in bench.claim(9).await {
            report(bench, &claimed, succeeded(b"1")).await;
        }
    }
    for claimed in bench.claim(9).await {
        report(bench, &claimed, succeeded(b"1")).await;
    }
    for id in last {
        let state = state(bench, id).await;
        assert!(
            matches!(state, None | Some(State::Completed)),
            "it is done, not {state:?}"
        );
    }
}

pub(crate) async fn impossible_chains_are_refused_whole(bench: &Bench) {
    let [first, second, third] = news(bench);
    let (one, two) = (first.id(), second.id());
    let circle = [first.after(&[two]).unwrap(), second.after(&[one]).unwrap()];
    assert_eq!(
        bench.engine.enqueue(&circle).await.unwrap_err().reason(),
        "TASK_INVALID"
    );
    let unknown = bench.new_task(Options::default()).id();
    let orphan = [bench.new_task(Options::default()), third.after(&[unknown]).unwrap()];
    let error = bench.engine.enqueue(&orphan).await.unwrap_err();
    assert_eq!(error.reason(), "TASK_UNKNOWN_PREDECESSOR");
    assert_eq!(
        bench.engine.counts(&mosaic_tasks::QueueName::default()).await.unwrap(),
        []
    );
}
