//! What every Mosaic service speaks: [`Error`], [`Context`], ids, clock, randomness, configuration. No I/O.

mod authenticator;
mod check;
pub mod config;
mod context;
mod descriptor;
mod error;
pub mod json;
pub mod rules;
mod runtime;
mod secret;
mod task;
mod time;

pub use authenticator::Authenticator;
pub use check::{Check, Violations};
pub use context::{Caller, Context, Identity, Origin, Trace};
pub use descriptor::{
    Access, DEFAULT_TIMEOUT, Envelope, HttpBinding, MethodDescriptor, Rate, ServiceDescriptor, Shape,
};
pub use error::{Code, Error, Result, Violation};
pub use runtime::{AccountId, Random, Runtime, SeededRandom, SystemRandom};
pub use secret::Secret;
pub use task::{CatchPanic, StopSignal, TaskGroup, TaskPanic, catch_panic, panic_message};
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
