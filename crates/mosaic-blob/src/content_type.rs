//! What a blob claims to be.
//!
//! The type is stored, signed and sent back as a header: it has one door, through which no parameter, no blank and nothing
//! that ends a header comes. What a blob *is* its bytes say; who takes uploads from strangers looks at those.

use std::fmt;
use std::str::FromStr;

use http::HeaderValue;
use mosaic_core::Error;

const LEN_MAX: usize = 100;

/// A media type without parameters, in lower case: `image/png`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContentType(String);

impl ContentType {
    /// Returns `application/octet-stream`, which is true of everything.
    pub fn octets() -> Self {
        Self("application/octet-stream".to_owned())
    }

    /// Returns the type as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the type as the value of a header.
    pub(crate) fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("the door lets only token characters in")
    }
}

impl FromStr for ContentType {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let parts = text
            .split_once('/')
            .filter(|(kind, sub)| is_token(kind) && is_token(sub));
        match parts {
            Some(_) if text.len() <= LEN_MAX => Ok(Self(text.to_ascii_lowercase())),
            _ => Err(Error::invalid_argument("CONTENT_TYPE_INVALID", "is no content type")),
        }
    }
}

/// Is this a restricted name of RFC 6838?
fn is_token(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
    text.bytes().all(is_allowed) && text.starts_with(|first: char| first.is_ascii_alphanumeric())
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_types_pass() {
        for text in ["image/png", "IMAGE/PNG", "application/vnd.a+json"] {
            assert_eq!(
                text.parse::<ContentType>().expect(text).as_str(),
                text.to_ascii_lowercase()
            );
        }
        let long = format!("image/{}", "x".repeat(100));
        for text in [
            "",
            "image",
            "/",
            "image/",
            "/png",
            "image/png; charset=x",
            "image/png\r\nx: y",
            "a/b/c",
            "a b/c",
            "é/a",
            &long,
        ] {
            assert!(text.parse::<ContentType>().is_err(), "{text:?}");
        }
    }
}
