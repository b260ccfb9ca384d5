//! EndpointSlices, and which of their endpoints are to be called. No I/O.
//!
//! The rules are kube-proxy's: endpoints that are ready and not terminating; if there is none, those that still serve
//! while they terminate. A service may have any number of slices, and an endpoint may be in two of them while it moves
//! from one to the other. A dual-stack service has each of its pods twice, by IPv4 and by IPv6: one family is enough.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::feed::Publisher;
use crate::{Address, Instance};

/// `discovery.k8s.io/v1` `EndpointSlice`, as far as it is read. Go writes empty lists as `null`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Slice {
    metadata: Metadata,
    address_type: String,
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<Port>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) resource_version: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    addresses: Vec<String>,
    conditions: Option<Conditions>,
    zone: Option<String>,
    node_name: Option<String>,
    target_ref: Option<TargetRef>,
}

/// What is missing means: ready, serving, not terminating.
#[derive(Debug, Default, Deserialize)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct TargetRef {
    name: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Port {
    name: Option<String>,
    port: Option<u16>,
}

/// The slices of one service, by name.
#[derive(Debug, Default)]
pub(super) struct Slices(BTreeMap<String, Slice>);

/// How much an endpoint may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fitness {
    Ready,
    /// On its way out, and still answering.
    Leaving,
}

impl Slices {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes a slice, new or changed; one that cannot be read is told to `publisher` and left out.
    pub(super) fn put(&mut self, object: Value, publisher: &Publisher) {
        let name = name_of(&object).to_owned();
        match serde_json::from_value::<Slice>(object) {
            Ok(slice) => {
                self.0.insert(slice.metadata.name.clone(), slice);
            }
            Err(error) => {
                self.0.remove(&name);
                publisher.garbage(&name, &format!("not an EndpointSlice: {error}"));
            }
        }
    }

    pub(super) fn remove(&mut self, object: &Value) {
        self.0.remove(name_of(object));
    }

    /// Returns whom to call at the port named `port_name`.
    pub(super) fn instances(&self, port_name: &str, publisher: &Publisher) -> Vec<Instance> {
        let families = ["IPv4", "IPv6", "FQDN"].map(|family| {
            let slices = self.0.values().filter(|slice| slice.address_type == family);
            slices
                .flat_map(|slice| slice.fit(port_name, publisher))
                .collect::<Vec<_>>()
        });
        let fit = families.into_iter().find(|found| !found.is_empty()).unwrap_or_default();
        let wanted = if fit.iter().any(|(fitness, _)| *fitness == Fitness::Ready) {
            Fitness::Ready
        } else {
            Fitness::Leaving
        };
        let wanted = fit.into_iter().filter(|(fitness, _)| *fitness == wanted);
        wanted.map(|(_, instance)| instance).collect()
    }
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

impl Slice {
    /// Returns the endpoints that may be called.
    fn fit(&self, port_name: &str, publisher: &Publisher) -> Vec<(Fitness, Instance)> {
        let endpoints = self.endpoints.as_deref().unwrap_or_default();
        let Some(port) = self.port(port_name) else {
            if !endpoints.is_empty() {
                let why = format!("it has no port named {port_name}");
                publisher.garbage(&self.metadata.name, &why);
            }
            return Vec::new();
        };
        let fit = |endpoint: &Endpoint| {
            let fitness = endpoint.fitness()?;
            let instance = endpoint.instance(port);
            if instance.is_none() {
                publisher.garbage(&self.metadata.name, "an endpoint has no address that can be called");
            }
            Some((fitness, instance?))
        };
        endpoints.iter().filter_map(fit).collect()
    }

    /// Returns the port with this name, or the only one if it has no name.
    fn port(&self, port_name: &str) -> Option<u16> {
        let ports = self.ports.as_deref().unwrap_or_default();
        let named = ports.iter().find(|port| port.name.as_deref() == Some(port_name));
        let unnamed = || match ports {
            [only] if only.name.as_deref().unwrap_or_default().is_empty() => Some(only),
            _ => None,
        };
        named.or_else(unnamed)?.port
    }
}

impl Endpoint {
    fn fitness(&self) -> Option<Fitness> {
        let conditions = self.conditions.as_ref().unwrap_or(&Conditions {
            ready: None,
            serving: None,
            terminating: None,
        });
        let is_terminating = conditions.terminating.unwrap_or(false);
        let is_ready = conditions.ready.unwrap_or(true);
        match (is_ready && !is_terminating, is_terminating) {
            (true, _) => Some(Fitness::Ready),
            (false, true) if conditions.serving.unwrap_or(is_ready) => Some(Fitness::Leaving),
            (false, _) => None,
        }
    }

    /// Addresses of one endpoint are the same pod: the first will do.
    fn instance(&self, port: u16) -> Option<Instance> {
        let address = Address::new(self.addresses.first()?, port).ok()?;
        let pod = self.target_ref.as_ref().and_then(|target| target.name.clone());
        let words = [
            ("zone", self.zone.clone()),
            ("node", self.node_name.clone()),
            ("pod", pod),
        ];
        let mut instance = Instance::new(address);
        for (key, word) in words {
            instance.metadata.extend(word.map(|word| (key.to_owned(), word)));
        }
        Some(instance)
    }
}

#[cfg(test)]
mod tests {
    use mosaic_core::Runtime;
    use serde_json::json;

    use super::*;
    use crate::instance::merged;

    fn endpoint(address: &str, conditions: &Value) -> Value {
        json!({ "addresses": [address], "conditions": conditions })
    }

    fn slice(name: &str, family: &str, endpoints: &Value) -> Value {
        json!({
            "metadata": { "name": name }, "addressType": family, "endpoints": endpoints,
            "ports": [{ "name": "http", "port": 8080 }, { "name": "grpc", "port": 9080 }],
        })
    }

    #[track_caller]
    fn check(slices: &[Value], want: &[&str]) {
        let publisher = Publisher::new(&"users".parse().unwrap(), &Runtime::system());
        let mut view = Slices::default();
        for slice in slices {
            view.put(slice.clone(), &publisher);
        }
        let found = merged(view.instances("grpc", &publisher));
        let found: Vec<String> = found.iter().map(|instance| instance.address.to_string()).collect();
        assert_eq!(found, want);
    }

    #[test]
    fn conditions_decide_as_in_kube_proxy() {
        let ready = endpoint(
            "10.0.0.1",
            &json!({ "ready": true, "serving": true, "terminating": false }),
        );
        let unknown = endpoint("10.0.0.2", &json!({}));
        let starting = endpoint(
            "10.0.0.3",
            &json!({ "ready": false, "serving": false, "terminating": false }),
        );
        let leaving = endpoint(
            "10.0.0.4",
            &json!({ "ready": false, "serving": true, "terminating": true }),
        );
        let dying = endpoint(
            "10.0.0.5",
            &json!({ "ready": false, "serving": false, "terminating": true }),
        );
        // publishNotReadyAddresses says ready to the last.
        let claimed = endpoint(
            "10.0.0.6",
            &json!({ "ready": true, "serving": true, "terminating": true }),
        );
        let of = |endpoints: &[&Value]| [slice("a", "IPv4", &json!(endpoints))];
        check(
            &of(&[&ready, &unknown, &starting, &leaving, &dying, &claimed]),
            &["10.0.0.1:9080", "10.0.0.2:9080"],
        );
        check(&of(&[&starting, &leaving, &dying]), &["10.0.0.4:9080"]);
        check(&of(&[&starting, &dying]), &[]);
    }

    #[test]
    fn slices_are_merged_and_a_pod_of_both_families_is_one_instance() {
        let v4 = slice("a", "IPv4", &json!([endpoint("10.0.0.1", &json!({}))]));
        let more = slice(
            "b",
            "IPv4",
            &json!([endpoint("10.0.0.1", &json!({})), endpoint("10.0.0.2", &json!({}))]),
        );
        let v6 = slice("c", "IPv6", &json!([endpoint("fd00::1", &json!({}))]));
        check(&[v4, more, v6.clone()], &["10.0.0.1:9080", "10.0.0.2:9080"]);
        check(&[v6], &["[fd00::1]:9080"]);
    }

    #[test]
    fn the_port_is_found_by_name_or_is_the_only_one_without() {
        let mut unnamed = slice("a", "IPv4", &json!([endpoint("10.0.0.1", &json!({}))]));
        unnamed["ports"] = json!([{ "name": "", "port": 7 }]);
        check(&[unnamed.clone()], &["10.0.0.1:7"]);
        unnamed["ports"] = json!([{ "name": "http", "port": 7 }]);
        check(&[unnamed.clone()], &[]);
        unnamed["ports"] = Value::Null;
        check(&[unnamed], &[]);
    }

    #[test]
    fn what_cannot_be_read_takes_no_other_with_it() {
        let good = slice(
            "a",
            "IPv4",
            &json!([endpoint("10.0.0.1", &json!({})), endpoint("not an address", &json!({}))]),
        );
        let nulls = slice("b", "IPv4", &Value::Null);
        let strange = json!({ "metadata": { "name": "c" }, "addressType": 7 });
        check(&[good, nulls, strange, json!("x")], &["10.0.0.1:9080"]);
    }
}
