//! Sessions and accounts whose tokens have died before their time.
//!
//! Kept in memory in every process, because verifying must cost no hop; fed by whoever knows of a revocation.
//! An entry is of use only until the last token that it could concern has ended, so the table stays small by itself.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use mosaic_core::{AccountId, Timestamp};

/// Revoked sessions, and accounts whose older tokens are void.
#[derive(Debug, Default)]
pub struct Revocations {
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    sessions: HashMap<String, Timestamp>,
    accounts: HashMap<AccountId, Timestamp>,
}

impl Revocations {
    /// Voids every token of `session`.
    pub fn revoke_session(&self, session: &str, at: Timestamp) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        tables.sessions.insert(session.to_owned(), at);
    }

    /// Voids every token of `account` issued before `at`.
    pub fn revoke_account(&self, account: AccountId, at: Timestamp) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let since = tables.accounts.entry(account).or_insert(at);
        *since = at.max(*since);
    }

    /// Forgets entries older than the longest life of an access token.
    pub fn prune(&self, now: Timestamp, access_ttl: Duration) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let is_of_use = |at: &Timestamp| at.plus(access_ttl).plus(Duration::from_secs(120)) >= now;
        tables.sessions.retain(|_, at| is_of_use(at));
        tables.accounts.retain(|_, at| is_of_use(at));
    }

    /// Is a token of `session`, issued at `issued` to `account`, void?
    pub(crate) fn is_revoked(&self, account: AccountId, session: &str, issued: Timestamp) -> bool {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        // `iat` has whole seconds: a token of the very second of the revocation is void as well.
        tables.sessions.contains_key(session)
            || tables
                .accounts
                .get(&account)
                .is_some_and(|at| issued.as_secs() <= at.as_secs())
    }
}
