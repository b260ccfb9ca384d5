//! What every call passes, whether it stays in the process or crosses the wire.
//!
//! On the callee's side stands a [`Guard`]: it decides whether a call may come in and carries it out within its deadline,
//! panics turned into errors, counted and timed. On the caller's side stands an [`Outgoing`]: it does not call who does not
//! answer, repeats what may be repeated within a budget, and keeps one slow service from taking all others along. Both
//! follow [`Rules`], which follow the configuration while the process runs. Each rule is a file of its own that names its
//! source. Time comes from the [`Context`](mosaic_core::Context), so that tests hold it still.

mod access;
mod breaker;
mod bulkhead;
mod deadline;
mod dice;
mod fallback;
mod guard;
mod hedge;
mod limit;
mod meter;
mod outgoing;
mod pool;
mod refusal;
mod retry;
mod rules;
mod shed;
mod ticks;

pub use access::check_access;
pub use breaker::{BreakerRule, ClassicRule, Outcome, SreRule};
pub use bulkhead::BulkheadRule;
pub use deadline::Reserve;
pub use fallback::FallBack;
pub use guard::{Guard, Permit};
pub use hedge::HedgeRule;
pub use limit::{Algorithm, KeyBy, LimitRule, LimitStore, RateLimiter, RateRule, Reach};
pub use outgoing::{Attempt, Failed, Outgoing};
pub use refusal::REFUSALS;
pub use retry::{Budget, RetryRule, mark_retried, was_retried};
pub use rules::{GuardConfig, LiveRule, Priority, RuleSet, RuleTable, Rules};
pub use shed::{CpuLoad, CpuRule, GradientRule, ShedRule};

/// Which end of a call is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that implements.
    Server,
    /// The one that calls another process.
    Client,
}

impl Side {
    const fn label(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod testing;
