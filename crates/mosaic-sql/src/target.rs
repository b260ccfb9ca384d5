//! Which engine a URL names, and what namespace a module gets there.
//!
//! A module owns its tables, so it gets a namespace of its own: a file, a schema or a database named after it. The name
//! becomes part of SQL text that cannot be bound as a parameter, which is why only plain names are let in.

use std::path::PathBuf;
use std::str::FromStr;

use mosaic_core::{Error, Result};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;

/// A parsed URL together with the namespace of the module.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    SqliteFile(PathBuf),
    SqliteMemory,
    /// Server and schema.
    Postgres(Box<PgConnectOptions>, String),
    /// Server and database.
    MySql(Box<MySqlConnectOptions>, String),
}

/// PostgreSQL cuts names at 63 bytes and MySQL at 64; a prefix must fit as well.
const MODULE_LEN_MAX: usize = 40;
const NAME_LEN_MAX: usize = 63;

impl Target {
    /// Reads `url` for `module`.
    pub(crate) fn parse(url: &str, module: &str) -> Result<Self> {
        if !is_plain_name(module) || module.len() > MODULE_LEN_MAX {
            return Err(Error::invalid_argument(
                "SQL_MODULE_INVALID",
                "a module is named by a lower-case letter, then lower-case letters, digits and _, at most 40 in all",
            ));
        }
        if url == "sqlite::memory:" {
            return Ok(Self::SqliteMemory);
        }
        let scheme = url.split(':').next().unwrap_or_default();
        match scheme {
            "sqlite" => sqlite_file(url, module),
            "postgres" | "postgresql" => match PgConnectOptions::from_str(url) {
                Ok(server) => Ok(Self::Postgres(Box::new(server), module.to_owned())),
                Err(cause) => Err(bad_url("not a PostgreSQL URL").caused_by(cause)),
            },
            "mysql" | "mariadb" => match MySqlConnectOptions::from_str(url) {
                Ok(server) => mysql(server, module),
                Err(cause) => Err(bad_url("not a MySQL URL").caused_by(cause)),
            },
            _ => Err(bad_url("a database URL starts with sqlite:, postgres:// or mysql://")),
        }
    }
}

fn sqlite_file(url: &str, module: &str) -> Result<Target> {
    let dir = url.trim_start_matches("sqlite:").trim_start_matches("//");
    // The slash at the end says that it is a folder, which people forget who know one-file URLs.
    if dir.contains('?') || !dir.ends_with('/') {
        return Err(bad_url(
            "a SQLite URL names a folder: sqlite:data/ or sqlite:/var/lib/mosaic/",
        ));
    }
    // `sqlite:///abs/` means an absolute path, `sqlite://rel/` a relative one.
    Ok(Target::SqliteFile(PathBuf::from(dir).join(format!("{module}.db"))))
}

fn mysql(server: MySqlConnectOptions, module: &str) -> Result<Target> {
    let prefix = server.get_database().unwrap_or_default();
    let name = format!("{prefix}_{module}");
    if !is_plain_name(prefix) || name.len() > NAME_LEN_MAX {
        return Err(bad_url(
            "a MySQL URL ends with the prefix of its databases: mysql://host/mosaic",
        ));
    }
    Ok(Target::MySql(Box::new(server), name))
}

fn is_plain_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// Never repeats the URL: it holds a password.
fn bad_url(message: &'static str) -> Error {
    Error::invalid_argument("SQL_URL_INVALID", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sqlite_url_names_a_folder() {
        for (url, want) in [
            ("sqlite:data/", "data/users.db"),
            ("sqlite:/var/lib/", "/var/lib/users.db"),
            ("sqlite:///var/lib/", "/var/lib/users.db"),
            ("sqlite://data/", "data/users.db"),
        ] {
            let Ok(Target::SqliteFile(path)) = Target::parse(url, "users") else {
                panic!("{url} was refused")
            };
            assert_eq!(path, PathBuf::from(want), "{url}");
        }
    }

    #[test]
    fn bad_urls_and_modules_have_stable_reasons_and_show_no_password() {
        for (url, module, reason) in [
            ("sqlite:data.db", "users", "SQL_URL_INVALID"),
            ("sqlite:data/?mode=ro", "users", "SQL_URL_INVALID"),
            ("oracle://x", "users", "SQL_URL_INVALID"),
            ("", "users", "SQL_URL_INVALID"),
            ("postgres://dev:hunter2@host:port/x", "users", "SQL_URL_INVALID"),
            ("mysql://dev:hunter2@host", "users", "SQL_URL_INVALID"),
            ("mysql://dev:hunter2@host/a-b", "users", "SQL_URL_INVALID"),
            ("sqlite:data/", "", "SQL_MODULE_INVALID"),
            ("sqlite:data/", "../etc", "SQL_MODULE_INVALID"),
            ("sqlite:data/", "a\"; drop schema b; --", "SQL_MODULE_INVALID"),
            ("sqlite:data/", "1st", "SQL_MODULE_INVALID"),
        ] {
            let error = Target::parse(url, module).unwrap_err();
            assert_eq!(error.reason(), reason, "{url} {module}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn a_mysql_module_gets_a_prefixed_database() {
        let Ok(Target::MySql(_, name)) = Target::parse("mysql://dev@host/mosaic", "users") else {
            panic!("refused")
        };
        assert_eq!(name, "mosaic_users");
    }
}
