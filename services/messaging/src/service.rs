//! The contract: caps, then the sender.

use std::sync::Arc;
use std::time::Duration;

use mosaic::cache::{Cache, CacheKey};
use mosaic::{Context, Error, Result};
use mosaic_api::messaging::v1::{
    self as proto, ListSentRequest, ListSentResponse, Messaging, SendRequest, SentMessage,
};

use crate::MessagingConfig;
use crate::model::{Channel, Message};
use crate::outbox::{Outbox, Sent};
use crate::sender::Sender;

/// Messages that one listing returns unless asked for fewer.
const LIST_MAX: u64 = 100;

/// See the module documentation.
pub(crate) struct Service {
    sender: Arc<dyn Sender>,
    outbox: Outbox,
    cache: Cache,
    config: MessagingConfig,
}

impl Service {
    pub(crate) fn new(sender: Arc<dyn Sender>, outbox: Outbox, cache: Cache, config: MessagingConfig) -> Self {
        Self {
            sender,
            outbox,
            cache,
            config,
        }
    }

    /// Counts a message towards a cap; a cache that is down lets it pass: messages matter more than the cap.
    async fn cap(&self, key: CacheKey, window: Duration, max: u64, reason: &'static str) -> Result<()> {
        match self.cache.increment(&key, 1, window).await {
            Ok(count) if u64::try_from(count.value).unwrap_or(0) > max => {
                let message = format!("at most {max} messages in {} h", window.as_secs() / 3600);
                Err(Error::resource_exhausted(reason, message).with_retry_after(count.remaining))
            }
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::warn!(cause = error.cause_chain(), "messages cannot be counted");
                Ok(())
            }
        }
    }
}

#[mosaic::async_trait]
impl Messaging for Service {
    async fn send(&self, cx: &Context, request: SendRequest) -> Result<()> {
        let message = message(request)?;
        const HOUR: Duration = Duration::from_secs(3600);
        if let Some(identity) = cx.identity() {
            let key = CacheKey::new("messages_by").part(identity.account.get());
            self.cap(key, HOUR, self.config.per_sender_hour, "SENDER_LIMIT").await?;
        }
        let key = CacheKey::new("messages_to")
            .part(message.channel.name())
            .part(&message.to);
        self.cap(key, 24 * HOUR, self.config.per_receiver_day, "RECEIVER_LIMIT")
            .await?;
        let outcome = self.sender.send(cx, &message).await;
        let label = if outcome.is_ok() { "sent" } else { "failed" };
        metrics::counter!("mosaic_messages_total", "channel" => message.channel.name(), "outcome" => label)
            .increment(1);
        outcome
    }

    async fn list_sent(&self, _: &Context, request: ListSentRequest) -> Result<ListSentResponse> {
        let limit = if request.limit == 0 {
            LIST_MAX
        } else {
            u64::from(request.limit)
        };
        let sent = self.outbox.list(&request.to, limit).await?;
        Ok(ListSentResponse {
            messages: sent.into_iter().map(shown).collect(),
        })
    }
}

fn message(request: SendRequest) -> Result<Message> {
    let channel = match request.channel() {
        proto::Channel::Sms => Channel::Sms,
        proto::Channel::Email => Channel::Email,
        proto::Channel::Wechat => Channel::Wechat,
        proto::Channel::Unspecified => return Err(Error::invalid_argument("CHANNEL_UNKNOWN", "no such channel")),
    };
    let args = request.args.into_iter().collect();
    let good_for = (request.good_for_s > 0).then(|| Duration::from_secs(request.good_for_s.into()));
    Ok(Message {
        channel,
        good_for,
        to: request.to,
        template: request.template,
        args,
    })
}

fn shown(sent: Sent) -> SentMessage {
    let Sent {
        channel,
        to,
        template,
        args,
        at,
    } = sent;
    SentMessage {
        channel,
        to,
        template,
        args: args.into_iter().collect(),
        at: at.to_string(),
    }
}
