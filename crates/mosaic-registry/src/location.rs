//! The URL of a registry, taken apart.
//!
//! Ours rather than the `url` crate, which refuses several hosts in one authority (`etcd://a:2379,b:2379/`). Keys that
//! nobody asks for are mistakes: a misspelt `tll=` must not silently mean the default. Errors never repeat values, which
//! may be secrets.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use mosaic_core::Secret;
use mosaic_core::config::{Raw, Value as _};

use crate::RegistryError;

/// `scheme://user:password@authority/path?key=value`, or `scheme:path?key=value`.
#[derive(Debug)]
pub(crate) struct Location {
    pub(crate) scheme: String,
    pub(crate) login: Option<Login>,
    /// Hosts as written, split at commas.
    pub(crate) hosts: Vec<String>,
    /// Without slashes at its ends.
    pub(crate) path: String,
    query: BTreeMap<String, String>,
}

/// Who we are to the registry.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) name: String,
    pub(crate) password: Secret<String>,
}

impl FromStr for Location {
    type Err = RegistryError;

    fn from_str(url: &str) -> Result<Self, RegistryError> {
        let (scheme, rest) = url.split_once(':').ok_or(RegistryError::Scheme)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.strip_prefix("//") {
            None => ("", rest),
            Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
        };
        let (login, hosts) = match authority.rsplit_once('@') {
            None => (None, authority),
            Some((login, hosts)) => (Some(Login::parse(login)?), hosts),
        };
        let mut pairs = BTreeMap::new();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            if pairs.insert(key.to_string(), value.into_owned()).is_some() {
                return Err(RegistryError::Url(format!("{key} is there twice")));
            }
        }
        Ok(Self {
            scheme: scheme.to_owned(),
            login,
            hosts: hosts
                .split(',')
                .filter(|host| !host.is_empty())
                .map(str::to_owned)
                .collect(),
            path: path.trim_matches('/').to_owned(),
            query: pairs,
        })
    }
}

impl Login {
    fn parse(text: &str) -> Result<Self, RegistryError> {
        let missing = || RegistryError::Url("a user needs a password: user:password@host".to_owned());
        let (name, password) = text.split_once(':').ok_or_else(missing)?;
        Ok(Self {
            name: percent_decoded(name),
            password: Secret::new(percent_decoded(password)),
        })
    }
}

/// Decodes `%40` and the like; a plus is a plus here.
fn percent_decoded(text: &str) -> String {
    let form = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(form.as_bytes())
        .map(|(key, _)| key.into_owned())
        .collect()
}

impl Location {
    /// Takes the value of `key` out, if it is there.
    pub(crate) fn take(&mut self, key: &str) -> Option<String> {
        self.query.remove(key)
    }

    /// Takes a value out that is parsed; `what` says what it must be.
    pub(crate) fn take_parsed<T: FromStr>(&mut self, key: &str, what: &str) -> Result<Option<T>, RegistryError> {
        let mistake = || RegistryError::Url(format!("{key} must be {what}"));
        let value = self.take(key);
        value.map(|value| value.parse().map_err(|_| mistake())).transpose()
    }

    /// Takes a duration out and checks its bounds.
    pub(crate) fn take_duration(
        &mut self,
        key: &str,
        default: Duration,
        bounds: std::ops::RangeInclusive<Duration>,
    ) -> Result<Duration, RegistryError> {
        let Some(text) = self.take(key) else {
            return Ok(default);
        };
        let duration = Duration::parse(&Raw::Text(text)).map_err(|what| RegistryError::Url(format!("{key} {what}")))?;
        if bounds.contains(&duration) {
            Ok(duration)
        } else {
            let (least, most) = (bounds.start(), bounds.end());
            Err(RegistryError::Url(format!(
                "{key} must be within {least:?} and {most:?}"
            )))
        }
    }

    /// Refuses keys that nobody has taken.
    pub(crate) fn finish(self) -> Result<(), RegistryError> {
        match self.query.keys().next() {
            None => Ok(()),
            Some(key) => Err(RegistryError::Url(format!("{} knows no {key}", self.scheme))),
        }
    }

    /// Refuses hosts, login and path, which `scheme` has no use for.
    pub(crate) fn only_query(&self) -> Result<(), RegistryError> {
        if self.hosts.is_empty() && self.login.is_none() && self.path.is_empty() {
            Ok(())
        } else {
            Err(RegistryError::Url(format!("{} takes no host and no path", self.scheme)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_hosts_login_path_and_query_are_taken_apart() {
        let mut location: Location = "etcd://ada:p%40s+s%2F%26=@a:2379,[::1]:2379/team/?ttl=5s&tls=on"
            .parse()
            .unwrap();
        assert_eq!((location.scheme.as_str(), location.path.as_str()), ("etcd", "team"));
        assert_eq!(location.hosts, ["a:2379", "[::1]:2379"]);
        let login = location.login.clone().unwrap();
        assert_eq!(
            (login.name.as_str(), login.password.expose().as_str()),
            ("ada", "p@s+s/&=")
        );
        let second = Duration::from_secs(1);
        assert_eq!(
            location.take_duration("ttl", second, second..=10 * second),
            Ok(5 * second)
        );
        assert_eq!(location.take("tls").as_deref(), Some("on"));
        assert_eq!(location.finish(), Ok(()));
    }

    #[test]
    fn what_nobody_asked_for_is_a_mistake() {
        let location: Location = "etcd://a:1?tll=5s".parse().unwrap();
        assert_eq!(
            location.finish(),
            Err(RegistryError::Url("etcd knows no tll".to_owned()))
        );
        assert!("etcd://a:1?ttl=5s&ttl=6s".parse::<Location>().is_err());
        assert!("etcd://ada@a:1".parse::<Location>().is_err());
        let mut location: Location = "etcd://a:1?ttl=5h".parse().unwrap();
        let second = Duration::from_secs(1);
        assert!(location.take_duration("ttl", second, second..=second).is_err());
    }

    #[test]
    fn secrets_are_in_no_debug_text() {
        let location: Location = "etcd://ada:hunter2@a:2379".parse().unwrap();
        assert!(!format!("{location:?}").contains("hunter2"));
    }
}
