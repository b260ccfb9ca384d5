//! Who is on the site.

use std::collections::HashSet;

use super::dice::Dice;
use super::prose::fill;
use super::topics::TOPICS;
use super::words::{ABOUTS, FAMILY_NAMES, GIVEN_NAMES, HANDLE_HEADS, HANDLE_TAILS};

/// Somebody with an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) email: String,
    pub(crate) nickname: String,
    /// YYYY-MM-DD
    pub(crate) birthday: String,
    pub(crate) about_me: String,
    /// Positions in [`TOPICS`] of what he writes about, at least one.
    pub(crate) topics: Vec<usize>,
}

/// Makes `len` people with different names; those of another seed have other addresses.
pub(crate) fn people(seed: u64, len: usize) -> Vec<Person> {
    let mut dice = Dice::new(seed, "people");
    let mut taken = HashSet::new();
    (1..=len)
        .map(|number| {
            let topics: Vec<usize> = (0..dice.between(1, 3)).map(|_| dice.below(TOPICS.len())).collect();
            let about = *dice.pick(ABOUTS);
            Person {
                email: format!("u{number:05}.s{seed}@seed.example.com"),
                nickname: nickname(&mut dice, &mut taken),
                birthday: format!(
                    "{}-{:02}-{:02}",
                    dice.between(1960, 2006),
                    dice.between(1, 12),
                    dice.between(1, 28)
                ),
                about_me: fill(&mut dice, &TOPICS[topics[0]], about),
                topics,
            }
        })
        .collect()
}

/// Two thirds have a handle, one third a name of the passport.
fn nickname(dice: &mut Dice, taken: &mut HashSet<String>) -> String {
    let [heads, tails] = if dice.below(3) < 2 {
        [HANDLE_HEADS, HANDLE_TAILS]
    } else {
        [FAMILY_NAMES, GIVEN_NAMES]
    };
    let name = format!("{}{}", dice.pick(heads), dice.pick(tails));
    let numbers = (2..).map(|number| format!("{name}{number}"));
    let mut names = std::iter::once(name.clone()).chain(numbers);
    let free = names.find(|name| !taken.contains(name)).unwrap_or(name);
    taken.insert(free.clone());
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_differ() {
        let people = people(1, 3000);
        let distinct = |of: fn(&Person) -> &String| people.iter().map(of).collect::<HashSet<_>>().len();
        assert_eq!(distinct(|person| &person.nickname), 3000);
        assert_eq!(distinct(|person| &person.email), 3000);
        assert!(people.iter().all(|person| person.nickname.chars().count() <= 12));
    }
}
