//! What a process must know before it has modules, and why it may not start.

use mosaic_core::Error;
use mosaic_core::config::{Config, Problem, Settings};
use mosaic_edge::EdgeConfig;
use mosaic_guard::GuardConfig;
use mosaic_telemetry::TelemetryConfig;

use crate::{
    AuthConfig, BlobsConfig, CacheConfig, DatabaseConfig, EventsConfig, Mode, PlatformConfig, RegistryConfig,
    RpcConfig, TasksConfig, TlsConfig,
};

/// Configuration of the process itself, read before any module.
pub(crate) struct Base {
    pub(crate) platform: PlatformConfig,
    pub(crate) rpc: RpcConfig,
    pub(crate) tls: TlsConfig,
    pub(crate) guard: GuardConfig,
    pub(crate) registry: RegistryConfig,
    pub(crate) auth: AuthConfig,
    pub(crate) blobs: BlobsConfig,
    pub(crate) cache: CacheConfig,
    pub(crate) edge: EdgeConfig,
    pub(crate) telemetry: TelemetryConfig,
    pub(crate) database: DatabaseConfig,
    pub(crate) tasks: TasksConfig,
    pub(crate) events: EventsConfig,
}

impl Base {
    /// Reads all of it; `None` if there are mistakes, which `settings` knows.
    pub(crate) fn read(settings: &Settings) -> Option<Self> {
        // Read all before giving up, so that all mistakes are found.
        fn read<C: Config>(settings: &Settings) -> Option<C> {
            settings.read::<C>()
        }
        let (platform, rpc, auth, blobs) = (read(settings), read(settings), read(settings), read(settings));
        let (guard, tls) = (read(settings), read(settings));
        let (cache, edge, telemetry) = (read(settings), read(settings), read(settings));
        let (database, registry) = (read(settings), read(settings));
        let (tasks, events) = (read(settings), read(settings));
        let (platform, mut edge): (PlatformConfig, EdgeConfig) = (platform?, edge?);
        edge.secure_cookies.get_or_insert(platform.mode == Mode::Production);
        Some(Self {
            platform,
            rpc: rpc?,
            tls: tls?,
            guard: guard?,
            registry: registry?,
            auth: auth?,
            blobs: blobs?,
            cache: cache?,
            edge,
            telemetry: telemetry?,
            database: database?,
            tasks: tasks?,
            events: events?,
        })
    }
}

/// Why a process did not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration has these mistakes.
    Config(Vec<Problem>),
    /// Something else.
    Failed(Error),
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Config(problems) => {
                let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
                write!(f, "the configuration has mistakes: {}", lines.join("; "))
            }
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

/// Returns why it did not start: mistakes in the configuration, if there are some, explain the rest.
pub(crate) fn start_error(error: Error, settings: &Settings) -> StartError {
    let problems = settings.problems();
    if problems.is_empty() {
        StartError::Failed(error)
    } else {
        StartError::Config(problems)
    }
}
