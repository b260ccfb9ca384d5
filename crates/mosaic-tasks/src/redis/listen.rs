//! Wake-ups between processes: a channel that is rung when a list that was empty no longer is, or something is due earlier.
//!
//! Only a hint: whoever sleeps has seen an empty list, so the next task rings; what is lost with a connection costs the time
//! of a poll. On asynq's own channel come ids of tasks that somebody wants cancelled.

use std::time::Duration;

use futures::StreamExt as _;
use mosaic_core::Result;
use redis::{Msg, RedisResult};
use tokio::time::sleep;

use super::RedisEngine;
use super::change::With;
use crate::engine::Command;

/// Pause before a lost connection is made again.
const PAUSE: Duration = Duration::from_millis(500);

impl RedisEngine {
    /// Calls `ring` for each notice, for ever.
    pub(super) async fn hear(&self, ring: &(dyn Fn() + Send + Sync)) {
        loop {
            if let Err(error) = self.hear_once(ring).await {
                tracing::debug!(cause = %error, "the connection that listens for tasks was lost");
            }
            sleep(PAUSE).await;
        }
    }

    async fn hear_once(&self, ring: &(dyn Fn() + Send + Sync)) -> RedisResult<()> {
        let (bell, cancel) = (self.connection.shared("x:bell"), self.connection.shared("cancel"));
        let mut listener = self.connection.client().get_async_pubsub().await?;
        listener.subscribe(&[&bell, &cancel]).await?;
        // What came while nobody listened.
        ring();
        let mut notices = listener.into_on_message();
        while let Some(notice) = notices.next().await {
            if notice.get_channel_name() == bell {
                ring();
            } else if let Err(error) = self.cancel(&notice).await {
                tracing::warn!(
                    reason = error.reason(),
                    "cannot cancel a task that asynq wants cancelled"
                );
            }
        }
        Ok(())
    }

    /// Cancels a task that runs here. What we were told by ourselves is cancelled already.
    async fn cancel(&self, notice: &Msg) -> Result<()> {
        let raw: String = notice.get_payload().unwrap_or_default();
        let id = {
            let places = self.places();
            let ours = places.iter().find(|(_, (_, place))| *place == raw);
            ours.map(|(id, _)| *id)
        };
        let Some(id) = id else { return Ok(()) };
        let (_, found) = self.fetch([id], With::Nothing).await?;
        if found.iter().any(|stored| !stored.record.is_cancelled) {
            crate::engine::Engine::command(self, id, Command::Cancel).await?;
        }
        Ok(())
    }
}
