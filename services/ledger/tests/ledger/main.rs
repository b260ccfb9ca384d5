//! Money is conserved, on every engine.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bank;
mod contract;
mod support;
