//! Tasks as bytes, for those who carry them from a transaction to an engine that is elsewhere.
//!
//! A line of JSON with everything but the payload, then the payload. Fields may be added: what is missing has its default.

use async_trait::async_trait;
use mosaic_core::{Error, Result, Timestamp};
use mosaic_sql::Transaction;
use serde::{Deserialize, Serialize};

use crate::id::TaskId;
use crate::new_task::NewTask;
use crate::options::Options;

/// Takes tasks in a transaction and brings them to the engine once it has committed, each at least once.
#[async_trait]
pub trait Carrier: Send + Sync + 'static {
    /// Takes `tasks` if `tx` commits. A delay counts from when they arrive.
    ///
    /// # Errors
    /// Those of the store.
    async fn carry(&self, tx: &Transaction, tasks: &[NewTask]) -> Result<()>;
}

#[derive(Serialize, Deserialize)]
struct Head {
    id: TaskId,
    kind: String,
    options: Options,
    #[serde(default)]
    predecessors: Vec<TaskId>,
}

impl NewTask {
    /// Returns the task as bytes; its options have been checked.
    ///
    /// # Errors
    /// Internal.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let head = Head {
            id: self.id(),
            kind: self.kind().to_owned(),
            options: self.options().clone(),
            predecessors: self.predecessors().to_vec(),
        };
        let mut bytes = serde_json::to_vec(&head).map_err(Error::internal)?;
        bytes.push(b'\n');
        bytes.extend_from_slice(self.payload());
        Ok(bytes)
    }

    /// Reads what [`NewTask::to_bytes`] wrote.
    ///
    /// # Errors
    /// `TASK_INVALID`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let broken = || Error::invalid_argument("TASK_INVALID", "the stored task cannot be read");
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(broken)?;
        let head: Head = serde_json::from_slice(&bytes[..end]).map_err(|cause| broken().caused_by(cause))?;
        Ok(Self::read(
            head.id,
            head.kind,
            bytes[end + 1..].to_vec(),
            head.options,
            head.predecessors,
        ))
    }
}

/// Times as microseconds since the epoch.
pub(crate) mod micros {
    use serde::{Deserializer, Serializer};

    use super::*;

    pub(crate) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        time.as_micros().serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(from).map(Timestamp::from_micros)
    }
}

/// The same, where there may be none.
pub(crate) mod maybe_micros {
    use serde::{Deserializer, Serializer};

    use super::*;

    pub(crate) fn serialize<S: Serializer>(time: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
        time.map(Timestamp::as_micros).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<i64>::deserialize(from)?.map(Timestamp::from_micros))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mosaic_core::{Context, Runtime};

    use super::*;
    use crate::options::{Group, KeyLimit, Rate, UniqueFor, When};

    #[test]
    fn a_task_survives_the_journey() {
        let cx = Context::new(&Runtime::system());
        let all = Options {
            queue: "mail".parse().unwrap(),
            priority: 3,
            when: When::At(Timestamp::from_secs(1_800_000_000)),
            deadline: Some(Timestamp::from_secs(1_900_000_000)),
            retention: Duration::from_millis(1500),
            unique: Some(UniqueFor {
                key: "k".to_owned(),
                hold: Duration::from_secs(5),
            }),
            limit: Some(KeyLimit {
                key: "partner".to_owned(),
                concurrency: Some(2),
                rate: Some(Rate {
                    n: 5,
                    per: Duration::from_secs(1),
                }),
            }),
            ..Options::default()
        };
        let grouped = Options {
            group: Some(Group {
                key: "g".to_owned(),
                grace: Duration::from_secs(1),
                max_delay: Duration::from_secs(9),
                max_size: 7,
            }),
            ..Options::default()
        };
        for (options, payload) in [
            (all, &b"two\nlines"[..]),
            (grouped, b""),
            (Options::default(), &[0, 255, 10]),
        ] {
            let task = NewTask::new(&cx, "mail", payload.to_vec(), options).unwrap();
            assert_eq!(NewTask::from_bytes(&task.to_bytes().unwrap()).unwrap(), task);
        }
        let first = NewTask::new(&cx, "a", Vec::new(), Options::default()).unwrap();
        let last = NewTask::new(&cx, "b", Vec::new(), Options::default())
            .unwrap()
            .after(&[first.id()])
            .unwrap();
        assert_eq!(NewTask::from_bytes(&last.to_bytes().unwrap()).unwrap(), last);
        for broken in [&b""[..], b"{}", b"{}\n", b"\n"] {
            assert_eq!(NewTask::from_bytes(broken).unwrap_err().reason(), "TASK_INVALID");
        }
    }
}
