//! `./dev seed`: fills a platform that runs with a believable site.
//!
//! Everything goes through the public API, as clients would do it, so it is also a test of the whole under load: what the
//! site shows afterwards is what the platform made of it. The [site] is made up first, from a seed, and then written; what
//! is there already from an earlier time is found by [`survey`] and left as it is.

mod accounts;
mod api;
mod args;
mod console;
mod fill;
mod site;
mod summary;
mod survey;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use mosaic_core::Runtime;

use api::{Api, Failure};
use args::{Cli, Content, Product};
use console::Console;
use site::Site;

fn main() -> ExitCode {
    let Product::Content(wanted) = Cli::parse().product;
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map(|runtime| runtime.block_on(content(&wanted)));
    match outcome {
        Ok(Ok(code)) => code,
        Ok(Err(failure)) => {
            console::complain(&failure.to_string());
            ExitCode::FAILURE
        }
        Err(error) => {
            console::complain(&format!("cannot start: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn content(wanted: &Content) -> Result<ExitCode, Failure> {
    let runtime = Runtime::system();
    let began = runtime.instant();
    let console = Arc::new(Console::new(&runtime));
    let api = Api::connect(&wanted.url, console.clone()).await?;
    console.say(&format!("seed {}: making up a site for {}", wanted.seed, api.base()));
    let site = Site::new(wanted.seed, wanted.size());
    let filled = fill::fill(&api, &console, &site, wanted).await?;
    let took = runtime.instant().duration_since(began);
    console::print(&summary::told(&api, &site, &filled, wanted, took));
    if !wanted.check {
        return Ok(ExitCode::SUCCESS);
    }
    let (text, is_complete) = survey::check(&console, &site, &filled, wanted).await?;
    console::print(&text);
    Ok(if is_complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
