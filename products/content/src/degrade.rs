//! What an answer may lack while its source is away.
//!
//! An article without its counters is worth reading; a like that was not stored is not worth an OK. So only what decorates an
//! answer is here, and whether it may be missing is configuration: `content.degrade`.

use std::str::FromStr;

use mosaic::guard::FallBack as _;
use mosaic::{Error, Result};

/// Who decorates answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dependency {
    /// Counters and what the reader did: without it all are 0, and nothing is liked.
    Interaction,
    /// The names of authors: without it they are empty.
    Users,
}

impl Dependency {
    const fn name(self) -> &'static str {
        match self {
            Self::Interaction => "content_interaction",
            Self::Users => "content_users",
        }
    }
}

impl FromStr for Dependency {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "interaction" => Ok(Self::Interaction),
            "users" => Ok(Self::Users),
            other => Err(Error::invalid_argument(
                "DEPENDENCY_UNKNOWN",
                format!("{other:?} cannot be left out: interaction and users can"),
            )),
        }
    }
}

/// Who may be missing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Degrade(Vec<Dependency>);

impl Degrade {
    /// Reads the names of the configuration.
    ///
    /// # Errors
    /// Names of nobody who can be left out.
    pub(crate) fn parse(names: &[String]) -> Result<Self> {
        names.iter().map(|name| name.parse()).collect::<Result<_>>().map(Self)
    }

    /// Returns what `dependency` said, or nothing where it may be missing and is away.
    ///
    /// # Errors
    /// Those of `outcome` that are answers, and all where the dependency may not be missing.
    pub(crate) async fn fill<T: Default>(&self, dependency: Dependency, outcome: Result<T>) -> Result<T> {
        if self.0.contains(&dependency) {
            outcome
                .or_fall_back(dependency.name(), async |_| Ok(T::default()))
                .await
        } else {
            outcome
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_may_be_missing_is_filled() {
        let away = || Err::<u32, _>(Error::unavailable("AWAY", "away"));
        let degrade = Degrade::parse(&["interaction".to_owned()]).unwrap();
        assert_eq!(degrade.fill(Dependency::Interaction, away()).await.unwrap(), 0);
        assert_eq!(degrade.fill(Dependency::Interaction, Ok(7)).await.unwrap(), 7);
        assert!(degrade.fill(Dependency::Users, away()).await.is_err());
        let answer = Err::<u32, _>(Error::not_found("NONE", "none"));
        assert!(degrade.fill(Dependency::Interaction, answer).await.is_err());
        assert!(Degrade::parse(&["ledger".to_owned()]).is_err());
    }
}
