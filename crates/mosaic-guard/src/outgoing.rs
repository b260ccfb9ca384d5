//! The caller's side: breaker, bulkhead, retries, hedging, around every call of one service.
//!
//! In this order: is there a place (bulkhead `outgoing`); then for each attempt: does the callee answer at all (breaker),
//! the attempt itself within what is left of the deadline, and when it failed, whether another is safe, useful, in time and
//! within the budget. [`Outgoing::call`] is for callees elsewhere. [`Outgoing::call_local`] is for callees in the same process:
//! there is nothing to repeat (no network lies between), and deadline, panic and call metrics are the business of their
//! own guard, once.

mod plan;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use mosaic_core::{Context, Error, MethodDescriptor, Result, ServiceDescriptor};

use crate::breaker::Outcome;
use crate::bulkhead::{Bulkhead, Place};
use crate::guard::within;
use crate::meter::Meter;
use crate::refusal::{REFUSALS, Refusal};
use crate::retry::{self, Decided};
use crate::{Rules, Side};
use plan::{MethodPlan, Plan};

/// Which attempt of a call this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Attempts before this one.
    pub n: u32,
    /// Runs beside the first, which is late.
    pub is_hedge: bool,
}

/// How an attempt failed.
#[derive(Debug)]
pub struct Failed {
    error: Error,
    is_unsent: bool,
}

impl Failed {
    /// Nobody has begun to work on it: it may be made again whatever the method.
    pub fn unsent(error: Error) -> Self {
        Self { error, is_unsent: true }
    }
}

impl From<Error> for Failed {
    /// It may have had its effect.
    fn from(error: Error) -> Self {
        Self {
            error,
            is_unsent: false,
        }
    }
}

/// Calls the methods of one service by the rules. See the module documentation.
#[derive(Debug)]
pub struct Outgoing {
    service: &'static ServiceDescriptor,
    rules: Rules,
    plan: ArcSwap<Plan>,
    planning: Mutex<()>,
    meters: Box<[Meter]>,
}

impl Outgoing {
    /// Makes the way out to `service`.
    pub fn new(service: &'static ServiceDescriptor, rules: Rules) -> Self {
        let plan = Plan::make(service, &rules, None);
        let meter = |method| Meter::new(method, Side::Client);
        Self {
            service,
            rules,
            plan: ArcSwap::from_pointee(plan),
            planning: Mutex::new(()),
            meters: service.methods.iter().map(meter).collect(),
        }
    }

    /// Makes attempts until one succeeds or another would be no use, within the deadline of `cx`.
    ///
    /// Each attempt gets a context of its own: the deadline less the reserve of this hop, and the mark of a repeated attempt.
    /// Dropping the future ends the attempts in flight.
    ///
    /// # Errors
    /// That of the last attempt; `BREAKER_OPEN` and `BULKHEAD_FULL` before the first; `DeadlineExceeded` when time is up;
    /// `Internal` when an attempt panics.
    pub async fn call<T, E, F>(
        &self,
        method: &'static MethodDescriptor,
        cx: &Context,
        attempt: impl Fn(Context, Attempt) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, E>>,
        E: Into<Failed>,
    {
        let plan = self.plan_of(method);
        let meter = &self.meters[method.index];
        let started = cx.runtime().instant();
        let _in_flight = meter.enter();
        let give = cx.remaining().map(|remaining| plan.reserve.give(remaining));
        let cx = give.map_or_else(|| cx.clone(), |give| cx.clone().with_timeout(give));
        let call = Call {
            method,
            cx: &cx,
            plan: &plan,
            meter,
        };
        let outcome = call.attempts(attempt).await;
        let elapsed = cx.runtime().instant().saturating_duration_since(started);
        meter.ended(&outcome, elapsed);
        outcome
    }

    /// Calls an implementation in this process, once.
    ///
    /// # Errors
    /// Those of `work`; `BREAKER_OPEN` and `BULKHEAD_FULL`.
    pub async fn call_local<T, F>(
        &self,
        method: &'static MethodDescriptor,
        cx: &Context,
        work: impl FnOnce() -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let plan = self.plan_of(method);
        let meter = &self.meters[method.index];
        let _place = match &plan.bulkhead {
            Some(bulkhead) => Some(place(bulkhead, cx, meter).await?),
            None => None,
        };
        let Some(breaker) = &plan.breaker else {
            return work().await;
        };
        let started = cx.runtime().instant();
        breaker
            .admit(started, cx.runtime())
            .map_err(|wait| broken(&plan, wait, meter))?;
        let outcome = work().await;
        let now = cx.runtime().instant();
        let judged = match &outcome {
            // Refused by this very process, as cheaply as the breaker would: nothing to protect anybody from.
            Err(error) if REFUSALS.contains(&error.reason()) => Outcome::Ignored,
            // A failure further on, and the breaker next to it has heard of it.
            Err(error) if retry::was_retried(error) => Outcome::Ignored,
            outcome => {
                let code = outcome.as_ref().err().map(Error::code);
                Outcome::of(method, code, now.saturating_duration_since(started))
            }
        };
        breaker.record(now, judged);
        outcome
    }

    /// Would the breaker refuse some calls of `method` now? Lets a handler choose a cheaper path before it calls.
    pub fn is_degraded(&self, method: &'static MethodDescriptor, cx: &Context) -> bool {
        let plan = self.plan_of(method);
        let now = cx.runtime().instant();
        plan.breaker.as_ref().is_some_and(|breaker| !breaker.is_closed(now))
    }

    fn plan_of(&self, method: &MethodDescriptor) -> Arc<MethodPlan> {
        let plan = self.plan.load();
        if plan.version == Rules::version() {
            return plan.methods.own()[method.index].clone();
        }
        drop(plan);
        self.make_plan();
        self.plan.load().methods.own()[method.index].clone()
    }

    #[cold]
    fn make_plan(&self) {
        let _one_at_a_time = self.planning.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.plan.load_full();
        if before.version != Rules::version() {
            let plan = Plan::make(self.service, &self.rules, Some(&before));
            self.plan.store(Arc::new(plan));
        }
    }
}

/// One call with all its attempts.
struct Call<'a> {
    method: &'static MethodDescriptor,
    cx: &'a Context,
    plan: &'a MethodPlan,
    meter: &'a Meter,
}

impl Call<'_> {
    async fn attempts<T, E, F>(&self, attempt: impl Fn(Context, Attempt) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, E>>,
        E: Into<Failed>,
    {
        let _place = match &self.plan.bulkhead {
            Some(bulkhead) => Some(place(bulkhead, self.cx, self.meter).await?),
            None => None,
        };
        if !self.cx.is_retried() {
            self.plan.budget.deposit();
        }
        let mut extra = 0;
        let mut last = None;
        loop {
            if let Err(wait) = self.may_try() {
                let refused = || broken(self.plan, wait, self.meter);
                let gave_up = |error| retry::retried(error, Decided::Repeated(extra - 1));
                return Err(last.map_or_else(refused, gave_up));
            }
            let failed = match self.hedge_delay(extra) {
                None => match self
                    .one(
                        &attempt,
                        Attempt {
                            n: extra,
                            is_hedge: false,
                        },
                    )
                    .await
                {
                    Ok(reply) => return Ok(reply),
                    Err(failed) => failed,
                },
                // Boxed: two attempts are large, and most calls are not hedged.
                Some(delay) => match Box::pin(self.hedged(&attempt, delay)).await {
                    (Ok(reply), _) => return Ok(reply),
                    (Err(failed), hedges) => {
                        extra += hedges;
                        failed
                    }
                },
            };
            if !self.is_ours_to_repeat(&failed) {
                return Err(failed.error);
            }
            let Some(pause) = self.pause(&failed, extra + 1) else {
                let how = if extra > 0 {
                    Decided::Repeated(extra)
                } else {
                    Decided::Declined
                };
                return Err(retry::retried(failed.error, how));
            };
            tokio::time::sleep(pause).await;
            extra += 1;
            last = Some(failed.error);
        }
    }

    /// Makes one attempt, with the breaker hearing how it ended.
    async fn one<T, E, F>(&self, attempt: &impl Fn(Context, Attempt) -> F, which: Attempt) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, E>>,
        E: Into<Failed>,
    {
        let is_retried = which.n > 0 || self.cx.is_retried();
        let cx = self.cx.clone().with_retried(is_retried);
        let started = cx.runtime().instant();
        let remaining = cx.remaining();
        let outcome = within(remaining, async { attempt(cx, which).await.map_err(Into::into) }).await;
        let now = self.cx.runtime().instant();
        let elapsed = now.saturating_duration_since(started);
        let code = outcome.as_ref().err().map(|failed: &Failed| failed.error.code());
        // A call that nobody got says nothing of how the callee works, and has cost it nothing. A failure further on is the
        // business of the breaker that stands next to it: breakers in a row would open one after the other.
        let is_of_others = |failed: &Failed| failed.is_unsent || retry::was_retried(&failed.error);
        let is_of_callee = !outcome.as_ref().is_err_and(is_of_others);
        if let Some(breaker) = self.plan.breaker.as_ref().filter(|_| is_of_callee) {
            breaker.record(now, Outcome::of(self.method, code, elapsed));
        }
        if let (Some(hedge), None) = (&self.plan.hedge, code) {
            hedge.learn(elapsed);
        }
        outcome
    }

    /// Makes a second attempt if the first is late; returns the better outcome and how many extra attempts there were.
    async fn hedged<T, E, F>(
        &self,
        attempt: &impl Fn(Context, Attempt) -> F,
        delay: Duration,
    ) -> (Result<T, Failed>, u32)
    where
        F: Future<Output = Result<T, E>>,
        E: Into<Failed>,
    {
        let mut first = std::pin::pin!(self.one(attempt, Attempt { n: 0, is_hedge: false }));
        tokio::select! {
            biased;
            outcome = &mut first => return (outcome, 0),
            () = tokio::time::sleep(delay) => {}
        }
        if !self.plan.budget.withdraw(self.cx.runtime().instant()) {
            self.meter.extra("hedge", "no_budget");
            return (first.await, 0);
        }
        if self.may_try().is_err() {
            return (first.await, 0);
        }
        self.meter.extra("hedge", "sent");
        let mut second = std::pin::pin!(self.one(attempt, Attempt { n: 1, is_hedge: true }));
        let (outcome, is_first) = tokio::select! {
            biased;
            outcome = &mut first => (outcome, true),
            outcome = &mut second => (outcome, false),
        };
        // A failure of one does not spoil the other.
        let outcome = match outcome {
            Ok(reply) => {
                if !is_first {
                    self.meter.extra("hedge", "won");
                }
                Ok(reply)
            }
            Err(_) if is_first => second.await,
            Err(_) => first.await,
        };
        (outcome, 1)
    }

    fn hedge_delay(&self, extra: u32) -> Option<Duration> {
        let hedge = self.plan.hedge.as_ref()?;
        let may = extra == 0 && self.method.idempotent && !self.cx.is_retried();
        if may { hedge.delay() } else { None }
    }

    fn may_try(&self) -> Result<(), Duration> {
        match &self.plan.breaker {
            Some(breaker) => breaker.admit(self.cx.runtime().instant(), self.cx.runtime()),
            None => Ok(()),
        }
    }

    /// Is this the layer that repeats such a failure, if anybody does?
    fn is_ours_to_repeat(&self, failed: &Failed) -> bool {
        let is_useful = failed.is_unsent || (self.method.idempotent && retry::is_worth_repeating(&failed.error));
        is_useful && self.plan.retry.retries > 0 && !self.cx.is_retried()
    }

    /// Returns the pause before the `n`th extra attempt; `None` if there is to be none.
    fn pause(&self, failed: &Failed, n: u32) -> Option<Duration> {
        if n > self.plan.retry.retries {
            return None;
        }
        let runtime = self.cx.runtime();
        let pause = self.plan.retry.pause(n, failed.error.retry_after(), runtime);
        if self.cx.remaining().is_some_and(|remaining| remaining <= pause) {
            self.meter.extra("retry", "no_time");
            return None;
        }
        let has_budget = self.plan.budget.withdraw(runtime.instant());
        self.meter.extra("retry", if has_budget { "sent" } else { "no_budget" });
        has_budget.then_some(pause)
    }
}

async fn place(bulkhead: &Bulkhead, cx: &Context, meter: &Meter) -> Result<Place> {
    bulkhead.enter(cx.remaining()).await.ok_or_else(|| {
        meter.refused(Refusal::Bulkhead);
        let what = "too many calls of this service at a time";
        Refusal::Bulkhead.error(what, bulkhead.rule(), bulkhead.retry_after())
    })
}

fn broken(plan: &MethodPlan, wait: Duration, meter: &Meter) -> Error {
    meter.refused(Refusal::Breaker);
    let error = Refusal::Breaker.error("the service called does not answer", plan.breaker_rule, wait);
    // Whoever is above would only hear the same again.
    retry::retried(error, Decided::Declined)
}

#[cfg(test)]
mod tests;
