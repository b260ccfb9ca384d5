//! Measures what Mosaic costs beside what one would write without it.
//!
//! ```text
//! bench [local] [rpc] [edge] [content] [start] [pick] [balancers] [tasks] [events] [ranking] [interaction]    all without a name
//! bench tasks [throughput] [delay] [soak]                                   parts of one; soak only if named
//! bench events [bus] [outbox]
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
mod content;
mod echo;
mod edge;
mod edge_sides;
mod events;
mod events_outbox;
mod interaction;
mod load;
mod local;
mod pick;
mod ranking;
mod ranking_node;
mod report;
mod rpc;
mod rpc_bare;
mod start;
mod stores;
mod tasks;
mod tasks_bullmq;
mod tasks_delay;
mod tasks_soak;

use std::process::ExitCode;

use report::{Result, say};

// As the platform does; both sides of every comparison.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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
        ["serve-ranking", url] => return ranking_node::serve(url).await,
        ["serve-bare", json] => return edge_sides::serve_bare(json).await,
        ["help" | "-h" | "--help"] => {
            say(
                "bench [local] [rpc] [edge] [content] [start] [pick] [balancers] [tasks] [events] [ranking] [interaction]: all of them without a \
                 name; tasks, events and interaction take the names of their parts; see bench/RESULTS.md",
            );
            return Ok(());
        }
        ["tasks", parts @ ..] if names_all(parts, &["throughput", "delay", "soak"]) => {
            return tasks::measure(parts).await;
        }
        ["events", parts @ ..] if names_all(parts, &["bus", "outbox"]) => return events::measure(parts).await,
        ["interaction", parts @ ..] if names_all(parts, &["likes", "reads"]) => {
            return interaction::measure(parts).await;
        }
        _ => {}
    }
    let all = [
        "local",
        "rpc",
        "edge",
        "content",
        "start",
        "pick",
        "balancers",
        "tasks",
        "events",
        "ranking",
        "interaction",
    ];
    if let Some(unknown) = names.iter().find(|name| !all.contains(&name.as_str())) {
        return Err(format!("there is no {unknown:?}; there are {}", all.join(", ")).into());
    }
    for name in all {
        if names.is_empty() || names.iter().any(|chosen| chosen == name) {
            measure(name).await?;
        }
    }
    Ok(())
}

async fn measure(name: &str) -> Result<()> {
    match name {
        "local" => local::measure().await,
        "rpc" => rpc::measure().await,
        "edge" => edge::measure().await,
        "content" => content::measure().await,
        "start" => start::measure().await,
        "pick" => pick::measure(),
        "balancers" => balancers::measure(),
        "tasks" => tasks::measure(&[]).await,
        "ranking" => ranking::measure().await,
        "interaction" => interaction::measure(&[]).await,
        _ => events::measure(&[]).await,
    }
}

fn names_all(parts: &[&str], all: &[&str]) -> bool {
    parts.iter().all(|part| all.contains(part))
}
