//! The configuration of a process, beside that of its modules.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mosaic_auth::TokenPolicy;
use mosaic_core::Secret;
use mosaic_core::config::{ByteSize, EngineUrl, Live, Raw, Value};
use mosaic_rpc::balance::Balance;
use mosaic_rpc::{Affinity, Share};

/// How serious a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Simulators answer for partners, `/dev` is there, secrets may be the well-known ones.
    Development,
    /// None of that.
    Production,
}

impl Value for Mode {
    fn parse(raw: &Raw) -> Result<Self, String> {
        match String::parse(raw)?.as_str() {
            "dev" | "development" => Ok(Self::Development),
            "prod" | "production" => Ok(Self::Production),
            _ => Err("must be dev or production".to_owned()),
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Development => "dev".to_owned(),
            Self::Production => "production".to_owned(),
        }
    }
}

mosaic_core::config! {
    /// What the process is and where it listens.
    pub struct PlatformConfig in "" {
        /// `dev` or `production`.
        pub mode: Mode = "production",
        /// Directory of the embedded engines.
        pub data: PathBuf = "data",
        /// Public HTTP address.
        pub http: SocketAddr = "127.0.0.1:8080",
        /// Internal gRPC address.
        pub grpc: SocketAddr = "127.0.0.1:9080",
        /// Address of health, readiness and metrics.
        pub admin: SocketAddr = "127.0.0.1:9081",
        /// Modules that this process runs; empty: all.
        pub run: Vec<String> = "",
        /// Time that running requests and tasks are given at the end.
        pub drain_timeout: Duration = "8s",
    }
}

mosaic_core::config! {
    /// Calls between processes.
    pub struct RpcConfig in "rpc" {
        /// Addresses of domains that run elsewhere: `rpc.services.users = "http://10.0.0.7:9080"`, several with commas. With
        /// `tls` set, all of them are called over TLS, and may say `https://`.
        pub services: BTreeMap<String, Vec<String>> = "",
        /// Key that all processes of the platform share, at least 32 bytes.
        pub peer_key: Option<Secret<String>> = "",
        /// Calls within a process go through encode and decode, as over the wire.
        pub strict_local: bool = "false",
        /// Longest time to open a connection and to see that its instance is well.
        pub connect_timeout: Duration = "2s",
        /// Longest time that a call waits for an instance to be connected, when none is.
        pub ready_timeout: Duration = "2s",
        /// How an instance is chosen: `p2c`, `round-robin`, `weighted-round-robin`, `random`, `weighted-random`, `hash`,
        /// `weighted-hash`, `consistent-hash`, `least-active` or `fastest`.
        pub balancer: Live<Balance> = "p2c",
        /// The same for one domain: `rpc.balancers.users = "round-robin"`.
        pub balancers: Live<BTreeMap<String, Balance>> = "",
        /// What keeps calls at one instance with `hash`, `weighted-hash` and `consistent-hash`, by domain: `none`, `account`,
        /// `session`, `ip` or `idempotency-key`.
        pub affinity: Live<BTreeMap<String, Affinity>> = "",
        /// How much goes elsewhere of what this process serves itself, to move it out and back: `rpc.split.users = "25%"`.
        pub split: Live<BTreeMap<String, Share>> = "",
        /// Instances of a domain that this process connects to, if there are more; 0: all.
        pub subset: usize = "100",
        /// Time in which a new instance comes to its full share of calls.
        pub slow_start: Duration = "5s",
        /// Time between questions for the health of an instance.
        pub health_interval: Duration = "5s",
        /// Calls in flight on one connection to us.
        pub max_concurrent_streams: u32 = "100",
        /// Age at which a connection to us is asked to go, give or take a tenth.
        pub max_connection_age: Duration = "30m",
        /// Time that the calls of such a connection have to end; then it is cut.
        pub max_connection_age_grace: Duration = "1m",
        /// Connections to us that are open at once; more wait.
        pub max_connections: usize = "10000",
        /// Connections to us that are open at once from one address; the loopback address has no such cap.
        pub max_connections_per_ip: usize = "1000",
        /// Time that new connections are still served after the process was told to stop; unset: 1s if a shared registry
        /// names it, else none.
        pub linger: Option<Duration> = "",
    }
}

mosaic_core::config! {
    /// The certificate of this process, for calls between processes: all three files, or none.
    pub struct TlsConfig in "tls" {
        /// Certificate that names what this process runs, PEM; then what is between it and the CA.
        pub cert: Option<PathBuf> = "",
        /// Private key of the certificate, PEM.
        pub key: Option<PathBuf> = "",
        /// Certificates of the CAs that are believed, PEM.
        pub ca: Option<PathBuf> = "",
        /// How often the files are looked at; what has changed is used from then on.
        pub reload: Duration = "10s",
    }
}

mosaic_core::config! {
    /// Where this process announces what it serves, and finds others.
    pub struct RegistryConfig in "registry" {
        /// `memory:`, `etcd://...`, `kubernetes:`, `dns://...`, or two with `|` between: see the guide of discovery.
        pub url: EngineUrl = "memory:",
        /// Host, or host and port, at which others reach the gRPC port; empty: the address that it listens on.
        pub advertise: Option<String> = "",
        /// Share of the calls relative to other instances, 1 to 1000.
        pub weight: Live<u32> = "100",
        /// What else is said of this instance: `registry.metadata.zone = "b"`.
        pub metadata: BTreeMap<String, String> = "",
    }
}

mosaic_core::config! {
    /// What tokens say and how long they are good for; the same in every process.
    pub struct AuthConfig in "auth" {
        /// Issuer of tokens.
        pub issuer: String = "mosaic",
        /// Audience of tokens.
        pub audience: String = "mosaic-platform",
        /// Life of an access token.
        pub access_ttl: Duration = "30m",
        /// Life of a refresh token, and so of a session that nobody uses.
        pub refresh_ttl: Duration = "7d",
    }
}

impl AuthConfig {
    /// Returns the policy that issuer and verifiers share.
    pub fn policy(&self) -> TokenPolicy {
        TokenPolicy {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            access_ttl: self.access_ttl,
            refresh_ttl: self.refresh_ttl,
        }
    }
}

mosaic_core::config! {
    /// The SQL engine; each module has a file, schema or database of its own in it.
    pub struct DatabaseConfig in "database" {
        /// `sqlite:` (files in the data directory), `sqlite::memory:`, `postgres://...` or `mysql://...`.
        pub url: EngineUrl = "sqlite:",
        /// Connections of this process to the engine, shared out evenly among its modules, but at least 3 each. A file of
        /// SQLite has one more, through which all is written.
        pub max_connections: u32 = "48",
        /// Time to wait for a connection of the pool.
        pub acquire_timeout: Duration = "3s",
        /// Statements that take longer are logged.
        pub slow_query: Duration = "200ms",
    }
}

mosaic_core::config! {
    /// Where files are that users upload.
    pub struct BlobsConfig in "blobs" {
        /// `file:` (`blobs` in the data directory), `file:DIRECTORY` or `s3://[key:secret@]host[:port]/bucket`.
        pub url: EngineUrl = "file:",
        /// What links to files of `file:` begin with, `https://files.example`; empty: they are paths of the public port.
        pub public_url: String = "",
        /// Access key of S3, if the URL has none.
        pub access_key: Option<String> = "",
        /// Secret key of S3, if the URL has none.
        pub secret_key: Option<Secret<String>> = "",
    }
}

mosaic_core::config! {
    /// The cache engine.
    pub struct CacheConfig in "cache" {
        /// `memory:`, `redis://...` or `rediss://...`.
        pub url: EngineUrl = "memory:",
    }
}

mosaic_core::config! {
    /// The search engine, of processes that run a module with something to find.
    pub struct SearchConfig in "search" {
        /// `tantivy:` (files in the data directory), `tantivy:DIRECTORY`, `elasticsearch://[user:password@]host[:port][/prefix]` or
        /// `https+elasticsearch://...`; with the user `apikey` the password is an API key.
        pub url: EngineUrl = "tantivy:",
        /// Longest time for an answer of an engine elsewhere.
        pub timeout: Duration = "2s",
        /// Of `tantivy:`, memory of the writer of one index, at least 15MB.
        pub writer_memory: ByteSize = "16MB",
    }
}
