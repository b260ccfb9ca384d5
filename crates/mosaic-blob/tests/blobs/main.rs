//! Engines of blobs from outside: one contract over all of them, and what each does when things go wrong.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod contract;
mod file_faults;
mod links;
mod s3_faults;
mod support;
