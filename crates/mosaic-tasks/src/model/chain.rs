//! Who comes after whom.
//!
//! An edge leads from an earlier task to a later one. The result of the earlier one is kept with the edge when it succeeds,
//! so it may be gone by the time the later one runs.

use std::collections::{BTreeMap, BTreeSet};

use mosaic_core::{Error, Result};

use super::record::{Record, State, Wait};
use crate::engine::Enqueued;
use crate::id::TaskId;
use crate::new_task::NewTask;

/// `later` comes after `earlier`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Must succeed first.
    pub earlier: TaskId,
    /// Waits for it.
    pub later: TaskId,
    /// What the earlier one left; `None` while it has not succeeded.
    pub result: Option<Vec<u8>>,
}

/// Returns the edges that come with `tasks`, where `answers` says what became of them and `known` are the tasks of the
/// store (with their results) that they come after, or that are there in their place.
///
/// # Errors
/// `TASK_UNKNOWN_PREDECESSOR` if one is not there, or will become part of another one.
pub fn edges(
    tasks: &[NewTask],
    answers: &[Enqueued],
    known: &BTreeMap<TaskId, (Record, Vec<u8>)>,
) -> Result<Vec<Edge>> {
    let mut instead = BTreeMap::new();
    let mut added = BTreeMap::new();
    for (task, answer) in tasks.iter().zip(answers) {
        match answer {
            Enqueued::Added(_) => drop(added.insert(task.id(), task)),
            Enqueued::Duplicate { of } => drop(instead.insert(task.id(), *of)),
        }
    }
    let mut edges = Vec::new();
    for task in added.values() {
        let earlier = task.predecessors().iter();
        let earlier: BTreeSet<TaskId> = earlier.map(|id| *instead.get(id).unwrap_or(id)).collect();
        for earlier in earlier {
            let result = match (added.get(&earlier), known.get(&earlier)) {
                (Some(new), _) if new.options().group.is_none() => None,
                (None, Some((record, result))) if record.waits_for != Some(Wait::Group) => {
                    (record.state == State::Completed).then(|| result.clone())
                }
                (None, None) => return Err(unknown("a task that was to come before is not there (any more)")),
                _ => {
                    return Err(unknown(
                        "a task that gathers in a group has no end that others could wait for",
                    ));
                }
            };
            edges.push(Edge {
                earlier,
                later: task.id(),
                result,
            });
        }
    }
    Ok(edges)
}

fn unknown(why: &'static str) -> Error {
    Error::failed_precondition("TASK_UNKNOWN_PREDECESSOR", why)
}
