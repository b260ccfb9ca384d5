//! From a URL to a registry.

use std::collections::BTreeMap;
use std::sync::Arc;

use mosaic_core::{Runtime, TaskGroup};

use crate::dns::DnsRegistry;
use crate::double::DoubleRegistry;
use crate::etcd::EtcdRegistry;
use crate::fixed::FixedRegistry;
use crate::kubernetes::KubernetesRegistry;
use crate::location::Location;
use crate::memory::MemoryRegistry;
use crate::{Instance, Registry, RegistryError, ServiceName};

/// What a URL cannot say.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The list of `static:`.
    pub services: BTreeMap<ServiceName, Vec<Instance>>,
}

/// Opens the registry of `url`; contacts nobody, so it need not be there yet.
///
/// What registers and watches are tasks of `tasks`: they end with it, so it is to be held as long as what is made here.
///
/// `memory:[name]`, `static:`, `dns://`, `etcd://` or `kubernetes:`; or two of them with `|` between: both are written,
/// and the first is read unless it has nothing to say. The guide of discovery has the whole form of each.
///
/// # Errors
/// [`RegistryError::Scheme`] and [`RegistryError::Url`] for mistakes in the URL.
pub fn open(
    url: &str,
    options: &Options,
    runtime: &Runtime,
    tasks: &TaskGroup,
) -> Result<Arc<dyn Registry>, RegistryError> {
    match url.split_once('|') {
        None => open_one(url, options, runtime, tasks),
        Some((first, second)) => Ok(Arc::new(DoubleRegistry::new(
            open_one(first.trim(), options, runtime, tasks)?,
            open_one(second.trim(), options, runtime, tasks)?,
            runtime,
            tasks,
        ))),
    }
}

fn open_one(
    url: &str,
    options: &Options,
    runtime: &Runtime,
    tasks: &TaskGroup,
) -> Result<Arc<dyn Registry>, RegistryError> {
    let location: Location = url.parse()?;
    match location.scheme.as_str() {
        "memory" => {
            let registry = MemoryRegistry::open(&location.path, runtime, tasks);
            location.finish()?;
            Ok(Arc::new(registry))
        }
        "static" => {
            location.only_query()?;
            location.finish()?;
            Ok(Arc::new(FixedRegistry::new(options.services.clone(), runtime, tasks)))
        }
        "dns" => Ok(Arc::new(DnsRegistry::open(location, runtime, tasks)?)),
        "etcd" => Ok(Arc::new(EtcdRegistry::open(location, runtime, tasks)?)),
        "kubernetes" => Ok(Arc::new(KubernetesRegistry::open(location, runtime, tasks)?)),
        _ => Err(RegistryError::Scheme),
    }
}
