//! Groups: many tasks that become one.
//!
//! A group gathers until it was quiet for its grace, or its first task is as old as it may be, or there are as many as it
//! takes. Then all that are there become tasks of at most `max_size` members and [`MERGED_BYTES_MAX`] bytes.

use mosaic_core::{Error, Result, Timestamp};

use super::record::{Record, State};
use crate::id::TaskId;
use crate::options::Group;

/// Most bytes of payloads that are merged into one task.
pub const MERGED_BYTES_MAX: usize = 1 << 20;

/// What is known of a group that gathers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gathering {
    /// Tasks that came.
    pub n: u32,
    /// When the first did.
    pub first_at: Timestamp,
    /// When they become one.
    pub flush_at: Timestamp,
}

/// Returns the group after another task came at `now`.
pub fn gathered(known: Option<Gathering>, group: &Group, now: Timestamp) -> Gathering {
    let first_at = known.map_or(now, |known| known.first_at);
    let n = known.map_or(0, |known| known.n).saturating_add(1);
    let is_full = n >= group.max_size;
    let quiet_at = now.plus(group.grace).min(first_at.plus(group.max_delay));
    Gathering {
        n,
        first_at,
        flush_at: if is_full { now } else { quiet_at },
    }
}

/// Returns how many of `sizes`, from the first, become one task.
pub fn n_to_merge(sizes: impl IntoIterator<Item = usize>, max_size: u32) -> usize {
    let mut n_bytes = 0_usize;
    let fits = |size: &usize| {
        n_bytes = n_bytes.saturating_add(*size + LEN);
        n_bytes <= MERGED_BYTES_MAX
    };
    sizes.into_iter().take(max_size as usize).take_while(fits).count()
}

/// Returns the task with `id` that `members` become at `now`; its payload is [`frame`] of theirs.
pub fn merged(id: TaskId, members: &[Record], now: Timestamp) -> Option<Record> {
    let first = members.first()?;
    Some(Record {
        id,
        state: State::Pending,
        waits_for: None,
        group: None,
        due_at: now,
        priority: members.iter().map(|member| member.priority).max().unwrap_or_default(),
        n_merged: u32::try_from(members.len()).unwrap_or(u32::MAX),
        ..first.clone()
    })
}

const LEN: usize = size_of::<u32>();

/// Puts payloads one behind the other, each after its length.
pub fn frame<'a>(payloads: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut framed = Vec::new();
    for payload in payloads {
        let len = u32::try_from(payload.len()).expect("a payload is bounded");
        framed.extend_from_slice(&len.to_be_bytes());
        framed.extend_from_slice(payload);
    }
    framed
}

/// Takes payloads apart again.
///
/// # Errors
/// `TASK_PAYLOAD_INVALID` if [`frame`] never made these bytes.
pub fn unframe(mut framed: &[u8]) -> Result<Vec<&[u8]>> {
    let mut payloads = Vec::new();
    while !framed.is_empty() {
        let (len, rest) = framed.split_first_chunk::<LEN>().ok_or_else(invalid)?;
        let len = u32::from_be_bytes(*len) as usize;
        let (payload, rest) = rest.split_at_checked(len).ok_or_else(invalid)?;
        payloads.push(payload);
        framed = rest;
    }
    Ok(payloads)
}

fn invalid() -> Error {
    Error::invalid_argument("TASK_PAYLOAD_INVALID", "the payload cannot be read")
}
