//! How soon the release binary is ready, how much memory it holds idle, how large it is.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use mosaic::Runtime;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::child::{platform, resident_mb};
use crate::report::{Result, Samples, bar, table};

const N_ROUNDS: usize = 9;
const PATIENCE: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(3);
const BAR_MS: f64 = 1000.0;
const BAR_RESIDENT_MB: f64 = 120.0;
const BAR_BINARY_MB: f64 = 60.0;

pub(crate) async fn measure() -> Result<()> {
    let program = platform().await?;
    let (mut fresh, mut existing, mut resident) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..N_ROUNDS {
        let data = TempDir::new()?;
        for samples in [&mut fresh, &mut existing] {
            let (child, ready_ms) = start(&program, data.path()).await?;
            samples.add(ready_ms);
            stop(child).await?;
        }
    }
    let data = TempDir::new()?;
    for _ in 0..3 {
        let (child, _) = start(&program, data.path()).await?;
        tokio::time::sleep(IDLE).await;
        resident.add(resident_mb(child.id().ok_or("the platform has ended")?)?);
        stop(child).await?;
    }
    let size = std::fs::metadata(&program)?.len();
    let binary_mb = f64::from(u32::try_from(size)?) / 1e6;
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    let rows = [
        row("ready on a fresh data directory, ms", fresh.show(0)),
        row("ready on an existing data directory, ms", existing.show(0)),
        row("resident, 3 s after ready and idle, MB", resident.show(1)),
        row("release binary, MB", format!("{binary_mb:.1}")),
    ];
    table("start: target/release/platform", &["what", "median (min..max)"], &rows);
    let slowest = fresh.median().max(existing.median());
    bar(&format!("ready within {BAR_MS} ms: {slowest:.0} ms"), slowest <= BAR_MS);
    let resident = resident.median();
    bar(
        &format!("idle under {BAR_RESIDENT_MB} MB: {resident:.1} MB"),
        resident < BAR_RESIDENT_MB,
    );
    bar(
        &format!("binary under {BAR_BINARY_MB} MB: {binary_mb:.1} MB"),
        binary_mb < BAR_BINARY_MB,
    );
    Ok(())
}

/// Starts the platform; returns it and the milliseconds from its spawn to the first 200 of `/readyz`.
async fn start(program: &Path, data: &Path) -> Result<(Child, f64)> {
    let (http, grpc, admin) = (free_address().await?, free_address().await?, free_address().await?);
    let client = mosaic::partner_client(Duration::from_secs(1))?;
    let url = format!("http://{admin}/readyz");
    let clock = Runtime::system();
    let started = clock.instant();
    let child = Command::new(program)
        .args(["--set", "mode=dev", "--data"])
        .arg(data)
        .args(["--http", &http, "--grpc", &grpc, "--admin", &admin])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let is_ready = async || matches!(client.get(&url).send().await, Ok(reply) if reply.status() == 200);
    while !is_ready().await {
        if clock.instant().duration_since(started) > PATIENCE {
            return Err("the platform does not become ready".into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok((child, clock.instant().duration_since(started).as_secs_f64() * 1000.0))
}

/// Ends it as an operator does, and waits.
async fn stop(mut child: Child) -> Result<()> {
    let pid = child.id().ok_or("the platform has ended")?.to_string();
    Command::new("kill").args(["-TERM", &pid]).status().await?;
    let status = child.wait().await?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the platform ended with {status}").into())
    }
}

/// Returns an address that nobody listens on a moment before it is used.
async fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.to_string())
}
