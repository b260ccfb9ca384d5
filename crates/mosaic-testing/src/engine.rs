//! Real engines, where they are.

use mosaic::Runtime;
use mosaic::sql::sea_orm::{ConnectionTrait as _, Database as Connection, Statement};

/// Returns the URL in the variable `name`, e.g. `MOSAIC_TEST_POSTGRES`; `./dev engines env` prints them all.
///
/// `None`, with a line that says so, if it is not set.
///
/// # Panics
/// If it is not set and `MOSAIC_TEST_ENGINES` is `required`: a test run that promises engines must not skip them.
#[expect(clippy::disallowed_methods, reason = "tests have no configuration to ask")]
pub fn engine_url(name: &str) -> Option<String> {
    let url = std::env::var(name).ok();
    if url.is_none() {
        let required = std::env::var("MOSAIC_TEST_ENGINES").is_ok_and(|value| value == "required");
        assert!(!required, "{name} is not set and engines are required");
        eprintln!("skipped: {name} is not set");
    }
    url
}

/// A database that only one test uses, in an engine that outlives it.
///
/// Engines keep what earlier runs (and earlier releases' migrations) wrote; a test that shared it would depend on them.
#[derive(Debug)]
pub struct FreshDatabase {
    engine: String,
    name: String,
}

impl FreshDatabase {
    /// Makes a database in the engine of `url`.
    ///
    /// # Panics
    /// If the engine does not let us.
    pub async fn create(url: &str) -> Self {
        let name = format!("mosaic_test_{}", Runtime::system().random_hex::<6>());
        let fresh = Self {
            engine: url.to_owned(),
            name,
        };
        if fresh.is_postgres() {
            execute(url, &[format!("CREATE DATABASE {}", fresh.name)]).await;
        }
        fresh
    }

    /// Returns the URL to use.
    pub fn url(&self) -> String {
        self.url_of(&self.name)
    }

    /// Removes the database, or on MySQL that of each module.
    ///
    /// # Panics
    /// If the engine does not let us.
    pub async fn remove(self) {
        if self.is_postgres() {
            let statement = format!("DROP DATABASE {} WITH (FORCE)", self.name);
            return execute(&self.engine, &[statement]).await;
        }
        let databases = databases(&self.url_of("information_schema"), &self.name).await;
        let statements: Vec<_> = databases.iter().map(|name| format!("DROP DATABASE {name}")).collect();
        execute(&self.url_of("information_schema"), &statements).await;
    }

    fn is_postgres(&self) -> bool {
        self.engine.starts_with("postgres")
    }

    fn url_of(&self, name: &str) -> String {
        let (server, _) = self.engine.rsplit_once('/').expect("a URL with a database");
        format!("{server}/{name}")
    }
}

/// Returns the databases of the modules, `prefix_module` each.
async fn databases(url: &str, prefix: &str) -> Vec<String> {
    let connection = Connection::connect(url).await.expect("an engine that is there");
    let sql =
        format!("SELECT schema_name AS name FROM information_schema.schemata WHERE schema_name LIKE '{prefix}\\_%'");
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let rows = connection.query_all_raw(statement).await.expect("a list of databases");
    rows.iter()
        .map(|row| row.try_get("", "name").expect("a name"))
        .collect()
}

async fn execute(url: &str, statements: &[String]) {
    let connection = Connection::connect(url).await.expect("an engine that is there");
    for statement in statements {
        connection
            .execute_unprepared(statement)
            .await
            .expect("a statement that is allowed");
    }
    connection.close().await.expect("a connection that closes");
}
