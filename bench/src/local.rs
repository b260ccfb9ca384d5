//! What the guard costs a call that stays in the process.

use std::hint::black_box;
use std::sync::Arc;

use mosaic::Runtime;
use mosaic::rpc::{Client, Connect, Served};

use crate::contract::bench::v1::{ECHO, Echo, EchoClient, SayRequest};
use crate::echo;
use crate::report::{Result, alternate, bar, say, table};

const N_CALLS: u32 = 200_000;
const N_ROUNDS: usize = 11;
const BAR_NS: f64 = 2_000.0;

pub(crate) async fn measure() -> Result<()> {
    echo::telemetry()?;
    let account = echo::Account::sign_in()?;
    let app = echo::start(&account, "echo", &[]).await?;
    let strict = echo::start(&account, "echo", &[("rpc.strict_local", "true".to_owned())]).await?;
    let direct: Arc<dyn Echo> = Arc::new(echo::Service);
    let served = Served::new(&ECHO, direct.clone());
    let clients = [
        EchoClient::from_client(Client::local(served, "bench")),
        app.client(),
        strict.client(),
    ];
    let cx = account.context()?;
    let samples = alternate(1 + clients.len(), N_ROUNDS, async |side| match side.checked_sub(1) {
        None => time(async |request| direct.say(&cx, request).await).await,
        Some(client) => time(async |request| clients[client].say(&cx, request).await).await,
    })
    .await?;
    let names = [
        "the trait object, called directly",
        "client over `Client::local`",
        "client of a running `App` (its directory)",
        "client of an `App` with `rpc.strict_local`",
    ];
    let direct = samples[0].median();
    let rows = names.iter().zip(&samples).map(|(name, sample)| {
        let over = sample.median() - direct;
        vec![(*name).to_owned(), sample.show(0), format!("{over:.0}")]
    });
    table(
        "local: ns a call",
        &["call", "median (min..max)", "over direct"],
        &rows.collect::<Vec<_>>(),
    );
    let over = samples[2].median() - direct;
    bar(
        &format!("the guard of a local call costs at most {BAR_NS} ns: {over:.0} ns"),
        over <= BAR_NS,
    );
    say(&format!(
        "{N_ROUNDS} rounds of {N_CALLS} calls, one at a time, by a signed-in caller with a deadline"
    ));
    app.process.stop().await;
    strict.process.stop().await;
    Ok(())
}

/// Returns the nanoseconds a call.
async fn time<R>(mut call: impl AsyncFnMut(SayRequest) -> mosaic::Result<R>) -> Result<f64> {
    let request = echo::request();
    let runtime = Runtime::system();
    let started = runtime.instant();
    for _ in 0..N_CALLS {
        black_box(call(black_box(request.clone())).await?);
    }
    Ok(runtime.instant().duration_since(started).as_secs_f64() * 1e9 / f64::from(N_CALLS))
}
