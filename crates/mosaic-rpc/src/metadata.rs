//! How a [`Context`] travels: the names of the headers, written and read in one place.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use mosaic_core::{Context, Origin, Secret, Trace};

/// Proof of the calling service ([`crate::PeerKey`]).
pub(crate) const PEER: HeaderName = HeaderName::from_static("x-mosaic-peer");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const ORIGIN_IP: HeaderName = HeaderName::from_static("x-mosaic-origin-ip");
const ORIGIN_AGENT: HeaderName = HeaderName::from_static("x-mosaic-origin-agent");
const RETRIED: HeaderName = HeaderName::from_static("x-mosaic-retried");
const DEGRADED: HeaderName = HeaderName::from_static("x-mosaic-degraded");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Longest idempotency key and user agent that are read.
const TEXT_MAX: usize = 512;

/// Returns what the next process must know.
pub(crate) fn write(cx: &Context) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(12);
    let mut put = |name: HeaderName, text: String, varies: Varies| {
        // A text that cannot stand in a header is not sent: it came from outside and is only advice.
        if let Ok(mut value) = HeaderValue::try_from(text) {
            value.set_sensitive(varies == Varies::ByRequest);
            headers.insert(name, value);
        }
    };
    put(
        TRACEPARENT,
        cx.trace().traceparent().as_str().to_owned(),
        Varies::ByRequest,
    );
    if let Some(remaining) = cx.remaining() {
        put(TIMEOUT, timeout_text(remaining), Varies::ByRequest);
    }
    if let Some(identity) = cx.identity() {
        let bearer = ["Bearer ", identity.token.expose()].concat();
        put(header::AUTHORIZATION, bearer, Varies::ByRequest);
    }
    if let Some(key) = cx.idempotency_key() {
        put(IDEMPOTENCY_KEY, String::from(&**key), Varies::ByRequest);
    }
    if let Some(ip) = cx.origin().ip {
        put(ORIGIN_IP, ip.to_string(), Varies::ByRequest);
    }
    if let Some(agent) = &cx.origin().user_agent {
        put(ORIGIN_AGENT, String::from(&**agent), Varies::Seldom);
    }
    for (name, is_so) in [(RETRIED, cx.is_retried()), (DEGRADED, cx.degraded())] {
        if is_so {
            headers.insert(name, HeaderValue::from_static("1"));
        }
    }
    headers
}

/// Returns how much time the next process has, in the unit that eight digits are enough for.
fn timeout_text(timeout: Duration) -> String {
    const DIGITS_MAX: u128 = 99_999_999;
    if timeout.as_micros() <= DIGITS_MAX {
        format!("{}u", timeout.as_micros())
    } else {
        format!("{}m", timeout.as_millis().min(DIGITS_MAX))
    }
}

/// How often a header has another value.
///
/// What is new with each request would push everything else out of the header table of its connection (RFC 7541 4), at
/// a cost at both ends; "sensitive" is what the HTTP/2 library calls a value that stays out of the table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Varies {
    ByRequest,
    Seldom,
}

/// Returns the trace that the caller is part of.
pub(crate) fn trace(headers: &HeaderMap) -> Option<Trace> {
    Trace::parse(text(headers, TRACEPARENT)?)
}

/// Returns the key that names the effect of the request.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Option<&str> {
    text(headers, IDEMPOTENCY_KEY).filter(|key| !key.is_empty() && key.len() <= TEXT_MAX)
}

/// Returns where the outside request came from; only to be asked of a caller that is a service of ours.
pub(crate) fn origin(headers: &HeaderMap) -> Origin {
    Origin {
        ip: text(headers, ORIGIN_IP).and_then(|text| text.parse::<IpAddr>().ok()),
        user_agent: text(headers, ORIGIN_AGENT)
            .filter(|agent| agent.len() <= TEXT_MAX)
            .map(Into::into),
    }
}

/// Is this a repeated attempt, which nobody is to repeat further on?
pub(crate) fn is_retried(headers: &HeaderMap) -> bool {
    headers.contains_key(RETRIED)
}

/// Does the caller say that the platform is short of something?
pub(crate) fn is_degraded(headers: &HeaderMap) -> bool {
    headers.contains_key(DEGRADED)
}

/// Returns the bearer token; more than one, or another scheme, is `Err`.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<Secret<String>>, ()> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(());
    }
    let text = value.to_str().map_err(drop)?;
    let (scheme, token) = text.split_once(' ').ok_or(())?;
    if scheme.eq_ignore_ascii_case("bearer") {
        Ok(Some(Secret::new(token.to_owned())))
    } else {
        Err(())
    }
}

/// Returns the time that the caller allows (`grpc-timeout` of the gRPC protocol); nonsense is `None`.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = text(headers, TIMEOUT)?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// Returns one text value; a header given twice counts as absent.
pub(crate) fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() { None } else { Some(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_read_as_the_protocol_writes_them() {
        #[track_caller]
        fn check(text: &str, want: Option<Duration>) {
            let mut metadata = HeaderMap::new();
            metadata.insert(TIMEOUT, text.parse().unwrap());
            assert_eq!(timeout(&metadata), want, "{text}");
        }
        check("2S", Some(Duration::from_secs(2)));
        check("0n", Some(Duration::ZERO));
        check("99999999H", Some(Duration::from_secs(99_999_999 * 3600)));
        check("999999999H", None);
        check("abc", None);
        check("S", None);
        check("+1S", None);
        check("1x", None);
    }

    #[test]
    fn two_tokens_are_none() {
        let mut metadata = HeaderMap::new();
        assert!(bearer(&metadata).unwrap().is_none());
        metadata.append(header::AUTHORIZATION, "bearer a".parse().unwrap());
        assert_eq!(bearer(&metadata).unwrap().unwrap().expose(), "a");
        metadata.append(header::AUTHORIZATION, "bearer b".parse().unwrap());
        assert!(bearer(&metadata).is_err());
    }
}
