//! What the guard costs a call over loopback gRPC.
//!
//! Client and server of both sides run in this process on one tokio runtime, with the same number of connections and
//! of calls in flight.

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
const GUARD_BAR: f64 = 0.9;
const STACK_BAR: f64 = 0.85;
const STACK_P99_BAR: f64 = 1.3;

const NAMES: [&str; 4] = [
    "tonic alone",
    "Mosaic, a list of addresses",
    "Mosaic, with a user's token",
    "Mosaic, whole stack",
];

pub(crate) async fn measure() -> Result<()> {
    echo::telemetry()?;
    let account = echo::Account::sign_in()?;
    let bare = TcpListener::bind("127.0.0.1:0").await?;
    let bare_address = bare.local_addr()?;
    let tasks = TaskGroup::new(|_| {});
    tasks.spawn("bare server", rpc_bare::serve(bare, tasks.stop_signal()));

    let server = echo::start(&account, "echo", &[]).await?;
    let list = format!("http://{}", server.process.addresses().grpc);
    let caller = echo::start(&account, "caller", &[("rpc.services.bench", list)]).await?;
    let (registry, stack) = whole_stack();
    let stack_server = echo::start(&account, "echo", &stack).await?;
    let stack_caller = echo::start(&account, "caller", &stack).await?;
    let sides = [
        Side::Bare(rpc_bare::connect(bare_address)?),
        Side::Mosaic(caller.client(), echo::stranger()),
        Side::Mosaic(caller.client(), account.context()?),
        Side::Mosaic(stack_caller.client(), echo::stranger()),
    ];
    let mut cpu = vec![Samples::default(); sides.len()];
    let mut p99 = vec![Samples::default(); sides.len()];
    let rates = alternate(sides.len(), N_ROUNDS, async |side| {
        let before = cpu_time(std::process::id())?;
        let round = sides[side].run().await?;
        let used = cpu_time(std::process::id())?.saturating_sub(before);
        cpu[side].add(used.as_secs_f64() * 1e6 / round.n_calls);
        p99[side].add(round.p99_us);
        Ok(round.calls_a_second)
    })
    .await?;
    report(&rates, &p99, &cpu);
    say(&format!(
        "{N_ROUNDS} rounds of {} ms a side; one connection each; registry {registry}",
        ROUND.as_millis()
    ));
    for running in [caller, server, stack_caller, stack_server] {
        running.process.stop().await;
    }
    tasks.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

/// Returns the settings of processes that find each other in etcd and have a rule of every kind, and says where they do.
#[expect(clippy::disallowed_methods, reason = "a benchmark has no configuration to ask")]
fn whole_stack() -> (&'static str, Vec<(&'static str, String)>) {
    let etcd = std::env::var("MOSAIC_TEST_ETCD").ok();
    let registry = if etcd.is_some() {
        "etcd"
    } else {
        "memory (no etcd: ./dev engines up etcd)"
    };
    let url = etcd.unwrap_or_else(|| "memory:bench".to_owned());
    let settings = vec![
        ("registry.url", url),
        ("rpc.balancer", "p2c".to_owned()),
        ("guard.breaker", "sre".to_owned()),
        ("guard.retry", "2".to_owned()),
        (
            "guard.rate",
            "token-bucket 1000000/s burst 1000000 by service".to_owned(),
        ),
        ("guard.bulkhead", "1000".to_owned()),
    ];
    (registry, settings)
}

fn report(rates: &[Samples], p99: &[Samples], cpu: &[Samples]) {
    let ratio = |samples: &[Samples], side: usize| samples[side].median() / samples[0].median();
    let row = |(side, name): (usize, &&str)| {
        vec![
            (*name).to_owned(),
            rates[side].show(0),
            format!("{:.2}", ratio(rates, side)),
            p99[side].show(0),
            format!("{:.2}", ratio(p99, side)),
            cpu[side].show(1),
        ]
    };
    let head = [
        "client and server",
        "calls a second, median (min..max)",
        "ratio",
        "p99 us",
        "ratio",
        "processor us a call",
    ];
    let rows: Vec<_> = NAMES.iter().enumerate().map(row).collect();
    table("rpc: loopback gRPC, 64 calls in flight", &head, &rows);
    let guarded = ratio(rates, 1);
    bar(
        &format!("a guarded call reaches {GUARD_BAR} of tonic alone: {guarded:.2}"),
        guarded >= GUARD_BAR,
    );
    let (stack, late) = (ratio(rates, 3), ratio(p99, 3));
    bar(
        &format!(
            "the whole stack reaches {STACK_BAR} of tonic alone: {stack:.2}, p99 {STACK_P99_BAR} times: {late:.2}"
        ),
        stack >= STACK_BAR && late <= STACK_P99_BAR,
    );
}

/// One way to make the call.
#[derive(Clone)]
enum Side {
    Bare(Channel),
    Mosaic(EchoClient, Context),
}

/// What came of one round.
struct Round {
    calls_a_second: f64,
    n_calls: f64,
    p99_us: f64,
}

impl Side {
    async fn run(&self) -> Result<Round> {
        let clock = Runtime::system();
        let started = clock.instant();
        let mut callers = JoinSet::new();
        for _ in 0..N_CALLERS {
            let (side, clock) = (self.clone(), clock.clone());
            callers.spawn(async move {
                let mut latencies_us = Vec::with_capacity(8192);
                let mut now = clock.instant();
                while now.duration_since(started) < ROUND {
                    side.call().await?;
                    let after = clock.instant();
                    latencies_us.push(after.duration_since(now).as_micros() as u32);
                    now = after;
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(latencies_us)
            });
        }
        let mut latencies_us = Vec::new();
        while let Some(outcome) = callers.join_next().await {
            latencies_us.append(&mut outcome??);
        }
        let elapsed = clock.instant().duration_since(started);
        let n_calls = latencies_us.len() as f64;
        let position = latencies_us.len() * 99 / 100;
        let (_, p99_us, _) = latencies_us.select_nth_unstable(position);
        Ok(Round {
            calls_a_second: n_calls / elapsed.as_secs_f64(),
            p99_us: f64::from(*p99_us),
            n_calls,
        })
    }

    async fn call(&self) -> Result<()> {
        let reply = match self {
            Self::Bare(channel) => rpc_bare::say(channel.clone(), echo::request()).await?,
            Self::Mosaic(client, cx) => client.say(&echo::next(cx), echo::request()).await?,
        };
        if reply.number == 42 {
            Ok(())
        } else {
            Err("the answer is another one".into())
        }
    }
}
