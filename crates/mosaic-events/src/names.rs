//! Names of topics and groups: what every broker can store.
//!
//! Kafka allows `a-zA-Z0-9._-`, NATS takes no dots in a stream's name (its engine maps them), RabbitMQ takes 255 bytes. What is
//! allowed here fits all of them, and two names never become one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use mosaic_core::{Error, Result};

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $reason:literal, $message:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                if is_plain(text) {
                    return Ok(Self(text.into()));
                }
                Err(Error::invalid_argument($reason, $message))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
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
        assert_eq!("user.v1_a-b".parse::<GroupName>().unwrap().as_str(), "user.v1_a-b");
    }
}
