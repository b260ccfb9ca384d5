//! Finding others, and being found.
//!
//! Domains that `rpc.services` lists are where it says; the others are where the registry says. What this process serves
//! is announced when it is ready and taken back before it drains, so that callers go elsewhere while it still answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use mosaic_core::config::{Live, Settings};
use mosaic_core::{Runtime, ServiceDescriptor, TaskGroup};
use mosaic_registry::{Address, Instance, Registration, Registry, ServiceName};
use mosaic_rpc::{ChannelOptions, Directory, PeerKey, Remote, Routing, Tls};

use crate::{RegistryConfig, RpcConfig};

/// How long registries, and those who read them, are given to hear of an end.
const LINGER: Duration = Duration::from_secs(1);

/// How this process is announced.
#[derive(Debug)]
pub(crate) struct Discovery {
    registry: Arc<dyn Registry>,
    advertise: Option<Advertised>,
    is_shared: bool,
    weight: Live<u32>,
    metadata: BTreeMap<String, String>,
}

/// What `registry.advertise` says.
#[derive(Debug)]
enum Advertised {
    Host(String),
    Address(Address),
}

impl Discovery {
    /// Opens the registry; what is wrong with the configuration is reported to `settings`.
    pub(crate) fn open(
        runtime: &Runtime,
        config: &RegistryConfig,
        tasks: &TaskGroup,
        settings: &Settings,
    ) -> Option<Self> {
        let url = config.url.expose();
        let opened = mosaic_registry::open(url, &mosaic_registry::Options::default(), runtime, tasks);
        let registry = opened
            .map_err(|error| settings.report("registry.url", error.to_string()))
            .ok()?;
        let advertise = match &config.advertise {
            None => None,
            Some(text) => Some(advertised(text).or_else(|| {
                settings.report(
                    "registry.advertise",
                    "must be a host, or a host and a port: users-0.internal:9080",
                );
                None
            })?),
        };
        Some(Self {
            registry,
            advertise,
            is_shared: config.url.expose().split('|').any(is_shared),
            weight: config.weight.clone(),
            metadata: config.metadata.clone(),
        })
    }

    /// Returns how this process finds others.
    pub(crate) fn remote(
        &self,
        rpc: &RpcConfig,
        tls: Option<Tls>,
        peers: PeerKey,
        settings: &Settings,
    ) -> Option<Remote> {
        Some(Remote {
            peers: Some(peers),
            listed: listed(&rpc.services, tls.is_some(), settings)?,
            registry: self.registry.clone(),
            options: ChannelOptions {
                connect_timeout: rpc.connect_timeout,
                ready_timeout: rpc.ready_timeout,
                health_interval: rpc.health_interval,
                slow_start: rpc.slow_start,
                subset: rpc.subset,
                tls,
                ..ChannelOptions::default()
            },
            routing: Routing {
                balancer: rpc.balancer.clone(),
                balancers: rpc.balancers.clone(),
                affinity: rpc.affinity.clone(),
                split: rpc.split.clone(),
                own: None,
            },
        })
    }

    /// Returns how long new connections are served after the end was asked for: others hear of it with a delay.
    pub(crate) fn linger(&self, rpc: &RpcConfig) -> Duration {
        let usual = if self.is_shared { LINGER } else { Duration::ZERO };
        rpc.linger.unwrap_or(usual)
    }

    /// Announces `services` of the process that listens on `grpc`.
    pub(crate) fn announce(
        &self,
        directory: &Directory,
        services: &[&'static ServiceDescriptor],
        grpc: SocketAddr,
    ) -> Announcement {
        let address = match &self.advertise {
            Some(Advertised::Address(address)) => Ok(address.clone()),
            Some(Advertised::Host(host)) => Address::new(host, grpc.port()),
            None => Address::try_from(grpc),
        };
        let domains: BTreeSet<_> = services.iter().map(|service| service.domain()).collect();
        let Some(address) = address.ok().filter(|address| !address.is_unspecified()) else {
            if self.is_shared {
                tracing::error!(%grpc, "nobody can be told where this process listens: set registry.advertise");
            }
            return Announcement::default();
        };
        directory.set_own(address.clone());
        let weight = self.weight.copied();
        let mut instance = Instance::new(address);
        instance.metadata = self.metadata.clone();
        let instance = instance.with("weight", weight.to_string());
        let register = |domain: &&str| {
            let name: ServiceName = domain.parse().ok()?;
            Some(self.registry.register(&name, instance.clone()))
        };
        Announcement {
            registrations: domains.iter().filter_map(register).collect(),
            metadata: instance.metadata.clone(),
            weight: Some((self.weight.clone(), weight)),
        }
    }
}

/// What is announced, until it is withdrawn.
#[derive(Debug, Default)]
pub(crate) struct Announcement {
    registrations: Vec<Registration>,
    metadata: BTreeMap<String, String>,
    weight: Option<(Live<u32>, u32)>,
}

impl Announcement {
    /// Announces the weight anew if the configuration has changed it.
    pub(crate) fn refresh(&mut self) {
        let Some((live, announced)) = &mut self.weight else {
            return;
        };
        let weight = live.copied();
        if weight == *announced {
            return;
        }
        *announced = weight;
        self.metadata.insert("weight".to_owned(), weight.to_string());
        self.registrations
            .iter()
            .for_each(|registration| registration.update(&self.metadata));
    }

    /// Withdraws everything; true if somebody may have found this process through it.
    pub(crate) async fn withdraw(self) -> bool {
        let was_announced = !self.registrations.is_empty();
        join_all(self.registrations.into_iter().map(Registration::deregister)).await;
        was_announced
    }
}

/// Do other processes read the registry of this URL?
fn is_shared(url: &str) -> bool {
    let scheme = url.trim().split(':').next();
    matches!(scheme, Some("etcd" | "kubernetes" | "dns"))
}

fn advertised(text: &str) -> Option<Advertised> {
    let address = text.parse().ok().map(Advertised::Address);
    // A port that is none of ours, to see whether the host is one.
    address.or_else(|| Address::new(text, 1).ok().map(|_| Advertised::Host(text.to_owned())))
}

/// Reads `rpc.services`. With TLS, nothing is called without it: `http://` then means what `https://` does.
fn listed(
    services: &BTreeMap<String, Vec<String>>,
    has_tls: bool,
    settings: &Settings,
) -> Option<BTreeMap<String, Vec<Address>>> {
    let mut is_good = true;
    let mut listed = BTreeMap::new();
    for (domain, texts) in services {
        let key = format!("rpc.services.{domain}");
        let addresses = texts.iter().filter_map(|text| {
            let secured = text.strip_prefix("https://");
            let address = secured.or_else(|| text.strip_prefix("http://"));
            let address = address.and_then(|text| text.parse().ok());
            let mistake = match &address {
                None => Some(format!("{text:?} is not an address of the form http://host:port")),
                Some(_) if secured.is_some() && !has_tls => {
                    Some(format!("{text:?} needs tls.cert, tls.key and tls.ca"))
                }
                Some(_) => None,
            };
            if let Some(mistake) = mistake {
                is_good = false;
                settings.report(&key, mistake);
            }
            address
        });
        let addresses: Vec<Address> = addresses.collect();
        if texts.is_empty() {
            is_good = false;
            settings.report(&key, "a service elsewhere needs at least one address");
        }
        listed.insert(domain.clone(), addresses);
    }
    is_good.then_some(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_told_before_any_call() {
        #[track_caller]
        fn check(address: &str, is_good: bool) {
            let services = BTreeMap::from([("users".to_owned(), vec![address.to_owned()])]);
            let settings = mosaic_core::config::Layers::default().settings();
            assert_eq!(listed(&services, false, &settings).is_some(), is_good, "{address}");
            assert_eq!(settings.problems().is_empty(), is_good, "{address}");
        }
        check("http://10.0.0.7:9080", true);
        check("http://users.internal:9080", true);
        check("http://[::1]:9080", true);
        for bad in [
            "",
            "users",
            "users:9080",
            "http://users",
            "http://:9080",
            "https://users:9080",
            "grpc://users:9080",
            "http://users:99999",
            "http://users:9080/path",
            "http://users:9080?query",
            "http://a@users:9080",
            "http://us ers:9080",
        ] {
            check(bad, false);
        }
        let none = BTreeMap::from([("users".to_owned(), Vec::new())]);
        assert!(listed(&none, false, &mosaic_core::config::Layers::default().settings()).is_none());
    }

    #[test]
    fn with_tls_both_schemes_mean_it_and_without_it_one_is_a_mistake() {
        for (address, has_tls, is_good) in [
            ("https://users:9080", true, true),
            ("http://users:9080", true, true),
            ("https://users:9080", false, false),
        ] {
            let services = BTreeMap::from([("users".to_owned(), vec![address.to_owned()])]);
            let settings = mosaic_core::config::Layers::default().settings();
            assert_eq!(
                listed(&services, has_tls, &settings).is_some(),
                is_good,
                "{address} {has_tls}"
            );
            assert_eq!(settings.problems().is_empty(), is_good, "{address} {has_tls}");
        }
    }

    #[test]
    fn a_shared_registry_is_one_that_others_read() {
        for shared in ["etcd://a:1", "kubernetes:", "memory: | dns://users.internal"] {
            assert!(shared.split('|').any(is_shared), "{shared}");
        }
        assert!(!["memory:", "static:"].into_iter().any(is_shared));
    }

    #[test]
    fn advertised_is_a_host_or_an_address() {
        assert!(matches!(advertised("users-0.internal"), Some(Advertised::Host(_))));
        assert!(matches!(advertised("10.0.0.7"), Some(Advertised::Host(_))));
        assert!(matches!(advertised("10.0.0.7:9080"), Some(Advertised::Address(_))));
        assert!(advertised("http://users:80").is_none() && advertised("a b").is_none());
    }
}
