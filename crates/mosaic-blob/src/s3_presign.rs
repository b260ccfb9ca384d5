//! Presigned URLs of S3 (AWS Signature Version 4, in the query).
//!
//! The client library presigns a method and a path and nothing more. An upload by a stranger must be bound to a type and a
//! length, and a download to a disposition, so what is signed is written down here: the headers that the client has to send,
//! and the query that overrides those of the answer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use hmac::{Hmac, Mac as _};
use mosaic_core::{Error, Result, Timestamp, hex};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

use crate::BlobKey;
use crate::s3_url::S3Url;

/// All but the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A request to be signed.
pub(crate) struct Unsigned<'a> {
    pub(crate) method: &'static str,
    pub(crate) key: &'a BlobKey,
    pub(crate) ttl: Duration,
    /// Names in lower case, in order.
    pub(crate) headers: &'a [(&'static str, String)],
    pub(crate) query: Vec<(&'static str, String)>,
}

/// Returns the URL that allows `request` from `now` on.
pub(crate) fn presign(address: &S3Url, request: Unsigned<'_>, now: Timestamp) -> Result<String> {
    let now = jiff::Timestamp::from_second(now.as_secs()).map_err(Error::internal)?;
    let (time, day) = (
        now.strftime("%Y%m%dT%H%M%SZ").to_string(),
        now.strftime("%Y%m%d").to_string(),
    );
    let scope = format!("{day}/{}/s3/aws4_request", address.region);
    let host = address.host_of_bucket();
    let mut headers: BTreeMap<&str, &str> = request.headers.iter().map(|(name, value)| (*name, &**value)).collect();
    headers.insert("host", &host);
    let signed_headers = headers.keys().copied().collect::<Vec<_>>().join(";");

    let mut query: BTreeMap<&str, String> = request.query.into_iter().collect();
    query.insert("X-Amz-Algorithm", "AWS4-HMAC-SHA256".to_owned());
    query.insert("X-Amz-Credential", format!("{}/{scope}", address.access_key));
    query.insert("X-Amz-Date", time.clone());
    query.insert("X-Amz-Expires", request.ttl.as_secs().to_string());
    query.insert("X-Amz-SignedHeaders", signed_headers.clone());
    let pairs = query
        .iter()
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, ENCODED)));
    let query = pairs.collect::<Vec<_>>().join("&");

    // Neither a key nor a bucket has a character that would be encoded.
    let path = if address.is_path_style {
        format!("/{}/{}", address.bucket, request.key)
    } else {
        format!("/{}", request.key)
    };
    let lines: String = headers.iter().fold(String::new(), |mut lines, (name, value)| {
        let _ = writeln!(lines, "{name}:{value}");
        lines
    });
    let canonical = format!(
        "{}\n{path}\n{query}\n{lines}\n{signed_headers}\nUNSIGNED-PAYLOAD",
        request.method
    );
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(Sha256::digest(canonical)));
    let signature = hex(mac(&signing_key(address, &day), &to_sign));
    Ok(format!(
        "{}{path}?{query}&X-Amz-Signature={signature}",
        address.endpoint()
    ))
}

fn signing_key(address: &S3Url, day: &str) -> Vec<u8> {
    let first = format!("AWS4{}", address.secret_key.expose()).into_bytes();
    let parts = [day, &address.region, "s3", "aws4_request"];
    parts.into_iter().fold(first, |key, part| mac(&key, part))
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac: Hmac<Sha256> = Hmac::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the S3 documentation ("Authenticating Requests: Using Query Parameters").
    #[test]
    fn the_documented_example_has_the_documented_signature() {
        let url = "s3://AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI%2FK7MDENG%2FbPxRfiCYEXAMPLEKEY@s3.amazonaws.com/examplebucket?path_style=false";
        let request = Unsigned {
            method: "GET",
            key: &"test.txt".parse().unwrap(),
            ttl: Duration::from_secs(86400),
            headers: &[],
            query: Vec::new(),
        };
        let address = S3Url::parse(url, None).unwrap();
        let signed = presign(&address, request, Timestamp::from_secs(1_369_353_600)).unwrap();
        assert_eq!(
            signed,
            "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z\
             &X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }
}
