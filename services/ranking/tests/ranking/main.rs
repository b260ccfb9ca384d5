//! Ranking as its callers see it: events in, lists out.

mod engines;
mod lists;
mod support;
