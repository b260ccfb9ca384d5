//! What may be followed, and what a change of it does.

use mosaic::{AccountId, Error};

/// One account and another one that it follows or may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    follower: AccountId,
    followee: AccountId,
}

impl Pair {
    /// Pairs two accounts, which must not be one.
    pub(crate) fn new(follower: AccountId, followee: AccountId) -> Result<Self, FollowError> {
        if follower == followee {
            return Err(FollowError::Oneself);
        }
        Ok(Self { follower, followee })
    }

    /// Returns who follows.
    pub(crate) const fn follower(self) -> AccountId {
        self.follower
    }

    /// Returns who is followed.
    pub(crate) const fn followee(self) -> AccountId {
        self.followee
    }

    /// Returns both in the order in which everybody locks them, so that no two transactions wait for each other.
    pub(crate) fn in_lock_order(self) -> [AccountId; 2] {
        if self.follower.get() < self.followee.get() {
            [self.follower, self.followee]
        } else {
            [self.followee, self.follower]
        }
    }
}

/// What somebody wants of a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Follow,
    Unfollow,
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Nothing,
    Insert,
    Delete,
}

/// Why somebody may not follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FollowError {
    Oneself,
    TooMany,
}

/// Decides what a wish changes for somebody who follows `n_followees` accounts, this one among them or not.
pub(crate) fn decide(
    wish: Wish,
    is_following: bool,
    n_followees: i64,
    followees_max: u32,
) -> Result<Change, FollowError> {
    match (wish, is_following) {
        (Wish::Follow, true) | (Wish::Unfollow, false) => Ok(Change::Nothing),
        (Wish::Follow, false) if n_followees >= i64::from(followees_max) => Err(FollowError::TooMany),
        (Wish::Follow, false) => Ok(Change::Insert),
        (Wish::Unfollow, true) => Ok(Change::Delete),
    }
}

impl From<FollowError> for Error {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Oneself => Self::invalid_argument("SELF_FOLLOW", "nobody follows himself"),
            FollowError::TooMany => {
                Self::failed_precondition("TOO_MANY_FOLLOWEES", "the account follows as many as it may")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_changed() {
        for (wish, is_following, n_followees, want) in [
            (Wish::Follow, false, 0, Ok(Change::Insert)),
            (Wish::Follow, false, 2, Ok(Change::Insert)),
            (Wish::Follow, false, 3, Err(FollowError::TooMany)),
            (Wish::Follow, true, 3, Ok(Change::Nothing)),
            (Wish::Unfollow, true, 3, Ok(Change::Delete)),
            (Wish::Unfollow, false, 3, Ok(Change::Nothing)),
        ] {
            let found = decide(wish, is_following, n_followees, 3);
            assert_eq!(found, want, "{wish:?} {is_following} {n_followees}");
        }
    }

    #[test]
    fn a_pair_is_of_two_and_has_one_lock_order() {
        let [one, two] = [1, 2].map(|id| AccountId::try_from(id).unwrap());
        assert_eq!(Pair::new(one, one), Err(FollowError::Oneself));
        for (follower, followee) in [(one, two), (two, one)] {
            assert_eq!(Pair::new(follower, followee).unwrap().in_lock_order(), [one, two]);
        }
    }
}
