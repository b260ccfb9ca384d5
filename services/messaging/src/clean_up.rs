//! What the embedded provider has kept for its time is forgotten, once in the whole platform.

use std::sync::Arc;

use mosaic::tasks::{Periodic, Task, TaskContext};
use mosaic::{Module, Result};
use serde::{Deserialize, Serialize};

use crate::outbox::Outbox;

/// Wires the task and its schedule up.
pub(crate) fn install(m: &mut Module, outbox: &Outbox) -> Result<()> {
    m.on_task::<CleanUp>(Arc::new(outbox.clone()))?;
    m.periodic(Periodic::new("messaging.clean_up", "11 * * * *", "UTC", &CleanUp {})?)
}

#[derive(Serialize, Deserialize)]
struct CleanUp {}

impl Task for CleanUp {
    const NAME: &'static str = "messaging.clean_up";
    type Needs = Outbox;
    type Output = ();

    async fn run(self, outbox: &Outbox, cx: &TaskContext) -> Result<()> {
        outbox.clean_up(cx.runtime().now()).await
    }
}
