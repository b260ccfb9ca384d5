//! What people see and do, on every engine.

use std::time::Duration;

use mosaic_tasks::{
    Command, ENDED_MAX, Flow, Inspector, NewTask, Options, PAYLOAD_MAX, QueueName, State, TaskId, When,
};

use crate::bench::{Bench, failed, mail, report, succeeded};

const SECOND: Duration = Duration::from_secs(1);

fn inspector(bench: &Bench) -> Inspector {
    Inspector::new(bench.engine.clone())
}

pub(crate) async fn a_paused_queue_gives_nothing_and_others_go_on(bench: &Bench) {
    let slow: QueueName = "slow".parse().unwrap();
    let people = inspector(bench);
    assert_eq!(people.pause(&slow).await.unwrap_err().reason(), "TASK_QUEUE_UNKNOWN");
    bench.add(Options::default()).await;
    bench
        .add(Options {
            queue: slow.clone(),
            ..Options::default()
        })
        .await;
    people.pause(&QueueName::default()).await.unwrap();
    assert_eq!(bench.claim(9).await, []);
    let mut claim = mail(9);
    claim.queue = slow;
    assert_eq!(bench.engine.claim(&claim).await.unwrap().len(), 1);
    assert_eq!(people.queue(&QueueName::default()).await.unwrap().flow, Flow::Paused);
    people.resume(&QueueName::default()).await.unwrap();
    assert_eq!(bench.claim(9).await.len(), 1);
}

pub(crate) async fn queues_say_how_they_stand(bench: &Bench) {
    let queues = inspector(bench).queues().await.unwrap();
    assert_eq!(queues, []);
    for _ in 0..5 {
        bench.add(Options::default()).await;
    }
    bench
        .add(Options {
            when: When::In(60 * SECOND),
            ..Options::default()
        })
        .await;
    let claimed = bench.claim(3).await;
    report(bench, &claimed[0], succeeded(b"")).await;
    report(bench, &claimed[1], failed()).await;
    bench.clock.advance(3 * SECOND);
    let queue = inspector(bench).queue(&QueueName::default()).await.unwrap();
    assert_eq!(
        (queue.latency, queue.n_processed_today, queue.n_failed_today),
        (3 * SECOND, 2, 1)
    );
    let want = [
        (State::Pending, 2),
        (State::Scheduled, 1),
        (State::Active, 1),
        (State::Retry, 1),
    ];
    assert_eq!(queue.counts, want);
    bench.clock.advance(24 * 3600 * SECOND);
    let queue = inspector(bench).queue(&QueueName::default()).await.unwrap();
    assert_eq!((queue.n_processed_today, queue.n_failed_today), (0, 0));
    bench.engine.expire(9).await.unwrap();
    let queue = inspector(bench).queue(&QueueName::default()).await.unwrap();
    assert_eq!((queue.n_processed_today, queue.n_failed_today), (1, 1));
}

pub(crate) async fn all_of_a_state_are_commanded_page_by_page(bench: &Bench) {
    let later = || Options {
        when: When::In(60 * SECOND),
        ..Options::default()
    };
    let tasks: Vec<NewTask> = (0..1100).map(|_| bench.new_task(later())).collect();
    bench.engine.enqueue(&tasks).await.unwrap();
    let (people, queue) = (inspector(bench), QueueName::default());
    let counts = async || bench.engine.counts(&queue).await.unwrap();
    let all = async |state, command| people.command_all(&queue, state, command).await.unwrap();
    assert_eq!(all(State::Scheduled, Command::Archive).await, 1100);
    assert_eq!(counts().await, [(State::Archived, 1100)]);
    assert_eq!(all(State::Archived, Command::RunNow).await, 1100);
    assert_eq!(counts().await, [(State::Pending, 1100)]);
    assert_eq!(all(State::Pending, Command::RunNow).await, 1100);
    bench.claim(600).await;
    assert_eq!(all(State::Active, Command::Delete).await, 0);
    assert_eq!(all(State::Active, Command::Cancel).await, 600);
    assert_eq!(all(State::Pending, Command::Delete).await, 500);
    assert_eq!(counts().await, [(State::Active, 600)]);
    let error = people
        .command_all(&"none".parse().unwrap(), State::Active, Command::Cancel)
        .await;
    assert_eq!(error.unwrap_err().reason(), "TASK_QUEUE_UNKNOWN");
}

pub(crate) async fn pages_follow_each_other(bench: &Bench) {
    let tasks: Vec<NewTask> = (0..7).map(|_| bench.new_task(Options::default())).collect();
    bench.engine.enqueue(&tasks).await.unwrap();
    let (people, queue) = (inspector(bench), QueueName::default());
    let mut seen: Vec<TaskId> = Vec::new();
    loop {
        let page = people
            .list(&queue, State::Pending, seen.last().copied(), 3)
            .await
            .unwrap();
        if page.is_empty() {
            break;
        }
        seen.extend(page.iter().map(|task| task.id));
    }
    assert_eq!(seen, tasks.iter().map(NewTask::id).collect::<Vec<_>>());
    let error = people
        .list(&"none".parse().unwrap(), State::Pending, None, 3)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "TASK_QUEUE_UNKNOWN");
}

pub(crate) async fn a_payload_can_be_mended(bench: &Bench) {
    let people = inspector(bench);
    let id = bench.add(Options::default()).await;
    people.set_payload(id, b"better").await.unwrap();
    assert_eq!(people.look(id).await.unwrap().payload, b"better");
    let large = vec![0; PAYLOAD_MAX + 1];
    let error = people.set_payload(id, &large).await.unwrap_err();
    assert_eq!(error.reason(), "TASK_PAYLOAD_TOO_LARGE");
    let claimed = bench.claim(1).await.remove(0);
    assert_eq!(claimed.payload, b"better");
    assert_eq!(
        people.set_payload(id, b"late").await.unwrap_err().reason(),
        "TASK_STATE"
    );
    report(bench, &claimed, succeeded(b"")).await;
    assert_eq!(
        people.set_payload(id, b"late").await.unwrap_err().reason(),
        "TASK_NOT_FOUND"
    );
    assert_eq!(people.look(id).await.unwrap_err().reason(), "TASK_NOT_FOUND");
}

pub(crate) async fn what_travels_beside_the_payload_arrives(bench: &Bench) {
    let headers = [("tenant".to_owned(), "ü \"7\"".to_owned())];
    let options = Options {
        headers: headers.clone().into(),
        ..Options::default()
    };
    bench.add(options).await;
    let task = bench.claim(1).await.remove(0).task;
    assert_eq!(task.headers.get("tenant"), Some(&headers[0].1));
    assert!(mosaic_core::Trace::parse(&task.headers["traceparent"]).is_some());
}

/// As many as asynq keeps.
pub(crate) async fn the_oldest_of_too_many_ended_tasks_go(bench: &Bench) {
    let kept = || Options {
        retention: 3600 * SECOND,
        ..Options::default()
    };
    let n = usize::try_from(ENDED_MAX).unwrap() + 30;
    let mut ids = Vec::new();
    for _ in 0..n.div_ceil(1000) {
        let n = (n - ids.len()).min(1000);
        let tasks: Vec<NewTask> = (0..n).map(|_| bench.new_task(kept())).collect();
        bench.engine.enqueue(&tasks).await.unwrap();
        ids.extend(tasks.iter().map(NewTask::id));
    }
    loop {
        let claimed = bench.claim(500).await;
        if claimed.is_empty() {
            break;
        }
        let reports: Vec<_> = claimed
            .iter()
            .map(|claimed| crate::bench::reported(claimed, succeeded(b"1")))
            .collect();
        bench.engine.finish(&reports).await.unwrap();
        bench.clock.advance(Duration::from_micros(1));
    }
    assert_eq!(bench.engine.purge(20).await.unwrap(), 20);
    assert_eq!(bench.engine.purge(20).await.unwrap(), 10);
    assert_eq!(bench.engine.purge(20).await.unwrap(), 0);
    assert!(bench.engine.look(ids[0]).await.unwrap().is_none());
    assert!(bench.engine.look(ids[n - 1]).await.unwrap().is_some());
}
