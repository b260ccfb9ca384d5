//! `s3://[key:secret@]host[:port]/bucket?region=..&path_style=..&tls=..`
//!
//! Key and secret are percent-encoded where they have characters that a URL cannot; the secret may come from the
//! configuration instead, where it is masked. Mistakes are told without the value: it may be the secret.

use mosaic_core::Secret;
use percent_encoding::percent_decode_str;

/// Where a bucket is, and who we are there.
#[derive(Debug, Clone)]
pub(crate) struct S3Url {
    /// Host, and port if it is not that of the scheme.
    pub(crate) host: String,
    pub(crate) bucket: String,
    pub(crate) access_key: String,
    pub(crate) secret_key: Secret<String>,
    pub(crate) region: String,
    /// The bucket is in the path, not in the host name.
    pub(crate) is_path_style: bool,
    pub(crate) is_tls: bool,
}

impl S3Url {
    pub(crate) fn parse(url: &str, credentials: Option<(String, Secret<String>)>) -> Result<Self, &'static str> {
        const SHAPE: &str = "must be s3://[key:secret@]host[:port]/bucket?region=..&path_style=..&tls=..";
        let rest = url.strip_prefix("s3://").ok_or(SHAPE)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, bucket) = rest.split_once('/').ok_or(SHAPE)?;
        let (user, host) = authority
            .rsplit_once('@')
            .map_or((None, authority), |(user, host)| (Some(user), host));
        if !is_host(host) || !is_bucket(bucket) {
            return Err(SHAPE);
        }
        let (access_key, secret_key) = match (user, credentials) {
            (Some(user), _) => read_user(user).ok_or(SHAPE)?,
            (None, Some(credentials)) => credentials,
            (None, None) => {
                return Err("needs an access key and a secret key: in it, or as blobs.access_key and blobs.secret_key");
            }
        };
        let mut address = Self {
            host: host.to_owned(),
            bucket: bucket.to_owned(),
            access_key,
            secret_key,
            region: "us-east-1".to_owned(),
            is_path_style: true,
            is_tls: true,
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match (&*name, value.parse::<bool>()) {
                ("region", _) if is_host(&value) => address.region = value.into_owned(),
                ("path_style", Ok(is_path_style)) => address.is_path_style = is_path_style,
                ("tls", Ok(is_tls)) => address.is_tls = is_tls,
                _ => return Err("has only region, path_style=true|false and tls=true|false behind the question mark"),
            }
        }
        Ok(address)
    }

    /// Returns scheme and host, which names the bucket unless the path does.
    pub(crate) fn endpoint(&self) -> String {
        format!(
            "{}://{}",
            if self.is_tls { "https" } else { "http" },
            self.host_of_bucket()
        )
    }

    pub(crate) fn host_of_bucket(&self) -> String {
        if self.is_path_style {
            self.host.clone()
        } else {
            format!("{}.{}", self.bucket, self.host)
        }
    }
}

fn read_user(user: &str) -> Option<(String, Secret<String>)> {
    let (key, secret) = user.split_once(':')?;
    let decode = |text| {
        percent_decode_str(text)
            .decode_utf8()
            .ok()
            .map(std::borrow::Cow::into_owned)
    };
    let (key, secret) = (decode(key)?, decode(secret)?);
    (!key.is_empty() && !secret.is_empty()).then(|| (key, Secret::new(secret)))
}

fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte))
}

fn is_bucket(text: &str) -> bool {
    let is_allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    (3..=63).contains(&text.len()) && text.bytes().all(is_allowed) && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_read() {
        let url = S3Url::parse(
            "s3://k%2F:s%3A%40@h.test:9000/bu-cket?region=eu-1&path_style=false&tls=false",
            None,
        )
        .unwrap();
        assert_eq!((&*url.access_key, &**url.secret_key.expose()), ("k/", "s:@"));
        assert_eq!((&*url.region, &*url.endpoint()), ("eu-1", "http://bu-cket.h.test:9000"));
        let given = Some(("k".to_owned(), Secret::new("s".to_owned())));
        let url = S3Url::parse("s3://h/bucket", given).unwrap();
        assert_eq!((&*url.access_key, &*url.endpoint()), ("k", "https://h"));
    }

    #[test]
    fn mistakes_are_told_without_the_secret() {
        for url in [
            "s3://",
            "s3://k:sesame@h",
            "s3://k:sesame@/b",
            "s3://k:sesame@h/B!",
            "s3://k:sesame@h/b/c",
            "s3://ksesame@h/bucket",
            "s3://h/bucket",
            "s3://k:sesame@h/bucket?tls=maybe",
            "s3://k:sesame@h/bucket?a=b",
            "s3://k:sesame@h x/bucket",
        ] {
            let what = S3Url::parse(url, None).expect_err(url);
            assert!(!what.contains("sesame"), "{what}");
        }
    }
}
