//! What is over is forgotten: sessions, revocations, codes. Once in the whole platform, whichever process it is.

use std::sync::Arc;
use std::time::Duration;

use mosaic::cache::Cache;
use mosaic::tasks::{Periodic, Task, TaskContext};
use mosaic::{Module, Result};
use serde::{Deserialize, Serialize};

use crate::IdentityConfig;
use crate::store::Store;

/// What the tasks work with.
pub(crate) struct Needs {
    store: Store,
    cache: Cache,
    access_ttl: Duration,
    session_kept: Duration,
}

/// Wires the tasks and their schedules up.
pub(crate) fn install(m: &mut Module, store: &Store, config: &IdentityConfig) -> Result<()> {
    let needs = Arc::new(Needs {
        store: store.clone(),
        cache: m.cache().clone(),
        access_ttl: m.verifier().policy().access_ttl,
        session_kept: config.session_kept,
    });
    m.on_task::<CleanUpSessions>(needs.clone())?;
    m.on_task::<CleanUpCodes>(needs)?;
    m.periodic(Periodic::new(
        "identity.clean_up_sessions",
        "7 * * * *",
        "UTC",
        &CleanUpSessions {},
    )?)?;
    m.periodic(Periodic::new(
        "identity.clean_up_codes",
        "*/10 * * * *",
        "UTC",
        &CleanUpCodes {},
    )?)
}

/// Forgets sessions and revocations that are over.
#[derive(Serialize, Deserialize)]
struct CleanUpSessions {}

impl Task for CleanUpSessions {
    const NAME: &'static str = "identity.clean_up_sessions";
    type Needs = Needs;
    type Output = ();

    async fn run(self, needs: &Needs, cx: &TaskContext) -> Result<()> {
        let now = cx.runtime().now();
        needs.store.clean_up(now, needs.access_ttl, needs.session_kept).await
    }
}

/// Forgets codes that are over; and those that would never be, which lock their phones out for ever.
#[derive(Serialize, Deserialize)]
struct CleanUpCodes {}

impl Task for CleanUpCodes {
    const NAME: &'static str = "identity.clean_up_codes";
    type Needs = Needs;
    type Output = ();

    async fn run(self, needs: &Needs, _: &TaskContext) -> Result<()> {
        let n_corrupt = needs.cache.clean_up_codes().await?;
        if n_corrupt > 0 {
            tracing::error!(
                n_corrupt,
                "sign-in codes without an end were in the cache engine and are removed"
            );
            metrics::counter!("mosaic_codes_corrupt_total").increment(n_corrupt);
        }
        Ok(())
    }
}
