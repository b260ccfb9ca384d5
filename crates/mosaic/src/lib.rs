//! Write a service once; run it together or apart.
//!
//! A team's code depends on this crate: [`App`] makes a process of modules, [`Module`] is what a module's `install`
//! function wires itself into, and the rest is re-exported from the crates that do the work. Generated code names its
//! runtime through here, too (`::mosaic::rpc`, `::mosaic::edge` ...).
//!
//! ```no_run
//! use mosaic::{App, Module, Result};
//!
//! async fn install(m: &mut Module) -> Result<()> {
//!     tracing::info!("module {} is being installed", m.name());
//!     Ok(())
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     App::new("shop").module("orders", install).main()
//! }
//! # use tracing;
//! ```

mod admin;
mod app;
mod args;
mod base;
mod blobs;
mod discovery;
mod files;
mod inspect;
mod module;
pub mod operate;
mod outgoing;
mod peer_key;
mod process;
mod process_config;
mod reload;
mod signals;
mod tls;
mod work;

pub use app::{App, Install};
pub use base::StartError;
pub use files::write_secret_file;
pub use module::Module;
pub use outgoing::partner_client;
pub use process::{Addresses, Process};
pub use process_config::{
    AuthConfig, BlobsConfig, CacheConfig, DatabaseConfig, Mode, PlatformConfig, RegistryConfig, RpcConfig,
    SearchConfig, TlsConfig,
};
pub use work::{EventsConfig, TasksConfig, Transactions, Tx};

pub use async_trait::async_trait;
pub use mosaic_core::{
    Access, AccountId, Authenticator, Caller, Check, Clock, Code, Context, DEFAULT_TIMEOUT, Envelope, Error,
    HttpBinding, Identity, ManualClock, MethodDescriptor, Origin, Rate, Result, Runtime, Secret, SeededRandom,
    ServiceDescriptor, Shape, StopSignal, SystemClock, SystemRandom, TaskGroup, Timestamp, Trace, Violation,
    Violations, config, hex, id_type, json, lock, rules,
};
pub use {
    mosaic_auth as auth, mosaic_blob as blob, mosaic_cache as cache, mosaic_edge as edge, mosaic_events as events,
    mosaic_guard as guard, mosaic_lease as lease, mosaic_registry as registry, mosaic_rpc as rpc,
    mosaic_search as search, mosaic_sql as sql, mosaic_tasks as tasks,
};
pub use {mosaic_telemetry as telemetry, prost, prost_types, serde};
