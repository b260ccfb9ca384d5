//! Relations as their callers see them.

mod engines;
mod journey;
mod support;
