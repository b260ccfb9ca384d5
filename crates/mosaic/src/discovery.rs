//! Finding others, and being found.
//!
//! Domains that `rpc.services` lists are where it says; the others are where the registry says. What this process serves
//! is announced when it is ready and taken back before it drains, so that callers go elsewhere while it still answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::join_all;
use mosaic_core::config::{Live, Settings};
use mosaic_core::{Runtime, ServiceDescriptor, TaskGroup};
use mosaic_registry::{Address, Instance, Registration, Registry, ServiceName};
use mosaic_rpc::{ChannelOptions, Directory, PeerKey, Remote, Routing};

use crate::{RegistryConfig, RpcConfig};

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
            is_shared: config.url.scheme() == "etcd",
            weight: config.weight.clone(),
            metadata: config.metadata.clone(),
        })
    }

    /// Returns how this process finds others.
    pub(crate) fn remote(&self, rpc: &RpcConfig, peers: PeerKey, settings: &Settings) -> Option<Remote> {
        Some(Remote {
            peers: Some(peers),
            listed: listed(&rpc.services, settings)?,
            registry: self.registry.clone(),
            options: ChannelOptions {
                connect_timeout: rpc.connect_timeout,
                ready_timeout: rpc.ready_timeout,
                health_interval: rpc.health_interval,
                slow_start: rpc.slow_start,
                subset: rpc.subset,
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

fn advertised(text: &str) -> Option<Advertised> {
    let address = text.parse().ok().map(Advertised::Address);
    // A port that is none of ours, to see whether the host is one.
    address.or_else(|| Address::new(text, 1).ok().map(|_| Advertised::Host(text.to_owned())))
}

fn listed(services: &BTreeMap<String, Vec<String>>, settings: &Settings) -> Option<BTreeMap<String, Vec<Address>>> {
    let mut is_good = true;
    let mut listed = BTreeMap::new();
    for (domain, texts) in services {
        let key = format!("rpc.services.{domain}");
        let addresses = texts.iter().filter_map(|text| {
            let address = text.strip_prefix("http://").and_then(|text| text.parse().ok());
            if address.is_none() {
                is_good = false;
                settings.report(&key, format!("{text:?} is not an address of the form http://host:port"));
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
            assert_eq!(listed(&services, &settings).is_some(), is_good, "{address}");
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
        assert!(listed(&none, &mosaic_core::config::Layers::default().settings()).is_none());
    }

    #[test]
    fn advertised_is_a_host_or_an_address() {
        assert!(matches!(advertised("users-0.internal"), Some(Advertised::Host(_))));
        assert!(matches!(advertised("10.0.0.7"), Some(Advertised::Host(_))));
        assert!(matches!(advertised("10.0.0.7:9080"), Some(Advertised::Address(_))));
        assert!(advertised("http://users:80").is_none() && advertised("a b").is_none());
    }
}
