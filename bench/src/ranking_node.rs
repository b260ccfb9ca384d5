//! A node of the ranking service, measured from inside.

use std::time::Duration;

use mosaic::auth::{KeyRing, PublicKeys};
use mosaic::config::Layers;
use mosaic::{App, Context, Module, Process, Runtime};
use mosaic_api::ranking::v1::{GetHotRequest, GetTopRequest, RankingClient, RefreshRequest};
use mosaic_sql::sea_orm::ConnectionTrait as _;
use mosaic_sql::sea_orm::sea_query::{Expr, ExprTrait as _, Order, Query};
use mosaic_sql::{Database, Options};
use tempfile::TempDir;

use crate::child::resident_mb;
use crate::ranking::{MODULE, USUAL, WORST};
use crate::report::{Result, Samples, say};

/// Numbers in the line that a node prints.
pub(crate) const N_MEASURED: usize = 12;
const N_COMPUTED: usize = 5;
const N_CALLS: usize = 20_000;
const N_SCANS: usize = 200;
/// Longer than a list takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a node over the tables at `url`; with the folder of its other data.
pub(crate) async fn start(url: &str) -> Result<(Process, TempDir)> {
    let install = async |m: &mut Module| {
        let runtime = m.runtime().clone();
        let mut ring = KeyRing::new(Duration::ZERO);
        let key = KeyRing::generate(&runtime);
        let added = ring.add("bench", runtime.now(), &key).map_err(mosaic::Error::internal);
        added.map(drop)?;
        m.verifier()
            .set_keys(PublicKeys::from_jwks(&ring.jwks()).map_err(mosaic::Error::internal)?);
        ranking::install(m).await
    };
    let data = TempDir::new()?;
    let mut layers = Layers::default()
        .set("data", data.path().display().to_string())
        .set("database.url", url)
        .set("events.url", format!("sqlite:{}/", data.path().display()))
        .set("guard.shed", "off")
        .set("rpc.peer_key", "0123456789abcdef0123456789abcdef");
    for key in ["http", "grpc", "admin"] {
        layers = layers.set(key, "127.0.0.1:0");
    }
    let app = App::new("bench").module(MODULE, install);
    Ok((app.start(&Runtime::system(), layers).await?, data))
}

/// Measures a node over the tables at `url` and prints [`N_MEASURED`] numbers.
pub(crate) async fn serve(url: &str) -> Result<()> {
    let (runtime, own) = (Runtime::system(), std::process::id());
    let (process, _data) = start(url).await?;
    let client: RankingClient = process.directory().client("bench");
    let cx = || Context::new(&runtime).with_timeout(PATIENCE);
    let at_start = resident_mb(own)?;
    let mut seconds = Vec::new();
    for biz in [USUAL, WORST] {
        let request = RefreshRequest { biz: biz.to_owned() };
        let sample = times(&runtime, N_COMPUTED, async || {
            client.refresh(&cx(), request.clone()).await.map(drop)
        });
        seconds.push(sample.await?.median() / 1e6);
    }
    let peak = peak_mb()?;
    let cx = Context::new(&runtime);
    let get_hot = times(&runtime, N_CALLS, async || {
        client.get_hot(&cx, hot(USUAL)).await.map(drop)
    })
    .await?;
    let get_top = times(&runtime, N_CALLS, async || {
        client.get_top(&cx, top(100)).await.map(drop)
    })
    .await?;
    let database = Database::open(url, MODULE, &Options::default(), &[]).await?;
    let mut scans = Vec::new();
    for n in [100, 1000] {
        scans.push(times(&runtime, N_SCANS, async || scan(&database, n).await).await?);
    }
    let mut numbers = vec![seconds[0], seconds[1], at_start, peak];
    for sample in [&get_hot, &get_top] {
        numbers.extend([sample.median(), sample.at(0.99)]);
    }
    for sample in &scans {
        numbers.extend([sample.median() / 1e3, sample.at(0.99) / 1e3]);
    }
    process.stop().await;
    let numbers: Vec<String> = numbers.iter().map(|number| format!("{number:.4}")).collect();
    say(&numbers.join(" "));
    Ok(())
}

fn hot(biz: &str) -> GetHotRequest {
    GetHotRequest {
        biz: biz.to_owned(),
        limit: 0,
    }
}

fn top(n: u32) -> GetTopRequest {
    GetTopRequest {
        biz: USUAL.to_owned(),
        n,
    }
}

/// What the service asks after a restart.
async fn scan(database: &Database, n: u64) -> mosaic::Result<()> {
    let mut find = Query::select();
    find.columns(["biz_id", "likes"]).from("ranked_item");
    find.and_where(Expr::col("biz").eq(USUAL))
        .and_where(Expr::col("state").eq(1));
    find.order_by("likes", Order::Desc)
        .order_by("biz_id", Order::Desc)
        .limit(n);
    let rows = database.query_all(&find).await.map_err(mosaic_sql::into_error)?;
    if rows.len() as u64 == n {
        Ok(())
    } else {
        Err(mosaic::Error::internal("too few rows"))
    }
}

/// Returns the microseconds of each call.
async fn times(runtime: &Runtime, n: usize, mut call: impl AsyncFnMut() -> mosaic::Result<()>) -> Result<Samples> {
    let mut micros = Vec::with_capacity(n);
    for _ in 0..n {
        let begun = runtime.instant();
        call().await?;
        micros.push(runtime.instant().duration_since(begun).as_secs_f64() * 1e6);
    }
    Ok(micros.into_iter().collect())
}

/// Returns the most memory that this process has ever had resident, in MB (10^6 bytes).
fn peak_mb() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .ok_or("VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0 / 1e6)
}
