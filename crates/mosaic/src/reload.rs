//! Follows the configuration file while the process runs.
//!
//! The file is read again every two seconds and compared as text: mounted files that are swapped by a link (as
//! Kubernetes does it) and editors that write a new file are seen alike, and nothing depends on the file system's events.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mosaic_core::StopSignal;
use mosaic_core::config::{Layers, Settings};

const INTERVAL: Duration = Duration::from_secs(2);

/// Where the layers of a running process come from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// The file, if there is one.
    pub(crate) file: Option<PathBuf>,
    /// Environment and command line, to be laid over it.
    pub(crate) over: Layers,
}

impl Origin {
    /// Returns all layers, with the file's `text`.
    pub(crate) fn layers(&self, text: Option<&str>) -> Layers {
        let base = match (&self.file, text) {
            (Some(file), Some(text)) => Layers::default().file(&file.display().to_string(), text),
            _ => Layers::default(),
        };
        base.over(self.over.clone())
    }
}

/// Applies changes of the file until `stop`.
pub(crate) async fn follow(origin: Origin, settings: Settings, mut stop: StopSignal) {
    let Some(file) = origin.file.clone() else { return };
    let mut last = read(&file).await;
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = stop.stopped() => return,
        }
        let text = read(&file).await;
        if text.is_none() || text == last {
            continue;
        }
        match settings.reload(origin.layers(text.as_deref())) {
            Ok(reload) => {
                tracing::info!(applied = ?reload.applied, needs_restart = ?reload.needs_restart, "configuration reloaded");
            }
            Err(problems) => {
                let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
                tracing::error!(
                    ?problems,
                    "the changed configuration has mistakes; nothing was taken over"
                );
            }
        }
        last = text;
    }
}

async fn read(file: &Path) -> Option<String> {
    tokio::fs::read_to_string(file).await.ok()
}
