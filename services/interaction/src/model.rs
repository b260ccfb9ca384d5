//! What people do to items, and what a batch of it changes.
//!
//! A [`Mark`] is there or not: one for each account, item and kind. From what is asked for, in order, and what is there,
//! [`plan`] decides which rows come and go; counters change by exactly those.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mosaic::{AccountId, Error};

/// What is liked, collected and read. Ordered: locks are taken in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Item {
    pub(crate) biz: Arc<str>,
    pub(crate) biz_id: i64,
}

/// What one can do to an item; numbers are stored and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Like = 1,
    Collection = 2,
}

impl Kind {
    pub(crate) const fn number(self) -> i64 {
        self as i64
    }

    pub(crate) const fn of(number: i64) -> Option<Self> {
        match number {
            1 => Some(Self::Like),
            2 => Some(Self::Collection),
            _ => None,
        }
    }
}

/// That an account has done something to an item.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mark {
    pub(crate) item: Item,
    pub(crate) account: AccountId,
    pub(crate) kind: Kind,
}

/// A place for collections; [`DEFAULT_FOLDER`] is there without a row, and where likes are.
pub(crate) type FolderId = i64;

pub(crate) const DEFAULT_FOLDER: FolderId = 0;

/// What somebody asks for: a mark in a folder, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) mark: Mark,
    pub(crate) wanted: Option<FolderId>,
}

/// Counters of an item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Counts {
    pub(crate) reads: i64,
    pub(crate) likes: i64,
    pub(crate) collects: i64,
}

/// What an account has done to an item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) liked: bool,
    pub(crate) collected: bool,
}

/// Rows that go, rows that come (after those that go), and by how much counters change, in order of items.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) gone: Vec<Mark>,
    pub(crate) new: Vec<(Mark, FolderId)>,
    pub(crate) deltas: BTreeMap<Item, Delta>,
}

/// By how much the counters of an item change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Delta {
    pub(crate) likes: i64,
    pub(crate) collects: i64,
}

/// Returns what is to be after all of `changes`: the last word on each mark.
pub(crate) fn last_words<'a>(changes: impl IntoIterator<Item = &'a Change>) -> BTreeMap<Mark, Option<FolderId>> {
    let words = changes.into_iter().map(|change| (change.mark.clone(), change.wanted));
    words.collect()
}

/// Decides how `wanted` comes true where `there` is.
pub(crate) fn plan(wanted: &BTreeMap<Mark, Option<FolderId>>, there: &HashMap<Mark, FolderId>) -> Plan {
    let mut plan = Plan::default();
    for (mark, wanted) in wanted {
        let step = match (*wanted, there.get(mark).copied()) {
            (None, None) => continue,
            (Some(folder), Some(current)) if folder == current => continue,
            (Some(folder), Some(_)) => {
                plan.gone.push(mark.clone());
                plan.new.push((mark.clone(), folder));
                continue;
            }
            (Some(folder), None) => {
                plan.new.push((mark.clone(), folder));
                1
            }
            (None, Some(_)) => {
                plan.gone.push(mark.clone());
                -1
            }
        };
        let delta = plan.deltas.entry(mark.item.clone()).or_default();
        match mark.kind {
            Kind::Like => delta.likes += step,
            Kind::Collection => delta.collects += step,
        }
    }
    plan.deltas.retain(|_, delta| *delta != Delta::default());
    plan
}

/// What one may not do to folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FolderError {
    /// There is none, or it is somebody else's.
    NotFound,
    /// The account has one of this name.
    Exists,
    /// The account has as many as one may have.
    TooMany,
}

impl From<FolderError> for Error {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::NotFound => Self::not_found("FOLDER_NOT_FOUND", "no such folder"),
            FolderError::Exists => Self::already_exists("FOLDER_EXISTS", "there is a folder of this name"),
            FolderError::TooMany => Self::failed_precondition("FOLDERS_TOO_MANY", "there are too many folders"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(biz_id: i64, account: i64, kind: Kind) -> Mark {
        Mark {
            item: Item {
                biz: "article".into(),
                biz_id,
            },
            account: AccountId::try_from(account).unwrap(),
            kind,
        }
    }

    fn like(account: i64, wanted: bool) -> Change {
        Change {
            mark: mark(7, account, Kind::Like),
            wanted: wanted.then_some(DEFAULT_FOLDER),
        }
    }

    /// Likes of item 7, in order, after which accounts like it that did `there`; returns rows gone, rows new, the difference.
    #[track_caller]
    fn check(there: &[i64], changes: &[(i64, bool)], want: (&[i64], &[i64], i64)) {
        let there = there
            .iter()
            .map(|account| (mark(7, *account, Kind::Like), DEFAULT_FOLDER));
        let changes: Vec<_> = changes
            .iter()
            .map(|(account, wanted)| like(*account, *wanted))
            .collect();
        let plan = plan(&last_words(&changes), &there.collect());
        let gone: Vec<_> = plan.gone.iter().map(|mark| mark.account.get()).collect();
        let new: Vec<_> = plan.new.iter().map(|(mark, _)| mark.account.get()).collect();
        let difference = plan.deltas.values().map(|delta| delta.likes).sum();
        assert_eq!((&*gone, &*new, difference), want);
        assert_eq!(plan.deltas.len(), usize::from(difference != 0), "only what changes");
    }

    #[test]
    fn counters_change_by_the_rows_that_come_and_go() {
        check(&[], &[], (&[], &[], 0));
        check(&[], &[(1, true)], (&[], &[1], 1));
        check(&[], &[(1, true), (1, true)], (&[], &[1], 1));
        check(&[1], &[(1, true)], (&[], &[], 0));
        check(&[1], &[(1, false), (1, false)], (&[1], &[], -1));
        check(&[], &[(1, false)], (&[], &[], 0));
        check(&[], &[(1, true), (1, false)], (&[], &[], 0));
        check(&[1], &[(1, true), (1, false)], (&[1], &[], -1));
        check(&[1], &[(1, false), (1, true)], (&[], &[], 0));
        check(&[1, 2], &[(3, true), (1, false)], (&[1], &[3], 0));
        check(&[], &[(2, true), (1, true)], (&[], &[1, 2], 2));
    }

    #[test]
    fn what_moves_to_another_folder_is_counted_as_before() {
        let collected = mark(7, 1, Kind::Collection);
        let moved = Change {
            mark: collected.clone(),
            wanted: Some(5),
        };
        let plan = plan(
            &last_words([&moved]),
            &HashMap::from([(collected.clone(), DEFAULT_FOLDER)]),
        );
        let want = Plan {
            gone: vec![collected.clone()],
            new: vec![(collected, 5)],
            deltas: BTreeMap::new(),
        };
        assert_eq!(plan, want);
    }
}
