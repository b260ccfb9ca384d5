//! A namespace in the Redis of the tests, by the server's clock, with a kind of task to run in it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mosaic_core::{Context, Result, Runtime, TaskGroup};
use mosaic_tasks::{Handlers, NewTask, Options, Queue, RedisEngine, Task, TaskContext, Worker, WorkerOptions};
use redis::aio::MultiplexedConnection;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::bench::{url_of, wipe};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// An engine that goes by the server's clock, and the server as others see it.
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) prefix: String,
    pub(crate) redis: MultiplexedConnection,
    pub(crate) engine: Arc<RedisEngine>,
}

impl Place {
    pub(crate) async fn new(name: &str) -> Option<Self> {
        let url = url_of("MOSAIC_TEST_REDIS")?;
        let prefix = format!("place_{name}:");
        wipe(&url, &prefix).await;
        let client = redis::Client::open(url.as_str()).unwrap();
        Some(Self {
            engine: Arc::new(engine(&url, &prefix, &Runtime::system())),
            redis: client.get_multiplexed_async_connection().await.unwrap(),
            url,
            prefix,
        })
    }

    pub(crate) async fn remove(self) {
        wipe(&self.url, &self.prefix).await;
    }
}

pub(crate) fn engine(url: &str, prefix: &str, runtime: &Runtime) -> RedisEngine {
    RedisEngine::open(url, runtime).unwrap().with_prefix(prefix)
}

pub(crate) fn new_task(options: Options) -> NewTask {
    NewTask::new(
        &Context::new(&Runtime::system()),
        "mail",
        b"{\"to\":7}".to_vec(),
        options,
    )
    .unwrap()
}

/// What arrived.
#[derive(Default)]
pub(crate) struct Letters(pub(crate) Mutex<Vec<(u32, Instant)>>);

#[derive(Serialize, Deserialize)]
pub(crate) struct Mail {
    pub(crate) to: u32,
}

impl Task for Mail {
    const NAME: &'static str = "mail";
    type Needs = Letters;
    type Output = u32;

    async fn run(self, seen: &Letters, _: &TaskContext) -> Result<u32> {
        seen.0.lock().unwrap().push((self.to, Instant::now()));
        Ok(self.to)
    }
}

pub(crate) fn worker(engine: Arc<RedisEngine>, seen: &Arc<Letters>, group: &TaskGroup) {
    let queue = Queue::new(engine, &Runtime::system());
    let handlers = Handlers::new().with::<Mail>(seen.clone());
    Worker::new(&queue, handlers, WorkerOptions::default()).spawn(group);
}

pub(crate) async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < 60 * SECOND, "waited for long enough");
        sleep(Duration::from_millis(2)).await;
    }
}
