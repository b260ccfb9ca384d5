//! A batch of messages as bytes.
//!
//! Version byte, then per message: id (16), time (8), name, key, number of headers (2), headers as pairs, payload. Texts have a
//! length of 2 bytes before them, the payload of 4; all numbers are little-endian. Read with bounds checked: a row may be cut or
//! written by a newer release, and neither may take the process down.

use bytes::{Buf as _, Bytes};
use mosaic_core::{Error, Result, Timestamp};

use crate::event::{EventId, Message, Record};
use crate::names::TopicName;

const VERSION: u8 = 1;

pub(super) fn encode(messages: &[&Message]) -> Vec<u8> {
    let n_bytes: usize = messages.iter().map(|message| message.n_bytes()).sum();
    let mut out = Vec::with_capacity(n_bytes + 1);
    out.push(VERSION);
    for message in messages {
        out.extend_from_slice(&message.id.bits().to_le_bytes());
        out.extend_from_slice(&message.at.as_micros().to_le_bytes());
        put_text(&mut out, &message.name);
        put_text(&mut out, &message.key);
        out.extend_from_slice(&(message.headers.len() as u16).to_le_bytes());
        message.headers.each(|name, text| {
            put_text(&mut out, name);
            put_text(&mut out, text);
        });
        out.extend_from_slice(&(message.payload.len() as u32).to_le_bytes());
        out.extend_from_slice(&message.payload);
    }
    out
}

/// Limits of [`Message::check`] keep every text below 64 KiB.
fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Reads a batch; payloads share its bytes.
pub(super) fn decode(topic: &TopicName, bytes: Vec<u8>) -> Result<Vec<Message>> {
    let mut from = Bytes::from(bytes);
    let version = from.try_get_u8().map_err(damaged)?;
    if version != VERSION {
        return Err(Error::new(
            mosaic_core::Code::DataLoss,
            "EVENTS_LOG_DAMAGED",
            "a batch of events cannot be read",
        )
        .caused_by(format!("version {version}")));
    }
    let mut messages = Vec::new();
    while from.has_remaining() {
        messages.push(message(topic, &mut from)?);
    }
    Ok(messages)
}

fn message(topic: &TopicName, from: &mut Bytes) -> Result<Message> {
    let id = EventId::from_bits(from.try_get_u128_le().map_err(damaged)?);
    let at = Timestamp::from_micros(from.try_get_i64_le().map_err(damaged)?);
    let (name, key) = (text(from)?, text(from)?);
    let n_headers = from.try_get_u16_le().map_err(damaged)?;
    let headers = (0..n_headers).map(|_| Ok((text(from)?.into(), text(from)?)));
    let headers = headers.collect::<Result<_>>()?;
    let n_bytes = from.try_get_u32_le().map_err(damaged)?;
    Ok(Message::from(Record {
        id,
        topic: topic.clone(),
        name: name.into(),
        key,
        payload: take(from, n_bytes as usize)?,
        headers,
        at,
    }))
}

fn text(from: &mut Bytes) -> Result<String> {
    let n_bytes = from.try_get_u16_le().map_err(damaged)?;
    let bytes = take(from, usize::from(n_bytes))?;
    std::str::from_utf8(&bytes).map(str::to_owned).map_err(damaged)
}

fn take(from: &mut Bytes, n_bytes: usize) -> Result<Bytes> {
    if from.remaining() < n_bytes {
        return Err(damaged("cut"));
    }
    Ok(from.split_to(n_bytes))
}

fn damaged(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(
        mosaic_core::Code::DataLoss,
        "EVENTS_LOG_DAMAGED",
        "a batch of events cannot be read",
    )
    .caused_by(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(n: u128) -> Message {
        Message::from(Record {
            id: EventId::from_bits(n),
            topic: "users".parse().unwrap(),
            name: "user.registered".into(),
            key: format!("ü{n}"),
            payload: Bytes::from(vec![b'x'; n as usize]),
            headers: vec![("traceparent".into(), "00".to_owned()); n as usize]
                .into_iter()
                .collect(),
            at: Timestamp::from_micros(-5),
        })
    }

    #[test]
    fn a_batch_survives_and_no_cut_of_it_panics_or_lies() {
        let messages: Vec<Message> = (0..4).map(message).collect();
        let bytes = encode(&messages.iter().collect::<Vec<_>>());
        let topic = messages[0].topic.clone();
        assert_eq!(decode(&topic, bytes.clone()).unwrap(), messages);
        for end in 0..bytes.len() {
            let cut = decode(&topic, bytes[..end].to_vec());
            assert!(cut.is_err() || cut.is_ok_and(|read| messages.starts_with(&read) && read.len() < 4));
        }
        assert!(decode(&topic, vec![2]).is_err());
    }
}
