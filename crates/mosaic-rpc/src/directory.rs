//! Where each service is, as far as this process knows.
//!
//! Modules put in what they serve while they are installed; clients look a service up at their first call, so the order
//! of installation does not matter and a process starts while its dependencies are down. What is served here is called
//! here; everything else is looked up by its domain in a static list of addresses.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mosaic_core::{Error, Result, Runtime, ServiceDescriptor};

use crate::channel::{Channel, ChannelOptions};
use crate::client::Binding;
use crate::{ChannelError, Client, Connect, PeerKey, Served};

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
    peers: Option<PeerKey>,
    options: ChannelOptions,
    addresses: BTreeMap<String, Vec<String>>,
    local: Mutex<HashMap<&'static str, Box<dyn Any + Send + Sync>>>,
    channels: Mutex<HashMap<String, Channel>>,
}

impl Directory {
    /// Makes a directory that knows the `addresses` (`http://host:port`) of each domain that runs elsewhere.
    ///
    /// # Errors
    /// An address that is no URI, with its domain.
    pub fn new(
        runtime: &Runtime,
        local_calls: LocalCalls,
        peers: Option<PeerKey>,
        options: ChannelOptions,
        addresses: BTreeMap<String, Vec<String>>,
    ) -> Result<Self, ChannelError> {
        for list in addresses.values() {
            Channel::check(list)?;
        }
        let (local, channels) = (Mutex::default(), Mutex::default());
        let shared = Shared {
            runtime: runtime.clone(),
            local_calls,
            peers,
            options,
            addresses,
            local,
            channels,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Makes a directory of one process that calls nobody else.
    pub fn local(runtime: &Runtime, local_calls: LocalCalls) -> Self {
        Self::new(runtime, local_calls, None, ChannelOptions::default(), BTreeMap::new())
            .expect("no address cannot be a bad address")
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
    pub fn client<C: Connect>(&self, caller: &Arc<str>) -> C {
        C::from_client(Client::late(self.clone(), C::SERVICE, caller.clone()))
    }

    /// Returns the names of the domains that run elsewhere.
    pub fn remote_domains(&self) -> impl Iterator<Item = &str> {
        self.shared.addresses.keys().map(String::as_str)
    }

    pub(crate) fn peers(&self) -> Option<&PeerKey> {
        self.shared.peers.as_ref()
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
        let domain = service.domain();
        let Some(addresses) = self.shared.addresses.get(domain) else {
            return Err(Error::unavailable(
                "SERVICE_UNKNOWN",
                format!("no instance of {domain} is known"),
            ));
        };
        let mut channels = lock(&self.shared.channels);
        if let Some(channel) = channels.get(domain) {
            return Ok(Binding::Remote(channel.clone()));
        }
        let channel = Channel::connect(addresses, &self.shared.options).map_err(Error::internal)?;
        channels.insert(domain.to_owned(), channel.clone());
        Ok(Binding::Remote(channel))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let local: Vec<_> = lock(&self.shared.local).keys().copied().collect();
        f.debug_struct("Directory")
            .field("local", &local)
            .field("addresses", &self.shared.addresses)
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

    fn directory(addresses: &[(&str, &[&str])]) -> Result<Directory, ChannelError> {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let addresses = addresses
            .iter()
            .map(|(domain, list)| ((*domain).to_owned(), texts(list)))
            .collect();
        let runtime = Runtime::system();
        Directory::new(&runtime, LocalCalls::Direct, None, ChannelOptions::default(), addresses)
    }

    #[test]
    fn a_bad_address_is_told_at_the_start_with_its_text() {
        let error = directory(&[("users", &["http://a:1", "nowhere"])]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"nowhere\" is not an address of the form http://host:port"
        );
        assert!(matches!(directory(&[("users", &[])]), Err(ChannelError::NoAddress)));
    }

    #[tokio::test]
    async fn what_is_served_here_is_called_here_whatever_the_list_says() {
        let directory = directory(&[("users", &["http://a:1"])]).unwrap();
        assert!(matches!(directory.find::<()>(&SERVICE), Ok(Binding::Remote(_))));
        directory.add(Served::new(&SERVICE, Arc::new(())));
        assert!(matches!(directory.find::<()>(&SERVICE), Ok(Binding::Local(_))));
    }

    #[tokio::test]
    async fn nobody_is_no_binding_for_ever() {
        let directory = directory(&[]).unwrap();
        let error = directory.find::<()>(&SERVICE).unwrap_err();
        assert_eq!(
            (error.reason(), error.message()),
            ("SERVICE_UNKNOWN", "no instance of users is known")
        );
        directory.add(Served::new(&SERVICE, Arc::new(())));
        assert!(directory.find::<()>(&SERVICE).is_ok());
    }
}
