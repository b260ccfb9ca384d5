//! The port: what grants leases.
//!
//! The engine's clock is the only one: no method takes the time, because a lease judged by two clocks is held by two.

use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::{Error, Result};

/// Longest name of a lease, a holder or a node, in bytes.
pub const NAME_MAX: usize = 120;

/// The right to `name`, as long as no higher number was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What it is a right to.
    pub name: String,
    /// Rises with each grant of the name, never falls, also when nobody held it for years.
    pub fence: i64,
}

/// Answer to a wish for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired {
    /// It is ours.
    Ours(Lease),
    /// Somebody has it.
    Theirs(Holder),
}

/// Who has a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The name it gave itself.
    pub holder: String,
    /// Its number.
    pub fence: i64,
    /// Until it must have renewed it.
    pub remaining: Duration,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeLoad {
    /// The node.
    pub node: String,
    /// 0 idle, 1 full; may be above 1.
    pub load: f64,
}

/// See the module documentation. Every method may be dropped at any time: it happened or it did not.
#[async_trait]
pub trait Leases: Send + Sync + std::fmt::Debug + 'static {
    /// Takes `name` for `ttl` if nobody holds it; a holder of the same name does not share it, it waits as others do.
    ///
    /// # Errors
    /// `LEASE_NAME_INVALID`; failures of the store.
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Acquired>;

    /// Keeps a lease for `ttl` from now; `false` if it ran out (even if nobody has taken it) or is somebody else's.
    ///
    /// # Errors
    /// Failures of the store.
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool>;

    /// Gives a lease back; nothing happens if it is lost.
    ///
    /// # Errors
    /// Failures of the store.
    async fn release(&self, lease: &Lease) -> Result<()>;

    /// Returns who holds `name` now.
    ///
    /// # Errors
    /// Failures of the store.
    async fn holder(&self, name: &str) -> Result<Option<Holder>>;

    /// Publishes the load of a node to `group`; forgotten after `ttl`.
    ///
    /// # Errors
    /// `LEASE_NAME_INVALID`; failures of the store.
    async fn report(&self, group: &str, load: &NodeLoad, ttl: Duration) -> Result<()>;

    /// Returns what nodes published to `group`, by node.
    ///
    /// # Errors
    /// Failures of the store.
    async fn reports(&self, group: &str) -> Result<Vec<NodeLoad>>;
}

/// Refuses names that one of the engines could not store.
pub(crate) fn check_names(names: &[&str]) -> Result<()> {
    let is_bad = |name: &&&str| name.is_empty() || name.len() > NAME_MAX || name.contains(char::is_control);
    match names.iter().find(is_bad) {
        None => Ok(()),
        Some(_) => Err(Error::invalid_argument(
            "LEASE_NAME_INVALID",
            "the name of a lease or its holder has 1 to 120 plain bytes",
        )),
    }
}

/// What is stored of a load: millionths, so that every engine has the same number. Nonsense counts as full.
pub(crate) fn stored_load(load: f64) -> i64 {
    if load.is_finite() {
        (load.clamp(0.0, 1000.0) * 1e6) as i64
    } else {
        1_000_000_000
    }
}

pub(crate) fn read_load(stored: i64) -> f64 {
    stored as f64 / 1e6
}
