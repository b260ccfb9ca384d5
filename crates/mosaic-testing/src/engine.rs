//! Real engines, where they are.

use mosaic::Runtime;
use mosaic::sql::sea_orm::{ConnectionTrait as _, Database as Connection};

/// Returns the URL in the variable `name` (`MOSAIC_TEST_POSTGRES`, `MOSAIC_TEST_MYSQL`, `MOSAIC_TEST_REDIS`).
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
            fresh.execute(&format!("CREATE DATABASE {}", fresh.name)).await;
        }
        fresh
    }

    /// Returns the URL to use.
    ///
    /// # Panics
    /// If the engine's URL has no path.
    pub fn url(&self) -> String {
        let (server, _) = self.engine.rsplit_once('/').expect("a URL with a database");
        format!("{server}/{}", self.name)
    }

    /// Removes the database, or on MySQL those of each module.
    pub async fn remove(self) {
        if self.is_postgres() {
            return self.execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
        }
        for module in ["identity", "users", "messaging"] {
            self.execute(&format!("DROP DATABASE IF EXISTS {}_{module}", self.name))
                .await;
        }
    }

    fn is_postgres(&self) -> bool {
        self.engine.starts_with("postgres")
    }

    async fn execute(&self, sql: &str) {
        let connection = Connection::connect(&self.engine)
            .await
            .expect("an engine that is there");
        connection
            .execute_unprepared(sql)
            .await
            .expect("a statement that is allowed");
        connection.close().await.expect("a connection that closes");
    }
}
