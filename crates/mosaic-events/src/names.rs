//! Names of topics and groups: what every broker can store.
//!
//! Kafka allows `a-zA-Z0-9._-`, NATS takes no dots in a stream's name (its engine maps them), RabbitMQ takes 255 bytes. What is
//! allowed here fits all of them, and two names never become one.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use mosaic_core::{Error, Result};

/// A text that is never copied; the clones of a constant are not even counted, which all threads that report events would do.
#[derive(Debug, Clone)]
enum Text {
    Constant(&'static str),
    Shared(Arc<str>),
}

impl Text {
    fn as_str(&self) -> &str {
        match self {
            Self::Constant(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $reason:literal, $message:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Text);

        impl $name {
            /// Returns the name.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// Makes the name of a constant of the program.
            ///
            /// # Errors
            #[doc = concat!("`", $reason, "`: it is no such name.")]
            pub fn constant(text: &'static str) -> Result<Self> {
                Self::of(Text::Constant(text))
            }

            fn of(text: Text) -> Result<Self> {
                if is_plain(text.as_str()) {
                    return Ok(Self(text));
                }
                Err(Error::invalid_argument($reason, $message))
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                Self::of(Text::Shared(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

name_type! {
    /// Names a topic: 1 to 80 of `a-z 0-9 . _ -`, beginning with a letter.
    TopicName, "EVENTS_TOPIC_INVALID", "a topic's name has 1 to 80 of a-z 0-9 . _ - and begins with a letter"
}

name_type! {
    /// Names a group of consumers, which share the events of a topic: 1 to 80 of `a-z 0-9 . _ -`, beginning with a letter.
    GroupName, "EVENTS_GROUP_INVALID", "a group's name has 1 to 80 of a-z 0-9 . _ - and begins with a letter"
}

fn is_plain(text: &str) -> bool {
    let is_clean = |b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    (1..=80).contains(&text.len()) && text.starts_with(|c: char| c.is_ascii_lowercase()) && text.bytes().all(is_clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain() {
        for bad in ["", "A", "a b", "ü", ".a", "1a", "a*", "a>", &"x".repeat(81)] {
            assert!(bad.parse::<TopicName>().is_err(), "{bad}");
        }
        assert!(TopicName::constant("a b").is_err());
        assert_eq!("user.v1_a-b".parse::<GroupName>().unwrap().as_str(), "user.v1_a-b");
    }

    #[test]
    fn a_constant_is_the_same_name() {
        let (constant, parsed) = (TopicName::constant("users").unwrap(), "users".parse().unwrap());
        assert_eq!(constant, parsed);
        assert_eq!(constant.cmp(&parsed), Ordering::Equal);
        assert!(std::collections::HashSet::from([constant]).contains(&parsed));
    }
}
