//! What can be wrong with what is asked of a registry.
//!
//! Only mistakes of configuration: a registry that is down is not an error but a state, see [`crate::Watch::is_live`].

use mosaic_core::Error;

/// Why something cannot be opened, registered or watched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Not a host and a port.
    #[error("an address is a host and a port, such as 10.0.0.7:9080 or [fd00::7]:9080")]
    Address,
    /// Not the name of a service.
    #[error("a service name has letters, digits, '-', '_' and inner dots, at most 128")]
    ServiceName,
    /// No implementation has this scheme.
    #[error("the registry must be memory:, static:, dns://, etcd:// or kubernetes:")]
    Scheme,
    /// The URL has a mistake; the text says which and does not repeat secrets.
    #[error("the URL of the registry: {0}")]
    Url(String),
}

impl From<RegistryError> for Error {
    fn from(error: RegistryError) -> Self {
        let text = error.to_string();
        match error {
            RegistryError::Address => Self::invalid_argument("REGISTRY_ADDRESS_INVALID", text),
            RegistryError::ServiceName => Self::invalid_argument("REGISTRY_SERVICE_INVALID", text),
            RegistryError::Scheme | RegistryError::Url(_) => Self::invalid_argument("REGISTRY_URL_INVALID", text),
        }
    }
}
