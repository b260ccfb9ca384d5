//! The rules of one pattern, and those that count for one method.

use std::fmt;
use std::str::FromStr;

use mosaic_core::config::{Raw, Value};

use super::words::rule_value;
use crate::bulkhead::BulkheadRule;
use crate::{BreakerRule, HedgeRule, RateRule, Reserve, RetryRule, ShedRule};

/// Whose calls are refused first under load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// What can wait: prefetching, background work.
    Low,
    /// Everything else.
    Normal,
    /// What must go on: signing in, paying.
    High,
}

impl FromStr for Priority {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "low" => Ok(Self::Low),
            "normal" => Ok(Self::Normal),
            "high" => Ok(Self::High),
            _ => Err("must be low, normal or high".to_owned()),
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        })
    }
}

rule_value!(Priority);

macro_rules! rule_set {
    ($($(#[$doc:meta])* $field:ident: $rule:ty),* $(,)?) => {
        /// What one pattern says; `None` where it says nothing.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct RuleSet {
            $($(#[$doc])* pub $field: Option<$rule>,)*
        }

        impl RuleSet {
            /// Sets the rule `name`.
            pub(super) fn set(&mut self, name: &str, raw: &Raw) -> Result<(), String> {
                match name {
                    $(stringify!($field) => self.$field = Some(<$rule as Value>::parse(raw)?),)*
                    _ => return Err(concat!("is no rule; there is", $(" ", stringify!($field)),*).to_owned()),
                }
                Ok(())
            }

            /// Lists name and text of each rule that is set.
            pub(super) fn texts(&self) -> Vec<(&'static str, String)> {
                let mut texts = Vec::new();
                $(if let Some(rule) = &self.$field {
                    texts.push((stringify!($field), rule.show()));
                })*
                texts
            }
        }

        /// What counts for one method.
        #[derive(Debug, Clone, PartialEq)]
        pub(crate) struct Effective {
            $(pub(crate) $field: Chosen<$rule>,)*
        }
    };
}

rule_set! {
    /// See [`BreakerRule`].
    breaker: BreakerRule,
    /// See [`RetryRule`].
    retry: RetryRule,
    /// See [`HedgeRule`].
    hedge: HedgeRule,
    /// See [`Reserve`].
    reserve: Reserve,
    /// See [`RateRule`].
    rate: RateRule,
    /// See [`ShedRule`].
    shed: ShedRule,
    /// See [`BulkheadRule`]; at the callee.
    bulkhead: BulkheadRule,
    /// See [`BulkheadRule`]; at the caller.
    outgoing: BulkheadRule,
    /// See [`Priority`].
    priority: Priority,
}

/// A rule and how far it reaches.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chosen<T> {
    pub(crate) rule: T,
    /// Was it said of this very method? Otherwise the methods of the service share what it counts.
    pub(crate) is_own: bool,
}

impl<T: Clone> Chosen<T> {
    /// Takes the nearest.
    pub(super) fn of(own: Option<&T>, near: Option<&T>, default: &T) -> Self {
        Self {
            rule: own.or(near).unwrap_or(default).clone(),
            is_own: own.is_some(),
        }
    }
}
