//! Shedding: refuse at once what cannot be done in time, so that the rest is.
//!
//! Two rules, alone or together: [`CpuRule`] looks at how busy the processor is, [`GradientRule`] at how long calls take.
//! The first needs no measure of the calls and is on in production; the second also sees a slow disk, lock or neighbour.
//! A refused call costs microseconds and says when to come back. Both open again in steps.

mod cpu;
mod gradient;
mod usage;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mosaic_core::{Context, Error};

pub use cpu::{CpuLoad, CpuRule};
pub use gradient::GradientRule;

use crate::refusal::Refusal;
use crate::rules::Priority;
use crate::rules::words::{Words, rule_value};
use cpu::CpuShed;
use gradient::Gradient;

/// What is shed when: `auto`, `off`, or `cpu 90% soft=80%` and `gradient tolerance=1.5 ...`, both with `;` between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ShedRule {
    /// By processor in production, not at all elsewhere: a laptop that compiles is busy and not overloaded.
    Auto,
    /// As said.
    By {
        /// By processor.
        cpu: Option<CpuRule>,
        /// By latency.
        gradient: Option<GradientRule>,
    },
}

impl FromStr for ShedRule {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (mut cpu, mut gradient) = (None, None);
        match text {
            "auto" => return Ok(Self::Auto),
            "off" => return Ok(Self::By { cpu, gradient }),
            _ => {}
        }
        for part in text.split(';') {
            let mut words = Words::of(part);
            match words.next() {
                Some("cpu") if cpu.is_none() => cpu = Some(CpuRule::read(words)?),
                Some("gradient") if gradient.is_none() => gradient = Some(GradientRule::read(words)?),
                _ => return Err("must be auto, off, cpu ... or gradient ..., each once, with ; between".to_owned()),
            }
        }
        Ok(Self::By { cpu, gradient })
    }
}

impl fmt::Display for ShedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::By {
                cpu: None,
                gradient: None,
            } => f.write_str("off"),
            Self::By {
                cpu: Some(cpu),
                gradient: None,
            } => cpu.fmt(f),
            Self::By {
                cpu: None,
                gradient: Some(gradient),
            } => gradient.fmt(f),
            Self::By {
                cpu: Some(cpu),
                gradient: Some(gradient),
            } => write!(f, "{cpu}; {gradient}"),
        }
    }
}

rule_value!(ShedRule);

/// Pause that refused callers are asked for.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Shedding at work.
#[derive(Debug)]
pub(crate) struct Shed {
    cpu: Option<CpuShed>,
    gradient: Option<Arc<Gradient>>,
}

/// A call that was let in: its time is measured, and its place is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Measured {
    gradient: Arc<Gradient>,
}

impl Shed {
    /// Makes what `rule` asks for; `None` if that is nothing.
    pub(crate) fn new(rule: ShedRule, load: &CpuLoad, is_production: bool) -> Option<Self> {
        let (cpu, gradient) = match rule {
            ShedRule::Auto => (is_production.then(CpuRule::default), None),
            ShedRule::By { cpu, gradient } => (cpu, gradient),
        };
        (cpu.is_some() || gradient.is_some()).then(|| Self {
            cpu: cpu.map(|rule| CpuShed::new(rule, load.clone())),
            gradient: gradient.map(|rule| Arc::new(Gradient::new(rule))),
        })
    }

    /// Lets a call in.
    ///
    /// # Errors
    /// `OVERLOADED`.
    pub(crate) fn admit(&self, priority: Priority, cx: &Context) -> Result<Option<Measured>, Error> {
        let overloaded =
            |rule: &dyn fmt::Display| Refusal::Shed.error("more calls than can be answered", rule, RETRY_AFTER);
        if let Some(cpu) = &self.cpu
            && !cpu.admits(priority, cx.runtime())
        {
            return Err(overloaded(cpu));
        }
        let Some(gradient) = &self.gradient else {
            return Ok(None);
        };
        if !gradient.enter(priority) {
            return Err(overloaded(&**gradient));
        }
        let gradient = gradient.clone();
        Ok(Some(Measured { gradient }))
    }

    /// Is load so high that handlers had better be modest?
    pub(crate) fn is_soft(&self) -> bool {
        self.cpu.as_ref().is_some_and(CpuShed::is_soft) || self.gradient.as_ref().is_some_and(|g| g.is_soft())
    }
}

impl Measured {
    /// Notes that the call began at `started` and ended at `now`.
    pub(crate) fn ended(&self, started: Instant, now: Instant) {
        self.gradient.learn(now, now.saturating_duration_since(started));
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.gradient.leave();
    }
}

#[cfg(test)]
mod tests;
