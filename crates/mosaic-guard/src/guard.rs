//! The callee's side: may this call come in, and how is it carried out.
//!
//! [`Guard::enter`] asks in this order: who may (access), is there more work than can be done (shed), does this caller ask
//! too often (rate), are too many at it (bulkhead). What is cheap and what protects everybody comes first; what takes
//! something from somebody comes last, so that a refused call has used up nothing. A local call is not a special case.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use mosaic_core::{Context, Error, MethodDescriptor, Result, ServiceDescriptor, catch_panic};

use crate::bulkhead::{Bulkhead, BulkheadRule, Place};
use crate::meter::Meter;
use crate::pool::Pool;
use crate::refusal::Refusal;
use crate::rules::{Effective, Rules};
use crate::{RateLimiter, Side, check_access};

/// Guards the methods of one service.
#[derive(Debug)]
pub struct Guard {
    service: &'static ServiceDescriptor,
    side: Side,
    rules: Rules,
    plan: ArcSwap<Plan>,
    planning: Mutex<()>,
    meters: Box<[Meter]>,
}

/// What counts now, worked out once for each version of the rules.
#[derive(Debug)]
struct Plan {
    version: u64,
    methods: Box<[MethodPlan]>,
    bulkheads: Pool<BulkheadRule, Bulkhead>,
}

#[derive(Debug, Clone)]
struct MethodPlan {
    limiter: Option<Arc<RateLimiter>>,
    bulkhead: Option<Arc<Bulkhead>>,
}

impl Guard {
    /// Makes the guard of `service` by the default rules.
    pub fn new(service: &'static ServiceDescriptor, side: Side) -> Self {
        Self::with_rules(service, side, Rules::default())
    }

    /// Makes the guard of `service` by `rules`.
    pub fn with_rules(service: &'static ServiceDescriptor, side: Side, rules: Rules) -> Self {
        let plan = Plan::make(service, side, &rules, None);
        Self {
            service,
            side,
            rules,
            plan: ArcSwap::from_pointee(plan),
            planning: Mutex::new(()),
            meters: service.methods.iter().map(|method| Meter::new(method, side)).collect(),
        }
    }

    /// Decides whether the caller may enter `method`, waiting for a place or for the store of the limits where a rule says so.
    ///
    /// Marks `cx` as degraded when load is high. Cancel safe: whoever stops waiting has taken nothing.
    ///
    /// # Errors
    /// `Unauthenticated`, `PermissionDenied`; `OVERLOADED`, `RATE_LIMITED`, `BULKHEAD_FULL` with the rule and when to come back.
    pub async fn enter(&self, method: &'static MethodDescriptor, cx: &mut Context) -> Result<Permit<'_>> {
        let mut permit = self.begin(method, cx)?;
        let Some(plan) = self.plan_of(method) else {
            return Ok(permit);
        };
        self.limit(&plan, method, cx)?;
        if let Some(bulkhead) = &plan.bulkhead {
            let place = match bulkhead.try_enter() {
                Some(place) => Some(place),
                None => bulkhead.wait(cx.remaining()).await,
            };
            permit.place = Some(place.ok_or_else(|| self.full(method, bulkhead))?);
        }
        Ok(permit)
    }

    /// Decides as [`Guard::enter`] does, but waits for nothing: a full bulkhead refuses.
    ///
    /// # Errors
    /// As [`Guard::enter`].
    pub fn admit(&self, method: &'static MethodDescriptor, cx: &Context) -> Result<Permit<'_>> {
        let mut permit = self.begin(method, cx)?;
        let Some(plan) = self.plan_of(method) else {
            return Ok(permit);
        };
        self.limit(&plan, method, cx)?;
        if let Some(bulkhead) = &plan.bulkhead {
            permit.place = Some(bulkhead.try_enter().ok_or_else(|| self.full(method, bulkhead))?);
        }
        Ok(permit)
    }

    fn begin(&self, method: &'static MethodDescriptor, cx: &Context) -> Result<Permit<'_>> {
        let meter = &self.meters[method.index];
        check_access(method, cx).inspect_err(|error| meter.failed(error))?;
        Ok(Permit { meter, place: None })
    }

    fn limit(&self, plan: &MethodPlan, method: &'static MethodDescriptor, cx: &Context) -> Result<()> {
        let Some(limiter) = &plan.limiter else { return Ok(()) };
        limiter
            .admit(method, cx)
            .map_err(|error| self.refused(method, Refusal::Rate, error))
    }

    fn full(&self, method: &'static MethodDescriptor, bulkhead: &Bulkhead) -> Error {
        let what = "too many calls at a time";
        let error = Refusal::Bulkhead.error(what, bulkhead.rule(), bulkhead.retry_after());
        self.refused(method, Refusal::Bulkhead, error)
    }

    fn refused(&self, method: &'static MethodDescriptor, refusal: Refusal, error: Error) -> Error {
        let meter = &self.meters[method.index];
        meter.failed(&error);
        meter.refused(refusal);
        error
    }

    /// Returns the rules of `method`, `None` if there are none: then one load and two branches are all it costs.
    fn plan_of(&self, method: &MethodDescriptor) -> Option<MethodPlan> {
        let plan = self.plan.load();
        if plan.version != Rules::version() {
            drop(plan);
            self.make_plan();
            return self.plan.load().methods[method.index].if_any();
        }
        plan.methods[method.index].if_any()
    }

    #[cold]
    fn make_plan(&self) {
        let _one_at_a_time = self.planning.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.plan.load_full();
        if before.version != Rules::version() {
            let plan = Plan::make(self.service, self.side, &self.rules, Some(&before));
            self.plan.store(Arc::new(plan));
        }
    }

    /// Carries out `work` of `method` within the deadline of `cx`.
    ///
    /// # Errors
    /// Those of `work`; `DeadlineExceeded` when time is up, and `work` is dropped; `Internal` when it panics.
    pub async fn run<T>(
        &self,
        method: &'static MethodDescriptor,
        cx: &Context,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        carry_out(&self.meters[method.index], cx, work).await
    }

    /// Counts a streamed answer that began well and broke off.
    pub fn stream_failed(&self, method: &'static MethodDescriptor, error: &Error) {
        let labels = [
            ("service", method.service),
            ("method", method.name),
            ("code", error.code().name()),
        ];
        metrics::counter!("mosaic_streams_failed_total", &labels).increment(1);
    }
}

/// The right to carry out one call; what it occupies is free again when it is dropped.
#[derive(Debug)]
pub struct Permit<'g> {
    meter: &'g Meter,
    place: Option<Place>,
}

impl Permit<'_> {
    /// Carries out `work` within the deadline of `cx`.
    ///
    /// # Errors
    /// Those of `work`; `DeadlineExceeded` when time is up, and `work` is dropped; `Internal` when it panics.
    pub async fn run<T>(self, cx: &Context, work: impl Future<Output = Result<T>>) -> Result<T> {
        carry_out(self.meter, cx, work).await
    }
}

async fn carry_out<T>(meter: &Meter, cx: &Context, work: impl Future<Output = Result<T>>) -> Result<T> {
    let started = cx.runtime().instant();
    let _in_flight = meter.enter();
    let outcome = within(cx.remaining(), work).await;
    let elapsed = cx.runtime().instant().saturating_duration_since(started);
    meter.ended(&outcome, elapsed);
    outcome
}

/// Waits for `work` for at most `remaining`; a panic becomes an error.
pub(crate) async fn within<T, E: From<Error>>(
    remaining: Option<Duration>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let work = catch_panic(work);
    let caught = match remaining {
        Some(Duration::ZERO) => return Err(deadline_exceeded().into()),
        Some(remaining) => tokio::time::timeout(remaining, work)
            .await
            .map_err(|_| deadline_exceeded())?,
        None => work.await,
    };
    caught.unwrap_or_else(|panic| Err(Error::internal(format!("panic: {panic}")).into()))
}

pub(crate) fn deadline_exceeded() -> Error {
    Error::deadline_exceeded("DEADLINE_EXCEEDED", "the request took too long")
}

impl Plan {
    fn make(service: &'static ServiceDescriptor, side: Side, rules: &Rules, before: Option<&Self>) -> Self {
        // Read first: a change while the plan is made makes the next call look again.
        let version = Rules::version();
        let mut bulkheads = Pool::default();
        let mut plan = |method: &'static MethodDescriptor, rules: &Effective| {
            // A client does not limit itself by the callee's rule: the callee would count the call twice.
            if side == Side::Client {
                return MethodPlan::NONE;
            }
            let owner = rules.bulkhead.is_own.then_some(method.index);
            let rule = &rules.bulkhead.rule;
            let before_bulkheads = before.map(|before| &before.bulkheads);
            MethodPlan {
                limiter: method.rate.map(|rate| {
                    let kept = before.and_then(|before| before.methods[method.index].limiter.clone());
                    kept.unwrap_or_else(|| Arc::new(RateLimiter::new(rate)))
                }),
                bulkhead: bulkheads.state(before_bulkheads, owner, rule, || Bulkhead::new(*rule)),
            }
        };
        let effective = rules.effective(service);
        let methods = service.methods.iter().zip(&effective);
        Self {
            version,
            methods: methods.map(|(method, rules)| plan(method, rules)).collect(),
            bulkheads,
        }
    }
}

impl MethodPlan {
    const NONE: Self = Self {
        limiter: None,
        bulkhead: None,
    };

    fn if_any(&self) -> Option<Self> {
        (self.limiter.is_some() || self.bulkhead.is_some()).then(|| self.clone())
    }
}
