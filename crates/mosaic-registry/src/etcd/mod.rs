//! etcd (`etcd://`): leases and watches, spoken to directly.
//!
//! Keys and values are those of etcd's own naming package, see [`entry`]; the promises are kept by [`keep`] (an instance
//! stays listed) and [`follow`] (what is known stays known). Any member of the cluster will do; the one that answered
//! last is asked first.

mod client;
mod connect;
mod entry;
mod follow;
mod keep;
mod view;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mosaic_core::{Runtime, TaskGroup};

use self::client::Client;
use self::entry::Layout;
use self::follow::Follow;
use self::keep::Keep;
use crate::feed::Feeds;
use crate::keeper::Keeper;
use crate::location::Location;
use crate::tls::Tls;
use crate::{Address, Instance, Registration, Registry, RegistryError, ServiceName, Watch};

const PORT: u16 = 2379;
const TTL_DEFAULT: Duration = Duration::from_secs(10);
/// etcd grants no shorter lease with its usual election timeout.
const TTL_MIN: Duration = Duration::from_secs(2);
const TTL_MAX: Duration = Duration::from_secs(3600);
/// Pause after a panic of the task that keeps a registration.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct EtcdRegistry {
    client: Arc<Client>,
    layout: Layout,
    ttl: Duration,
    feeds: Feeds,
    runtime: Runtime,
    tasks: TaskGroup,
}

impl EtcdRegistry {
    /// Opens `etcd://[user:password@]host[:2379][,host..][/prefix][?ttl=10s&tls=on&ca=file&cert=file&key=file]`.
    pub(crate) fn open(mut location: Location, runtime: &Runtime, tasks: &TaskGroup) -> Result<Self, RegistryError> {
        let members = location
            .hosts
            .iter()
            .map(|host| member(host))
            .collect::<Result<Vec<_>, _>>()?;
        if members.is_empty() {
            return Err(RegistryError::Url("etcd needs a host: etcd://host:2379".to_owned()));
        }
        let ttl = location.take_duration("ttl", TTL_DEFAULT, TTL_MIN..=TTL_MAX)?;
        let tls = tls(&mut location)?;
        let layout = Layout::below(&location.path);
        let login = location.login.clone();
        location.finish()?;
        Ok(Self {
            client: Arc::new(Client::new(members, tls, login)),
            layout,
            ttl,
            feeds: Feeds::new(runtime, tasks),
            runtime: runtime.clone(),
            tasks: tasks.clone(),
        })
    }
}

/// Reads a host with or without a port.
fn member(host: &str) -> Result<Address, RegistryError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let mistake = |_| RegistryError::Url("a member of etcd is a host, perhaps with a port".to_owned());
    host.parse().or_else(|_| Address::new(bare, PORT)).map_err(mistake)
}

fn tls(location: &mut Location) -> Result<Option<Tls>, RegistryError> {
    let switch = location.take("tls");
    let ca = location.take("ca").map(PathBuf::from);
    let identity = match (location.take("cert"), location.take("key")) {
        (Some(certificate), Some(key)) => Some((PathBuf::from(certificate), PathBuf::from(key))),
        (None, None) => None,
        _ => return Err(RegistryError::Url("cert and key go together".to_owned())),
    };
    match switch.as_deref() {
        Some("on") => Ok(Some(Tls { ca, identity })),
        None | Some("off") if ca.is_none() && identity.is_none() => Ok(None),
        None | Some("off") => Err(RegistryError::Url("ca, cert and key need tls=on".to_owned())),
        Some(_) => Err(RegistryError::Url("tls must be on or off".to_owned())),
    }
}

impl Registry for EtcdRegistry {
    fn register(&self, service: &ServiceName, instance: Instance) -> Registration {
        let (registration, keeper) = Keeper::new(service, instance, &self.tasks);
        let keep = Keep {
            client: self.client.clone(),
            layout: self.layout.clone(),
            service: service.clone(),
            ttl: self.ttl,
            runtime: self.runtime.clone(),
        };
        self.tasks
            .supervise("registration", PANIC_PAUSE, move || keep.clone().run(keeper.clone()));
        registration
    }

    fn watch(&self, service: &ServiceName) -> Watch {
        let follow = Follow {
            client: self.client.clone(),
            layout: self.layout.clone(),
            grace: self.ttl,
            runtime: self.runtime.clone(),
        };
        self.feeds
            .watch(service, move |publisher| follow.clone().run(publisher))
    }
}
