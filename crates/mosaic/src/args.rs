//! The command line, which is the last layer of the configuration.

use std::path::PathBuf;

use clap::Parser;
use mosaic_core::config::Layers;

use crate::operate::Operation;

/// Runs the modules of this program, all of them or those of a list, until a signal ends it; or looks after one that runs.
#[derive(Debug, Parser)]
#[command(
    args_override_self = true,
    subcommand_negates_reqs = true,
    after_help = "Every key may also be set as an environment variable: \
    MOSAIC_HTTP=127.0.0.1:8081, MOSAIC_AUTH__ACCESS_TTL=10m.\nThe command line beats the environment, the environment \
    beats the file."
)]
pub(crate) struct Args {
    /// Configuration file in TOML (also MOSAIC_CONFIG); without one, mosaic.toml in this directory if it is there
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of the embedded engines [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Public HTTP address [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Internal gRPC address [default: 127.0.0.1:9080]
    #[arg(long, value_name = "ADDR")]
    grpc: Option<String>,
    /// Address of health, readiness and metrics [default: 127.0.0.1:9081]
    #[arg(long, value_name = "ADDR", global = true)]
    admin: Option<String>,
    /// Modules to run, separated by commas [default: all]
    #[arg(long, value_name = "LIST")]
    run: Option<String>,
    /// Set any key of the configuration (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print every key with its value, origin and meaning, and exit
    #[arg(long)]
    pub(crate) print_config: bool,
    /// Print answers of commands as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) operation: Option<Operation>,
}

impl Args {
    /// Adds what was said to `layers`.
    pub(crate) fn add_to(&self, mut layers: Layers) -> Layers {
        for pair in &self.set {
            layers = layers.set_pair(pair);
        }
        let named = [
            ("data", &self.data),
            ("http", &self.http),
            ("grpc", &self.grpc),
            ("admin", &self.admin),
            ("run", &self.run),
        ];
        for (key, value) in named {
            if let Some(value) = value {
                layers = layers.set(key, value);
            }
        }
        layers
    }
}
