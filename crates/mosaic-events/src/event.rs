//! Events: what happened, typed for those who write and read it, bytes for everybody in between.
//!
//! An [`Event`] is a struct of the module that publishes it, stored as JSON: readable in a database at night, and a field more
//! or less breaks nobody. A [`Message`] is what travels: the payload and what brokers, relays and consumers must know
//! without reading it. Limits are checked where a message is made, so that nothing is stored that cannot be delivered.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use mosaic_core::{Context, Error, Result, Runtime, Timestamp, Trace, hex, put_hex};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

use crate::headers::Headers;
use crate::names::TopicName;

/// Most bytes of a payload. Brokers take 1 MiB with everything around it; who has more publishes where it is.
pub const PAYLOAD_MAX: usize = 256 << 10;
/// Most bytes of a key.
pub const KEY_MAX: usize = 255;
/// Most bytes of an event's name.
pub const NAME_MAX: usize = 100;
/// Most headers of a message.
pub const HEADERS_MAX: usize = 32;
/// Most bytes of all headers of a message together.
pub const HEADER_BYTES_MAX: usize = 8 << 10;

/// Something that happened.
pub trait Event: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The topic that it is published to; one for all events of an aggregate, for their order's sake.
    const TOPIC: &'static str;
    /// Names the kind, e.g. `user.registered`: never changed, never used for another payload.
    const NAME: &'static str;

    /// Returns what the event is about (an account, an order): events of one key are handled in order.
    fn key(&self) -> String;
}

/// Returns the topic of an event type.
///
/// # Panics
/// If it is no topic's name: it is a constant.
pub(crate) fn topic_of<E: Event>() -> TopicName {
    TopicName::constant(E::TOPIC).expect("the topic of an event type is a constant with a valid name")
}

/// Identifies an event wherever it is: 128 bits, printed as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(u128);

impl EventId {
    /// Draws a new id: the rising 53-bit id of the process, then 64 random bits.
    pub fn new(runtime: &Runtime) -> Self {
        let rising = u128::from(runtime.next_id().unsigned_abs());
        Self((rising << 64) | u128::from(runtime.random_u64()))
    }

    /// Returns the least id that may be drawn at `time`.
    pub(crate) fn least_at(time: Timestamp) -> Self {
        Self(u128::from(Runtime::least_id_at(time).unsigned_abs()) << 64)
    }

    /// Makes an id from its bits.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// Returns the bits.
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// Returns the digits: what is displayed, without the detour.
    pub(crate) fn to_hex(self) -> String {
        hex(self.0.to_be_bytes())
    }
}

/// As it is displayed.
impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut digits = [0; 32];
        put_hex(&mut digits, self.0.to_be_bytes());
        // Digits are text.
        serializer.serialize_str(std::str::from_utf8(&digits).unwrap_or_default())
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl FromStr for EventId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_hex = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let number = is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number
            .map(Self)
            .ok_or_else(|| Error::invalid_argument("EVENT_ID_INVALID", "an event's id has 32 hexadecimal digits"))
    }
}

/// What a [`Message`] holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Names the event; duplicates have the same.
    pub id: EventId,
    /// The topic.
    pub topic: TopicName,
    /// The kind of event.
    pub name: Cow<'static, str>,
    /// What it is about.
    pub key: String,
    /// The event as JSON.
    pub payload: Bytes,
    /// What travels beside it, e.g. its trace.
    pub headers: Headers,
    /// When it was published, by the publisher's clock.
    pub at: Timestamp,
}

/// An event as it travels. Cheap to clone: between a buffer, a log and several groups in one process it is never copied. To change
/// one that is shared copies it.
#[derive(Clone, PartialEq, Eq)]
pub struct Message(Arc<Record>);

impl From<Record> for Message {
    fn from(record: Record) -> Self {
        Self(Arc::new(record))
    }
}

impl Deref for Message {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.0
    }
}

impl DerefMut for Message {
    fn deref_mut(&mut self) -> &mut Record {
        Arc::make_mut(&mut self.0)
    }
}

impl Message {
    /// Makes the message of `event`, part of the trace of `cx`.
    ///
    /// # Errors
    /// As [`Message::check`]; internal if the event cannot be written as JSON.
    pub fn of<E: Event>(cx: &Context, event: &E) -> Result<Self> {
        Self::on(TopicName::constant(E::TOPIC)?, cx, event)
    }

    /// As [`Message::of`], for who has parsed the topic before.
    pub(crate) fn on<E: Event>(topic: TopicName, cx: &Context, event: &E) -> Result<Self> {
        let message = Self::from(Record {
            id: EventId::new(cx.runtime()),
            topic,
            name: Cow::Borrowed(E::NAME),
            key: event.key(),
            payload: payload_of(event)?,
            headers: Headers::of(cx.trace()),
            at: cx.runtime().now(),
        });
        message.check()?;
        Ok(message)
    }

    /// Reads the event.
    ///
    /// # Errors
    /// `EVENT_PAYLOAD_INVALID`.
    pub fn event<E: Event>(&self) -> Result<E> {
        serde_json::from_slice(&self.payload).map_err(|cause| {
            Error::invalid_argument("EVENT_PAYLOAD_INVALID", "the payload cannot be read").caused_by(cause)
        })
    }

    /// Refuses what some engine could not carry; engines do it for everything that is published.
    ///
    /// # Errors
    /// `EVENT_TOO_LARGE` for a payload or headers above the limit, `EVENT_INVALID` for a key or name that is none.
    pub fn check(&self) -> Result<()> {
        if self.payload.len() > PAYLOAD_MAX {
            return Err(too_large("an event has at most 256 KiB"));
        }
        if self.headers.len() > HEADERS_MAX || self.headers.n_bytes() > HEADER_BYTES_MAX {
            return Err(too_large("an event has at most 32 headers of 8 KiB in all"));
        }
        // To the end whatever comes, so that many bytes are looked at at once.
        let is_plain = |text: &str| {
            text.bytes()
                .fold(true, |is_plain, b| is_plain & matches!(b, b' '..=b'~'))
        };
        let is_bad = |text: &str, max| text.len() > max || !is_plain(text) && text.contains(char::is_control);
        if self.name.is_empty() || is_bad(&self.name, NAME_MAX) || is_bad(&self.key, KEY_MAX) {
            return Err(Error::invalid_argument(
                "EVENT_INVALID",
                "an event has a name of at most 100 plain bytes and a key of at most 255",
            ));
        }
        Ok(())
    }

    /// Returns the context to handle the event in: the trace goes on, the event's id is the idempotency key.
    pub fn context(&self, runtime: &Runtime) -> Context {
        context_of(self.id, self.headers.trace(), runtime)
    }

    /// Returns about how many bytes it takes.
    pub fn n_bytes(&self) -> usize {
        let n_header_bytes = 4 * self.headers.len() + self.headers.n_bytes();
        40 + self.name.len() + self.key.len() + self.payload.len() + n_header_bytes
    }
}

/// See [`Message::context`].
pub(crate) fn context_of(id: EventId, trace: Option<Trace>, runtime: &Runtime) -> Context {
    Context::resume(runtime, trace.unwrap_or_else(|| Trace::start(runtime)))
        .with_idempotency_key(Some(id.to_hex().into()))
}

thread_local! {
    /// What is left of the block that the payloads of this thread are written to.
    static BLOCK: Cell<BytesMut> = Cell::default();
}

/// Bytes of a block; whoever keeps one event of it keeps them all.
const BLOCK_LEN: usize = 16 << 10;

/// Writes an event behind the one before: many are kept for a while, and read in this order.
fn payload_of(event: &impl Serialize) -> Result<Bytes> {
    let mut block = BLOCK.take();
    if block.capacity() == 0 {
        block = BytesMut::with_capacity(BLOCK_LEN);
    }
    let written = serde_json::to_writer((&mut block).writer(), event);
    let payload = block.split().freeze();
    BLOCK.set(block);
    written.map_err(Error::internal)?;
    Ok(payload)
}

/// Payloads may hold what must not be in a log.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("topic", &self.topic)
            .field("name", &self.name)
            .field("n_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

fn too_large(message: &'static str) -> Error {
    Error::invalid_argument("EVENT_TOO_LARGE", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message::from(Record {
            id: EventId::from_bits(7),
            topic: "users".parse().unwrap(),
            name: "user.registered".into(),
            key: "7".to_owned(),
            payload: Bytes::from_static(b"{}"),
            headers: Headers::default(),
            at: Timestamp::EPOCH,
        })
    }

    #[test]
    fn limits_are_exact() {
        #[track_caller]
        fn check(change: impl FnOnce(&mut Message), reason: Option<&str>) {
            let mut message = message();
            change(&mut message);
            assert_eq!(message.check().err().map(|e| e.reason().to_owned()).as_deref(), reason);
        }
        check(|_| {}, None);
        check(|m| m.payload = vec![b' '; PAYLOAD_MAX].into(), None);
        check(
            |m| m.payload = vec![b' '; PAYLOAD_MAX + 1].into(),
            Some("EVENT_TOO_LARGE"),
        );
        check(|m| m.key = "k".repeat(KEY_MAX), None);
        check(|m| m.key = "k".repeat(KEY_MAX + 1), Some("EVENT_INVALID"));
        check(|m| m.key = "a\nb".to_owned(), Some("EVENT_INVALID"));
        check(|m| m.key = "a\u{85}b".to_owned(), Some("EVENT_INVALID"));
        check(|m| m.key = "京A·12345".to_owned(), None);
        check(|m| m.name = "".into(), Some("EVENT_INVALID"));
        check(
            |m| m.headers = vec![("".into(), String::new()); 33].into_iter().collect(),
            Some("EVENT_TOO_LARGE"),
        );
        check(
            |m| m.headers.push("h".repeat(100), "v".repeat(8100)),
            Some("EVENT_TOO_LARGE"),
        );
    }

    #[test]
    fn payloads_of_one_block_are_each_their_own() {
        struct Broken;
        impl Serialize for Broken {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                use serde::ser::{Error as _, SerializeSeq as _};
                serializer.serialize_seq(None)?.serialize_element("begun")?;
                Err(S::Error::custom("broken"))
            }
        }
        let texts = (0..2000).map(|n| match n % 100 {
            7 => "large".repeat(BLOCK_LEN),
            n => "x".repeat(n),
        });
        let payloads = texts.clone().map(|text| {
            assert!(payload_of(&Broken).is_err());
            payload_of(&text).unwrap()
        });
        let payloads: Vec<_> = payloads.collect();
        for (text, payload) in texts.zip(payloads) {
            assert_eq!(serde_json::from_slice::<String>(&payload).unwrap(), text);
        }
    }

    #[test]
    fn an_id_survives_print_and_parse() {
        let id = EventId::new(&Runtime::system());
        assert_eq!(id.to_string().parse::<EventId>().unwrap(), id);
        assert!("+0000000000000000000000000000001".parse::<EventId>().is_err());
    }

    #[test]
    fn the_trace_goes_on() {
        let runtime = Runtime::system();
        let cx = Context::new(&runtime);
        let mut message = message();
        message.headers = Headers::of(cx.trace());
        assert_eq!(message.context(&runtime).trace().trace_id, cx.trace().trace_id);
        message.headers = Headers::default();
        assert_ne!(message.context(&runtime).trace().trace_id, cx.trace().trace_id);
    }
}
