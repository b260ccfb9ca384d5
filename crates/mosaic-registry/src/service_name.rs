//! The name that a service is registered under.
//!
//! It becomes a part of etcd keys, DNS names and Kubernetes selectors, so it is checked once, here, and can then be put
//! into any of them without quoting.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::RegistryError;

const LEN_MAX: usize = 128;

/// Letters, digits, `-`, `_` and `.`, at most 128, not beginning or ending with a dot; such as `identity`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let is_clean = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        let has_dot_outside = text.starts_with('.') || text.ends_with('.');
        if is_clean && !has_dot_outside && (1..=LEN_MAX).contains(&text.len()) {
            Ok(Self(text.into()))
        } else {
            Err(RegistryError::ServiceName)
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_keys_and_host_names() {
        for good in ["identity", "user-center_2", "identity.v1", "A", &"a".repeat(128)] {
            assert_eq!(good.parse::<ServiceName>().unwrap().as_str(), good);
        }
        for bad in ["", "a/b", "a b", ".a", "a.", "ä", "a\n", "../a", &"a".repeat(129)] {
            assert_eq!(bad.parse::<ServiceName>(), Err(RegistryError::ServiceName), "{bad}");
        }
    }
}
