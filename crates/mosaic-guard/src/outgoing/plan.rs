//! What counts for the calls of one service, worked out once for each version of the rules.

use std::sync::Arc;

use mosaic_core::{MethodDescriptor, ServiceDescriptor, Striped};

use crate::Reserve;
use crate::breaker::{Breaker, BreakerRule};
use crate::bulkhead::{Bulkhead, BulkheadRule};
use crate::hedge::{Hedge, HedgeRule};
use crate::pool::Pool;
use crate::retry::{Budget, RetryRule};
use crate::rules::{Effective, Rules};

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) version: u64,
    /// Of each thread its own: a call keeps that of its method, and counts itself as one who does.
    pub(super) methods: Striped<Box<[Arc<MethodPlan>]>>,
    states: States,
}

/// What counts for one method.
#[derive(Debug, Clone)]
pub(super) struct MethodPlan {
    pub(super) breaker: Option<Arc<Breaker>>,
    pub(super) breaker_rule: BreakerRule,
    pub(super) bulkhead: Option<Arc<Bulkhead>>,
    pub(super) hedge: Option<Arc<Hedge>>,
    pub(super) retry: RetryRule,
    pub(super) budget: Arc<Budget>,
    pub(super) reserve: Reserve,
}

#[derive(Debug, Default)]
struct States {
    breakers: Pool<BreakerRule, Breaker>,
    bulkheads: Pool<BulkheadRule, Bulkhead>,
    hedges: Pool<HedgeRule, Hedge>,
    budgets: Pool<(u64, u32), Budget>,
}

impl Plan {
    /// Works out `rules`, with what was counted `before`.
    pub(super) fn make(service: &'static ServiceDescriptor, rules: &Rules, before: Option<&Self>) -> Self {
        // Read first: a change while the plan is made makes the next call look again.
        let version = Rules::version();
        let mut states = States::default();
        let effective = rules.effective(service);
        let before = before.map(|plan| &plan.states);
        let methods = service.methods.iter().zip(&effective);
        let plans: Vec<MethodPlan> = methods
            .map(|(method, rules)| states.plan(before, method, rules))
            .collect();
        Self {
            version,
            methods: Striped::new(|| plans.iter().cloned().map(Arc::new).collect()),
            states,
        }
    }
}

impl States {
    fn plan(&mut self, before: Option<&Self>, method: &'static MethodDescriptor, rules: &Effective) -> MethodPlan {
        let own = Some(method.index);
        let (breaker, hedge, retry) = (rules.breaker.rule, rules.hedge.rule, rules.retry.rule);
        let outgoing = &rules.outgoing;
        let gauge = || {
            let labels = [("service", method.service), ("method", method.name)];
            metrics::gauge!("mosaic_guard_breaker_open", &labels)
        };
        // Retries of a service are paid out of one purse, unless a method has its own numbers.
        let purse = (retry.share.to_bits(), retry.floor);
        let budget = self
            .budgets
            .state(before.map(|b| &b.budgets), None, &purse, || Some(Budget::new(&retry)));
        MethodPlan {
            breaker: self.breakers.state(before.map(|b| &b.breakers), own, &breaker, || {
                Breaker::new(breaker, gauge())
            }),
            breaker_rule: breaker,
            bulkhead: self.bulkheads.state(
                before.map(|b| &b.bulkheads),
                outgoing.is_own.then_some(method.index),
                &outgoing.rule,
                || Bulkhead::new(outgoing.rule),
            ),
            hedge: self
                .hedges
                .state(before.map(|b| &b.hedges), own, &hedge, || Hedge::new(hedge)),
            retry,
            budget: budget.expect("a budget is always made"),
            reserve: rules.reserve.rule,
        }
    }
}
