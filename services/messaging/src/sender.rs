//! The port that providers and decorators implement.

use std::sync::Arc;
use std::time::Duration;

use mosaic::{Context, Error, Result};

use crate::model::Message;

/// Hands a message to a provider.
#[mosaic::async_trait]
pub(crate) trait Sender: Send + Sync + 'static {
    /// Sends `message`; it may have been sent if this fails with `DeadlineExceeded`.
    ///
    /// # Errors
    /// `ResourceExhausted` at a limit, `Unavailable` or `DeadlineExceeded` if the provider does not take it.
    async fn send(&self, cx: &Context, message: &Message) -> Result<()>;
}

/// Gives a provider a time of its own, shorter than the caller's.
pub(crate) struct TimeLimited {
    inner: Arc<dyn Sender>,
    timeout: Duration,
}

impl TimeLimited {
    pub(crate) fn new(inner: Arc<dyn Sender>, timeout: Duration) -> Self {
        Self { inner, timeout }
    }
}

#[mosaic::async_trait]
impl Sender for TimeLimited {
    async fn send(&self, cx: &Context, message: &Message) -> Result<()> {
        match tokio::time::timeout(self.timeout, self.inner.send(cx, message)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::deadline_exceeded(
                "PROVIDER_TIMEOUT",
                "the provider did not answer in time",
            )),
        }
    }
}

/// Has the caller itself no time left? Then a failure says nothing of the provider and is not to be tried elsewhere.
pub(crate) fn caller_gave_up(cx: &Context) -> bool {
    cx.remaining().is_some_and(|left| left.is_zero())
}

#[cfg(test)]
pub(crate) mod script {
    //! A provider that does as the test says.

    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;

    /// One act of a scripted provider.
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Act {
        Take,
        Fail,
        TimeOut,
        Limit,
    }

    #[derive(Default)]
    pub(crate) struct Scripted {
        acts: Mutex<VecDeque<Act>>,
        pub(crate) taken: Mutex<Vec<String>>,
        pub(crate) asked: Mutex<usize>,
    }

    impl Scripted {
        pub(crate) fn new(acts: &[Act]) -> Arc<Self> {
            Arc::new(Self {
                acts: Mutex::new(acts.iter().copied().collect()),
                ..Self::default()
            })
        }
        pub(crate) fn n_taken(&self) -> usize {
            self.taken.lock().unwrap().len()
        }
        pub(crate) fn n_asked(&self) -> usize {
            *self.asked.lock().unwrap()
        }
    }

    #[mosaic::async_trait]
    impl Sender for Scripted {
        async fn send(&self, _: &Context, message: &Message) -> Result<()> {
            *self.asked.lock().unwrap() += 1;
            match self.acts.lock().unwrap().pop_front().unwrap_or(Act::Take) {
                Act::Take => {
                    self.taken.lock().unwrap().push(message.to.clone());
                    Ok(())
                }
                Act::Fail => Err(Error::unavailable("PROVIDER_DOWN", "the provider is down")),
                Act::TimeOut => Err(Error::deadline_exceeded("PROVIDER_TIMEOUT", "too slow")),
                Act::Limit => Err(Error::resource_exhausted("PROVIDER_LIMIT", "too many")),
            }
        }
    }

    pub(crate) fn message(to: &str) -> Message {
        Message {
            channel: crate::model::Channel::Sms,
            to: to.into(),
            template: "t".into(),
            args: Default::default(),
            good_for: None,
        }
    }

    pub(crate) fn cx() -> Context {
        Context::new(&mosaic::Runtime::system())
    }
}
