//! BullMQ (`bench/peers/bullmq`), installed when it is needed, run as a process of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::report::{Result, say};
use crate::stores::url_of;
use crate::tasks::{BATCH, CONCURRENCY, Rates};

pub(crate) struct Peer {
    folder: PathBuf,
    url: String,
}

impl Peer {
    /// Installs BullMQ beside the builds; `None`, with a word about it, where that is not possible.
    pub(crate) async fn install() -> Result<Option<Self>> {
        let Some(url) = url_of("BullMQ", "MOSAIC_TEST_REDIS") else {
            return Ok(None);
        };
        let program = std::env::current_exe()?;
        let folder = program.with_file_name("bench-peers").join("bullmq");
        std::fs::create_dir_all(&folder)?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/bullmq");
        for file in ["package.json", "package-lock.json", "run.js"] {
            std::fs::copy(source.join(file), folder.join(file))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"]);
        npm.current_dir(&folder).stdout(Stdio::null()).stderr(Stdio::null());
        if npm.status().await.is_ok_and(|status| status.success()) {
            return Ok(Some(Self { folder, url }));
        }
        say("skipped: BullMQ: npm (with node 20 or newer) is missing or cannot install it");
        Ok(None)
    }

    /// Returns what BullMQ does with as many jobs.
    pub(crate) async fn run(&self, n_tasks: usize, n_singles: usize) -> Result<Rates> {
        let mut node = Command::new("node");
        node.arg("run.js").arg(&self.url).current_dir(&self.folder);
        node.args([n_tasks, BATCH, CONCURRENCY, n_singles].map(|number| number.to_string()));
        let output = node.stderr(Stdio::inherit()).output().await?;
        if !output.status.success() {
            return Err("BullMQ failed".into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}
