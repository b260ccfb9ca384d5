//! An application of three modules as its callers see it: together, strictly encoded, apart; whole and in trouble.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod chaos;
mod deadlines;
mod finding;
mod grpc;
mod guarding;
mod h2_attacks;
mod lifecycle;
mod panics;
mod program;
mod raw;
mod registry;
mod shutdown;
mod stage;
mod streams;
mod tls;
