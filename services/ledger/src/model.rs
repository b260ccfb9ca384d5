//! What may be booked.
//!
//! Sums are made with checked arithmetic: an amount that overflows is refused, never wrapped.

use std::collections::{BTreeMap, BTreeSet};

use mosaic::{Error, Timestamp};

mosaic::id_type! {
    /// Identifies a posting.
    pub(crate) struct PostingId;
}

/// An account: a kind, and whose. Their order is that in which rows are locked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Account {
    pub(crate) kind: String,
    pub(crate) owner: i64,
}

/// What is to be booked: valid once it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) biz: String,
    pub(crate) biz_id: String,
    /// By account, each once and none of 0; their sum is 0.
    entries: BTreeMap<Account, i64>,
    floors: BTreeMap<Account, i64>,
}

/// What was booked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Posting {
    pub(crate) id: PostingId,
    pub(crate) biz: String,
    pub(crate) biz_id: String,
    pub(crate) entries: BTreeMap<Account, i64>,
    pub(crate) at: Timestamp,
}

/// Why nothing is booked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LedgerError {
    #[error("no such posting")]
    NotFound,
    #[error("the posting is there, with another content")]
    Differs,
    #[error("entries must add up to 0")]
    Unbalanced,
    #[error("an entry must not be 0")]
    Nothing,
    #[error("an account has at most one entry and one floor")]
    Twice,
    #[error("an amount is too large")]
    Overflow,
    #[error("an account has not enough")]
    Floor,
}

impl From<LedgerError> for Error {
    fn from(error: LedgerError) -> Self {
        let message = error.to_string();
        match error {
            LedgerError::NotFound => Self::not_found("POSTING_NOT_FOUND", message),
            LedgerError::Differs => Self::already_exists("POSTING_DIFFERS", message),
            LedgerError::Unbalanced => Self::invalid_argument("POSTING_UNBALANCED", message),
            LedgerError::Nothing => Self::invalid_argument("ENTRY_OF_NOTHING", message),
            LedgerError::Twice => Self::invalid_argument("ACCOUNT_TWICE", message),
            LedgerError::Overflow => Self::invalid_argument("AMOUNT_OVERFLOW", message),
            LedgerError::Floor => Self::failed_precondition("BALANCE_TOO_LOW", message),
        }
    }
}

impl Draft {
    /// Makes a draft of what may be booked.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(
        biz: String,
        biz_id: String,
        entries: Vec<(Account, i64)>,
        floors: Vec<(Account, i64)>,
    ) -> Result<Self, LedgerError> {
        let mut sum = 0_i64;
        for (_, amount) in &entries {
            if *amount == 0 {
                return Err(LedgerError::Nothing);
            }
            sum = sum.checked_add(*amount).ok_or(LedgerError::Overflow)?;
        }
        if sum != 0 {
            return Err(LedgerError::Unbalanced);
        }
        Ok(Self {
            biz,
            biz_id,
            entries: each_once(entries)?,
            floors: each_once(floors)?,
        })
    }

    /// Returns the entries in the order of their accounts.
    pub(crate) const fn entries(&self) -> &BTreeMap<Account, i64> {
        &self.entries
    }

    /// Is `posting` what this draft would book?
    pub(crate) fn is(&self, posting: &Posting) -> bool {
        self.entries == posting.entries
    }
}

fn each_once(given: Vec<(Account, i64)>) -> Result<BTreeMap<Account, i64>, LedgerError> {
    let count = given.len();
    let map: BTreeMap<_, _> = given.into_iter().collect();
    if map.len() == count {
        Ok(map)
    } else {
        Err(LedgerError::Twice)
    }
}

/// Below what balances may not fall.
#[derive(Debug, Clone)]
pub(crate) struct Floors {
    without: BTreeSet<String>,
}

impl Floors {
    /// Every kind has the floor 0 but those of `without`.
    pub(crate) fn new(without: Vec<String>) -> Self {
        Self {
            without: without.into_iter().collect(),
        }
    }

    /// Decides what `account` of `draft` has after an entry of `amount`.
    ///
    /// Who gets may still be below a floor that was raised meanwhile: that is no reason to keep money from him.
    pub(crate) fn book(&self, draft: &Draft, account: &Account, balance: i64, amount: i64) -> Result<i64, LedgerError> {
        let after = balance.checked_add(amount).ok_or(LedgerError::Overflow)?;
        let of_kind = if self.without.contains(&account.kind) {
            i64::MIN
        } else {
            0
        };
        let of_draft = draft.floors.get(account).copied().unwrap_or(i64::MIN);
        if amount < 0 && after < of_kind.max(of_draft) {
            return Err(LedgerError::Floor);
        }
        Ok(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(kind: &str, owner: i64) -> Account {
        Account {
            kind: kind.to_owned(),
            owner,
        }
    }

    fn draft(entries: &[(&str, i64, i64)]) -> Result<Draft, LedgerError> {
        let entries = entries
            .iter()
            .map(|(kind, owner, amount)| (account(kind, *owner), *amount));
        Draft::new("test".into(), "1".into(), entries.collect(), Vec::new())
    }

    #[test]
    fn only_what_adds_up_to_nothing_is_a_draft() {
        assert!(draft(&[("wechat", 0, -10), ("author", 7, 9), ("platform", 0, 1)]).is_ok());
        for (entries, want) in [
            (vec![("wechat", 0, -10), ("author", 7, 9)], LedgerError::Unbalanced),
            (vec![("wechat", 0, 0), ("author", 7, 0)], LedgerError::Nothing),
            (vec![("author", 7, -1), ("author", 7, 1)], LedgerError::Twice),
            (
                vec![("a", 0, i64::MAX), ("b", 0, 1), ("c", 0, i64::MIN)],
                LedgerError::Overflow,
            ),
            (vec![("a", 0, i64::MIN), ("b", 0, i64::MIN)], LedgerError::Overflow),
        ] {
            assert_eq!(draft(&entries), Err(want), "{entries:?}");
        }
    }

    #[test]
    fn balances_stay_above_their_floors_and_do_not_wrap() {
        let floors = Floors::new(vec!["wechat".into()]);
        let plain = draft(&[("a", 0, -1), ("b", 0, 1)]).unwrap();
        let mut strict = plain.clone();
        strict.floors.insert(account("author", 7), 5);
        for (draft, kind, balance, amount, want) in [
            (&plain, "author", 10, -10, Ok(0)),
            (&plain, "author", 10, -11, Err(LedgerError::Floor)),
            (&plain, "wechat", 0, -11, Ok(-11)),
            (&plain, "author", -5, 1, Ok(-4)),
            (&plain, "author", i64::MAX, 1, Err(LedgerError::Overflow)),
            (&plain, "wechat", i64::MIN, -1, Err(LedgerError::Overflow)),
            (&strict, "author", 10, -5, Ok(5)),
            (&strict, "author", 10, -6, Err(LedgerError::Floor)),
        ] {
            let booked = floors.book(draft, &account(kind, 7), balance, amount);
            assert_eq!(booked, want, "{kind} {balance} {amount}");
        }
    }
}
