//! What a profile is and how it changes.

use mosaic::{AccountId, Error, Result};
use serde::{Deserialize, Serialize};

/// A profile. Serialized for the cache only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Profile {
    pub(crate) nickname: String,
    pub(crate) avatar: String,
    /// `YYYY-MM-DD`, or empty.
    pub(crate) birthday: String,
    pub(crate) about_me: String,
    /// 0 unknown, 1 male, 2 female.
    pub(crate) sex: i64,
    pub(crate) signature: String,
    pub(crate) background: String,
    /// When it was last changed; 0: never. Grows with every change. Missing in copies that an older release has cached.
    #[serde(default)]
    pub(crate) updated_at_us: i64,
}

/// What somebody wants changed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    pub(crate) nickname: Option<String>,
    pub(crate) avatar: Option<String>,
    pub(crate) birthday: Option<String>,
    pub(crate) about_me: Option<String>,
    pub(crate) sex: Option<i64>,
    pub(crate) signature: Option<String>,
    pub(crate) background: Option<String>,
}

impl Profile {
    /// Returns what an account is shown as before it says anything: a name that tells accounts apart and nothing else.
    pub(crate) fn default_of(account: AccountId) -> Self {
        let empty = String::new;
        Self {
            nickname: format!("用户{:06}", account.get() % 1_000_000),
            avatar: empty(),
            birthday: empty(),
            about_me: empty(),
            sex: 0,
            signature: empty(),
            background: empty(),
            updated_at_us: 0,
        }
    }

    /// Returns the profile with `changes`, made at `now_us`; or a moment after the last change, should the clock have gone back.
    ///
    /// # Errors
    /// `InvalidArgument` (`BIRTHDAY_INVALID`) for a day that no calendar has.
    pub(crate) fn changed(mut self, changes: Changes, now_us: i64) -> Result<Self> {
        if changes.birthday.as_deref().is_some_and(|day| !is_day(day)) {
            return Err(Error::invalid_argument(
                "BIRTHDAY_INVALID",
                "birthday must be a day, YYYY-MM-DD",
            ));
        }
        let texts = [
            (&mut self.nickname, changes.nickname),
            (&mut self.avatar, changes.avatar),
            (&mut self.birthday, changes.birthday),
            (&mut self.about_me, changes.about_me),
            (&mut self.signature, changes.signature),
            (&mut self.background, changes.background),
        ];
        for (field, change) in texts {
            if let Some(text) = change {
                *field = text;
            }
        }
        self.sex = changes.sex.unwrap_or(self.sex);
        self.updated_at_us = now_us.max(self.updated_at_us + 1);
        Ok(self)
    }
}

fn is_day(text: &str) -> bool {
    text.is_empty() || text.parse::<jiff::civil::Date>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        Profile::default_of(AccountId::try_from(1_234_567).unwrap())
    }

    #[test]
    fn only_what_is_said_changes() {
        let changes = Changes {
            birthday: Some("2000-02-29".into()),
            sex: Some(2),
            ..Changes::default()
        };
        let changed = profile().changed(changes, 7).unwrap();
        assert_eq!(
            changed,
            Profile {
                birthday: "2000-02-29".into(),
                sex: 2,
                updated_at_us: 7,
                ..profile()
            }
        );
        // A clock that goes back does not make the version older.
        let again = changed.changed(Changes::default(), 3).unwrap();
        assert_eq!(again.updated_at_us, 8);
        assert_eq!(profile().nickname, "用户234567");
    }

    #[test]
    fn a_day_that_is_none_is_refused() {
        for day in ["2001-02-29", "2000-13-01", "0000", "2000-1-1", "yesterday"] {
            let changes = Changes {
                birthday: Some(day.into()),
                ..Changes::default()
            };
            assert_eq!(
                profile().changed(changes, 7).unwrap_err().reason(),
                "BIRTHDAY_INVALID",
                "{day}"
            );
        }
        assert!(
            profile()
                .changed(
                    Changes {
                        birthday: Some(String::new()),
                        ..Changes::default()
                    },
                    7
                )
                .is_ok()
        );
    }
}
