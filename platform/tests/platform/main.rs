//! The platform as its clients and its attackers see it: over HTTP, in one process and in two.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod admin;
mod alerts;
mod articles;
mod articles_races;
mod authorisation;
mod bodies;
mod consequences;
mod content;
mod engines;
mod framing;
mod governance;
mod guessing;
mod homestay;
mod lifecycle;
mod privacy;
mod program;
mod races;
mod readers;
mod reconciling;
mod rewards;
mod support;
mod tokens;
