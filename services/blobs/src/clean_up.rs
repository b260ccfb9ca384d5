//! What nobody finished is removed, once in the whole platform.

use std::sync::Arc;

use mosaic::tasks::{Periodic, Task, TaskContext};
use mosaic::{Module, Result};
use serde::{Deserialize, Serialize};

use crate::service::Service;

/// Wires the task and its schedule up.
pub(crate) fn install(m: &mut Module, service: &Arc<Service>) -> Result<()> {
    m.on_task::<CleanUp>(service.clone())?;
    m.periodic(Periodic::new("blobs.clean_up", "23 * * * *", "UTC", &CleanUp {})?)
}

#[derive(Serialize, Deserialize)]
struct CleanUp {}

impl Task for CleanUp {
    const NAME: &'static str = "blobs.clean_up";
    type Needs = Service;
    type Output = ();

    async fn run(self, service: &Service, cx: &TaskContext) -> Result<()> {
        service.clean_up(cx.runtime().now()).await
    }
}
