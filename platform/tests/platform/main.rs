//! The platform as its clients and its attackers see it: over HTTP, in one process and in two.

mod admin;
mod authorisation;
mod bodies;
mod content;
mod engines;
mod framing;
mod guessing;
mod homestay;
mod lifecycle;
mod privacy;
mod races;
mod support;
mod tokens;
