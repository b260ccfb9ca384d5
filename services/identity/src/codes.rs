//! Sign-in codes: caps, then a code in the cache engine, then a message.
//!
//! Every answer is the same whether or not the phone has an account, and whether or not its country is one that codes
//! are sent to: what a stranger could learn from the answer, he does not. The code itself is kept by the cache engine,
//! which counts tries and forgets it when it is used, atomically.

use std::sync::Arc;
use std::time::Duration;

use mosaic::cache::{Cache, CacheKey, Issued, Redeemed};
use mosaic::{Context, Error, Result};
use mosaic_api::messaging::v1::{Channel, MessagingClient, SendRequest};

use crate::IdentityConfig;
use crate::model::Phone;

const HOUR: Duration = Duration::from_secs(3600);

/// Digits of a code: 20 bits.
const CODE_DIGITS: usize = 6;

/// Name of the template at the providers.
const TEMPLATE: &str = "sign_in_code";

pub(crate) struct Codes {
    cache: Cache,
    messaging: MessagingClient,
    config: Arc<IdentityConfig>,
}

impl Codes {
    pub(crate) const fn new(cache: Cache, messaging: MessagingClient, config: Arc<IdentityConfig>) -> Self {
        Self {
            cache,
            messaging,
            config,
        }
    }

    /// Sends a code for `biz` to `phone`.
    ///
    /// # Errors
    /// `ResourceExhausted` (`CODE_TOO_SOON`) with the time to wait; `Internal` (`CODE_BROKEN`) if the engine holds a code
    /// that would live for ever; those of messaging.
    pub(crate) async fn send(&self, cx: &Context, biz: &str, phone: &Phone) -> Result<()> {
        if !phone.is_in(&self.config.code_countries) {
            metrics::counter!("mosaic_codes_total", "outcome" => "country").increment(1);
            return Ok(());
        }
        self.cap_address(cx).await?;
        let code = cx.runtime().random_digits(CODE_DIGITS);
        let config = &self.config;
        let key = key(biz, phone);
        match self
            .cache
            .issue_code(&key, &code, config.code_ttl, config.code_every, config.code_tries)
            .await?
        {
            Issued::Issued => {}
            Issued::TooSoon { retry_after } => return Err(too_soon(retry_after)),
            Issued::Corrupt => {
                let cause = "a sign-in code without expiry is in the cache engine";
                return Err(Error::new(mosaic::Code::Internal, "CODE_BROKEN", "internal error").caused_by(cause));
            }
        }
        self.cap_phone(phone).await?;
        metrics::counter!("mosaic_codes_total", "outcome" => "sent").increment(1);
        let args = [("code".to_owned(), code)].into();
        let to = phone.stored().to_owned();
        let message = SendRequest {
            channel: Channel::Sms.into(),
            to,
            template: TEMPLATE.to_owned(),
            args,
            good_for_s: u32::try_from(config.code_ttl.as_secs()).unwrap_or(u32::MAX),
        };
        self.messaging.send(cx, message).await
    }

    /// Uses the code of `biz` and `phone` up.
    ///
    /// # Errors
    /// `InvalidArgument` (`CODE_WRONG`): wrong, used, expired, tried too often and never sent are all the same.
    pub(crate) async fn redeem(&self, biz: &str, phone: &Phone, code: &str) -> Result<()> {
        match self.cache.redeem_code(&key(biz, phone), code).await? {
            Redeemed::Matched => Ok(()),
            Redeemed::Wrong | Redeemed::Dead => Err(Error::invalid_argument("CODE_WRONG", "the code is not right")),
        }
    }

    async fn cap_address(&self, cx: &Context) -> Result<()> {
        if let Some(ip) = cx.origin().ip {
            self.cap(
                CacheKey::new("codes_by_ip").part(ip),
                HOUR,
                self.config.codes_per_ip_hour,
            )
            .await?;
        }
        Ok(())
    }

    /// Counted after the minute's wait, so that impatience does not use up the day.
    async fn cap_phone(&self, phone: &Phone) -> Result<()> {
        let by_phone = CacheKey::new("codes_to_phone").part(phone.stored());
        self.cap(by_phone, 24 * HOUR, self.config.codes_per_phone_day).await?;
        self.cap(CacheKey::new("codes_in_all"), HOUR, self.config.codes_per_hour)
            .await
    }

    async fn cap(&self, key: CacheKey, window: Duration, max: u64) -> Result<()> {
        let count = self.cache.increment(&key, 1, window).await?;
        if u64::try_from(count.value).unwrap_or(0) > max {
            Err(too_soon(count.remaining))
        } else {
            Ok(())
        }
    }
}

fn key(biz: &str, phone: &Phone) -> CacheKey {
    CacheKey::new("code").part(biz).part(phone.stored())
}

fn too_soon(wait: Duration) -> Error {
    metrics::counter!("mosaic_codes_total", "outcome" => "too_soon").increment(1);
    Error::resource_exhausted("CODE_TOO_SOON", "codes are sent too often, try again later").with_retry_after(wait)
}
