//! What a module wires itself into.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use mosaic_auth::TokenVerifier;
use mosaic_cache::Cache;
use mosaic_core::config::{Config, EngineUrl, Settings};
use mosaic_core::{Error, Result, Runtime, Secret, ServiceDescriptor, StopSignal, TaskGroup};
use mosaic_edge::{EdgeBuilder, Routes};
use mosaic_guard::Rules;
use mosaic_rpc::{Connect, Directory, GrpcServer, PeerKey, Serve};
use mosaic_sql::{Database, Migration, Options};

use crate::{DatabaseConfig, Mode};

/// What the modules of a process share while they are installed.
pub(crate) struct Shared {
    pub(crate) runtime: Runtime,
    pub(crate) settings: Settings,
    pub(crate) mode: Mode,
    pub(crate) data: PathBuf,
    pub(crate) database: Option<DatabaseConfig>,
    pub(crate) cache: Cache,
    pub(crate) directory: Directory,
    pub(crate) peers: PeerKey,
    pub(crate) verifier: Arc<TokenVerifier>,
    pub(crate) tasks: TaskGroup,
    pub(crate) rules: Rules,
    pub(crate) grpc: Mutex<Option<GrpcServer>>,
    pub(crate) edge: Mutex<Option<EdgeBuilder>>,
    pub(crate) databases: Mutex<Vec<(String, Database)>>,
    pub(crate) services: Mutex<Vec<&'static ServiceDescriptor>>,
}

/// The wiring of one module: its `install` function reads as its diagram.
pub struct Module {
    name: Arc<str>,
    shared: Arc<Shared>,
}

impl Module {
    pub(crate) fn new(name: &str, shared: Arc<Shared>) -> Self {
        Self {
            name: name.into(),
            shared,
        }
    }

    /// Returns the module's name, in which it calls others.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns clock, randomness and ids.
    pub fn runtime(&self) -> &Runtime {
        &self.shared.runtime
    }

    /// Returns how serious the process is.
    pub fn mode(&self) -> Mode {
        self.shared.mode
    }

    /// Returns the directory of the embedded engines.
    pub fn data(&self) -> &Path {
        &self.shared.data
    }

    /// Reads a configuration struct from its section.
    ///
    /// # Errors
    /// `InvalidArgument` (`CONFIG_INVALID`) if it has mistakes; the process prints all of them and exits.
    pub fn config<C: Config>(&self) -> Result<C> {
        let invalid = || Error::invalid_argument("CONFIG_INVALID", format!("section {} has mistakes", C::SECTION));
        self.shared.settings.read::<C>().ok_or_else(invalid)
    }

    /// Reports a mistake that only the meaning of the values shows; the process prints all of them and exits.
    pub fn misconfigured(&self, key: &str, what: &str) -> Error {
        self.shared.settings.report(key, what);
        Error::invalid_argument("CONFIG_INVALID", format!("{key}: {what}"))
    }

    /// Returns the module's own database, migrated; waits while the engine cannot be reached.
    ///
    /// # Errors
    /// Those of a bad URL and of a migration; not that the engine is down.
    pub async fn database(&mut self, migrations: &[Migration]) -> Result<Database> {
        let Some(config) = &self.shared.database else {
            return Err(Error::invalid_argument(
                "CONFIG_INVALID",
                "section database has mistakes",
            ));
        };
        let url = database_url(&config.url, &self.shared.data);
        let options = Options {
            max_connections: config.max_connections,
            acquire_timeout: config.acquire_timeout,
            slow_query: config.slow_query,
            ..Options::default()
        };
        let mut pause = Duration::from_millis(200);
        loop {
            match Database::open(&url, &self.name, &options, migrations).await {
                Ok(database) => {
                    lock(&self.shared.databases).push((self.name.to_string(), database.clone()));
                    return Ok(database);
                }
                Err(error) if error.is_retryable() => {
                    let cause = error.cause_chain();
                    tracing::warn!(module = &*self.name, cause, "the database cannot be reached yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the cache that all modules share; keys start with the name of what they hold.
    pub fn cache(&self) -> &Cache {
        &self.shared.cache
    }

    /// Returns a secret for `purpose`, the same in every process of the platform.
    pub fn secret(&self, purpose: &str) -> Secret<Vec<u8>> {
        self.shared.peers.derive(purpose)
    }

    /// Returns a client of a service, in this process or another.
    pub fn client<C: Connect>(&self) -> C {
        self.shared.directory.client(&self.name)
    }

    /// Returns the verifier of access tokens, to be fed with keys and revocations.
    pub fn verifier(&self) -> &Arc<TokenVerifier> {
        &self.shared.verifier
    }

    /// Serves a service to this process and to others.
    pub fn serve(&mut self, server: impl Serve) {
        if let Some(grpc) = &mut *lock(&self.shared.grpc) {
            lock(&self.shared.services).push(server.served().service());
            grpc.add(server, &self.shared.directory);
        }
    }

    /// Adds the HTTP routes of a service; the process then has a public port.
    pub fn routes(&mut self, routes: Routes) {
        if let Some(edge) = &mut *lock(&self.shared.edge) {
            edge.routes(routes);
        }
    }

    /// Adds HTTP routes written by hand; the process then has a public port.
    pub fn router(&mut self, router: Router) {
        if let Some(edge) = &mut *lock(&self.shared.edge) {
            edge.router(router);
        }
    }

    /// Returns the tasks of the process.
    pub fn tasks(&self) -> &TaskGroup {
        &self.shared.tasks
    }

    /// Runs `work` every `interval` until the process ends; a failure is logged and the next turn comes all the same.
    pub fn every<F>(&mut self, name: &'static str, interval: Duration, mut work: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = Result<()>> + Send,
    {
        let mut stop: StopSignal = self.shared.tasks.stop_signal();
        self.shared.tasks.spawn(name, async move {
            loop {
                match mosaic_core::catch_panic(work()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::warn!(task = name, %error, cause = error.cause_chain(), "task failed"),
                    Err(panic) => tracing::error!(task = name, panic, "task panicked"),
                }
                tokio::select! {
                    () = tokio::time::sleep(interval) => {}
                    () = stop.stopped() => return,
                }
            }
        });
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// `sqlite:` alone means the data directory; everything else is taken as it is.
fn database_url(url: &EngineUrl, data: &Path) -> String {
    match url.expose() {
        "sqlite:" => format!("sqlite:{}/", data.display()),
        other => other.to_owned(),
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
