//! Names of tasks and queues.
//!
//! A task's id is 128 bits: the rising 53-bit id of the process, then 64 random bits. Queues are filled by many processes at
//! thousands of rows a second, where ids of 53 bits would collide; the rising half keeps the order of a batch.

use std::fmt;
use std::str::FromStr;

use mosaic_core::{Error, Runtime};
use serde::{Deserialize, Serialize};

/// Identifies a task; printed as 32 hexadecimal digits, which sort as they were drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskId(u128);

impl TaskId {
    /// Below all others.
    pub(crate) const MIN: Self = Self(0);

    /// Makes the id that follows from `digest`.
    pub(crate) const fn of_digest(digest: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(digest))
    }

    /// Draws a new id, above all that `runtime` gave before.
    pub fn new(runtime: &Runtime) -> Self {
        let rising = u128::from(runtime.next_id().unsigned_abs());
        Self((rising << 64) | u128::from(runtime.random_u64()))
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for TaskId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let is_hex = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let number = is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number
            .map(Self)
            .ok_or_else(|| Error::invalid_argument("TASK_ID_INVALID", "a task id has 32 hexadecimal digits"))
    }
}

/// Names a queue: 1 to 64 of `a-z 0-9 . _ -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueueName(String);

impl QueueName {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for QueueName {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl FromStr for QueueName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let is_clean = text
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
        if is_clean && (1..=64).contains(&text.len()) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::invalid_argument(
            "QUEUE_NAME_INVALID",
            "a queue's name has 1 to 64 of a-z 0-9 . _ -",
        ))
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As texts in JSON, and checked when they are read.
macro_rules! as_text {
    ($($name:ident)*) => {$(
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }
    )*};
}

as_text!(TaskId QueueName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_and_survive_print_and_parse() {
        let runtime = Runtime::system();
        let ids: Vec<TaskId> = (0..1000).map(|_| TaskId::new(&runtime)).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(ids.windows(2).all(|pair| pair[0].to_string() < pair[1].to_string()));
        assert_eq!(ids[0].to_string().parse::<TaskId>().unwrap(), ids[0]);
        assert!("+0000000000000000000000000000001".parse::<TaskId>().is_err());
    }

    #[test]
    fn a_queue_name_is_plain() {
        for bad in ["", "A", "a b", "ü", &"x".repeat(65)] {
            assert!(bad.parse::<QueueName>().is_err(), "{bad}");
        }
        assert_eq!("mail.slow-1".parse::<QueueName>().unwrap().as_str(), "mail.slow-1");
    }
}
