//! Opens the bus that a URL names, and what the engines of brokers share: addresses, how an event travels, order by key.
//!
//! An engine of a broker is behind a cargo feature of its own: their clients are heavy (librdkafka is C), and a product uses one at
//! most. A URL whose feature is off is a mistake that is told at the start.

#[cfg_attr(
    all(not(test), not(any(feature = "nats", feature = "rabbitmq", feature = "kafka"))),
    expect(dead_code, reason = "read by engines")
)]
mod address;
#[cfg(any(feature = "nats", feature = "rabbitmq"))]
mod waves;
#[cfg(any(feature = "nats", feature = "rabbitmq", feature = "kafka"))]
mod wire;

use std::sync::Arc;
use std::time::Duration;

use mosaic_core::config::EngineUrl;
use mosaic_core::{Error, Result, Runtime};

use crate::bus::Bus;

pub(crate) use address::Address;
#[cfg(any(feature = "nats", feature = "rabbitmq"))]
pub(crate) use waves::waves;
#[cfg(any(feature = "nats", feature = "rabbitmq", feature = "kafka"))]
pub(crate) use wire::{HEADER, head, message};

/// How a broker is used; `default()` suits a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerOptions {
    /// A member that gives no sign for so long is dead. Default 10 s.
    pub lease: Duration,
    /// Everything that is asked of the broker fails with `EVENTS_UNAVAILABLE` after so long. Default 5 s.
    pub timeout: Duration,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
        }
    }
}

/// Opens the bus of a broker: `nats://`, `tls://` (NATS), `amqp://`, `amqps://`, `kafka://`. The broker may be away.
///
/// The guide of event brokers lists what a URL may say. Buses without a broker are made with [`LogBus`](crate::LogBus).
///
/// # Errors
/// `EVENTS_URL_INVALID`; `EVENTS_ENGINE_MISSING` if the engine was left out of this build.
pub async fn open(url: &EngineUrl, runtime: &Runtime, options: BrokerOptions) -> Result<Arc<dyn Bus>> {
    let address = Address::parse(url)?;
    match address.scheme.as_str() {
        "nats" | "tls" => open_nats(address, runtime, options).await,
        "amqp" | "amqps" => open_rabbitmq(address, runtime, options),
        "kafka" => open_kafka(address, runtime, options),
        _ => Err(invalid("a bus has a URL with nats, tls, amqp, amqps or kafka")),
    }
}

#[cfg(feature = "nats")]
async fn open_nats(address: Address, runtime: &Runtime, options: BrokerOptions) -> Result<Arc<dyn Bus>> {
    Ok(Arc::new(crate::nats::NatsBus::open(address, runtime, options).await?))
}

#[cfg(not(feature = "nats"))]
async fn open_nats(_: Address, _: &Runtime, _: BrokerOptions) -> Result<Arc<dyn Bus>> {
    Err(missing("built without the feature nats"))
}

#[cfg(feature = "rabbitmq")]
fn open_rabbitmq(address: Address, runtime: &Runtime, options: BrokerOptions) -> Result<Arc<dyn Bus>> {
    Ok(Arc::new(crate::rabbitmq::RabbitBus::open(address, runtime, options)?))
}

#[cfg(not(feature = "rabbitmq"))]
fn open_rabbitmq(_: Address, _: &Runtime, _: BrokerOptions) -> Result<Arc<dyn Bus>> {
    Err(missing("built without the feature rabbitmq"))
}

#[cfg(feature = "kafka")]
fn open_kafka(address: Address, runtime: &Runtime, options: BrokerOptions) -> Result<Arc<dyn Bus>> {
    Ok(Arc::new(crate::kafka::KafkaBus::open(address, runtime, options)?))
}

#[cfg(not(feature = "kafka"))]
fn open_kafka(_: Address, _: &Runtime, _: BrokerOptions) -> Result<Arc<dyn Bus>> {
    Err(missing("built without the feature kafka"))
}

#[cfg(not(all(feature = "nats", feature = "rabbitmq", feature = "kafka")))]
fn missing(message: &'static str) -> Error {
    Error::unimplemented("EVENTS_ENGINE_MISSING", message)
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::invalid_argument("EVENTS_URL_INVALID", message)
}

/// Most partitions of a topic.
#[cfg(any(feature = "nats", feature = "rabbitmq", feature = "kafka"))]
pub(crate) fn check_partitions(topic: &crate::bus::Topic) -> Result<()> {
    match (1..=256).contains(&topic.partitions) {
        true => Ok(()),
        false => Err(Error::invalid_argument(
            "EVENTS_TOPIC_INVALID",
            "a topic has 1 to 256 partitions",
        )),
    }
}

/// The error of an event that the broker takes nobody's word for.
#[cfg(any(feature = "nats", feature = "rabbitmq", feature = "kafka"))]
pub(crate) fn too_large() -> Error {
    Error::invalid_argument("EVENT_TOO_LARGE", "an event is larger than the broker takes")
}

/// Counts what was published, by topic.
#[cfg(any(feature = "nats", feature = "rabbitmq", feature = "kafka"))]
pub(crate) fn count_published(messages: &[crate::event::Message]) {
    let mut counts = std::collections::BTreeMap::<_, u64>::new();
    for message in messages {
        *counts.entry(&message.topic).or_default() += 1;
    }
    for (topic, n) in counts {
        metrics::counter!("events_published_total", "topic" => topic.to_string()).increment(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_that_is_none_is_refused_and_an_engine_that_is_left_out_named() {
        let reason = async |url: &str| {
            let opened = open(&url.parse().unwrap(), &Runtime::system(), BrokerOptions::default()).await;
            opened.err().map(|error| error.reason().to_owned())
        };
        for bad in ["redis://a", "nats:a", "kafka://"] {
            assert_eq!(reason(bad).await.as_deref(), Some("EVENTS_URL_INVALID"), "{bad}");
        }
        let urls = [
            ("nats://a?rep=1", cfg!(feature = "nats")),
            ("amqp://a?rep=1", cfg!(feature = "rabbitmq")),
            ("kafka://a?tls=true", cfg!(feature = "kafka")),
        ];
        for (url, is_there) in urls {
            let wanted = if is_there {
                "EVENTS_URL_INVALID"
            } else {
                "EVENTS_ENGINE_MISSING"
            };
            assert_eq!(reason(url).await.as_deref(), Some(wanted), "{url}");
        }
    }
}
