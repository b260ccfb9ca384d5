//! Payments as products and the provider see them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod embedded;
mod engines;
mod genuine;
mod partner;
mod provider;
mod support;
