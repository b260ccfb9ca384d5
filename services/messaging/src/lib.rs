//! Sends messages to people: one service sends, all products ask it.
//!
//! A provider is a `Sender`; decorators around it keep to its limits and turn to another one when it
//! fails, each a small type that knows nothing of the others; what cannot be sent now waits as a task. Which providers there are and how they are put together is
//! configuration. The embedded provider is real in that it keeps what it was given: its outbox is read by tests and, in
//! development mode, by people.
//!
//! Promises: a receiver gets at most so many messages a day and a sender may cause at most so many an hour, whoever asks;
//! arguments (codes!) appear in no log and, in production, in no table.

mod clean_up;
mod config;
mod failover;
mod judge;
mod later;
mod model;
mod outbox;
mod rate_limit;
mod sender;
mod service;
mod welcome;

use std::sync::Arc;

use mosaic::{Mode, Module, Result};
use mosaic_api::messaging::v1::MessagingServer;

pub use config::MessagingConfig;

use config::Failover;
use failover::{HealthFailover, Rotation};
use later::{Later, SendLater};
use outbox::Outbox;
use rate_limit::RateLimited;
use sender::{Sender, TimeLimited};
use service::Service;

/// Wires the module up.
///
/// # Errors
/// A configuration with mistakes; a database that cannot be used.
pub async fn install(m: &mut Module) -> Result<()> {
    let config = m.config::<MessagingConfig>()?;
    let outbox = Outbox::new(m.database(outbox::MIGRATIONS).await?, m.mode() == Mode::Development);
    let sender = Later::new(
        provider(m, &config, &outbox)?,
        m.tasks()?,
        &m.secret("messaging later"),
        config.later(),
    )?;
    m.on_task::<SendLater>(Arc::new(sender.clone()))?;
    clean_up::install(m, &outbox)?;
    let is_welcoming = config.welcome;
    let service = Arc::new(Service::new(Arc::new(sender), outbox, m.cache().clone(), config));
    if is_welcoming {
        welcome::install(m, &service)?;
    }
    m.serve(MessagingServer::new(service));
    Ok(())
}

/// Returns what the configuration names: one provider, or several that stand in for each other.
fn provider(m: &Module, config: &MessagingConfig, outbox: &Outbox) -> Result<Arc<dyn Sender>> {
    let mut providers: Vec<Arc<dyn Sender>> = Vec::new();
    for name in &config.providers {
        let provider: Arc<dyn Sender> = match name.as_str() {
            "embedded" => Arc::new(outbox.clone()),
            other => return Err(m.misconfigured("messaging.providers", &format!("there is no provider {other:?}"))),
        };
        let provider = TimeLimited::new(provider, config.provider_timeout);
        providers.push(match config.provider_rate {
            0 => Arc::new(provider),
            rate => Arc::new(RateLimited::new(
                provider,
                m.cache().clone(),
                rate,
                config.when_limiter_down,
            )),
        });
    }
    if providers.is_empty() {
        return Err(m.misconfigured("messaging.providers", "must name at least one provider"));
    }
    if m.mode() == Mode::Production && config.providers.iter().all(|name| name == "embedded") {
        tracing::warn!("messages go to the embedded provider only: nobody will receive them");
    }
    Ok(match config.failover {
        Failover::Rotate => Arc::new(Rotation::new(providers)),
        Failover::Health => Arc::new(HealthFailover::new(providers, config.switch_after)),
    })
}
