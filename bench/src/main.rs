//! Measures what Mosaic costs beside what one would write without it.
//!
//! ```text
//! bench [local] [rpc] [edge] [start] [pick] [balancers]    all of them without a name
//! ```
//! Each comparison runs both sides in one run, round by round in changing order, so that a machine that is busy for a
//! while is busy for both; medians are compared. Nothing is asserted: a bar that is missed is printed as missed. The
//! sides that need a process of their own are this program again, with a name that starts with `serve-`.

mod contract {
    //! The generated code of `proto/`.
    include!(concat!(env!("OUT_DIR"), "/mosaic.rs"));
}
mod balancers;
mod balancers_plots;
mod balancers_scenes;
mod balancers_svg;
mod balancers_world;
mod child;
mod echo;
mod edge;
mod edge_sides;
mod local;
mod pick;
mod report;
mod rpc;
mod rpc_bare;
mod start;

use std::process::ExitCode;

use report::{Result, say};

// As the platform does; both sides of every comparison.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(&names)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("bench: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(names: &[String]) -> Result<()> {
    match names.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve-platform", log] => return edge_sides::serve_platform(*log == "logged").await,
        ["serve-bare", json] => return edge_sides::serve_bare(json).await,
        ["help" | "-h" | "--help"] => {
            say(
                "bench [local] [rpc] [edge] [start] [pick] [balancers]: all of them without a name; see bench/RESULTS.md",
            );
            return Ok(());
        }
        _ => {}
    }
    let all = ["local", "rpc", "edge", "start", "pick", "balancers"];
    if let Some(unknown) = names.iter().find(|name| !all.contains(&name.as_str())) {
        return Err(format!("there is no {unknown:?}; there are {}", all.join(", ")).into());
    }
    let chosen = |name: &str| names.is_empty() || names.iter().any(|chosen| chosen == name);
    if chosen("local") {
        local::measure().await?;
    }
    if chosen("rpc") {
        rpc::measure().await?;
    }
    if chosen("edge") {
        edge::measure().await?;
    }
    if chosen("start") {
        start::measure().await?;
    }
    if chosen("pick") {
        pick::measure()?;
    }
    if chosen("balancers") {
        balancers::measure()?;
    }
    Ok(())
}
