//! What the guard costs a call over loopback gRPC.
//!
//! Client and server of both sides run in this process on one tokio runtime, with the same number of connections and
//! of calls in flight.

use std::sync::Arc;
use std::time::Duration;

use mosaic::{Context, Runtime, TaskGroup};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::child::cpu_time;
use crate::contract::bench::v1::EchoClient;
use crate::report::{Result, Samples, alternate, bar, say, table};
use crate::{echo, rpc_bare};

const N_CALLERS: usize = 64;
const ROUND: Duration = Duration::from_millis(1500);
const N_ROUNDS: usize = 9;
const BAR: f64 = 0.9;

const NAMES: [&str; 3] = ["tonic alone", "Mosaic", "Mosaic, with a user's token"];

pub(crate) async fn measure() -> Result<()> {
    let metrics = echo::telemetry()?;
    let account = echo::Account::sign_in()?;
    let server = echo::start(&account, "echo", &[]).await?;
    let address = server.process.addresses().grpc;
    let bare = TcpListener::bind("127.0.0.1:0").await?;
    let bare_address = bare.local_addr()?;
    let tasks = TaskGroup::new(|_| {});
    tasks.spawn("bare server", rpc_bare::serve(bare, tasks.stop_signal()));

    let mut rows = Vec::new();
    let mut worst = f64::INFINITY;
    for n_connections in [1, 4] {
        let list = vec![format!("http://{address}"); n_connections].join(",");
        let caller = echo::start(&account, "caller", &[("rpc.services.bench", list)]).await?;
        let channels: Vec<Channel> = (0..n_connections)
            .map(|_| rpc_bare::connect(bare_address))
            .collect::<Result<_>>()?;
        let callers = [
            Side::Bare(channels.into()),
            Side::Mosaic(caller.client(), echo::stranger()),
            Side::Mosaic(caller.client(), account.context()?),
        ];
        let mut cpu = vec![Samples::default(); callers.len()];
        let samples = alternate(callers.len(), N_ROUNDS, async |side| {
            metrics.upkeep();
            let before = cpu_time(std::process::id())?;
            let (rate, n_calls) = callers[side].run().await?;
            let used = cpu_time(std::process::id())?.saturating_sub(before);
            cpu[side].add(used.as_secs_f64() * 1e6 / n_calls);
            Ok(rate)
        })
        .await?;
        let ratio = |side: usize| samples[side].median() / samples[0].median();
        for (side, name) in NAMES.iter().enumerate() {
            let (rate, cpu) = (samples[side].show(0), cpu[side].show(1));
            let ratio = format!("{:.2}", ratio(side));
            rows.push(vec![n_connections.to_string(), (*name).to_owned(), rate, ratio, cpu]);
        }
        worst = worst.min(ratio(1));
        caller.process.stop().await;
    }
    let head = [
        "connections",
        "client and server",
        "calls a second, median (min..max)",
        "ratio",
        "processor us a call",
    ];
    table("rpc: loopback gRPC, 64 calls in flight", &head, &rows);
    bar(
        &format!("a guarded call reaches {BAR} of tonic alone: {worst:.2}"),
        worst >= BAR,
    );
    say(&format!("{N_ROUNDS} rounds of {} ms a side", ROUND.as_millis()));
    tasks.shutdown(Duration::from_secs(1)).await;
    server.process.stop().await;
    Ok(())
}

/// One way to make the call.
#[derive(Clone)]
enum Side {
    Bare(Arc<[Channel]>),
    Mosaic(EchoClient, Context),
}

impl Side {
    /// Returns calls a second, and how many there were.
    async fn run(&self) -> Result<(f64, f64)> {
        let clock = Runtime::system();
        let started = clock.instant();
        let mut callers = JoinSet::new();
        for position in 0..N_CALLERS {
            let (side, clock) = (self.clone(), clock.clone());
            callers.spawn(async move {
                let mut n_calls = 0_u32;
                while clock.instant().duration_since(started) < ROUND {
                    side.call(position).await?;
                    n_calls += 1;
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(n_calls)
            });
        }
        let mut n_calls = 0.0;
        while let Some(outcome) = callers.join_next().await {
            n_calls += f64::from(outcome??);
        }
        Ok((n_calls / clock.instant().duration_since(started).as_secs_f64(), n_calls))
    }

    async fn call(&self, position: usize) -> Result<()> {
        let reply = match self {
            Self::Bare(channels) => rpc_bare::say(channels[position % channels.len()].clone(), echo::request()).await?,
            Self::Mosaic(client, cx) => client.say(&echo::next(cx), echo::request()).await?,
        };
        if reply.number == 42 {
            Ok(())
        } else {
            Err("the answer is another one".into())
        }
    }
}
