//! The callee's side: may this call come in, and how is it carried out.
//!
//! [`Guard::enter`] asks in this order: who may (access), is there more work than can be done (shed), does this caller ask
//! too often (rate), are too many at it (bulkhead). What is cheap and protects everybody comes first; an overloaded process
//! uses up nobody's allowance. A method without rules costs one load and two branches. A local call is not a special case.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use mosaic_core::{Context, Error, MethodDescriptor, Result, ServiceDescriptor, Striped, catch_panic, timeout};

use crate::bulkhead::{Bulkhead, BulkheadRule, Place};
use crate::limit::{LimitRule, Limiter, RateRule, Slot};
use crate::meter::Meter;
use crate::pool::Pool;
use crate::refusal::Refusal;
use crate::rules::{Effective, Rules};
use crate::shed::{Measured, Shed, ShedRule};
use crate::{Priority, Side, check_access};

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
    /// Of each thread its own: a call keeps that of its method, and counts itself as one who does.
    methods: Striped<Box<[Option<Arc<MethodPlan>>]>>,
    states: States,
}

#[derive(Debug, Default)]
struct States {
    sheds: Pool<ShedRule, Shed>,
    limiters: Pool<LimitRule, Limiter>,
    bulkheads: Pool<BulkheadRule, Bulkhead>,
}

#[derive(Debug, Clone)]
struct MethodPlan {
    shed: Option<Arc<Shed>>,
    priority: Priority,
    limiters: Box<[Arc<Limiter>]>,
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
        self.shed(&plan, method, cx, &mut permit)?;
        if plan.shed.as_ref().is_some_and(|shed| shed.is_soft()) {
            *cx = cx.clone().with_degraded(true);
        }
        for limiter in &plan.limiters {
            match self.rules.store() {
                // Boxed: limits of the process, which are the rule, need not carry the room for it about.
                Some(store) if limiter.is_of_cluster() => {
                    let admitted = Box::pin(limiter.admit_in(store, method, cx)).await;
                    admitted.map_err(|error| self.refused(method, Refusal::Rate, error))?;
                }
                _ => self.limit(limiter, method, cx, &mut permit)?,
            }
        }
        if let Some(bulkhead) = &plan.bulkhead {
            let place = bulkhead.enter(cx.remaining()).await;
            permit.place = Some(place.ok_or_else(|| self.full(method, bulkhead))?);
        }
        Ok(permit)
    }

    /// Decides as [`Guard::enter`] does, but waits for nothing: a full bulkhead refuses, and limits of the cluster are counted
    /// in this process.
    ///
    /// # Errors
    /// As [`Guard::enter`].
    pub fn admit(&self, method: &'static MethodDescriptor, cx: &Context) -> Result<Permit<'_>> {
        let mut permit = self.begin(method, cx)?;
        let Some(plan) = self.plan_of(method) else {
            return Ok(permit);
        };
        self.shed(&plan, method, cx, &mut permit)?;
        for limiter in &plan.limiters {
            self.limit(limiter, method, cx, &mut permit)?;
        }
        if let Some(bulkhead) = &plan.bulkhead {
            permit.place = Some(bulkhead.try_enter().ok_or_else(|| self.full(method, bulkhead))?);
        }
        Ok(permit)
    }

    fn begin(&self, method: &'static MethodDescriptor, cx: &Context) -> Result<Permit<'_>> {
        let meter = &self.meters[method.index];
        check_access(method, cx).inspect_err(|error| meter.failed(error))?;
        Ok(Permit {
            meter,
            measured: None,
            slots: Vec::new(),
            place: None,
        })
    }

    fn shed(
        &self,
        plan: &MethodPlan,
        method: &'static MethodDescriptor,
        cx: &Context,
        permit: &mut Permit<'_>,
    ) -> Result<()> {
        if let Some(shed) = &plan.shed {
            let admitted = shed.admit(plan.priority, cx);
            permit.measured = admitted.map_err(|error| self.refused(method, Refusal::Shed, error))?;
        }
        Ok(())
    }

    fn limit(
        &self,
        limiter: &Arc<Limiter>,
        method: &'static MethodDescriptor,
        cx: &Context,
        permit: &mut Permit<'_>,
    ) -> Result<()> {
        let admitted = limiter.admit(method, cx);
        let slot = admitted.map_err(|error| self.refused(method, Refusal::Rate, error))?;
        permit.slots.extend(slot);
        Ok(())
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

    /// Returns the rules of `method`, `None` if there are none.
    fn plan_of(&self, method: &MethodDescriptor) -> Option<Arc<MethodPlan>> {
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
        carry_out(&self.meters[method.index], None, cx, work).await
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
    measured: Option<Measured>,
    slots: Vec<Slot>,
    place: Option<Place>,
}

impl Permit<'_> {
    /// Carries out `work` within the deadline of `cx`.
    ///
    /// # Errors
    /// Those of `work`; `DeadlineExceeded` when time is up, and `work` is dropped; `Internal` when it panics.
    pub async fn run<T>(self, cx: &Context, work: impl Future<Output = Result<T>>) -> Result<T> {
        carry_out(self.meter, self.measured.as_ref(), cx, work).await
    }
}

async fn carry_out<T>(
    meter: &Meter,
    measured: Option<&Measured>,
    cx: &Context,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let started = cx.runtime().instant();
    let _in_flight = meter.enter();
    let remaining = cx
        .deadline()
        .map(|deadline| deadline.saturating_duration_since(started));
    let outcome = within(remaining, work).await;
    let ended = cx.runtime().instant();
    meter.ended(&outcome, ended.saturating_duration_since(started));
    if let Some(measured) = measured {
        measured.ended(started, ended);
    }
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
        Some(remaining) => timeout(remaining, work).await.map_err(|_| deadline_exceeded())?,
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
        let mut states = States::default();
        let before = before.map(|plan| &plan.states);
        let effective = rules.effective(service);
        let mut plan = |(method, effective)| match side {
            Side::Server => states.plan(before, method, effective, rules),
            // A client does not limit itself by the callee's rules: the callee would count the call twice.
            Side::Client => None,
        };
        let plans: Vec<Option<MethodPlan>> = service.methods.iter().zip(&effective).map(&mut plan).collect();
        Self {
            version,
            methods: Striped::new(|| plans.iter().map(|plan| plan.clone().map(Arc::new)).collect()),
            states,
        }
    }
}

impl States {
    /// Works out the rules of one method; `None` if there are none.
    fn plan(
        &mut self,
        before: Option<&Self>,
        method: &'static MethodDescriptor,
        effective: &Effective,
        rules: &Rules,
    ) -> Option<MethodPlan> {
        let owner = |is_own: bool| is_own.then_some(method.index);
        let Effective {
            rate, shed, bulkhead, ..
        } = effective;
        let contract = method.rate.map(LimitRule::of_contract);
        let (limits, of_rate) = match &rate.rule {
            RateRule::Contract => (contract.as_slice(), owner(true)),
            RateRule::Limits(limits) => (limits.as_slice(), owner(rate.is_own)),
        };
        let name = if of_rate.is_some() { method.path } else { method.service };
        let limiters = limits.iter().filter_map(|limit| {
            let make = || Some(Limiter::new(*limit, name));
            self.limiters.state(before.map(|b| &b.limiters), of_rate, limit, make)
        });
        let plan = MethodPlan {
            limiters: limiters.collect(),
            shed: self
                .sheds
                .state(before.map(|b| &b.sheds), owner(shed.is_own), &shed.rule, || {
                    Shed::new(shed.rule, rules.load(), rules.is_production())
                }),
            priority: effective.priority.rule,
            bulkhead: self.bulkheads.state(
                before.map(|b| &b.bulkheads),
                owner(bulkhead.is_own),
                &bulkhead.rule,
                || Bulkhead::new(bulkhead.rule),
            ),
        };
        let is_none = plan.limiters.is_empty() && plan.shed.is_none() && plan.bulkhead.is_none();
        (!is_none).then_some(plan)
    }
}

#[cfg(test)]
mod tests;
