//! What a module wires itself into.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use mosaic_auth::TokenVerifier;
use mosaic_blob::{Blobs, Opened};
use mosaic_cache::Cache;
use mosaic_core::config::{Config, EngineUrl, Settings};
use mosaic_core::{Error, Result, Runtime, Secret, ServiceDescriptor, StopSignal, TaskGroup, lock};
use mosaic_edge::{EdgeBuilder, Routes};
use mosaic_events::{ConsumerOptions, Event, Group, HandleIn, Listener, Outbox, Reporter};
use mosaic_guard::Rules;
use mosaic_rpc::{Connect, Directory, GrpcServer, PeerKey, Serve};
use mosaic_search::SearchEngine;
use mosaic_sql::{Database, Migration, Options};
use mosaic_tasks::{Engine, Periodic, Queue, QueueName, Task};

use crate::work::{self, Plan};
use crate::{DatabaseConfig, Mode, SearchConfig, Transactions};

/// What the modules of a process share while they are installed.
pub(crate) struct Shared {
    pub(crate) runtime: Runtime,
    pub(crate) settings: Settings,
    pub(crate) mode: Mode,
    pub(crate) data: PathBuf,
    pub(crate) database: DatabaseConfig,
    pub(crate) blobs: Opened,
    pub(crate) cache: Cache,
    pub(crate) directory: Directory,
    pub(crate) peers: PeerKey,
    pub(crate) verifier: Arc<TokenVerifier>,
    pub(crate) background: TaskGroup,
    pub(crate) consumer_options: ConsumerOptions,
    /// Where tasks are, if not in the database of each module.
    pub(crate) tasks_engine: Option<Arc<dyn Engine>>,
    pub(crate) queue_max: u64,
    pub(crate) rules: Rules,
    pub(crate) grpc: Mutex<Option<GrpcServer>>,
    pub(crate) edge: Mutex<Option<EdgeBuilder>>,
    /// How many modules share the limits of the process.
    pub(crate) n_modules: usize,
    pub(crate) databases: Mutex<Vec<(String, Database)>>,
    pub(crate) services: Mutex<Vec<&'static ServiceDescriptor>>,
}

/// The wiring of one module: its `install` function reads as its diagram.
pub struct Module {
    name: Arc<str>,
    shared: Arc<Shared>,
    plan: Plan,
}

impl Module {
    pub(crate) fn new(name: &str, shared: Arc<Shared>) -> Self {
        Self {
            name: name.into(),
            shared,
            plan: Plan::default(),
        }
    }

    pub(crate) fn into_plan(self) -> (String, Plan) {
        (self.name.to_string(), self.plan)
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
    /// It also has what tasks, outbox and inbox need, so that these commit with the module's changes.
    ///
    /// # Errors
    /// Those of a bad URL and of a migration; not that the engine is down.
    pub async fn database(&mut self, migrations: &[Migration]) -> Result<Database> {
        let database = open_database(
            &self.shared,
            &self.name,
            &self.shared.database.url,
            &work::migrations(migrations),
        )
        .await?;
        self.plan.database = Some(database.clone());
        Ok(database)
    }

    /// Returns transactions of the module's database in which it can publish and enqueue.
    ///
    /// # Errors
    /// Internal if the module has no [`Module::database`] yet.
    pub fn transactions(&mut self) -> Result<Transactions> {
        self.plan.transactions(&self.shared)
    }

    /// Returns the door to the module's tasks: at once, or [within](Queue::within) a transaction.
    ///
    /// # Errors
    /// Internal if the module has no [`Module::database`] yet.
    pub fn tasks(&mut self) -> Result<Queue> {
        self.plan.queue(&self.shared)
    }

    /// Runs tasks of type `T`, here or in another process that runs this module.
    ///
    /// # Errors
    /// As [`Module::tasks`].
    ///
    /// # Panics
    /// If the module has another kind of task with the name of `T`.
    pub fn on_task<T: Task>(&mut self, needs: Arc<T::Needs>) -> Result<()> {
        self.tasks()?;
        self.plan.handle::<T>(needs);
        Ok(())
    }

    /// Enqueues a task by a schedule: each tick once, however many processes run this module.
    ///
    /// # Errors
    /// As [`Module::tasks`].
    pub fn periodic(&mut self, periodic: Periodic) -> Result<()> {
        self.tasks()?;
        self.plan.periodic.push(periodic);
        Ok(())
    }

    /// Runs tasks of another queue than `default`, with a weight that the configuration may change.
    pub fn task_queue(&mut self, queue: QueueName, weight: u32) {
        self.plan.weigh(queue, weight);
    }

    /// Returns the door to the module's outbox: what a transaction publishes is told to all if it commits.
    ///
    /// # Errors
    /// Internal if the module has no [`Module::database`] yet.
    pub fn outbox(&mut self) -> Result<Outbox> {
        self.plan.outbox(&self.shared)
    }

    /// Returns a door to the bus for events that are not worth a transaction, such as that somebody has read something: reporting
    /// never waits, and what has not left the process yet is lost with it. See [`Reporter`].
    pub fn reporter<E: Event>(&mut self) -> Reporter<E> {
        self.plan.reporter(&self.shared)
    }

    /// Returns a group of consumers without handlers, to be given to [`Module::consume`]: a name that is never changed, for
    /// with it goes how far it has read.
    ///
    /// # Errors
    /// A name that is none; internal if the module has no [`Module::database`] yet.
    pub fn group(&self, name: &str) -> Result<Group> {
        let database = self.plan.database()?;
        let options = self.shared.consumer_options.clone();
        Ok(Group::new(name.parse()?, database, &self.shared.runtime, options))
    }

    /// Handles events as a member of `group`.
    pub fn consume(&mut self, group: Group) {
        self.plan.groups.push(group);
    }

    /// Handles events of type `E` in the group `name`, each in a transaction of the module's database and with effects that happen
    /// once.
    ///
    /// # Errors
    /// As [`Module::group`].
    pub fn on_event<E: Event>(&mut self, name: &str, handler: Arc<impl HandleIn<E>>) -> Result<()> {
        let group = self.group(name)?.on_in_transaction(handler);
        self.consume(group);
        Ok(())
    }

    /// Hears all events from now on, in every process that runs this module.
    pub fn listen(&mut self, listener: Listener) {
        self.plan.listeners.push(listener);
    }

    /// Returns the cache that all modules share; keys start with the name of what they hold.
    pub fn cache(&self) -> &Cache {
        &self.shared.cache
    }

    /// Returns the engine of blobs that all modules share; keys start with the name of what they hold.
    pub fn blobs(&self) -> Arc<dyn Blobs> {
        self.shared.blobs.blobs()
    }

    /// Answers presigned URLs at the public port of this process, if blobs are files: S3 answers its own.
    pub fn serve_blobs(&mut self) {
        let router = self.shared.blobs.router();
        if let (Some(router), Some(edge)) = (router, &mut *lock(&self.shared.edge)) {
            edge.uploads(mosaic_blob::ROUTE_PREFIX, router);
        }
    }

    /// Opens the search engine of section `search`; nothing is asked of it yet.
    ///
    /// # Errors
    /// A section with mistakes.
    pub fn search(&self) -> Result<Arc<dyn SearchEngine>> {
        let config = self.config::<SearchConfig>()?;
        let writer_heap = config.writer_memory.as_len();
        if !mosaic_search::WRITER_HEAP.contains(&writer_heap) {
            return Err(self.misconfigured("search.writer_memory", "must be between 15MB and 4GB"));
        }
        let options = mosaic_search::Options {
            timeout: config.timeout,
            writer_heap,
            ..mosaic_search::Options::default()
        };
        let files = self.shared.data.join("search");
        let opened = mosaic_search::open(config.url.expose(), &files, options, &self.shared.background);
        opened.map_err(|error| self.misconfigured("search.url", error.message()))
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

    /// Adds routes to the admin port, below `/modules/` and the module's name: what people look at and have done, by
    /// [commands](crate::operate::Operate) of the program or by `curl`. What is no `GET` must carry the header `x-mosaic-admin`.
    pub fn admin(&mut self, router: Router) {
        let earlier = self.plan.admin.take().unwrap_or_default();
        self.plan.admin = Some(earlier.merge(router));
    }

    /// Returns the group for what runs in the background as long as the process does.
    pub fn background(&self) -> &TaskGroup {
        &self.shared.background
    }

    /// Runs `work` every `interval` until the process ends; a failure is logged and the next turn comes all the same.
    pub fn every<F>(&mut self, name: &'static str, interval: Duration, mut work: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = Result<()>> + Send,
    {
        let mut stop: StopSignal = self.shared.background.stop_signal();
        self.shared.background.spawn(name, async move {
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

/// Opens the namespace of `name`, migrated; waits while the engine cannot be reached.
pub(crate) async fn open_database(
    shared: &Shared,
    name: &str,
    url: &EngineUrl,
    migrations: &[Migration],
) -> Result<Database> {
    let config = &shared.database;
    let url = database_url(url, &shared.data);
    let options = Options {
        max_connections: connections_of_module(config.max_connections, shared.n_modules),
        acquire_timeout: config.acquire_timeout,
        slow_query: config.slow_query,
        ..Options::default()
    };
    let mut pause = Duration::from_millis(200);
    loop {
        match Database::open(&url, name, &options, migrations).await {
            Ok(database) => {
                lock(&shared.databases).push((name.to_owned(), database.clone()));
                return Ok(database);
            }
            Err(error) if error.is_retryable() => {
                let cause = error.cause_chain();
                tracing::warn!(module = name, cause, "the database cannot be reached yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
            Err(error) => return Err(error),
        }
    }
}

/// A server has a limit for everybody, which a process of many modules would reach alone; to a file each is a thread with memory of its
/// own.
fn connections_of_module(of_process: u32, n_modules: usize) -> u32 {
    let share = of_process / u32::try_from(n_modules).unwrap_or(u32::MAX).max(1);
    share.max(3)
}

/// `sqlite:` alone means the data directory; everything else is taken as it is.
fn database_url(url: &EngineUrl, data: &Path) -> String {
    match url.expose() {
        "sqlite:" => format!("sqlite:{}/", data.display()),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_share_the_connections_of_a_process() {
        for (of_process, n_modules, want) in [
            (48, 1, 48),
            (48, 4, 12),
            (48, 16, 3),
            (10, 16, 3),
            (160, 16, 10),
            (48, 0, 48),
        ] {
            let share = connections_of_module(of_process, n_modules);
            assert_eq!(share, want, "{of_process} {n_modules}");
        }
    }
}
