//! Money is conserved, on every engine.

mod bank;
mod contract;
mod support;
