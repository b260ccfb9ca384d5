//! The log of the test process.

use std::io::{self, Write};
use std::sync::{Mutex, Once, PoisonError};

use mosaic::config::Layers;
use mosaic::telemetry::{TelemetryConfig, init_to};

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static START: Once = Once::new();

struct Memory;

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins to keep the log; later calls change nothing.
pub(crate) fn keep() {
    START.call_once(|| {
        let settings = Layers::default()
            .set("telemetry.level", "debug,hyper=info,h2=info,tower=info")
            .settings();
        if let Some(config) = settings.read::<TelemetryConfig>() {
            init_to(&config, None, || Memory);
        }
    });
}

/// Returns every line that was logged in this process.
pub fn log() -> String {
    String::from_utf8_lossy(&LINES.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}
