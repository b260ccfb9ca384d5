//! A running process: its modules, its listeners, its end.
//!
//! Start: configuration of the process, admin port (so that "alive" can be asked at once), modules side by side (one
//! that waits for its database does not hold up the others), then listeners, then "ready". End: not ready, listeners
//! drain, tasks stop, databases close; all of it within `drain_timeout`, after which what is left is cut.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use futures::future::join_all;
use mosaic_auth::TokenVerifier;
use mosaic_cache::Cache;
use mosaic_core::config::Settings;
use mosaic_core::{Authenticator, Error, Result, Runtime, ServiceDescriptor, StopSignal, TaskGroup, lock};
use mosaic_edge::EdgeBuilder;
use mosaic_events::ConsumerOptions;
use mosaic_guard::Rules;
use mosaic_rpc::{Directory, GrpcServer, Inbound, LocalCalls, ServerOptions, Tls, bind};
use tokio::net::TcpListener;

use crate::admin::{self, Health, Phase};
use crate::app::Definition;
use crate::base::{Base, StartError, start_error};
use crate::blobs;
use crate::discovery::{Announcement, Discovery};
use crate::inspect;
use crate::module::Shared;
use crate::outgoing::install_crypto;
use crate::peer_key::peer_key;
use crate::reload::{self, Origin};
use crate::tls;
use crate::work::{self, Plan, Work};
use crate::{Mode, Module, PlatformConfig};

/// Where a process listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Public HTTP, if the process has routes.
    pub http: Option<SocketAddr>,
    /// Internal gRPC.
    pub grpc: SocketAddr,
    /// Health, readiness, metrics.
    pub admin: SocketAddr,
}

/// See the module documentation.
pub struct Process {
    shared: Arc<Shared>,
    health: Arc<Health>,
    listeners: TaskGroup,
    background: TaskGroup,
    work: Work,
    announcement: Arc<Mutex<Announcement>>,
    addresses: Addresses,
    drain_timeout: Duration,
    linger: Duration,
}

impl Process {
    /// Starts a process; returns when it is ready to be called.
    pub(crate) async fn start(
        runtime: &Runtime,
        settings: Settings,
        modules: &[Definition],
        origin: Option<Origin>,
    ) -> Result<Self, StartError> {
        install_crypto();
        // The list of modules first: theirs are mistakes to be told, whatever else is wrong.
        let run = settings.read::<PlatformConfig>().map(|platform| platform.run);
        let chosen = choose(modules, run.as_deref().unwrap_or_default(), &settings);
        let Some(base) = Base::read(&settings) else {
            return Err(StartError::Config(settings.problems()));
        };
        let metrics = mosaic_telemetry::init(&base.telemetry, None);
        let listeners = task_group();
        let background = task_group();
        let tls = tls::open(runtime, &base.tls, &settings)?;
        let draining = listeners.stop_signal();
        let (shared, discovery) =
            shared(runtime, &settings, &base, &background, tls.clone(), draining, &chosen).await?;
        let shared = Arc::new(shared);
        let databases = shared.clone();
        let health = Health::new(metrics.clone(), shared.verifier.clone(), move || {
            lock(&databases.databases).clone()
        });
        let health = Arc::new(health);

        let admin = bind(base.platform.admin).await?;
        let admin_address = admin.local_addr().map_err(Error::internal)?;
        let inspected = inspect::Handle::default();
        let router = admin::router(health.clone()).merge(inspect::router(inspected.clone()));
        serve_admin(&background, admin, router);

        let plans = install(&shared, &chosen).await;
        let plans = plans.map_err(|error| start_error(error, &settings))?;
        check(&shared, &base, tls.as_ref(), &chosen, &settings)?;
        let linger = discovery.linger(&base.rpc);
        if let Some(tls) = &tls {
            tls::follow(tls.clone(), &base.tls, &background);
        }
        let (http, grpc) = listen(&shared, &base, tls, linger, &listeners).await?;
        let work = Work::start(&shared, &base, plans, task_group()).await;
        let (work, inspection) = work.map_err(|error| start_error(error, &settings))?;
        inspected.set(inspection);
        background_tasks(&background, &shared, origin, settings);
        health.set(Phase::Running);
        let announcement = discovery.announce(&shared.directory, &lock(&shared.services), grpc);
        let announcement = Arc::new(Mutex::new(announcement));
        keep_announced(&background, announcement.clone());
        let addresses = Addresses {
            http,
            grpc,
            admin: admin_address,
        };
        let names: Vec<_> = chosen.iter().map(|module| module.name).collect();
        tracing::info!(?http, %grpc, admin = %admin_address, modules = ?names, mode = ?base.platform.mode, "running");
        Ok(Self {
            shared,
            health,
            listeners,
            background,
            work,
            announcement,
            addresses,
            drain_timeout: base.platform.drain_timeout,
            linger,
        })
    }

    /// Returns where the process listens.
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Returns the services known to this process; for clients in tests.
    pub fn directory(&self) -> &Directory {
        &self.shared.directory
    }

    /// Returns the services that this process serves.
    pub fn services(&self) -> Vec<&'static ServiceDescriptor> {
        lock(&self.shared.services).clone()
    }

    /// Is this process in development mode?
    pub fn is_development(&self) -> bool {
        self.shared.mode == Mode::Development
    }

    /// Returns what keeps the process from being ready; empty when it is.
    pub async fn obstacles(&self) -> Vec<String> {
        self.health.obstacles().await
    }

    /// Ends the process: what is running may end within the drain timeout, what is left is cut.
    pub async fn stop(self) {
        self.health.set(Phase::Stopping);
        let announcement = std::mem::take(&mut *lock(&self.announcement));
        announcement.withdraw().await;
        // Listeners first, with most of the time: tasks may still be needed to answer what is running.
        let n_listeners_cut = self.listeners.shutdown(self.linger + self.drain_timeout * 3 / 4).await;
        let grace = self.drain_timeout / 4;
        let (n_work_cut, n_tasks_cut) = tokio::join!(self.work.shutdown(grace), self.shared.background.shutdown(grace));
        let n_tasks_cut = n_work_cut + n_tasks_cut;
        if n_listeners_cut + n_tasks_cut > 0 {
            tracing::warn!(n_listeners_cut, n_tasks_cut, "cut at the end of the drain");
        }
        let databases = std::mem::take(&mut *lock(&self.shared.databases));
        join_all(databases.iter().map(|(_, database)| database.close())).await;
        self.background.shutdown(Duration::ZERO).await;
        tracing::info!("stopped");
    }
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

fn task_group() -> TaskGroup {
    TaskGroup::new(|panic| {
        metrics::counter!("mosaic_task_panics_total", "task" => panic.task).increment(1);
        tracing::error!(task = panic.task, panic.message, "task panicked");
    })
}

/// Returns the modules to run; those that are not to run keep their sections of the configuration to themselves.
fn choose<'a>(modules: &'a [Definition], run: &[String], settings: &Settings) -> Vec<&'a Definition> {
    for name in run
        .iter()
        .filter(|name| !modules.iter().any(|module| module.name == name.as_str()))
    {
        let known: Vec<_> = modules.iter().map(|module| module.name).collect();
        settings.report(
            "run",
            format!("there is no module {name:?}; there are {}", known.join(", ")),
        );
    }
    let (chosen, others): (Vec<_>, Vec<_>) = modules
        .iter()
        .partition(|module| module.always || run.is_empty() || run.iter().any(|name| name == module.name));
    others.iter().for_each(|module| settings.accept_section(module.name));
    chosen
}

async fn shared(
    runtime: &Runtime,
    settings: &Settings,
    base: &Base,
    background: &TaskGroup,
    tls: Option<Tls>,
    draining: StopSignal,
    chosen: &[&Definition],
) -> Result<(Shared, Discovery), StartError> {
    let mode = base.platform.mode;
    tokio::fs::create_dir_all(&base.platform.data).await.map_err(|cause| {
        let what = format!(
            "cannot create the data directory {}: {cause}",
            base.platform.data.display()
        );
        StartError::Failed(Error::unavailable("DATA_UNUSABLE", what))
    })?;
    let mut peers = peer_key(runtime, settings, mode, &base.rpc, &base.registry, &base.platform.data)?;
    if let Some(tls) = &tls {
        peers = peers.with_certificate(tls.clone());
    }
    let local_calls = if base.rpc.strict_local {
        LocalCalls::Strict
    } else {
        LocalCalls::Direct
    };
    let mistaken = || StartError::Config(settings.problems());
    let discovery = Discovery::open(runtime, &base.registry, background, settings).ok_or_else(mistaken)?;
    let remote = discovery
        .remote(&base.rpc, tls, peers.clone(), settings)
        .ok_or_else(mistaken)?;
    let mut rules = Rules::new(base.guard.clone());
    if mode == Mode::Production {
        rules = rules.in_production();
    }
    let rules = rules.start(background, runtime)?;
    let directory = Directory::new(runtime, local_calls, rules.clone(), remote);
    let verifier = Arc::new(TokenVerifier::new(runtime, base.auth.policy()));
    let authenticator: Arc<dyn Authenticator> = verifier.clone();
    let inbound = Inbound::new(runtime.clone(), Some(authenticator), Some(peers.clone())).draining(draining);
    let tasks_engine = work::open_tasks(&base.tasks, runtime);
    let tasks_engine = tasks_engine.map_err(|error| settings.report("tasks.url", error.message()));
    work::check(base, settings);
    let blobs = blobs::open(base, &peers, runtime, settings);
    let shared = Shared {
        runtime: runtime.clone(),
        settings: settings.clone(),
        mode,
        data: base.platform.data.clone(),
        database: base.database.clone(),
        blobs: blobs.ok_or_else(mistaken)?,
        cache: Cache::open(base.cache.url.expose(), runtime)?,
        directory,
        peers,
        verifier,
        background: task_group(),
        consumer_options: consumer_options(base),
        queue_max: base.tasks.queue_max,
        tasks_engine: tasks_engine.unwrap_or_default(),
        grpc: Some(GrpcServer::new(inbound, rules.clone())).into(),
        edge: Some(EdgeBuilder::default()).into(),
        rules,
        n_modules: chosen.iter().filter(|module| !module.always).count(),
        databases: Vec::new().into(),
        services: Vec::new().into(),
    };
    Ok((shared, discovery))
}

fn consumer_options(base: &Base) -> ConsumerOptions {
    ConsumerOptions {
        concurrency: base.events.concurrency,
        attempts_max: base.events.attempts,
        inbox_retention: base.events.inbox_retention,
        drain: base.platform.drain_timeout / 5,
        ..ConsumerOptions::default()
    }
}

/// Installs modules, and returns what each of them plans to do beside answering.
async fn install(shared: &Arc<Shared>, chosen: &[&Definition]) -> Result<Vec<(String, Plan)>> {
    let installs = chosen.iter().map(|definition| {
        let mut module = Module::new(definition.name, shared.clone());
        async move {
            (definition.install)(&mut module).await?;
            Ok(module.into_plan())
        }
    });
    // All of them, so that the mistakes of all are found.
    let outcomes = join_all(installs).await;
    outcomes.into_iter().collect()
}

/// Looks for mistakes that show only when it is known what the process serves; tells of all mistakes so far.
fn check(
    shared: &Shared,
    base: &Base,
    tls: Option<&Tls>,
    chosen: &[&Definition],
    settings: &Settings,
) -> Result<(), StartError> {
    // Only a process that runs everything knows that nobody has a name.
    if base.platform.run.is_empty() {
        for problem in shared.rules.problems(&lock(&shared.services)) {
            settings.report(&problem.key, problem.what);
        }
    }
    if let Some(tls) = tls {
        tls::check(tls, chosen, &lock(&shared.services), settings);
    }
    let problems = settings.problems();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(StartError::Config(problems))
    }
}

async fn listen(
    shared: &Arc<Shared>,
    base: &Base,
    tls: Option<Tls>,
    linger: Duration,
    listeners: &TaskGroup,
) -> Result<(Option<SocketAddr>, SocketAddr)> {
    let grpc_listener = bind(base.platform.grpc).await?;
    let grpc_address = grpc_listener.local_addr().map_err(Error::internal)?;
    if let Some(server) = lock(&shared.grpc).take() {
        let options = ServerOptions {
            max_concurrent_streams: base.rpc.max_concurrent_streams,
            max_connection_age: base.rpc.max_connection_age,
            max_connection_age_grace: base.rpc.max_connection_age_grace,
            max_connections: base.rpc.max_connections,
            max_connections_per_ip: base.rpc.max_connections_per_ip,
            linger,
            tls,
            ..ServerOptions::default()
        };
        let mut stop = listeners.stop_signal();
        listeners.spawn("grpc", async move {
            if let Err(error) = server
                .serve(grpc_listener, options, async move { stop.stopped().await })
                .await
            {
                tracing::error!(cause = error.cause_chain(), "the gRPC listener failed");
            }
        });
    }
    let Some(edge) = lock(&shared.edge).take().filter(|edge| !edge.is_empty()) else {
        return Ok((None, grpc_address));
    };
    let authenticator: Arc<dyn Authenticator> = shared.verifier.clone();
    let front = edge.build(&shared.runtime, Some(authenticator), base.edge.clone())?;
    let listener = bind(base.platform.http).await?;
    let http_address = listener.local_addr().map_err(Error::internal)?;
    let stop = listeners.stop_signal();
    let grace = base.platform.drain_timeout * 3 / 4;
    listeners.spawn(
        "http",
        mosaic_edge::listen(listener, front, base.edge.clone(), stop, grace),
    );
    Ok((Some(http_address), grpc_address))
}

fn serve_admin(background: &TaskGroup, listener: TcpListener, router: Router) {
    background.spawn("admin", async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the admin listener failed");
        }
    });
}

/// Announces what a change of the configuration changes.
fn keep_announced(background: &TaskGroup, announcement: Arc<Mutex<Announcement>>) {
    const REFRESH: Duration = Duration::from_secs(2);
    background.spawn("announcement", async move {
        loop {
            tokio::time::sleep(REFRESH).await;
            lock(&announcement).refresh();
        }
    });
}

fn background_tasks(background: &TaskGroup, shared: &Arc<Shared>, origin: Option<Origin>, settings: Settings) {
    const UPKEEP: Duration = Duration::from_secs(5);
    let (verifier, runtime) = (shared.verifier.clone(), shared.runtime.clone());
    background.spawn("upkeep", async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            verifier
                .revocations()
                .prune(runtime.now(), verifier.policy().access_ttl);
        }
    });
    if let Some(origin) = origin {
        background.spawn(
            "configuration",
            reload::follow(origin, settings, background.stop_signal()),
        );
    }
}
