//! A cheaper answer when a dependency does not give its own.
//!
//! A combinator on the outcome of a call, written where the call is:
//!
//! ```
//! # use mosaic_core::{Context, Error, Result, Runtime};
//! # use mosaic_guard::FallBack as _;
//! # async fn profile() -> Result<&'static str> { Err(Error::unavailable("DOWN", "down")) }
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let name = profile().await.or_fall_back("profile_name", async |_| Ok("somebody")).await?;
//! # assert_eq!(name, "somebody");
//! # Ok::<_, Error>(()) }).unwrap();
//! ```
//!
//! Not a registry of closures by method: those would hide from the reader that an answer may be second best, and types from
//! the compiler. It steps in when the dependency failed or the guard refused, never for an answer like `NotFound`.

use mosaic_core::{Error, Result};

use crate::refusal::REFUSALS;

/// See the module documentation.
pub trait FallBack<T> {
    /// Asks `second_best` if the call failed for want of the callee; `name` counts it, and must be one of few.
    ///
    /// # Errors
    /// Answers of the callee, as they are; those of `second_best`.
    fn or_fall_back(
        self,
        name: &'static str,
        second_best: impl AsyncFnOnce(Error) -> Result<T>,
    ) -> impl Future<Output = Result<T>>;
}

impl<T> FallBack<T> for Result<T> {
    async fn or_fall_back(self, name: &'static str, second_best: impl AsyncFnOnce(Error) -> Result<T>) -> Result<T> {
        match self {
            Err(error) if error.code().is_fault() || REFUSALS.contains(&error.reason()) => {
                let outcome = second_best(error).await;
                let label = if outcome.is_ok() { "ok" } else { "failed" };
                metrics::counter!("mosaic_guard_fallbacks_total", "name" => name, "outcome" => label).increment(1);
                outcome
            }
            outcome => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_are_answers_and_silence_is_filled() {
        #[track_caller]
        fn check(outcome: Result<u32>, want: Result<u32, &str>) -> impl Future<Output = ()> {
            let caller = std::panic::Location::caller();
            async move {
                let got = outcome.or_fall_back("test", async |_| Ok(0)).await;
                assert_eq!(
                    got.as_ref().map_err(|error| error.reason()),
                    want.as_ref().map_err(|e| *e),
                    "{caller}"
                );
            }
        }
        check(Ok(7), Ok(7)).await;
        check(Err(Error::not_found("NO_SUCH", "no such")), Err("NO_SUCH")).await;
        check(Err(Error::unavailable("BREAKER_OPEN", "open")), Ok(0)).await;
        check(Err(Error::deadline_exceeded("LATE", "late")), Ok(0)).await;
        check(Err(Error::resource_exhausted("RATE_LIMITED", "slow down")), Ok(0)).await;
        check(Err(Error::resource_exhausted("QUOTA", "your quota")), Err("QUOTA")).await;
    }
}
