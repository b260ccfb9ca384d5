//! What is known of a service: its instances, and since when.

use std::collections::BTreeMap;

use mosaic_core::Timestamp;

use crate::Address;

const WEIGHT_DEFAULT: u32 = 100;
const WEIGHT_MAX: u32 = 1000;

/// One process that serves a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Where it listens.
    pub address: Address,
    /// What it says of itself: `weight`, `zone`, `priority`, and whatever else its callers understand.
    pub metadata: BTreeMap<String, String>,
}

impl Instance {
    /// Makes an instance without metadata.
    pub const fn new(address: Address) -> Self {
        Self {
            address,
            metadata: BTreeMap::new(),
        }
    }

    /// Adds a word of metadata.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }

    /// Returns its share of the calls relative to others: `weight`, 100 if there is none, within 1 and 1000.
    pub fn weight(&self) -> u32 {
        let weight = self.metadata.get("weight").and_then(|text| text.parse().ok());
        weight.unwrap_or(WEIGHT_DEFAULT).clamp(1, WEIGHT_MAX)
    }

    /// Returns where it runs, if it says so.
    pub fn zone(&self) -> Option<&str> {
        self.metadata.get("zone").map(String::as_str)
    }

    /// Returns its rank: the lowest is called first, others when none of that rank answers. Zero if it says nothing.
    pub fn priority(&self) -> u32 {
        let priority = self.metadata.get("priority").and_then(|text| text.parse().ok());
        priority.unwrap_or(0)
    }
}

/// The instances of a service at one moment.
///
/// Empty means that the registry was asked and named nobody. That the registry did not answer is never a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    instances: Vec<Instance>,
    version: u64,
    since: Timestamp,
}

impl Snapshot {
    /// Makes a snapshot: sorts by address, merges the metadata of equal addresses, where later entries win.
    pub(crate) fn new(instances: Vec<Instance>, version: u64, since: Timestamp) -> Self {
        Self {
            instances: merged(instances),
            version,
            since,
        }
    }

    /// Returns the instances, sorted by address, each address once.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// Returns which snapshot of its watch this is, from 1; each differs from the one before.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Returns since when it has been like this, as far as this process knows.
    pub const fn since(&self) -> Timestamp {
        self.since
    }
}

/// See [`Snapshot::new`].
pub(crate) fn merged(instances: Vec<Instance>) -> Vec<Instance> {
    let mut by_address: BTreeMap<Address, BTreeMap<String, String>> = BTreeMap::new();
    for instance in instances {
        by_address
            .entry(instance.address)
            .or_default()
            .extend(instance.metadata);
    }
    let instance = |(address, metadata)| Instance { address, metadata };
    by_address.into_iter().map(instance).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Instance {
        Instance::new(address.parse().unwrap())
    }

    #[test]
    fn weights_have_a_default_and_bounds() {
        let weight = |text: &str| at("a:1").with("weight", text).weight();
        assert_eq!(at("a:1").weight(), 100);
        assert_eq!(
            [weight("7"), weight("0"), weight("9999"), weight("-3"), weight("much")],
            [7, 1, 1000, 100, 100]
        );
    }

    #[test]
    fn zone_and_priority_are_read_from_metadata() {
        let instance = at("a:1").with("zone", "b").with("priority", "20");
        assert_eq!((instance.zone(), instance.priority()), (Some("b"), 20));
        assert_eq!((at("a:1").zone(), at("a:1").priority()), (None, 0));
    }

    #[test]
    fn snapshots_are_sorted_and_equal_addresses_are_one_instance() {
        let entries = vec![
            at("b:1").with("zone", "x").with("weight", "1"),
            at("a:1"),
            at("B:1").with("weight", "2"),
        ];
        let snapshot = Snapshot::new(entries, 1, Timestamp::EPOCH);
        assert_eq!(
            snapshot.instances(),
            [at("a:1"), at("b:1").with("zone", "x").with("weight", "2")]
        );
    }
}
