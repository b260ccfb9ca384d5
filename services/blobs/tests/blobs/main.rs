//! Uploads as products and their clients see them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod attacks;
mod engines;
mod journey;
mod support;
