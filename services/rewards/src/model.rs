//! What a reward is, how it is shared, and when three books agree on it.

use mosaic::{AccountId, Error, Timestamp};

mosaic::id_type! {
    /// Identifies a reward.
    pub(crate) struct RewardId;
}

/// What rewards are called at `payments` and in the ledger.
pub(crate) const BIZ: &str = "reward";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Not paid yet.
    Init,
    /// Paid and booked.
    Payed,
    /// Not paid in time.
    Failed,
    /// Paid, and given back.
    Refunded,
}

/// Who wants to give what for which item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) biz: String,
    pub(crate) biz_id: i64,
    /// Who gives.
    pub(crate) payer: AccountId,
    /// Who gets: the author.
    pub(crate) payee: AccountId,
    pub(crate) amount_fen: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reward {
    pub(crate) id: RewardId,
    pub(crate) wish: Wish,
    pub(crate) state: State,
    pub(crate) code_url: Option<String>,
    pub(crate) created: Timestamp,
}

/// Why there is no reward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RewardError {
    #[error("nobody rewards himself")]
    ToSelf,
    #[error("no such reward")]
    NotFound,
}

impl From<RewardError> for Error {
    fn from(error: RewardError) -> Self {
        let message = error.to_string();
        match error {
            RewardError::ToSelf => Self::invalid_argument("REWARD_TO_SELF", message),
            RewardError::NotFound => Self::not_found("REWARD_NOT_FOUND", message),
        }
    }
}

impl Wish {
    /// Decides whether it may become a reward.
    ///
    /// # Errors
    /// `ToSelf`.
    pub(crate) fn checked(self) -> Result<Self, RewardError> {
        if self.payer == self.payee {
            Err(RewardError::ToSelf)
        } else {
            Ok(self)
        }
    }
}

impl RewardId {
    /// Returns its number at `payments`.
    pub(crate) fn trade_no(self) -> String {
        format!("R{self}")
    }

    /// Returns the reward that a number at `payments` speaks of.
    pub(crate) fn of_trade_no(trade_no: &str) -> Option<Self> {
        trade_no.strip_prefix('R')?.parse().ok()
    }

    /// Returns the name of its posting.
    pub(crate) fn posting(self) -> String {
        self.to_string()
    }

    /// Returns the name of the posting that takes it back.
    pub(crate) fn reversal(self) -> String {
        format!("{self}:refund")
    }

    /// Returns the reward that the name of a posting, or of its reversal, speaks of.
    pub(crate) fn of_posting(biz_id: &str) -> Option<Self> {
        biz_id.strip_suffix(":refund").unwrap_or(biz_id).parse().ok()
    }
}

/// An entry: kind of account, whose, and what it gets.
pub(crate) type Entry = (String, i64, i64);

/// Shares a reward: a tenth for the platform, rounded down to the fen, the rest for the **author**; both from outside.
///
/// In the order of the ledger's accounts. The platform has no entry for rewards of which a tenth is less than a fen.
pub(crate) fn entries(wish: &Wish) -> Vec<Entry> {
    let platform = wish.amount_fen / 10;
    let shares = [
        ("author", wish.payee.get(), wish.amount_fen - platform),
        ("platform", 0, platform),
        ("wechat", 0, -wish.amount_fen),
    ];
    let shares = shares.into_iter().filter(|(_, _, amount)| *amount != 0);
    shares
        .map(|(kind, owner, amount)| (kind.to_owned(), owner, amount))
        .collect()
}

/// Returns the entries that take a reward back.
pub(crate) fn reversed(entries: Vec<Entry>) -> Vec<Entry> {
    entries
        .into_iter()
        .map(|(kind, owner, amount)| (kind, owner, -amount))
        .collect()
}

/// How a payment stands, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paid {
    Not,
    Failed,
    Yes,
    Refunded,
}

/// A reward in three books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Books {
    pub(crate) reward: Option<Reward>,
    /// How the payment stands, and its amount.
    pub(crate) payment: Option<(Paid, i64)>,
    pub(crate) posting: Option<Vec<Entry>>,
    pub(crate) reversal: Option<Vec<Entry>>,
}

/// How books disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    PaymentWithoutReward,
    RewardWithoutPayment,
    RewardBehindPayment,
    RewardBehindRefund,
    PaymentAmountDiffers,
    PostingMissing,
    PostingWithoutPayment,
    PostingDiffers,
}

/// A disagreement, with what should be and what is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) kind: Kind,
    pub(crate) expected_fen: i64,
    pub(crate) found_fen: i64,
}

/// Lists how the books of one reward disagree.
pub(crate) fn compare(books: &Books) -> Vec<Found> {
    let mut found = Vec::new();
    let mut say = |kind, expected_fen, found_fen| {
        found.push(Found {
            kind,
            expected_fen,
            found_fen,
        });
    };
    let (paid, paid_fen) = books.payment.unwrap_or((Paid::Not, 0));
    let has_money = matches!(paid, Paid::Yes | Paid::Refunded);
    match &books.reward {
        None if has_money => say(Kind::PaymentWithoutReward, 0, paid_fen),
        None => {}
        Some(reward) => {
            let amount = reward.wish.amount_fen;
            match (reward.state, paid) {
                (State::Payed | State::Refunded, Paid::Not | Paid::Failed) => {
                    say(Kind::RewardWithoutPayment, amount, 0)
                }
                (State::Init | State::Failed, Paid::Yes) => say(Kind::RewardBehindPayment, paid_fen, 0),
                (State::Refunded, Paid::Yes) => say(Kind::RewardBehindPayment, paid_fen, 0),
                (State::Init | State::Failed | State::Payed, Paid::Refunded) => {
                    say(Kind::RewardBehindRefund, 0, amount)
                }
                (State::Init | State::Failed, Paid::Not | Paid::Failed)
                | (State::Payed, Paid::Yes)
                | (State::Refunded, Paid::Refunded) => {}
            }
            if books.payment.is_some() && paid_fen != amount {
                say(Kind::PaymentAmountDiffers, amount, paid_fen);
            }
        }
    }
    let want = books.reward.as_ref().map(|reward| entries(&reward.wish));
    let reversal = want.clone().map(reversed);
    for (posting, want, is_due) in [
        (&books.posting, want, has_money),
        (&books.reversal, reversal, paid == Paid::Refunded),
    ] {
        let total = |entries: &Vec<Entry>| entries.iter().map(|(_, _, amount)| (*amount).max(0)).sum::<i64>();
        match (posting, is_due) {
            (None, true) => say(Kind::PostingMissing, paid_fen, 0),
            (Some(there), false) => say(Kind::PostingWithoutPayment, 0, total(there)),
            (Some(there), true) => {
                if let Some(want) = want.filter(|want| want != there) {
                    say(Kind::PostingDiffers, total(&want), total(there));
                }
            }
            (None, false) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reward(state: State) -> Reward {
        Reward {
            id: RewardId(7),
            wish: wish(100),
            state,
            code_url: None,
            created: Timestamp::from_secs(1),
        }
    }

    fn wish(amount_fen: i64) -> Wish {
        Wish {
            biz: "article".into(),
            biz_id: 1,
            payer: AccountId::try_from(5).unwrap(),
            payee: AccountId::try_from(6).unwrap(),
            amount_fen,
        }
    }

    fn entry(kind: &str, owner: i64, amount: i64) -> Entry {
        (kind.to_owned(), owner, amount)
    }

    #[test]
    fn nine_tenths_are_the_authors_and_the_odd_fen_too() {
        let want = |author, platform| vec![entry("author", 6, author), entry("platform", 0, platform)];
        for (amount, author, platform) in [
            (100, 90, 10),
            (99, 90, 9),
            (11, 10, 1),
            (10, 9, 1),
            (100_000_000, 90_000_000, 10_000_000),
        ] {
            let mut want = want(author, platform);
            want.push(entry("wechat", 0, -amount));
            assert_eq!(entries(&wish(amount)), want, "{amount}");
        }
        assert_eq!(entries(&wish(9)), [entry("author", 6, 9), entry("wechat", 0, -9)]);
        for amount in 1..2_000 {
            let entries = entries(&wish(amount));
            assert_eq!(entries.iter().map(|(_, _, amount)| amount).sum::<i64>(), 0);
            assert!(
                entries.iter().all(|(_, owner, _)| *owner != 5),
                "the payer gets nothing"
            );
        }
    }

    #[test]
    fn names_are_found_back() {
        let id = RewardId(7);
        assert_eq!(RewardId::of_trade_no(&id.trade_no()), Some(id));
        assert_eq!(RewardId::of_posting(&id.posting()), Some(id));
        assert_eq!(RewardId::of_posting(&id.reversal()), Some(id));
        for foreign in ["", "R", "R-1", "7", "Rx"] {
            assert_eq!(RewardId::of_trade_no(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn nobody_rewards_himself() {
        let mut to_self = wish(1);
        to_self.payee = to_self.payer;
        assert_eq!(to_self.checked(), Err(RewardError::ToSelf));
    }

    fn books(state: State, paid: Option<(Paid, i64)>) -> Books {
        let there = || Some(entries(&wish(100)));
        Books {
            reward: Some(reward(state)),
            payment: paid,
            posting: matches!(state, State::Payed | State::Refunded).then(there).flatten(),
            reversal: (state == State::Refunded).then(|| reversed(entries(&wish(100)))),
        }
    }

    #[track_caller]
    fn check(books: &Books, want: &[(Kind, i64, i64)]) {
        let found: Vec<_> = compare(books)
            .into_iter()
            .map(|f| (f.kind, f.expected_fen, f.found_fen))
            .collect();
        assert_eq!(found, want);
    }

    #[test]
    fn books_that_agree_are_not_named() {
        check(&books(State::Init, None), &[]);
        check(&books(State::Init, Some((Paid::Not, 100))), &[]);
        check(&books(State::Failed, Some((Paid::Failed, 100))), &[]);
        check(&books(State::Payed, Some((Paid::Yes, 100))), &[]);
        check(&books(State::Refunded, Some((Paid::Refunded, 100))), &[]);
    }

    #[test]
    fn each_disagreement_is_named() {
        let payed = || books(State::Payed, Some((Paid::Yes, 100)));
        check(
            &Books {
                reward: None,
                ..payed()
            },
            &[(Kind::PaymentWithoutReward, 0, 100)],
        );
        check(
            &Books {
                payment: None,
                ..payed()
            },
            &[
                (Kind::RewardWithoutPayment, 100, 0),
                (Kind::PostingWithoutPayment, 0, 100),
            ],
        );
        check(
            &Books {
                reward: Some(reward(State::Init)),
                ..payed()
            },
            &[(Kind::RewardBehindPayment, 100, 0)],
        );
        check(
            &Books {
                payment: Some((Paid::Refunded, 100)),
                ..payed()
            },
            &[(Kind::RewardBehindRefund, 0, 100), (Kind::PostingMissing, 100, 0)],
        );
        check(
            &Books {
                payment: Some((Paid::Yes, 99)),
                ..payed()
            },
            &[(Kind::PaymentAmountDiffers, 100, 99)],
        );
        check(
            &Books {
                posting: None,
                ..payed()
            },
            &[(Kind::PostingMissing, 100, 0)],
        );
        let to_payer = vec![
            entry("author", 5, 90),
            entry("platform", 0, 10),
            entry("wechat", 0, -100),
        ];
        check(
            &Books {
                posting: Some(to_payer),
                ..payed()
            },
            &[(Kind::PostingDiffers, 100, 100)],
        );
        let reversal = Some(reversed(entries(&wish(100))));
        check(&Books { reversal, ..payed() }, &[(Kind::PostingWithoutPayment, 0, 100)]);
    }
}
