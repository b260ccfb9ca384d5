//! What a step in the life of one task means to others: tasks that come after it, its key, the counters.

use super::life::{Event, Next};
use super::record::{Record, State};

/// See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effects {
    /// What happens to the tasks that come after it.
    pub successors: Option<Event>,
    /// The key whose turn is free again.
    pub freed: Option<String>,
    /// Attempts that ended.
    pub n_processed: u32,
    /// Attempts that failed.
    pub n_failed: u32,
}

/// Returns what it means to others that `event` made `next` of `task`.
pub fn effects(task: &Record, event: &Event, next: &Next) -> Effects {
    let is_active = matches!(next, Next::Kept(next) if next.state == State::Active);
    let successors = match (event, next) {
        (Event::Succeed, _) => Some(Event::PredecessorSucceeded),
        (_, Next::Gone) => Some(Event::PredecessorGone { id: task.id }),
        (_, Next::Kept(_)) => None,
    };
    let has_failed = matches!(event, Event::Fail { .. } | Event::Expire { .. });
    let has_ended = has_failed || matches!(event, Event::Succeed);
    let key = task.limit.as_ref().map(|limit| limit.key.clone());
    Effects {
        // An earlier one that is completed and goes then has told them already.
        successors: successors.filter(|_| task.is_awaited && task.state != State::Completed),
        freed: key.filter(|_| task.state == State::Active && !is_active),
        n_processed: u32::from(has_ended),
        n_failed: u32::from(has_failed),
    }
}
