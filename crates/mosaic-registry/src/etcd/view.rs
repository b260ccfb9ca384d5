//! What one watch of etcd believes, without I/O: a list, then changes.
//!
//! Two rules beside the obvious. Entries that cannot be read are left out and take no other with them. And a store whose
//! revision has gone backwards has lost its data (it was wiped, or restored from a backup): then whoever is missing is
//! kept for the length of a lease, in which everybody who lives registers again; a fleet does not lose its addresses
//! because its registry lost a disk.

use std::collections::BTreeMap;

use super::entry::read;
use super::wire::{Event, EventType, KeyValue, RangeResponse};
use crate::Instance;
use crate::feed::Publisher;

/// The instances of a service by key.
#[derive(Debug, Default)]
pub(crate) struct View {
    entries: BTreeMap<Vec<u8>, Instance>,
    /// Those that a store which lost its data does not know, while they have time to come back.
    missed: Vec<Instance>,
    revision: i64,
}

impl View {
    /// Returns the revision of the store that this shows.
    pub(crate) const fn revision(&self) -> i64 {
        self.revision
    }

    /// Returns whether some are kept that the store does not know.
    pub(crate) fn misses_some(&self) -> bool {
        !self.missed.is_empty()
    }

    /// Gives up those that have not come back.
    pub(crate) fn forget_missed(&mut self) {
        self.missed.clear();
    }

    /// Begins with a list; `prefix` is what its keys begin with.
    pub(crate) fn replace(&mut self, prefix: &str, list: RangeResponse, publisher: &Publisher) {
        let revision = list.header.map_or(0, |header| header.revision);
        let known = self.instances();
        self.entries.clear();
        for pair in list.kvs {
            self.put(prefix, pair, publisher);
        }
        if revision < self.revision {
            self.missed = known;
        }
        self.revision = revision;
    }

    /// Applies changes; returns whether there were any.
    pub(crate) fn apply(&mut self, prefix: &str, revision: i64, events: Vec<Event>, publisher: &Publisher) -> bool {
        let has_changes = !events.is_empty();
        for event in events {
            let kind = event.r#type();
            let Some(pair) = event.kv else { continue };
            match kind {
                EventType::Put => self.put(prefix, pair, publisher),
                EventType::Delete => {
                    self.entries.remove(&pair.key);
                }
            }
        }
        self.revision = self.revision.max(revision);
        has_changes
    }

    fn put(&mut self, prefix: &str, pair: KeyValue, publisher: &Publisher) {
        match read(prefix, &pair.key, &pair.value) {
            Ok(Some(instance)) => {
                self.entries.insert(pair.key, instance);
                return;
            }
            Ok(None) => {}
            Err(why) => publisher.garbage(&String::from_utf8_lossy(&pair.key), why),
        }
        self.entries.remove(&pair.key);
    }

    /// Returns the instances, in the order of their keys; those that are missed come first, so that newer words win.
    pub(crate) fn instances(&self) -> Vec<Instance> {
        self.missed.iter().chain(self.entries.values()).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use mosaic_core::Runtime;

    use super::super::entry::write;
    use super::super::wire::ResponseHeader;
    use super::*;
    use crate::instance::merged;

    const PREFIX: &str = "service/users/";

    fn pair(address: &str, value: Option<&str>) -> KeyValue {
        let instance = Instance::new(address.parse().unwrap());
        KeyValue {
            key: format!("{PREFIX}{address}").into_bytes(),
            value: value.map_or_else(|| write(&instance), |value| value.as_bytes().to_vec()),
            ..KeyValue::default()
        }
    }

    fn list(revision: i64, addresses: &[&str]) -> RangeResponse {
        RangeResponse {
            header: Some(ResponseHeader {
                revision,
                ..ResponseHeader::default()
            }),
            kvs: addresses.iter().map(|address| pair(address, None)).collect(),
            ..RangeResponse::default()
        }
    }

    fn event(kind: EventType, pair: KeyValue) -> Event {
        Event {
            r#type: kind.into(),
            kv: Some(pair),
        }
    }

    fn publisher() -> Publisher {
        Publisher::new(&"users".parse().unwrap(), &Runtime::system())
    }

    #[track_caller]
    fn check(view: &View, addresses: &[&str]) {
        let found = merged(view.instances());
        let found: Vec<String> = found.iter().map(|instance| instance.address.to_string()).collect();
        assert_eq!(found, addresses);
    }

    #[test]
    fn changes_follow_the_list() {
        let (mut view, publisher) = (View::default(), publisher());
        view.replace(PREFIX, list(7, &["a:1", "b:1"]), &publisher);
        assert_eq!(view.revision(), 7);
        let events = vec![
            event(EventType::Delete, pair("a:1", None)),
            event(EventType::Put, pair("c:1", None)),
        ];
        assert!(view.apply(PREFIX, 9, events, &publisher));
        check(&view, &["b:1", "c:1"]);
        assert!(
            !view.apply(PREFIX, 12, Vec::new(), &publisher),
            "progress alone changes nothing"
        );
        assert_eq!(view.revision(), 12);
    }

    #[test]
    fn an_entry_that_becomes_garbage_goes_and_no_other() {
        let (mut view, publisher) = (View::default(), publisher());
        view.replace(PREFIX, list(7, &["a:1", "b:1"]), &publisher);
        view.apply(
            PREFIX,
            8,
            vec![event(EventType::Put, pair("a:1", Some("{")))],
            &publisher,
        );
        check(&view, &["b:1"]);
        let deleted = pair("b:1", Some(r#"{"Op":1,"Addr":"b:1"}"#));
        view.apply(PREFIX, 9, vec![event(EventType::Put, deleted)], &publisher);
        check(&view, &[]);
    }

    #[test]
    fn a_later_list_is_believed_at_once() {
        let (mut view, publisher) = (View::default(), publisher());
        view.replace(PREFIX, list(7, &["a:1", "b:1"]), &publisher);
        view.replace(PREFIX, list(7, &["b:1"]), &publisher);
        check(&view, &["b:1"]);
        assert!(!view.misses_some());
    }

    #[test]
    fn a_store_that_lost_its_data_does_not_empty_what_is_known() {
        let (mut view, publisher) = (View::default(), publisher());
        view.replace(PREFIX, list(7, &["a:1", "b:1"]), &publisher);
        view.replace(PREFIX, list(2, &["b:1"]), &publisher);
        check(&view, &["a:1", "b:1"]);
        assert!(view.misses_some());
        view.forget_missed();
        check(&view, &["b:1"]);
    }
}
