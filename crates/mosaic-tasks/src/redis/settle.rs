//! Taking reports: plain successes by the script alone, all others by the rules, in one commit.

use std::collections::BTreeSet;

use mosaic_core::Result;

use super::RedisEngine;
use super::change::{ATTEMPTS, Draft, With};
use super::commit::{Changes, Committed, Success};
use super::connection::contended;
use crate::engine::{Outcome, Report};
use crate::id::TaskId;
use crate::model;

impl RedisEngine {
    pub(super) async fn settle(&self, reports: &[Report]) -> Result<Vec<bool>> {
        if reports.is_empty() {
            return Ok(Vec::new());
        }
        self.locate(reports.iter().map(|report| report.lease.id).collect())
            .await?;
        let is_plain = |report: &Report| matches!(report.outcome, Outcome::Succeeded { .. });
        let mut by_rules: BTreeSet<usize> = (0..reports.len()).filter(|at| !is_plain(&reports[*at])).collect();
        for _ in 0..ATTEMPTS {
            // Of several reports on one task all go the same way, so that the first is the one that counts.
            let ids: BTreeSet<TaskId> = by_rules.iter().map(|position| reports[*position].lease.id).collect();
            by_rules.extend((0..reports.len()).filter(|position| ids.contains(&reports[*position].lease.id)));
            let mut taken = vec![false; reports.len()];
            let (plain, successes) = self.successes(reports, &by_rules);
            let changes = self.by_rules(reports, &by_rules, &mut taken).await?;
            match self.commit(None, changes, &successes).await? {
                Committed::Done(plainly) => {
                    for (position, is_taken) in plain.iter().zip(plainly) {
                        taken[*position] = is_taken;
                    }
                    let mut places = self.places();
                    for report in reports {
                        places.remove(&report.lease.id);
                    }
                    return Ok(taken);
                }
                Committed::NeedRules(positions) => {
                    by_rules.extend(positions.iter().filter_map(|position| plain.get(*position)));
                }
                Committed::Stale | Committed::NotTaken => {}
            }
        }
        Err(contended())
    }

    /// Returns the successes that may need no rules, with their positions; those of tasks that are nowhere are left out.
    fn successes(&self, reports: &[Report], by_rules: &BTreeSet<usize>) -> (Vec<usize>, Vec<Success>) {
        let places = self.places();
        let success = |(position, report): (usize, &Report)| {
            let Outcome::Succeeded { result } = &report.outcome else {
                return None;
            };
            let (queue, raw) = places.get(&report.lease.id).cloned()?;
            let success = Success {
                queue,
                raw,
                fence: report.lease.fence,
                result: result.clone(),
            };
            (!by_rules.contains(&position)).then_some((position, success))
        };
        reports.iter().enumerate().filter_map(success).unzip()
    }

    /// Puts reports to the rules, and says which were taken.
    async fn by_rules(&self, reports: &[Report], positions: &BTreeSet<usize>, taken: &mut [bool]) -> Result<Changes> {
        if positions.is_empty() {
            return Ok(Changes::default());
        }
        let ids: Vec<TaskId> = positions.iter().map(|position| reports[*position].lease.id).collect();
        let (now, found) = self.fetch(ids, With::Successors).await?;
        let mut draft = Draft::new(now, found)?;
        for position in positions {
            let Report { lease, outcome } = &reports[*position];
            let is_held = draft.get(lease.id).is_some_and(|task| model::holds(task, lease.fence));
            taken[*position] = is_held;
            if is_held {
                if let Outcome::Succeeded { result } = outcome {
                    draft.set_result(lease.id, result);
                }
                draft.happen(lease.id, &outcome.event(self.roll()))?;
            }
        }
        Ok(draft.changes())
    }
}
