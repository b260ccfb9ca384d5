//! Rules by configuration: for everything, for a domain or service, for a method; the nearest one counts.
//!
//! ```toml
//! [guard]
//! breaker = "sre k=1.5"
//! [guard.services]
//! users.bulkhead = "200 queue=50 wait=100ms"
//! [guard.methods]
//! "users.v1.Users/Detail".hedge = "p95 min=5ms"
//! ```
//!
//! All mistakes are reported at the start. A change takes effect with the next call ([`Rules::version`]); rules whose text
//! stays the same keep what they have counted.

mod set;
mod table;
pub(crate) mod words;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mosaic_core::config::{EngineUrl, Layers, Live, Problem, Raw, Setter, Value};
use mosaic_core::{Result as CoreResult, Runtime, ServiceDescriptor, TaskGroup};

pub use set::{Priority, RuleSet};
pub use table::RuleTable;

use crate::bulkhead::BulkheadRule;
use crate::limit::Reach;
use crate::{BreakerRule, CpuLoad, HedgeRule, LimitStore, RateRule, Reserve, RetryRule, ShedRule};
pub(crate) use set::{Chosen, Effective};

/// Counts changes of rules in this process; guards look again when it has moved.
static VERSION: AtomicU64 = AtomicU64::new(1);

/// A rule, or a table of them, that follows the configuration.
#[derive(Debug, Clone)]
pub struct LiveRule<T>(Live<T>);

impl<T> LiveRule<T> {
    /// Returns the rule as it is now.
    pub fn get(&self) -> Arc<T> {
        self.0.get()
    }
}

impl<T: Value + Send + Sync + 'static> Value for LiveRule<T> {
    const IS_TABLE: bool = T::IS_TABLE;

    fn parse(raw: &Raw) -> Result<Self, String> {
        Live::parse(raw).map(Self)
    }
    fn show(&self) -> String {
        self.0.show()
    }
    fn setter(&self) -> Option<Setter> {
        let set = self.0.setter()?;
        Some(Arc::new(move |raw| {
            set(raw)?;
            VERSION.fetch_add(1, Ordering::Release);
            Ok(())
        }))
    }
}

mosaic_core::config! {
    /// Limits, breakers, retries: what every call passes. All but the store may change while running.
    pub struct GuardConfig in "guard" {
        /// Breaker before each method that is called: `off`, `sre k=1.5 min=5 window=10s` or `classic failures=50% ...`.
        pub breaker: LiveRule<BreakerRule> = "sre",
        /// Extra attempts of idempotent calls: `off`, or `2 base=25ms max=1s share=20% floor=10`.
        pub retry: LiveRule<RetryRule> = "2",
        /// Second attempt while the first is late: `off`, `after 50ms` or `p95 min=5ms`.
        pub hedge: LiveRule<HedgeRule> = "off",
        /// What a hop keeps of the time that is left: `off`, or `5ms floor 1ms`.
        pub reserve: LiveRule<Reserve> = "5ms",
        /// How often each caller may call: `contract`, `off`, or `token-bucket 100/s burst 20 by account` and others.
        pub rate: LiveRule<RateRule> = "contract",
        /// What is refused under load: `auto` (by processor in production), `off`, `cpu 90%` or `gradient ...`.
        pub shed: LiveRule<ShedRule> = "auto",
        /// Calls that come in at a time, of each service: `off`, or `100 queue=50 wait=100ms`.
        pub bulkhead: LiveRule<BulkheadRule> = "off",
        /// Calls that go out at a time, to each service: `off`, or `100 queue=50 wait=100ms`.
        pub outgoing: LiveRule<BulkheadRule> = "off",
        /// Who is shed first: `low`, `normal` or `high`.
        pub priority: LiveRule<Priority> = "normal",
        /// Rules of domains and services: `guard.services.users.breaker = "off"`.
        pub services: LiveRule<RuleTable> = "",
        /// Rules of methods: `guard.methods."users.v1.Users/Detail".retry = "off"`.
        pub methods: LiveRule<RuleTable> = "",
        /// Where limits with the word `cluster` are counted: `redis://...`; empty: nowhere.
        pub store: Option<EngineUrl> = "",
        /// Longest time that a call waits for the store; then this process counts for itself.
        pub store_timeout: Duration = "50ms",
    }
}

/// The rules of a process, and what they need to be followed. Cheap to clone.
#[derive(Clone)]
pub struct Rules {
    config: Arc<GuardConfig>,
    load: CpuLoad,
    store: Option<LimitStore>,
    is_production: bool,
}

impl Rules {
    /// Follows `config`.
    pub fn new(config: GuardConfig) -> Self {
        Self {
            config: Arc::new(config),
            load: CpuLoad::default(),
            store: None,
            is_production: false,
        }
    }

    /// Makes these the rules of a process in production: `shed = "auto"` sheds.
    #[must_use]
    pub fn in_production(mut self) -> Self {
        self.is_production = true;
        self
    }

    /// Begins to sample the processor, and opens the store of the limits where one is configured.
    ///
    /// # Errors
    /// `InvalidArgument` (`LIMIT_STORE_INVALID`) for a bad URL.
    pub fn start(mut self, tasks: &TaskGroup, runtime: &Runtime) -> CoreResult<Self> {
        self.load.watch(tasks, runtime);
        if let Some(url) = &self.config.store {
            let store = LimitStore::open(url, self.config.store_timeout, tasks, runtime)?;
            self.store = Some(store);
        }
        Ok(self)
    }

    /// Returns how busy the processor is.
    pub fn load(&self) -> &CpuLoad {
        &self.load
    }

    /// Returns the store of the limits of the cluster.
    pub fn store(&self) -> Option<&LimitStore> {
        self.store.as_ref()
    }

    pub(crate) fn is_production(&self) -> bool {
        self.is_production
    }

    /// Returns a number that moves with every change of a rule.
    pub fn version() -> u64 {
        VERSION.load(Ordering::Acquire)
    }

    /// Names the mistakes that show only when the services are known: patterns that no service or method of `services` will
    /// ever ask for, and limits of the cluster without a store.
    pub fn problems(&self, services: &[&'static ServiceDescriptor]) -> Vec<Problem> {
        let of_services = self.config.services.get();
        let of_methods = self.config.methods.get();
        let services_of = |pattern: &str| services.iter().any(|s| s.name == pattern || s.domain() == pattern);
        let methods_of = |pattern: &str| {
            let mut methods = services.iter().flat_map(|service| service.methods);
            methods.any(|method| method.path.strip_prefix('/') == Some(pattern))
        };
        let mut problems = Vec::new();
        for pattern in of_services.patterns().filter(|pattern| !services_of(pattern)) {
            problems.push(Problem {
                key: format!("guard.services.{pattern}"),
                what: "no such domain or service; write users or users.v1.Users".to_owned(),
            });
        }
        for pattern in of_methods.patterns().filter(|pattern| !methods_of(pattern)) {
            problems.push(Problem {
                key: format!("guard.methods.{pattern}"),
                what: "no such method; write users.v1.Users/Detail".to_owned(),
            });
        }
        let of_tables = [of_services, of_methods].map(|table| table.sets().any(RuleSet::needs_store));
        if self.config.store.is_none() && (of_tables.contains(&true) || needs_store(&self.config.rate.get())) {
            problems.push(Problem {
                key: "guard.store".to_owned(),
                what: "missing, and there are limits of the cluster".to_owned(),
            });
        }
        problems
    }

    /// Chooses what counts for each method of `service`.
    pub(crate) fn effective(&self, service: &'static ServiceDescriptor) -> Vec<Effective> {
        let (services, methods) = (self.config.services.get(), self.config.methods.get());
        let near = [services.of(service.name), services.of(service.domain())];
        let config = &self.config;
        let of_method = |path: &str| {
            let own = methods.of(path.trim_start_matches('/'));
            macro_rules! choose {
                ($field:ident) => {
                    Chosen::of(
                        own.and_then(|set| set.$field.as_ref()),
                        near.iter()
                            .find_map(|set| set.and_then(|set| set.$field.as_ref())),
                        &*config.$field.get(),
                    )
                };
            }
            Effective {
                breaker: choose!(breaker),
                retry: choose!(retry),
                hedge: choose!(hedge),
                reserve: choose!(reserve),
                rate: choose!(rate),
                shed: choose!(shed),
                bulkhead: choose!(bulkhead),
                outgoing: choose!(outgoing),
                priority: choose!(priority),
            }
        };
        service.methods.iter().map(|method| of_method(method.path)).collect()
    }
}

/// Is one of the limits counted for all processes together?
fn needs_store(rate: &RateRule) -> bool {
    match rate {
        RateRule::Contract => false,
        RateRule::Limits(limits) => limits.iter().any(|limit| limit.reach == Reach::Cluster),
    }
}

impl RuleSet {
    fn needs_store(&self) -> bool {
        self.rate.as_ref().is_some_and(needs_store)
    }
}

impl Default for Rules {
    fn default() -> Self {
        let config = Layers::default().settings().read::<GuardConfig>();
        Self::new(config.expect("the defaults are rules, as a test shows"))
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

#[cfg(test)]
mod tests;
