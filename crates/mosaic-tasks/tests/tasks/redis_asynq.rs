//! asynq beside us: what it stores runs here, what we store is what it reads, what its tools do is understood.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mosaic_core::{Runtime, TaskGroup, Timestamp};
use mosaic_tasks::{Command, Engine, Inspector, Options, QueueName, State, TaskId, When};
use prost::Message as _;
use redis::AsyncCommands as _;

use crate::bench::{LEASE, lease, mail, reported, succeeded};
use crate::redis_place::{Letters, Place, SECOND, engine, new_task, until, worker};

/// asynq's message, written down a second time: what is stored must be what others read.
#[derive(Clone, PartialEq, prost::Message)]
struct AsynqMessage {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(bytes = "vec", tag = "2")]
    payload: Vec<u8>,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(string, tag = "4")]
    queue: String,
    #[prost(int32, tag = "5")]
    retry: i32,
    #[prost(int32, tag = "6")]
    retried: i32,
    #[prost(string, tag = "7")]
    error_msg: String,
    #[prost(int64, tag = "8")]
    timeout: i64,
    #[prost(int64, tag = "9")]
    deadline: i64,
    #[prost(string, tag = "10")]
    unique_key: String,
    #[prost(int64, tag = "11")]
    last_failed_at: i64,
    #[prost(int64, tag = "12")]
    retention: i64,
    #[prost(int64, tag = "13")]
    completed_at: i64,
    #[prost(string, tag = "14")]
    group_key: String,
    #[prost(btree_map = "string, string", tag = "15")]
    headers: BTreeMap<String, String>,
}

impl Place {
    fn key(&self, rest: &str) -> String {
        format!("{}asynq:{{default}}:{rest}", self.prefix)
    }

    /// Enqueues as asynq's client does.
    async fn enqueue_as_asynq(&mut self, message: &AsynqMessage) {
        let queues = format!("{}asynq:queues", self.prefix);
        let task = self.key(&format!("t:{}", message.id));
        let fields = [
            ("msg", message.encode_to_vec()),
            ("state", b"pending".to_vec()),
            ("pending_since", b"1800000000000000000".to_vec()),
        ];
        let _: () = self.redis.sadd(queues, "default").await.unwrap();
        let _: () = self.redis.hset_multiple(&task, &fields).await.unwrap();
        if !message.unique_key.is_empty() {
            let _: () = self.redis.set(&message.unique_key, &message.id).await.unwrap();
            let _: () = self.redis.hset(&task, "unique_key", &message.unique_key).await.unwrap();
        }
        let _: () = self.redis.lpush(self.key("pending"), &message.id).await.unwrap();
    }

    async fn message(&mut self, id: &str) -> AsynqMessage {
        let msg: Vec<u8> = self.redis.hget(self.key(&format!("t:{id}")), "msg").await.unwrap();
        AsynqMessage::decode(msg.as_slice()).unwrap()
    }

    async fn field(&mut self, id: &str, name: &str) -> Option<String> {
        self.redis.hget(self.key(&format!("t:{id}")), name).await.unwrap()
    }
}

fn of_asynq(id: &str) -> AsynqMessage {
    AsynqMessage {
        kind: "mail".to_owned(),
        payload: b"{\"to\":7}".to_vec(),
        id: id.to_owned(),
        queue: "default".to_owned(),
        retry: 25,
        timeout: 1800,
        ..AsynqMessage::default()
    }
}

#[tokio::test]
async fn what_asynq_enqueued_runs_and_leaves_nothing() {
    let Some(mut place) = Place::new("runs").await else {
        return;
    };
    let lock = place.key("unique:mail:d41d8cd98f00b204e9800998ecf8427e");
    let uuid = "0b2f3c1e-4a5d-4e6f-8a9b-0c1d2e3f4a5b";
    place.enqueue_as_asynq(&of_asynq(uuid)).await;
    place.enqueue_as_asynq(&of_asynq("order:7:paid")).await;
    let unique = AsynqMessage {
        unique_key: lock.clone(),
        ..of_asynq("1b2f3c1e-4a5d-4e6f-8a9b-0c1d2e3f4a5b")
    };
    place.enqueue_as_asynq(&unique).await;
    let id: TaskId = uuid.replace('-', "").parse().unwrap();
    let task = place.engine.look(id).await.unwrap().unwrap().task;
    assert_eq!(
        (task.retries_max, task.timeout, task.state),
        (25, 1800 * SECOND, State::Pending)
    );
    let (seen, group) = (
        Arc::new(Letters::default()),
        TaskGroup::new(|panic| panic!("{panic:?}")),
    );
    worker(place.engine.clone(), &seen, &group);
    until(async || place.engine.counts(&QueueName::default()).await.unwrap().is_empty()).await;
    group.shutdown(5 * SECOND).await;
    assert_eq!(
        seen.0.lock().unwrap().iter().map(|(to, _)| *to).collect::<Vec<_>>(),
        [7, 7, 7]
    );
    let left: bool = place.redis.exists(&lock).await.unwrap();
    assert!(!left, "the lock is let go");
    let left: Vec<String> = place.redis.keys(place.key("*")).await.unwrap();
    assert!(left.iter().all(|key| !key.contains(":t:")), "{left:?}");
    assert!(!left.contains(&place.key("x:ids")), "{left:?}");
    place.remove().await;
}

#[tokio::test]
async fn a_task_of_asynq_fails_is_found_by_its_digest_and_is_kept() {
    let Some(mut place) = Place::new("fails").await else {
        return;
    };
    let kept = AsynqMessage {
        retention: 60,
        ..of_asynq("order:7:paid")
    };
    place.enqueue_as_asynq(&kept).await;
    let claimed = place.engine.claim(&mail(1)).await.unwrap().remove(0);
    assert_eq!(claimed.payload, b"{\"to\":7}");
    let failed = reported(&claimed, crate::bench::failed());
    assert_eq!(place.engine.finish(&[failed]).await.unwrap(), [true]);
    let message = place.message("order:7:paid").await;
    assert_eq!(
        (message.retried, message.error_msg.as_str(), message.retention),
        (1, "no pe", 60)
    );
    assert!(message.last_failed_at > 0);
    let score: f64 = place.redis.zscore(place.key("retry"), "order:7:paid").await.unwrap();
    assert!(score > message.last_failed_at as f64);
    // Another process knows it only by its digest.
    let other = engine(&place.url, &place.prefix, &Runtime::system());
    other.command(claimed.task.id, Command::RunNow).await.unwrap();
    let again = other.claim(&mail(1)).await.unwrap().remove(0);
    assert_eq!((again.task.id, again.task.n_failed), (claimed.task.id, 0));
    assert!(again.task.fence > claimed.task.fence);
    assert_eq!(
        other.finish(&[reported(&again, succeeded(b"42"))]).await.unwrap(),
        [true]
    );
    assert_eq!(place.field("order:7:paid", "state").await.as_deref(), Some("completed"));
    assert_eq!(place.field("order:7:paid", "result").await.as_deref(), Some("42"));
    place.remove().await;
}

#[tokio::test]
async fn what_we_store_is_as_asynq_reads_it() {
    let Some(mut place) = Place::new("stored").await else {
        return;
    };
    let options = || Options {
        retention: 90 * SECOND,
        timeout: 20 * SECOND,
        retries_max: 3,
        ..Options::default()
    };
    let later = Options {
        when: When::In(60 * SECOND),
        ..options()
    };
    let (first, second) = (new_task(options()), new_task(later));
    let (one, two) = (first.id().to_string(), second.id().to_string());
    place.engine.enqueue(&[first, second]).await.unwrap();
    let message = place.message(&one).await;
    let want = AsynqMessage {
        retry: 3,
        timeout: 20,
        retention: 90,
        headers: message.headers.clone(),
        ..of_asynq(&one)
    };
    assert_eq!(message, want);
    let pending: Vec<String> = place.redis.lrange(place.key("pending"), 0, -1).await.unwrap();
    assert_eq!(
        (pending, place.field(&one, "state").await.as_deref()),
        (vec![one.clone()], Some("pending"))
    );
    assert_eq!(
        place.field(&one, "pending_since").await.unwrap().len(),
        19,
        "nanoseconds"
    );
    let now = Runtime::system().now().as_secs() as f64;
    let due: f64 = place.redis.zscore(place.key("scheduled"), &two).await.unwrap();
    assert!((due - now - 60.0).abs() < 5.0, "{due}");
    let claimed = place.engine.claim(&mail(5)).await.unwrap();
    let active: Vec<String> = place.redis.lrange(place.key("active"), 0, -1).await.unwrap();
    assert_eq!(
        (active, place.field(&one, "state").await.as_deref()),
        (vec![one.clone()], Some("active"))
    );
    let until: f64 = place.redis.zscore(place.key("lease"), &one).await.unwrap();
    assert!((until - now - LEASE.as_secs_f64()).abs() < 5.0, "{until}");
    place
        .engine
        .finish(&[reported(&claimed[0], succeeded(b"42"))])
        .await
        .unwrap();
    assert!(place.message(&one).await.completed_at > 0);
    let expires: f64 = place.redis.zscore(place.key("completed"), &one).await.unwrap();
    assert!((expires - now - 90.0).abs() < 5.0, "{expires}");
    let day = jiff_day(Runtime::system().now());
    let n: i64 = place.redis.get(place.key(&format!("processed:{day}"))).await.unwrap();
    assert_eq!(n, 1);
    place.remove().await;
}

fn jiff_day(now: Timestamp) -> String {
    now.to_string()[..10].to_owned()
}

/// asynq's inspector pauses, archives and cancels in its own way.
#[tokio::test]
async fn what_asynqs_tools_do_is_understood() {
    let Some(mut place) = Place::new("tools").await else {
        return;
    };
    let new = new_task(Options::default());
    let id = new.id();
    place.engine.enqueue(&[new]).await.unwrap();
    let _: () = place.redis.set(place.key("paused"), 1).await.unwrap();
    assert_eq!(place.engine.claim(&mail(1)).await.unwrap(), []);
    Inspector::new(place.engine.clone())
        .resume(&QueueName::default())
        .await
        .unwrap();
    let _: () = place.redis.lrem(place.key("pending"), 1, id.to_string()).await.unwrap();
    let now = Runtime::system().now().as_secs();
    let _: () = place
        .redis
        .zadd(place.key("archived"), id.to_string(), now)
        .await
        .unwrap();
    let task = place.key(&format!("t:{id}"));
    let _: () = place.redis.hset(task, "state", "archived").await.unwrap();
    let seen = place.engine.look(id).await.unwrap().unwrap().task;
    assert_eq!(
        (seen.state, seen.finished_at),
        (State::Archived, Some(Timestamp::from_secs(now)))
    );
    place.engine.command(id, Command::RunNow).await.unwrap();
    let claimed = place.engine.claim(&mail(1)).await.unwrap().remove(0);
    let engine = place.engine.clone();
    let group = TaskGroup::new(|panic| panic!("{panic:?}"));
    group.spawn("listen", async move { engine.listen(&|| {}).await });
    let channel = format!("{}asynq:cancel", place.prefix);
    let (engine, mut redis) = (place.engine.clone(), place.redis.clone());
    until(async || {
        let _: () = redis.publish(&channel, id.to_string()).await.unwrap();
        engine.look(id).await.unwrap().unwrap().task.is_cancelled
    })
    .await;
    group.shutdown(Duration::ZERO).await;
    let holds = place.engine.extend(&[lease(&claimed)], LEASE).await.unwrap();
    assert_eq!(holds, [mosaic_tasks::Hold::Cancelled]);
    place.remove().await;
}
