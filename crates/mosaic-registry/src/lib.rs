//! Who is where: instances of services, announced and watched.
//!
//! A [`Registry`] is written to with [`Registry::register`] and read with [`Registry::watch`]. Both return at once and
//! never fail: the work is done by background tasks that go on for ever, so that a process starts while its registry is
//! down, keeps calling what it last knew while the registry is away, and is listed again when it is back. Nobody waits
//! for a registry on the way of a request.
//!
//! What must hold in every implementation, and is asked of each by `tests/registry`:
//!
//! - a registration is there until it is dropped or deregistered, whatever the registry forgets meanwhile;
//! - a snapshot is replaced by a newer one, never by an error: an outage empties nothing;
//! - an entry that cannot be read is counted and left out, and takes no other entry with it.
//!
//! [`open`] makes the implementation that a URL names.

mod address;
mod backoff;
mod dns;
mod double;
mod due;
mod error;
mod etcd;
mod feed;
mod fixed;
mod instance;
mod keeper;
mod kubernetes;
mod location;
mod memory;
mod open;
mod registration;
mod service_name;
mod tls;
mod watch;

use std::fmt::Debug;

pub use address::Address;
pub use error::RegistryError;
pub use instance::{Instance, Snapshot};
pub use open::{Options, open};
pub use registration::Registration;
pub use service_name::ServiceName;
pub use watch::Watch;

/// Where instances are announced and found.
pub trait Registry: Debug + Send + Sync + 'static {
    /// Announces `instance` as one of `service` until the registration ends. Returns at once.
    ///
    /// A registry that is written by somebody else (a static list, DNS, Kubernetes) accepts and does nothing.
    fn register(&self, service: &ServiceName, instance: Instance) -> Registration;

    /// Follows the instances of `service`. Returns at once, with what is known already.
    ///
    /// All who watch one service share one conversation with the registry.
    fn watch(&self, service: &ServiceName) -> Watch;
}
