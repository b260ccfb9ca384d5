//! Where a contract case finds its database.

use mosaic_sql::{Database, Migration, Options};
use sqlx::{AssertSqlSafe, Connection, Executor};

/// One engine with a namespace that nothing is in.
pub(crate) struct Engine {
    pub(crate) url: String,
    pub(crate) module: String,
    _dir: Option<tempfile::TempDir>,
}

impl Engine {
    pub(crate) async fn sqlite_file(module: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/a/b/", dir.path().display());
        Some(Self {
            url,
            module: module.to_owned(),
            _dir: Some(dir),
        })
    }

    pub(crate) async fn sqlite_memory(module: &str) -> Option<Self> {
        Some(Self {
            url: "sqlite::memory:".to_owned(),
            module: module.to_owned(),
            _dir: None,
        })
    }

    pub(crate) async fn postgres(module: &str) -> Option<Self> {
        let url = url_of("MOSAIC_TEST_POSTGRES")?;
        let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
        let drop = format!("SET client_min_messages = error; DROP SCHEMA IF EXISTS \"{module}\" CASCADE");
        connection.execute(AssertSqlSafe(drop)).await.unwrap();
        Some(Self {
            url,
            module: module.to_owned(),
            _dir: None,
        })
    }

    pub(crate) async fn mysql(module: &str) -> Option<Self> {
        let url = url_of("MOSAIC_TEST_MYSQL")?;
        let (server, prefix) = url.rsplit_once('/').unwrap();
        let mut connection = sqlx::MySqlConnection::connect(server).await.unwrap();
        connection
            .execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS `{prefix}_{module}`")))
            .await
            .unwrap();
        Some(Self {
            url,
            module: module.to_owned(),
            _dir: None,
        })
    }

    /// Opens the database with default options.
    pub(crate) async fn open(&self, migrations: &[Migration]) -> Database {
        self.open_with(&Options::default(), migrations).await
    }

    pub(crate) async fn open_with(&self, options: &Options, migrations: &[Migration]) -> Database {
        Database::open(&self.url, &self.module, options, migrations)
            .await
            .unwrap()
    }

    /// Does the database outlive its handles?
    pub(crate) fn is_lasting(&self) -> bool {
        self.url != "sqlite::memory:"
    }
}

/// Returns the URL of an engine; `None`, with a word about it, where it is not set and engines are not required.
#[expect(
    clippy::disallowed_methods,
    reason = "tests are told by the environment where the engines are"
)]
fn url_of(variable: &str) -> Option<String> {
    let url = std::env::var(variable).ok();
    if url.is_none() {
        let required = std::env::var("MOSAIC_TEST_ENGINES").is_ok_and(|engines| engines == "required");
        assert!(!required, "{variable} is not set and MOSAIC_TEST_ENGINES=required");
        eprintln!("skipped: {variable} is not set");
    }
    url
}
