//! In which steps a batch is sent to a broker that answers message by message.

use std::collections::HashMap;

use crate::event::Message;
use crate::names::TopicName;

/// Sorts messages into steps: each holds one message of a key at most, in the order of the batch.
///
/// A step is sent when the one before is acknowledged. A broker that takes the second message of a key and not the first would
/// break the order for good, and whoever sends all at once cannot prevent that.
pub(crate) fn waves(messages: &[Message]) -> Vec<Vec<&Message>> {
    let mut waves: Vec<Vec<&Message>> = Vec::new();
    let mut n_seen: HashMap<(&TopicName, &str), usize> = HashMap::new();
    for message in messages {
        let at = n_seen.entry((&message.topic, &message.key)).or_insert(0);
        if *at == waves.len() {
            waves.push(Vec::new());
        }
        waves[*at].push(message);
        *at += 1;
    }
    waves
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mosaic_core::Timestamp;

    use super::*;
    use crate::event::{EventId, Record};
    use crate::headers::Headers;

    fn sample(key: &str, n: u128) -> Message {
        Message::from(Record {
            id: EventId::from_bits(n),
            topic: "users".parse().unwrap(),
            name: "user.renamed".into(),
            key: key.to_owned(),
            payload: Bytes::new(),
            headers: Headers::default(),
            at: Timestamp::EPOCH,
        })
    }

    #[test]
    fn a_wave_holds_a_key_once_and_keeps_the_order() {
        let keys = ["a", "b", "a", "c", "a", "b"];
        let messages: Vec<Message> = keys.iter().zip(0..).map(|(key, n)| sample(key, n)).collect();
        let waves: Vec<Vec<u128>> = waves(&messages)
            .iter()
            .map(|wave| wave.iter().map(|message| message.id.bits()).collect())
            .collect();
        assert_eq!(waves, [vec![0, 1, 3], vec![2, 5], vec![4]]);
    }
}
