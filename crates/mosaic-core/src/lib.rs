//! What every Mosaic service speaks: [`Error`], [`Context`], ids, clock, randomness, configuration. No I/O.

mod authenticator;
mod check;
pub mod config;
mod context;
mod descriptor;
mod error;
mod hex;
pub mod json;
mod random;
pub mod rules;
mod runtime;
mod secret;
mod striped;
mod task;
mod time;

pub use authenticator::Authenticator;
pub use check::{Check, Violations};
pub use context::{Caller, Context, Identity, Origin, Trace, TraceText};
pub use descriptor::{
    Access, DEFAULT_TIMEOUT, Envelope, HttpBinding, MethodDescriptor, Rate, ServiceDescriptor, Shape,
};
pub use error::{Code, Error, Result, Violation};
pub use hex::{hex, put_hex};
pub use random::{Random, SPLIT_MIX_STEP, SeededRandom, SystemRandom, fraction, split_mix};
pub use runtime::{AccountId, Runtime};
pub use secret::Secret;
pub use striped::Striped;
pub use task::{CatchPanic, Elapsed, StopSignal, TaskGroup, TaskPanic, Timeout, catch_panic, panic_message, timeout};
pub use time::{Clock, ManualClock, SystemClock, Timestamp};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`, whether or not somebody panicked while holding it: what our locks guard is whole between any two statements.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
