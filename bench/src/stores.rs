//! Databases and a Redis for measurements: a namespace of its own each, removed afterwards.
//!
//! Where the engines are is said by the variables that the tests read (`./dev engines env`). Those engines are fast and
//! forget everything in a power cut; [`Store::durable_postgres`] starts one that does not, as production has it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use mosaic::Runtime;
use mosaic_sql::sea_orm::{ConnectionTrait as _, DbBackend};
use mosaic_sql::{Database, Migration, Options};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::report::{Result, say};

/// How long a PostgreSQL may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A database with tables and nothing in them.
pub(crate) struct Store {
    pub(crate) name: &'static str,
    pub(crate) database: Database,
    module: String,
    /// What must live as long: a folder, a server.
    _folder: Option<TempDir>,
    _server: Option<DurablePostgres>,
}

impl Store {
    /// Opens a SQLite file, as a service does.
    pub(crate) async fn sqlite(migrations: &[Migration]) -> Result<Self> {
        let folder = TempDir::new()?;
        let url = format!("sqlite:{}/", folder.path().display());
        let mut store = Self::open("SQLite file", &url, migrations).await?;
        store._folder = Some(folder);
        Ok(store)
    }

    /// Opens the engine that `variable` names; `None`, with a word about it, where it is not set.
    pub(crate) async fn named(name: &'static str, variable: &str, migrations: &[Migration]) -> Result<Option<Self>> {
        match url_of(name, variable) {
            Some(url) => Ok(Some(Self::open(name, &url, migrations).await?)),
            None => Ok(None),
        }
    }

    /// Starts a PostgreSQL that survives a power cut; `None`, with a word about it, where none is installed.
    pub(crate) async fn durable_postgres(migrations: &[Migration]) -> Result<Option<Self>> {
        let Some(server) = DurablePostgres::start().await? else {
            say("skipped: a durable PostgreSQL: none is installed");
            return Ok(None);
        };
        let mut store = Self::open("PostgreSQL, fsync on", &server.url, migrations).await?;
        store._server = Some(server);
        Ok(Some(store))
    }

    async fn open(name: &'static str, url: &str, migrations: &[Migration]) -> Result<Self> {
        let module = format!("bench_{}", Runtime::system().random_hex::<4>());
        Ok(Self {
            name,
            database: Database::open(url, &module, &Options::default(), migrations).await?,
            module,
            _folder: None,
            _server: None,
        })
    }

    /// Removes what was stored.
    pub(crate) async fn remove(self) -> Result<()> {
        let sql = match self.database.backend() {
            DbBackend::Postgres => format!("DROP SCHEMA {} CASCADE", self.module),
            DbBackend::MySql => {
                let row = self.database.query_one_raw(mosaic_sql::sea_orm::Statement::from_string(
                    DbBackend::MySql,
                    "SELECT DATABASE() AS name",
                ));
                let row = row.await?.ok_or("a database has a name")?;
                format!("DROP DATABASE `{}`", row.try_get::<String>("", "name")?)
            }
            // Goes with its folder.
            _ => return Ok(()),
        };
        self.database.execute_unprepared(&sql).await?;
        self.database.close().await;
        Ok(())
    }
}

/// Returns where an engine is; `None`, with a word about it, where nobody says.
#[expect(
    clippy::disallowed_methods,
    reason = "the one word about where engines are comes from ./dev"
)]
pub(crate) fn url_of(name: &str, variable: &str) -> Option<String> {
    let url = std::env::var(variable).ok();
    if url.is_none() {
        say(&format!("skipped: {name}: {variable} is not set (./dev engines env)"));
    }
    url
}

/// A PostgreSQL of our own, ended when dropped.
pub(crate) struct DurablePostgres {
    pub(crate) url: String,
    _server: Child,
    _folder: TempDir,
}

impl DurablePostgres {
    pub(crate) async fn start() -> Result<Option<Self>> {
        let Some(programs) = programs() else { return Ok(None) };
        let folder = TempDir::new()?;
        if is_root()
            && !quiet(Command::new("chown").arg("postgres").arg(folder.path()))
                .status()
                .await?
                .success()
        {
            return Ok(None);
        }
        let place = folder.path().join("db");
        let mut init = as_postgres(&programs.join("initdb"));
        init.args(["-U", "dev", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-D"]);
        if !quiet(init.arg(&place)).status().await?.success() {
            return Err("initdb failed".into());
        }
        let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port().to_string();
        let mut server = as_postgres(&programs.join("postgres"));
        server.args([
            "-p",
            &port,
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
        ]);
        // As it is by default, and said nevertheless.
        server.args([
            "-c",
            "fsync=on",
            "-c",
            "synchronous_commit=on",
            "-c",
            "full_page_writes=on",
            "-D",
        ]);
        let server = quiet(server.arg(&place)).kill_on_drop(true).spawn()?;
        let started = Instant::now();
        let mut ask = Command::new(programs.join("pg_isready"));
        ask.args(["-q", "-h", "127.0.0.1", "-p", &port]);
        while !ask.status().await?.success() {
            if started.elapsed() > PATIENCE {
                return Err("PostgreSQL does not become ready".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Some(Self {
            url: format!("postgres://dev@127.0.0.1:{port}/postgres"),
            _server: server,
            _folder: folder,
        }))
    }
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdout(Stdio::null()).stderr(Stdio::null())
}

/// Returns where the newest PostgreSQL of the system is.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let newest = versions
        .filter_map(|entry| {
            Some((
                entry.as_ref().ok()?.file_name().to_str()?.parse::<u32>().ok()?,
                entry.ok()?.path(),
            ))
        })
        .max_by_key(|(version, _)| *version)?;
    Some(newest.1.join("bin"))
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// PostgreSQL refuses to be run by root.
fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
        .arg(program);
    command
}
