//! Relations as their callers see them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod engines;
mod journey;
mod support;
