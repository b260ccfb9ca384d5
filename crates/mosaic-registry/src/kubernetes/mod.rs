//! Kubernetes (`kubernetes:`): the EndpointSlices of a Service, listed and watched at the API server.
//!
//! Kubernetes writes them itself, from pods and their readiness probes, so registering succeeds and changes nothing. We
//! read: list, then watch from the list's version on, and list again when that version is forgotten (410 Gone). Bookmarks
//! move the version on while nothing changes, so that a watch that has ended goes on where it stood. What it takes to
//! be allowed to read is in `deploy/kubernetes/rbac.yaml`.

mod api;
mod slices;

use std::path::{Path, PathBuf};
use std::time::Duration;

use mosaic_core::{Runtime, TaskGroup};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use self::api::{Api, Failure, Lines, Namespace, Session};
use self::slices::Slices;
use crate::backoff::Backoff;
use crate::due::{COALESCE, Due};
use crate::feed::{Feeds, Publisher};
use crate::location::Location;
use crate::{Instance, Registration, Registry, RegistryError, ServiceName, Watch};

/// What the API server calls itself within a cluster.
const SERVER: &str = "https://kubernetes.default.svc";
/// Where a pod finds who it is.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const PORT_NAME: &str = "grpc";
/// A watch that ends sooner than this is followed by a pause.
const WATCH_LEAST: Duration = Duration::from_secs(1);
const GONE: u64 = 410;

#[derive(Debug)]
pub(crate) struct KubernetesRegistry {
    follow: Follow,
    feeds: Feeds,
}

impl KubernetesRegistry {
    /// Opens `kubernetes:[?namespace=prod&port_name=grpc]`, from outside a cluster with
    /// `server=https://host&token_file=..&ca_file=..`.
    pub(crate) fn open(mut location: Location, runtime: &Runtime, tasks: &TaskGroup) -> Result<Self, RegistryError> {
        location.only_query()?;
        let account = |name: &str| Path::new(ACCOUNT).join(name);
        let server = location.take("server");
        let is_outside = server.is_some();
        let file = |given: Option<String>, name: &str| {
            let of_account = (!is_outside).then(|| account(name));
            given.map(PathBuf::from).or(of_account)
        };
        let namespace = match location.take("namespace") {
            Some(name) if is_label(&name) => Namespace::Named(name),
            Some(_) => return Err(RegistryError::Url("namespace is not a name".to_owned())),
            None if is_outside => return Err(RegistryError::Url("server needs a namespace".to_owned())),
            None => Namespace::OfFile(account("namespace")),
        };
        let api = Api {
            token_file: file(location.take("token_file"), "token"),
            ca_file: file(location.take("ca_file"), "ca.crt"),
            server: address(server)?,
            namespace,
        };
        let port_name = location.take("port_name").unwrap_or_else(|| PORT_NAME.to_owned());
        location.finish()?;
        let follow = Follow {
            api,
            port_name,
            runtime: runtime.clone(),
        };
        Ok(Self {
            follow,
            feeds: Feeds::new(runtime, tasks),
        })
    }
}

fn address(server: Option<String>) -> Result<String, RegistryError> {
    let server = server.unwrap_or_else(|| SERVER.to_owned());
    if server.starts_with("https://") || server.starts_with("http://") {
        Ok(server.trim_end_matches('/').to_owned())
    } else {
        Err(RegistryError::Url("server must be https://host".to_owned()))
    }
}

/// What may be a part of a path without quoting.
fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

impl Registry for KubernetesRegistry {
    fn register(&self, _service: &ServiceName, _instance: Instance) -> Registration {
        Registration::by_others()
    }

    fn watch(&self, service: &ServiceName) -> Watch {
        let follow = self.follow.clone();
        self.feeds
            .watch(service, move |publisher| follow.clone().run(publisher))
    }
}

/// What a service is followed with.
#[derive(Debug, Clone)]
struct Follow {
    api: Api,
    port_name: String,
    runtime: Runtime,
}

/// A line of a watch.
#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: Value,
}

/// What is known of a service, and up to which version of the store.
#[derive(Debug, Default)]
struct State {
    slices: Slices,
    version: String,
}

impl Follow {
    async fn run(self, publisher: Publisher) {
        let mut backoff = Backoff::new(&self.runtime);
        loop {
            match self.converse(&publisher, &mut backoff).await {
                Failure::Gone => {
                    publisher.restarted();
                    // Not at once: a server that forgets faster than we list must not be hammered.
                    backoff.pause().await;
                }
                Failure::Other(cause) => {
                    publisher.lost(&cause);
                    backoff.pause().await;
                }
            }
        }
    }

    /// Lists once and watches until something fails.
    async fn converse(&self, publisher: &Publisher, backoff: &mut Backoff) -> Failure {
        let mut state = State::default();
        let session = match self.list(&mut state, publisher).await {
            Ok(session) => session,
            Err(failure) => return failure,
        };
        loop {
            let begun = Instant::now();
            let watched = match session.watch(publisher.service(), &state.version).await {
                Ok(lines) => self.watch(lines, &mut state, publisher).await,
                Err(failure) => Err(failure),
            };
            if let Err(failure) = watched {
                return failure;
            }
            // Ended in order, as each does in the end.
            if begun.elapsed() < WATCH_LEAST {
                backoff.pause().await;
            } else {
                backoff.reset();
            }
        }
    }

    async fn list(&self, state: &mut State, publisher: &Publisher) -> Result<Session, Failure> {
        let session = self.api.session().await?;
        let list = session.list(publisher.service()).await?;
        state.slices.clear();
        for object in list.items.unwrap_or_default() {
            state.slices.put(object, publisher);
        }
        state.version = list.metadata.resource_version;
        publisher.publish(state.slices.instances(&self.port_name, publisher));
        Ok(session)
    }

    /// Applies the lines of a watch until it ends in order.
    async fn watch(&self, mut lines: Lines, state: &mut State, publisher: &Publisher) -> Result<(), Failure> {
        publisher.alive();
        let mut publish = Due::default();
        let outcome = loop {
            tokio::select! {
                line = lines.next() => match line {
                    Ok(Some(line)) => match state.apply(&line, publisher) {
                        Ok(true) => publish.within(COALESCE),
                        Ok(false) => {}
                        Err(failure) => break Err(failure),
                    },
                    Ok(None) => break Ok(()),
                    Err(failure) => break Err(failure),
                },
                () = publish.reached() => {
                    publish.clear();
                    publisher.publish(state.slices.instances(&self.port_name, publisher));
                }
            }
        };
        // What came last must not wait for the next list.
        publisher.publish(state.slices.instances(&self.port_name, publisher));
        outcome
    }
}

impl State {
    /// Applies a line; returns whether it may change the instances.
    fn apply(&mut self, line: &[u8], publisher: &Publisher) -> Result<bool, Failure> {
        let unreadable = |error| Failure::Other(format!("the API server sent a line that is no event: {error}"));
        let event: Event = serde_json::from_slice(line).map_err(unreadable)?;
        if event.kind == "ERROR" {
            return Err(match event.object["code"].as_u64() {
                Some(GONE) => Failure::Gone,
                _ => Failure::Other(format!("the API server ended the watch: {}", event.object["message"])),
            });
        }
        if let Some(version) = event.object["metadata"]["resourceVersion"].as_str() {
            version.clone_into(&mut self.version);
        }
        match event.kind.as_str() {
            "ADDED" | "MODIFIED" => self.slices.put(event.object, publisher),
            "DELETED" => self.slices.remove(&event.object),
            // BOOKMARK has a version and nothing else.
            _ => return Ok(false),
        }
        Ok(true)
    }
}
