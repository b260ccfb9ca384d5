//! The tool as its user meets it: the program, its files, its exit codes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod ca;
