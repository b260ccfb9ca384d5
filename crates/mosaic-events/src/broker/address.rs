//! The URL of a broker, taken apart: `scheme://user:password@host:port,host:port/path?name=value`.
//!
//! What an engine does not know is a mistake, not a default: a misspelt `replicas` would keep one copy of each event.

use std::collections::BTreeMap;
use std::str::FromStr;

use mosaic_core::config::EngineUrl;
use mosaic_core::{Result, Secret};
use percent_encoding::percent_decode_str;

use super::invalid;

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Address {
    pub(crate) scheme: String,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret<String>>,
    pub(crate) hosts: Vec<String>,
    /// Without the slash before it; to be taken by who understands it.
    pub(crate) path: String,
    query: BTreeMap<String, String>,
}

impl Address {
    pub(crate) fn parse(url: &EngineUrl) -> Result<Self> {
        let (scheme, rest) = url
            .expose()
            .split_once("://")
            .ok_or_else(|| invalid("the URL of a bus has :// after its scheme"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (Some(credentials), hosts),
            None => (None, authority),
        };
        let (user, password) = match credentials.map(|both| both.split_once(':').unwrap_or((both, ""))) {
            Some((user, "")) => (Some(decoded(user)?), None),
            Some((user, password)) => (Some(decoded(user)?), Some(Secret::new(decoded(password)?))),
            None => (None, None),
        };
        let hosts: Vec<String> = hosts.split(',').map(str::to_owned).collect();
        if hosts.iter().any(|host| !is_host(host)) {
            return Err(invalid(
                "the URL of a bus names a host, or some with commas between them",
            ));
        }
        Ok(Self {
            scheme: scheme.to_owned(),
            user,
            password,
            hosts,
            path: path.to_owned(),
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        })
    }

    /// Takes what the query says of `name`, if it does.
    pub(crate) fn take<T: FromStr>(&mut self, name: &str) -> Result<Option<T>> {
        let text = self.query.remove(name);
        let parsed = text.map(|text| {
            text.parse()
                .map_err(|_| invalid(format!("{name} in the URL of a bus is none")))
        });
        parsed.transpose()
    }

    /// Takes what the names of everything in the broker begin with: applications share a broker, not their topics.
    pub(crate) fn take_prefix(&mut self) -> Result<String> {
        let prefix = self.take("prefix")?.unwrap_or_else(|| "mosaic".to_owned());
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        match (1..=40).contains(&prefix.len()) && prefix.bytes().all(is_plain) {
            true => Ok(prefix),
            false => Err(invalid("prefix in the URL of a bus has 1 to 40 of a-z 0-9 -")),
        }
    }

    /// Fails if path or query say more than was taken.
    pub(crate) fn finish(&self) -> Result<()> {
        if !self.path.is_empty() {
            return Err(invalid("the path in the URL of a bus means nothing to its engine"));
        }
        match self.query.keys().next() {
            Some(name) => Err(invalid(format!(
                "{name} in the URL of a bus means nothing to its engine"
            ))),
            None => Ok(()),
        }
    }
}

fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
}

fn decoded(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| invalid("user and password in the URL of a bus are percent-encoded UTF-8"))?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address> {
        Address::parse(&url.parse().unwrap())
    }

    #[test]
    fn a_url_is_taken_apart_and_its_password_is_not_printed() {
        let mut address = parse("kafka://me:p%40ss@a:1,[::1]:2/x?prefix=shop&replicas=3").unwrap();
        assert!(!format!("{address:?}").contains("p@ss"));
        assert_eq!((address.user.as_deref(), address.hosts.len()), (Some("me"), 2));
        assert_eq!(address.password.as_ref().unwrap().expose(), "p@ss");
        assert_eq!(std::mem::take(&mut address.path), "x");
        assert_eq!(address.take_prefix().unwrap(), "shop");
        assert!(address.finish().is_err());
        assert_eq!(address.take::<u16>("replicas").unwrap(), Some(3));
        assert!(address.finish().is_ok());
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_repeated() {
        for bad in [
            "nats:x",
            "nats://",
            "nats://a b",
            "nats://u:secret@",
            "nats://u:secret%ff@a",
        ] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.reason(), "EVENTS_URL_INVALID", "{bad}");
            assert!(!format!("{error:?}").contains("secret"));
        }
        for bad in ["nats://a?prefix=A", "nats://a?prefix=", "nats://a?prefix=a_b"] {
            assert!(parse(bad).unwrap().take_prefix().is_err(), "{bad}");
        }
        assert!(parse("nats://a?replicas=many").unwrap().take::<u8>("replicas").is_err());
    }
}
