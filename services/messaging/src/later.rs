//! From sync to async: what cannot be sent now is stored, and sent later.
//!
//! A message becomes a task when a limit is reached or when the provider is judged down ([`Judge`](crate::judge)); its sender is told that it was
//! taken. A single failure of a provider that is up stays the caller's: it is still there and may decide. Stored messages are
//! sealed (they may hold codes) and have a time after which they are worthless. The guide `docs/guides/sync-to-async.md`
//! says when this helps and when it hurts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aes_gcm::aead::{Aead as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mosaic::tasks::{Backoff, Options, Queue, Task, TaskContext, When};
use mosaic::{Code, Context, Error, Result, Secret};
use serde::{Deserialize, Serialize};

use crate::judge::{Attempt, Judge, JudgeOptions, Verdict};
use crate::model::Message;
use crate::sender::{Sender, caller_gave_up};

/// Bytes of the nonce in front of what is sealed.
const NONCE_LEN: usize = 12;

/// How messages are sent later.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LaterOptions {
    /// Attempts after the first before a message is given up (and lies in the archive).
    pub(crate) retries: u32,
    /// Time between attempts.
    pub(crate) retry_every: Duration,
    pub(crate) judge: JudgeOptions,
}

/// Sends through another sender, now or later. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Later(Arc<Parts>);

struct Parts {
    inner: Arc<dyn Sender>,
    queue: Queue,
    seal: Seal,
    options: LaterOptions,
    judge: Mutex<Judge>,
}

impl Later {
    /// Makes a sender over `inner` that stores what must wait in `queue`, sealed with `key` (32 bytes).
    ///
    /// # Errors
    /// A key of another length.
    pub(crate) fn new(
        inner: Arc<dyn Sender>,
        queue: Queue,
        key: &Secret<Vec<u8>>,
        options: LaterOptions,
    ) -> Result<Self> {
        Ok(Self(Arc::new(Parts {
            inner,
            queue,
            seal: Seal::new(key)?,
            judge: Mutex::new(Judge::new(options.judge.clone())),
            options,
        })))
    }

    fn judge(&self) -> MutexGuard<'_, Judge> {
        self.0.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends now if the judge lets it, and tells the judge; `None` if it does not.
    async fn try_now(&self, cx: &Context, message: &Message) -> Option<Result<()>> {
        let runtime = cx.runtime();
        if self.judge().verdict(runtime.now()) == Verdict::Wait {
            return None;
        }
        let begun = runtime.instant();
        let outcome = self.0.inner.send(cx, message).await;
        if !caller_gave_up(cx) && !outcome.as_ref().is_err_and(is_limited) {
            let attempt = Attempt {
                is_ok: outcome.is_ok(),
                took: runtime.instant().saturating_duration_since(begun),
            };
            self.note(cx, attempt);
        }
        Some(outcome)
    }

    fn note(&self, cx: &Context, attempt: Attempt) {
        let mut judge = self.judge();
        let was_down = judge.is_down();
        judge.record(cx.runtime().now(), attempt);
        let is_down = judge.is_down();
        drop(judge);
        if was_down != is_down {
            tracing::warn!(is_down, "the message provider was judged anew");
            metrics::gauge!("mosaic_message_provider_down").set(f64::from(u8::from(is_down)));
        }
    }

    async fn store(&self, cx: &Context, message: &Message) -> Result<()> {
        let LaterOptions {
            retries, retry_every, ..
        } = self.0.options;
        let now = cx.runtime().now();
        let task = SendLater {
            sealed: self.0.seal.close(cx, &Sealed::of(cx, message))?,
        };
        let options = Options {
            retries_max: retries,
            backoff: Backoff {
                base: retry_every,
                max: retry_every,
            },
            when: When::In(retry_every),
            deadline: message.good_for.map(|good_for| now.plus(good_for)),
            timeout: Duration::from_secs(60),
            ..Options::default()
        };
        self.0.queue.enqueue(cx, &task, options).await?;
        metrics::counter!("mosaic_messages_deferred_total", "channel" => message.channel.name()).increment(1);
        Ok(())
    }
}

/// Limits are ours or the provider's own: it is well, only we must wait.
fn is_limited(error: &Error) -> bool {
    error.code() == Code::ResourceExhausted
}

#[mosaic::async_trait]
impl Sender for Later {
    async fn send(&self, cx: &Context, message: &Message) -> Result<()> {
        match self.try_now(cx, message).await {
            None => self.store(cx, message).await,
            Some(Err(error)) if is_limited(&error) => self.store(cx, message).await,
            Some(outcome) => outcome,
        }
    }
}

/// The task: a message that waited.
#[derive(Serialize, Deserialize)]
pub(crate) struct SendLater {
    /// Base64 of nonce and cipher text.
    sealed: String,
}

impl Task for SendLater {
    const NAME: &'static str = "messaging.send_later";
    type Needs = Later;
    type Output = ();

    async fn run(self, later: &Later, cx: &TaskContext) -> Result<()> {
        let Sealed { message, key } = later.0.seal.open(&self.sealed)?;
        // Attempts of the request that was delayed send one message, however often it came here.
        let cx = Context::clone(cx).with_idempotency_key(key.map(Into::into).or_else(|| cx.idempotency_key().cloned()));
        match later.try_now(&cx, &message).await {
            None => Err(Error::unavailable("PROVIDER_DOWN", "the provider is judged down")),
            Some(outcome) => outcome,
        }
    }
}

/// What is stored of a message.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Sealed {
    message: Message,
    /// The idempotency key of the request.
    key: Option<String>,
}

impl Sealed {
    fn of(cx: &Context, message: &Message) -> Self {
        Self {
            message: message.clone(),
            key: cx.idempotency_key().map(|key| key.to_string()),
        }
    }
}

/// AES-256-GCM with a random nonce in front (NIST SP 800-38D): far fewer messages than the 2^32 that a key allows.
struct Seal(Aes256Gcm);

impl Seal {
    fn new(key: &Secret<Vec<u8>>) -> Result<Self> {
        let cipher = Aes256Gcm::new_from_slice(key.expose());
        cipher
            .map(Self)
            .map_err(|_| Error::internal("the key for stored messages has the wrong length"))
    }

    fn close(&self, cx: &Context, sealed: &Sealed) -> Result<String> {
        let plain = serde_json::to_vec(sealed).map_err(Error::internal)?;
        let nonce: [u8; NONCE_LEN] = cx.runtime().random_bytes();
        let sealed = self.0.encrypt(&Nonce::from(nonce), plain.as_slice());
        let sealed = sealed.map_err(|_| Error::internal("a message cannot be sealed"))?;
        Ok(STANDARD.encode([nonce.as_slice(), &sealed].concat()))
    }

    fn open(&self, sealed: &str) -> Result<Sealed> {
        let broken = || Error::invalid_argument("MESSAGE_BROKEN", "the stored message cannot be read");
        let sealed = STANDARD.decode(sealed).map_err(|_| broken())?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(broken)?;
        let plain = self.0.decrypt(&Nonce::from(*nonce), sealed).map_err(|_| broken())?;
        serde_json::from_slice(&plain).map_err(|cause| broken().caused_by(cause))
    }
}

#[cfg(test)]
mod tests {
    use mosaic::tasks::{Command, Handlers, Inspector, MemoryEngine, QueueName, State, Worker, WorkerOptions};
    use mosaic::{ManualClock, Runtime, SystemRandom, TaskGroup, Timestamp};

    use super::*;
    use crate::sender::script::{Act, Scripted, message};

    /// A sender over a scripted provider, with a queue whose time stands still.
    struct Scene {
        provider: Arc<Scripted>,
        later: Later,
        queue: Queue,
        inspector: Inspector,
        clock: Arc<ManualClock>,
        cx: Context,
    }

    impl Scene {
        fn new(acts: &[Act]) -> Self {
            let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
            let runtime = Runtime::new(clock.clone(), Arc::new(SystemRandom));
            let engine = Arc::new(MemoryEngine::new(&runtime));
            let queue = Queue::new(engine.clone(), &runtime);
            let options = LaterOptions {
                retries: 2,
                retry_every: Duration::from_secs(30),
                judge: JudgeOptions::default(),
            };
            let provider = Scripted::new(acts);
            let key = Secret::new(vec![7; 32]);
            Self {
                later: Later::new(provider.clone(), queue.clone(), &key, options).unwrap(),
                provider,
                inspector: Inspector::new(engine),
                queue,
                clock,
                cx: Context::new(&runtime),
            }
        }

        async fn waiting(&self, state: State) -> usize {
            let tasks = self.inspector.list(&QueueName::default(), state, None, 100).await;
            tasks.map_or(0, |tasks| tasks.len())
        }

        /// Lets `secs` go by, and a worker run until `is_done`.
        async fn work(&self, secs: u64, is_done: impl AsyncFn(&Self) -> bool) {
            self.clock.advance(Duration::from_secs(secs));
            let group = TaskGroup::new(|panic| panic!("{panic:?}"));
            let handlers = Handlers::new().with::<SendLater>(Arc::new(self.later.clone()));
            Worker::new(&self.queue, handlers, WorkerOptions::default()).spawn(&group);
            let done = async {
                while !is_done(self).await {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), done)
                .await
                .expect("it is done in time");
            group.shutdown(Duration::from_secs(5)).await;
        }
    }

    #[tokio::test]
    async fn a_limit_delays_a_message_and_does_not_fail_it() {
        let scene = Scene::new(&[Act::Limit]);
        scene.later.send(&scene.cx, &message("13800138000")).await.unwrap();
        assert_eq!(
            (scene.provider.n_taken(), scene.waiting(State::Scheduled).await),
            (0, 1)
        );
        scene.work(30, async |scene| scene.provider.n_taken() == 1).await;
        assert_eq!(*scene.provider.taken.lock().unwrap(), ["13800138000"]);
    }

    #[tokio::test]
    async fn a_single_failure_is_the_callers() {
        let scene = Scene::new(&[Act::Fail]);
        let failed = scene.later.send(&scene.cx, &message("1")).await.unwrap_err();
        assert_eq!(failed.reason(), "PROVIDER_DOWN");
        assert_eq!(scene.waiting(State::Scheduled).await, 0);
    }

    #[tokio::test]
    async fn while_the_provider_is_judged_down_messages_wait_and_nobody_asks_it() {
        let scene = Scene::new(&[Act::Fail; 20]);
        for _ in 0..20 {
            assert!(scene.later.send(&scene.cx, &message("1")).await.is_err());
        }
        for _ in 0..5 {
            scene.later.send(&scene.cx, &message("2")).await.unwrap();
        }
        assert_eq!(
            (scene.provider.n_asked(), scene.waiting(State::Scheduled).await),
            (20, 5)
        );
        // It is back: the first of them are the probes, the others follow.
        scene
            .work(30, async |scene| scene.waiting(State::Scheduled).await == 0)
            .await;
        scene.work(30, async |scene| scene.provider.n_taken() == 5).await;
        assert!(!scene.later.judge().is_down());
    }

    #[tokio::test]
    async fn after_its_retries_a_message_lies_in_the_archive_and_may_be_sent_from_there() {
        let scene = Scene::new(&[Act::Limit; 4]);
        scene.later.send(&scene.cx, &message("1")).await.unwrap();
        for n_asked in 2..=4 {
            scene.work(30, async |scene| scene.provider.n_asked() == n_asked).await;
        }
        assert_eq!(scene.waiting(State::Archived).await, 1);
        assert_eq!((scene.provider.n_asked(), scene.provider.n_taken()), (4, 0));
        let done = scene
            .inspector
            .command_all(&QueueName::default(), State::Archived, Command::RunNow)
            .await;
        assert_eq!(done.unwrap(), 1);
        scene.work(0, async |scene| scene.provider.n_taken() == 1).await;
    }

    #[tokio::test]
    async fn a_message_that_is_worthless_by_then_is_not_sent() {
        let scene = Scene::new(&[Act::Limit]);
        let code = Message {
            good_for: Some(Duration::from_secs(60)),
            ..message("1")
        };
        scene.later.send(&scene.cx, &code).await.unwrap();
        scene
            .work(61, async |scene| scene.waiting(State::Archived).await == 1)
            .await;
        assert_eq!(scene.provider.n_taken(), 0);
    }

    #[tokio::test]
    async fn what_is_stored_is_sealed() {
        let scene = Scene::new(&[Act::Limit]);
        let mut code = message("13800138000");
        code.args = [("code".to_owned(), "271828".to_owned())].into();
        scene.later.send(&scene.cx, &code).await.unwrap();
        let tasks = scene
            .inspector
            .list(&QueueName::default(), State::Scheduled, None, 1)
            .await
            .unwrap();
        let payload = scene.inspector.look(tasks[0].id).await.unwrap().payload;
        let text = String::from_utf8(payload).unwrap();
        assert!(!text.contains("13800138000") && !text.contains("271828"), "{text}");
        let task: SendLater = serde_json::from_str(&text).unwrap();
        assert_eq!(
            scene.later.0.seal.open(&task.sealed).unwrap(),
            Sealed::of(&scene.cx, &code)
        );
        let other = Seal::new(&Secret::new(vec![8; 32])).unwrap();
        assert_eq!(other.open(&task.sealed).unwrap_err().reason(), "MESSAGE_BROKEN");
        for broken in ["", "AAAA", "not base64!", &task.sealed[4..]] {
            assert_eq!(scene.later.0.seal.open(broken).unwrap_err().reason(), "MESSAGE_BROKEN");
        }
    }
}
