//! Where each service is, as far as this process knows.
//!
//! Modules put in what they serve while they are installed; clients look a service up at their first call, so the order
//! of installation does not matter and a process starts while its dependencies are down. What is served here is called
//! here; everything else is looked up by its domain: in a list of addresses, if that names the domain, else in the
//! registry.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};

use mosaic_core::{Error, Result, Runtime, ServiceDescriptor, lock};
use mosaic_guard::Rules;
use mosaic_registry::{Address, Registry, ServiceName};

use crate::balance::Draws;
use crate::channel::{Channel, ChannelOptions, Routing};
use crate::client::Binding;
use crate::{Client, Connect, PeerKey, Served, Share};

/// How calls within the process are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LocalCalls {
    /// Arguments and results move.
    #[default]
    Direct,
    /// Arguments and results go through encode and decode, so that nothing works here that the wire would lose.
    Strict,
}

/// See the module documentation. Cheap to clone: clones are the same directory.
#[derive(Clone)]
pub struct Directory {
    shared: Arc<Shared>,
}

struct Shared {
    runtime: Runtime,
    local_calls: LocalCalls,
    rules: Rules,
    draws: Draws,
    remote: Option<Remote>,
    local: Mutex<HashMap<&'static str, Box<dyn Any + Send + Sync>>>,
    channels: Mutex<HashMap<&'static str, Channel>>,
    /// Where others reach this process, once it is known.
    own: OnceLock<Address>,
}

/// How other processes are found and called.
#[derive(Debug, Clone)]
pub struct Remote {
    /// What proves to others who calls.
    pub peers: Option<PeerKey>,
    /// Domains whose instances are listed: the registry is not asked for them.
    pub listed: BTreeMap<String, Vec<Address>>,
    /// Where instances of other domains are found.
    pub registry: Arc<dyn Registry>,
    /// Settings of connections.
    pub options: ChannelOptions,
    /// Balancers.
    pub routing: Routing,
}

impl Directory {
    /// Makes a directory that finds others with `remote`; all calls go out by `rules`.
    pub fn new(runtime: &Runtime, local_calls: LocalCalls, rules: Rules, remote: Remote) -> Self {
        Self::with(runtime, local_calls, rules, Some(remote))
    }

    /// Makes a directory of one process that calls nobody else.
    pub fn local(runtime: &Runtime, local_calls: LocalCalls) -> Self {
        Self::with(runtime, local_calls, Rules::default(), None)
    }

    fn with(runtime: &Runtime, local_calls: LocalCalls, rules: Rules, remote: Option<Remote>) -> Self {
        let shared = Shared {
            runtime: runtime.clone(),
            local_calls,
            rules,
            draws: Draws::new(runtime.random_u64()),
            remote,
            local: Mutex::default(),
            channels: Mutex::default(),
            own: OnceLock::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Returns the clock, randomness and ids that calls are made with.
    pub fn runtime(&self) -> &Runtime {
        &self.shared.runtime
    }

    /// Puts in a service that this process serves.
    pub fn add<P: ?Sized + Send + Sync + 'static>(&self, served: Served<P>) {
        lock(&self.shared.local).insert(served.service().name, Box::new(served));
    }

    /// Returns a client of a service, wherever it is, that calls in the name of the service `caller`.
    pub fn client<C: Connect>(&self, caller: &str) -> C {
        C::from_client(Client::late(self.clone(), C::SERVICE, caller))
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.shared.rules
    }

    pub(crate) fn peers(&self) -> Option<&PeerKey> {
        self.shared.remote.as_ref()?.peers.as_ref()
    }

    /// Finds where `service` is.
    ///
    /// # Errors
    /// `Unavailable` (`SERVICE_UNKNOWN`) while nobody is known to serve it.
    pub(crate) fn find<P: ?Sized + Send + Sync + 'static>(
        &self,
        service: &'static ServiceDescriptor,
    ) -> Result<Binding<P>> {
        if let Some(served) = lock(&self.shared.local)
            .get(service.name)
            .and_then(|any| any.downcast_ref::<Served<P>>())
        {
            return Ok(match self.shared.local_calls {
                LocalCalls::Direct => Binding::Local(served.clone()),
                LocalCalls::Strict => Binding::Strict(served.clone()),
            });
        }
        self.channel(service).map(Binding::Remote)
    }

    /// Returns the way to instances elsewhere of a service that this process serves too, if this call is to go there.
    pub(crate) fn split(&self, service: &'static ServiceDescriptor) -> Option<Channel> {
        let split = &self.shared.remote.as_ref()?.routing.split;
        let of_service = |split: &BTreeMap<String, Share>| {
            // Mostly nothing is split, and every call asks.
            (!split.is_empty())
                .then(|| split.get(service.domain()).copied())
                .flatten()
        };
        let share = split.with(of_service)?;
        if !share.has(self.shared.draws.next()) {
            return None;
        }
        self.channel(service).ok().filter(Channel::is_ready)
    }

    /// Tells where others reach this process, so that it does not call itself over the wire.
    pub fn set_own(&self, address: Address) {
        // A process is announced once.
        let _ = self.shared.own.set(address);
    }

    fn channel(&self, service: &'static ServiceDescriptor) -> Result<Channel> {
        let domain = service.domain();
        let unknown = || Error::unavailable("SERVICE_UNKNOWN", format!("no instance of {domain} is known"));
        let remote = self.shared.remote.as_ref().ok_or_else(unknown)?;
        let mut channels = lock(&self.shared.channels);
        if let Some(channel) = channels.get(domain) {
            return Ok(channel.clone());
        }
        let (runtime, options) = (&self.shared.runtime, remote.options.clone());
        let routing = Routing {
            own: self.shared.own.get().cloned(),
            ..remote.routing.clone()
        };
        let channel = match remote.listed.get(domain) {
            Some(addresses) => Channel::listed(runtime, addresses, service.name, options, routing),
            None => {
                let name: ServiceName = domain.parse().map_err(Error::internal)?;
                Channel::new(runtime, remote.registry.watch(&name), service.name, options, routing)
            }
        };
        channels.insert(domain, channel.clone());
        Ok(channel)
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let local: Vec<_> = lock(&self.shared.local).keys().copied().collect();
        f.debug_struct("Directory")
            .field("local", &local)
            .field("remote", &self.shared.remote)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static SERVICE: ServiceDescriptor = ServiceDescriptor {
        name: "users.v1.Users",
        methods: &[],
        file_descriptor_set: &[],
        openapi: "",
        sensitive: &[],
    };

    fn directory(listed: &[(&str, &str)]) -> Directory {
        let tasks = mosaic_core::TaskGroup::new(|_| {});
        let runtime = Runtime::system();
        let options = mosaic_registry::Options::default();
        let remote = Remote {
            peers: None,
            listed: listed
                .iter()
                .map(|(domain, address)| ((*domain).to_owned(), vec![address.parse().unwrap()]))
                .collect(),
            registry: mosaic_registry::open("static:", &options, &runtime, &tasks).unwrap(),
            options: ChannelOptions::default(),
            routing: Routing::default(),
        };
        Directory::new(&runtime, LocalCalls::Direct, Rules::default(), remote)
    }

    #[tokio::test]
    async fn what_is_served_here_is_called_here_whatever_the_list_says() {
        let directory = directory(&[("users", "a:1")]);
        assert!(matches!(directory.find::<()>(&SERVICE), Ok(Binding::Remote(_))));
        directory.add(Served::new(&SERVICE, Arc::new(())));
        assert!(matches!(directory.find::<()>(&SERVICE), Ok(Binding::Local(_))));
    }

    #[tokio::test]
    async fn nobody_is_no_binding_for_ever() {
        let directory = Directory::local(&Runtime::system(), LocalCalls::Direct);
        let error = directory.find::<()>(&SERVICE).unwrap_err();
        assert_eq!(
            (error.reason(), error.message()),
            ("SERVICE_UNKNOWN", "no instance of users is known")
        );
        directory.add(Served::new(&SERVICE, Arc::new(())));
        assert!(directory.find::<()>(&SERVICE).is_ok());
    }
}
