//! How an event travels through a broker.
//!
//! The body is the payload as it is, so that whoever reads JSON reads our events. All the rest is one header, `event`, in JSON
//! as well: brokers differ in what a header may hold (NATS trims blanks, AMQP keeps one value a name), a JSON text survives all.
//! A message without that header is not ours: it is skipped with a warning, and never holds up a partition.

use std::borrow::Cow;

use bytes::Bytes;
use mosaic_core::{Error, Result, Timestamp};
use serde::{Deserialize, Serialize};

use crate::event::{Message, Record};
use crate::headers::Headers;
use crate::names::TopicName;

/// Name of the header.
pub(crate) const HEADER: &str = "event";

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    id: String,
    name: Cow<'static, str>,
    key: String,
    at: i64,
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    headers: Headers,
}

/// Returns the header of a message.
pub(crate) fn head(message: &Message) -> Result<String> {
    let head = Head {
        id: message.id.to_hex(),
        name: message.name.clone(),
        key: message.key.clone(),
        at: message.at.as_micros(),
        headers: message.headers.clone(),
    };
    serde_json::to_string(&head).map_err(Error::internal)
}

/// Reads a message; `None`, with a warning, if it is not one of ours.
pub(crate) fn message(topic: &TopicName, head: Option<&[u8]>, payload: Bytes) -> Option<Message> {
    let read = head.and_then(|head| serde_json::from_slice::<Head>(head).ok());
    let read = read.and_then(|head| Some((head.id.parse().ok()?, head)));
    let Some((id, head)) = read else {
        tracing::warn!(topic = %topic, "skipped a message of the broker that is no event");
        return None;
    };
    Some(Message::from(Record {
        id,
        topic: topic.clone(),
        name: head.name,
        key: head.key,
        payload,
        headers: head.headers,
        at: Timestamp::from_micros(head.at),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventId;

    fn sample(key: &str, n: u128) -> Message {
        Message::from(Record {
            id: EventId::from_bits(n),
            topic: "users".parse().unwrap(),
            name: "user.renamed".into(),
            key: key.to_owned(),
            payload: Bytes::from_static(b"{\"a\":1}"),
            headers: [(" a:".into(), "b\r\nc\u{fc}".to_owned()), ("".into(), String::new())]
                .into_iter()
                .collect(),
            at: Timestamp::from_micros(-5),
        })
    }

    #[test]
    fn a_message_survives_and_its_header_is_one_line() {
        let sent = sample(" \u{fc} ", 7);
        let head = head(&sent).unwrap();
        assert!(!head.contains(['\r', '\n']));
        assert_eq!(
            message(&sent.topic, Some(head.as_bytes()), sent.payload.clone()),
            Some(sent)
        );
    }

    #[test]
    fn what_is_not_ours_is_none() {
        let topic: TopicName = "users".parse().unwrap();
        let short = br#"{"id":"7","name":"a","key":"b","at":1}"#;
        for head in [None, Some(b"".as_slice()), Some(b"{}"), Some(short)] {
            assert_eq!(message(&topic, head, Bytes::new()), None);
        }
    }
}
