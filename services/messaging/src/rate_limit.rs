//! Stays under a provider's own limit, cluster-wide.
//!
//! Messages of a second are counted in the cache engine. While that is down the count is not known: `conservative` then
//! sends nothing (a provider that bans us costs more than a late message), `permissive` sends everything.

use std::time::Duration;

use mosaic::cache::{Cache, CacheKey};
use mosaic::config::{Raw, Value};
use mosaic::{Context, Error, Result};

use crate::model::Message;
use crate::sender::Sender;

/// What to do while the rate cannot be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenLimiterDown {
    /// Do not send.
    Conservative,
    /// Send.
    Permissive,
}

impl Value for WhenLimiterDown {
    fn parse(raw: &Raw) -> std::result::Result<Self, String> {
        match String::parse(raw)?.as_str() {
            "conservative" => Ok(Self::Conservative),
            "permissive" => Ok(Self::Permissive),
            _ => Err("must be conservative or permissive".to_owned()),
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Conservative => "conservative".to_owned(),
            Self::Permissive => "permissive".to_owned(),
        }
    }
}

/// See the module documentation.
pub(crate) struct RateLimited<S> {
    inner: S,
    cache: Cache,
    per_second: u32,
    when_down: WhenLimiterDown,
}

impl<S> RateLimited<S> {
    pub(crate) const fn new(inner: S, cache: Cache, per_second: u32, when_down: WhenLimiterDown) -> Self {
        Self {
            inner,
            cache,
            per_second,
            when_down,
        }
    }

    async fn admit(&self, cx: &Context, message: &Message) -> Result<()> {
        const SECOND: Duration = Duration::from_secs(1);
        let second = cx.runtime().now().as_secs();
        let key = CacheKey::new("message_rate").part(message.channel.name()).part(second);
        match self.cache.increment(&key, 1, SECOND * 2).await {
            Ok(count) if count.value <= i64::from(self.per_second) => Ok(()),
            Ok(_) => {
                let rule = format!("at most {} messages a second", self.per_second);
                Err(Error::resource_exhausted("PROVIDER_LIMIT", rule).with_retry_after(SECOND))
            }
            Err(_) if self.when_down == WhenLimiterDown::Permissive => Ok(()),
            Err(error) => {
                let message = "the rate of messages cannot be counted";
                Err(Error::unavailable("LIMITER_DOWN", message).caused_by(error))
            }
        }
    }
}

#[mosaic::async_trait]
impl<S: Sender> Sender for RateLimited<S> {
    async fn send(&self, cx: &Context, message: &Message) -> Result<()> {
        self.admit(cx, message).await?;
        self.inner.send(cx, message).await
    }
}
