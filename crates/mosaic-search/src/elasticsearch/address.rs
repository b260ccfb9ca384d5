//! The URL of a server, taken apart.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mosaic_core::{Error, Result, Secret};
use percent_encoding::percent_decode_str;

/// A server, and how we show who we are.
#[derive(Debug)]
pub(super) struct Address {
    /// `http://host:port`
    pub(super) base: String,
    /// The header.
    pub(super) authorization: Option<Secret<String>>,
    pub(super) prefix: String,
}

impl std::str::FromStr for Address {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").ok_or_else(invalid)?;
        let (scheme, is_tls) = match scheme {
            "elasticsearch" => ("http", false),
            "https+elasticsearch" => ("https", true),
            _ => return Err(invalid()),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        let is_prefix = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let prefix = path.trim_end_matches('/');
        if host.is_empty()
            || !host.bytes().all(is_host)
            || !prefix.bytes().all(is_prefix)
            || prefix.starts_with(['-', '_'])
        {
            return Err(invalid());
        }
        let has_port = !host.ends_with(']') && host.rsplit_once(':').is_some();
        let port = if has_port { "" } else { ":9200" };
        if user.is_some() && !is_tls {
            tracing::warn!("credentials go to the search engine in the clear: https+elasticsearch:// hides them");
        }
        Ok(Self {
            base: format!("{scheme}://{host}{port}"),
            authorization: user.map(authorization).transpose()?,
            prefix: prefix.to_owned(),
        })
    }
}

fn authorization(user: &str) -> Result<Secret<String>> {
    let (name, password) = user.split_once(':').ok_or_else(invalid)?;
    let decoded = |text| percent_decode_str(text).decode_utf8().map_err(|_| invalid());
    let (name, password) = (decoded(name)?, decoded(password)?);
    let header = match &*name {
        "apikey" => format!("ApiKey {password}"),
        _ => format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))),
    };
    if header.contains(|c: char| c.is_control() || !c.is_ascii()) {
        return Err(invalid());
    }
    Ok(Secret::new(header))
}

fn invalid() -> Error {
    let message =
        "the URL of a server must be elasticsearch://[user:password@]host[:port][/prefix], or https+elasticsearch://";
    Error::invalid_argument("SEARCH_URL_INVALID", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, base: &str, authorization: &str, prefix: &str) {
        let address: Address = url.parse().unwrap();
        let found = address
            .authorization
            .map(|header| header.expose().clone())
            .unwrap_or_default();
        assert_eq!(
            (address.base.as_str(), found.as_str(), address.prefix.as_str()),
            (base, authorization, prefix)
        );
    }

    #[test]
    fn a_url_names_a_server_a_key_and_a_prefix() {
        check("elasticsearch://es", "http://es:9200", "", "");
        check("https+elasticsearch://es:9243/shop-", "https://es:9243", "", "shop-");
        check("elasticsearch://[::1]", "http://[::1]:9200", "", "");
        check(
            "https+elasticsearch://ada:p%40ss@es:1/",
            "https://es:1",
            "Basic YWRhOnBAc3M=",
            "",
        );
        check(
            "https+elasticsearch://apikey:a2V5@es",
            "https://es:9200",
            "ApiKey a2V5",
            "",
        );
    }

    #[test]
    fn what_is_no_url_is_refused_without_its_password() {
        for url in [
            "http://es",
            "elasticsearch:es",
            "elasticsearch://",
            "elasticsearch://es/Shop",
            "elasticsearch://es/a/b",
            "elasticsearch://hunter2@es",
            "elasticsearch://apikey:hunter2%0a@es",
            "elasticsearch://es?x=hunter2",
        ] {
            let error = url.parse::<Address>().unwrap_err();
            assert_eq!(error.reason(), "SEARCH_URL_INVALID", "{url}");
            assert!(!format!("{error:?}").contains("hunter2"), "{url}");
        }
    }
}
