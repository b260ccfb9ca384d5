//! Measures the bus over a broker: `cargo run --release -p mosaic-events --features nats --example broker_figures -- nats://...`.
//!
//! Prints events per second published in batches as a relay does, and read by one member that commits each batch.

#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

use std::time::Duration;

use mosaic_core::{Context, Error, Result, Runtime};
use mosaic_events::{BrokerOptions, Change, Event, Message, Mode, Start};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

const N_EVENTS: u64 = 50_000;
const BATCH: u64 = 500;
const N_KEYS: u64 = 5000;

#[derive(Serialize, Deserialize)]
struct Registered {
    account: u64,
    name: String,
}

impl Event for Registered {
    const TOPIC: &'static str = "users";
    const NAME: &'static str = "user.registered";

    fn key(&self) -> String {
        self.account.to_string()
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let usage = || Error::invalid_argument("USAGE", "give the URL of a broker");
    let url = std::env::args().nth(1).ok_or_else(usage)?;
    let runtime = Runtime::system();
    let url = format!("{url}?prefix=figures-{}", runtime.random_hex::<4>());
    let url = url.parse().map_err(|()| usage())?;
    let bus = mosaic_events::open(&url, &runtime, BrokerOptions::default()).await?;
    while bus.ping().await.is_err() {
        sleep(Duration::from_millis(20)).await;
    }
    let topic = Registered::TOPIC.parse()?;
    let name = "readers".parse()?;
    let mut member = bus
        .subscribe(
            &topic,
            &Mode::Group {
                name,
                start: Start::Beginning,
            },
        )
        .await?;
    let cx = Context::new(&runtime);
    let begun = Instant::now();
    for batch in 0..N_EVENTS / BATCH {
        let event = |n: u64| Registered {
            account: (batch * BATCH + n) % N_KEYS,
            name: "x".repeat(200),
        };
        let messages: Vec<Message> = (0..BATCH).map(|n| Message::of(&cx, &event(n))).collect::<Result<_>>()?;
        bus.publish(&messages).await?;
    }
    say("published", begun);
    let (begun, mut n_read) = (Instant::now(), 0);
    while n_read < N_EVENTS {
        if let Change::Events { partition, events } = member.next().await? {
            n_read += events.len() as u64;
            if let Some(last) = events.last() {
                member.commit(partition, last.position).await?;
            }
        }
    }
    say("read and committed", begun);
    member.leave().await
}

fn say(what: &str, begun: Instant) {
    let rate = N_EVENTS as f64 / begun.elapsed().as_secs_f64();
    println!("{what}: {rate:.0} events a second");
}
