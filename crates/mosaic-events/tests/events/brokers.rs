//! Buses over real brokers: each case has names of its own there, and takes them away.

use std::sync::Arc;
#[cfg(feature = "kafka")]
use std::sync::mpsc::channel;
use std::time::Duration;

use mosaic_core::Runtime;
use mosaic_events::{BrokerOptions, Bus};

use crate::bench::{Bench, url_of};

/// As short as a broker allows.
pub(crate) fn options() -> BrokerOptions {
    BrokerOptions {
        lease: Duration::from_millis(1500),
        ..BrokerOptions::default()
    }
}

/// Returns a prefix that no other run has.
fn prefix() -> String {
    format!("test-{}", Runtime::system().random_hex::<6>())
}

#[cfg(feature = "kafka")]
#[expect(clippy::disallowed_methods, reason = "tests have no configuration to ask")]
fn is_set(name: &str) -> bool {
    std::env::var(name).is_ok()
}

pub(crate) async fn open(url: &str, prefix: &str) -> Arc<dyn Bus> {
    open_with(url, prefix, options()).await
}

async fn open_with(url: &str, prefix: &str, options: BrokerOptions) -> Arc<dyn Bus> {
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}prefix={prefix}").parse().unwrap();
    mosaic_events::open(&url, &Runtime::system(), options).await.unwrap()
}

/// Waits until the broker answers: a connection is made in the background.
pub(crate) async fn connected(bus: &Arc<dyn Bus>) {
    crate::bench::until("the broker answers", async || bus.ping().await.is_ok()).await;
}

impl Bench {
    #[cfg(feature = "nats")]
    pub(crate) async fn nats(_: &str) -> Option<Self> {
        let url = url_of("MOSAIC_TEST_NATS")?;
        let prefix = prefix();
        let (bus, other) = (open(&url, &prefix).await, open(&url, &prefix).await);
        connected(&bus).await;
        connected(&other).await;
        let clean = async move {
            let client = async_nats::connect(&url).await.unwrap();
            let jetstream = async_nats::jetstream::new(client);
            for stream in [format!("{prefix}_accounts"), format!("KV_{prefix}_groups")] {
                // A case may not have needed both.
                let _ = jetstream.delete_stream(stream).await;
            }
        };
        Some(Self::broker(bus, other, Box::pin(clean)).await)
    }

    /// Groups are there before the case: this broker keeps nothing for those who come later.
    #[cfg(feature = "rabbitmq")]
    pub(crate) async fn rabbitmq(case: &str) -> Option<Self> {
        let url = url_of("MOSAIC_TEST_RABBITMQ")?;
        let prefix = prefix();
        let bus = open(&url, &prefix).await;
        connected(&bus).await;
        if !case.contains("lag_is_counted") {
            for name in ["readers", "others"] {
                let mut member = bus
                    .subscribe(&crate::bench::topic(), &crate::bench::group(name))
                    .await
                    .unwrap();
                member.leave().await.unwrap();
            }
        }
        let clean = async move {
            let connection = lapin::Connection::connect(&url, lapin::ConnectionProperties::default())
                .await
                .unwrap();
            let channel = connection.create_channel().await.unwrap();
            let topic = format!("{prefix}/accounts");
            let groups = ["readers", "others", "late"];
            let queues = groups
                .iter()
                .flat_map(|group| (0..8).map(move |n| format!("{group}/{n}")));
            for queue in queues.chain(["partitions".to_owned()]) {
                channel
                    .queue_delete(format!("{topic}/{queue}").into(), Default::default())
                    .await
                    .unwrap();
            }
            channel.exchange_delete(topic.into(), Default::default()).await.unwrap();
        };
        // The lag counts what is in hand of this connection only.
        Some(Self::broker(bus.clone(), bus, Box::pin(clean)).await)
    }

    #[cfg(feature = "kafka")]
    pub(crate) async fn kafka(case: &str) -> Option<Self> {
        // The emulator throws out members whose group changes, where Kafka asks them to join again.
        let is_rebalance = ["a_graceful", "two_members", "a_member_that"]
            .iter()
            .any(|name| case.contains(name));
        if is_rebalance && !is_set("MOSAIC_TEST_KAFKA_IS_REAL") {
            return None;
        }
        let url = url_of("MOSAIC_TEST_KAFKA")?;
        let prefix = prefix();
        let (bus, other) = (open(&url, &prefix).await, open(&url, &prefix).await);
        connected(&bus).await;
        let clean = async move {
            let hosts = url.trim_start_matches("kafka://").to_owned();
            let mut config = rdkafka::ClientConfig::new();
            let admin: rdkafka::admin::AdminClient<_> = config.set("bootstrap.servers", hosts).create().unwrap();
            // Not every broker lets go of a topic.
            let _ = admin
                .delete_topics(&[&format!("{prefix}.accounts")], &Default::default())
                .await;
        };
        Some(Self::broker(bus, other, Box::pin(clean)).await)
    }

    /// librdkafka's own cluster, in this process: makes no topics, and forgets everything with the test.
    #[cfg(feature = "kafka")]
    pub(crate) async fn kafka_mock(case: &str) -> Option<Self> {
        // Takes positions of members only, which nobody is who moves a group.
        if case.contains("a_group_begins") {
            return None;
        }
        let prefix = prefix();
        let (name, (tell, told), (end, ended)) = (format!("{prefix}.accounts"), channel(), channel::<()>());
        // It stays on its thread.
        std::thread::spawn(move || {
            let cluster = rdkafka::mocking::MockCluster::new(1).unwrap();
            cluster.create_topic(&name, 8, 1).unwrap();
            tell.send(cluster.bootstrap_servers()).unwrap();
            // An error is the end of the test.
            let _ = ended.recv();
        });
        let url = format!("kafka://{}", told.recv().unwrap());
        // It lets members wait three seconds at each change of a group, and a busy machine hands over slowly.
        let patient = BrokerOptions {
            timeout: Duration::from_secs(15),
            lease: Duration::from_secs(6),
        };
        let (bus, other) = (
            open_with(&url, &prefix, patient).await,
            open_with(&url, &prefix, patient).await,
        );
        connected(&bus).await;
        Some(Self::broker(bus, other, Box::pin(async move { drop(end) })).await)
    }
}
