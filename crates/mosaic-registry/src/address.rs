//! Where an instance listens: a host and a port.
//!
//! A newtype rather than a `SocketAddr`, because registries hold names as well, and rather than a `String`, so that what
//! a registry says is checked once, at its border. One spelling each: names in lower case, IPv6 in its shortest form, in
//! brackets when printed. Two entries with one address are then one instance.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::RegistryError;

/// Host and port, such as `10.0.0.7:9080`, `[fd00::7]:9080` or `identity-0.internal:9080`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// Makes an address from a name or an IP address without brackets.
    ///
    /// # Errors
    /// [`RegistryError::Address`] if the host is neither, or the port is zero.
    pub fn new(host: &str, port: u16) -> Result<Self, RegistryError> {
        let spelled = match host.parse::<IpAddr>() {
            Ok(ip) => Some(ip.to_string()),
            Err(_) => is_name(host).then(|| host.to_ascii_lowercase()),
        };
        match spelled {
            Some(host) if port != 0 => Ok(Self { host, port }),
            _ => Err(RegistryError::Address),
        }
    }

    /// Returns the name or the IP address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port, never zero.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns whether the host is `0.0.0.0` or `::`, where one listens but nobody can call.
    pub fn is_unspecified(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
    }
}

/// Letters, digits, `-`, `_` and inner dots: what DNS servers and containers call hosts.
fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    // A name of digits and dots would be an address with a mistake in it.
    let is_number = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    host.len() <= 253 && !is_number && host.split('.').all(is_label)
}

impl FromStr for Address {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let (host, port) = text.rsplit_once(':').ok_or(RegistryError::Address)?;
        let is_port = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|_| is_port).ok_or(RegistryError::Address)?;
        match host.strip_prefix('[') {
            None if host.contains(':') => Err(RegistryError::Address),
            None => Self::new(host, port),
            Some(inner) => {
                let inner = inner.strip_suffix(']').ok_or(RegistryError::Address)?;
                let ip: Ipv6Addr = inner.parse().map_err(|_| RegistryError::Address)?;
                Self::new(&ip.to_string(), port)
            }
        }
    }
}

impl TryFrom<SocketAddr> for Address {
    type Error = RegistryError;

    fn try_from(address: SocketAddr) -> Result<Self, RegistryError> {
        Self::new(&address.ip().to_string(), address.port())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, want: Option<&str>) {
        let got = text.parse::<Address>().ok().map(|address| address.to_string());
        assert_eq!(got.as_deref(), want, "{text}");
    }

    #[test]
    fn addresses_have_one_spelling() {
        check("10.0.0.7:9080", Some("10.0.0.7:9080"));
        check("Identity-0.Internal:1", Some("identity-0.internal:1"));
        check("my_host:65535", Some("my_host:65535"));
        check("[fd00:0:0::7]:9080", Some("[fd00::7]:9080"));
        check("[::1]:80", Some("[::1]:80"));
    }

    #[test]
    fn what_nobody_can_call_is_refused() {
        for text in [
            "",
            ":",
            ":80",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "host:+80",
            "host:8o",
            "::1:80",
            "[::1]",
            "[::1:80",
            "::1]:80",
            "[10.0.0.1]:80",
            "[host]:80",
            "a..b:80",
            ".a:80",
            "a b:80",
            "http://a:80",
            "10.0.0:80",
            "a/b:80",
            "ä:80",
        ] {
            check(text, None);
        }
        check(&format!("{}:80", "a".repeat(64)), None);
    }

    #[test]
    fn the_address_of_a_listener_on_all_interfaces_is_known_as_such() {
        let is_unspecified = |text: &str| text.parse::<Address>().unwrap().is_unspecified();
        assert!(is_unspecified("0.0.0.0:80") && is_unspecified("[::]:80"));
        assert!(!is_unspecified("10.0.0.1:80") && !is_unspecified("host:80"));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(socket: SocketAddr) {
            prop_assume!(socket.port() != 0);
            let address = Address::try_from(socket).unwrap();
            prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Address>();
        }
    }
}
