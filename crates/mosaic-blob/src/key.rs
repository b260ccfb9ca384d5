//! Names of blobs.
//!
//! A key becomes a path and part of a URL, so it has one door and only letters that mean nothing to either: segments of
//! `a-z 0-9 - _ .` with `/` between. No segment is empty or begins with a dot, so no key leaves its root; upper case is out
//! because some file systems do not tell it from lower case.

use std::fmt;
use std::str::FromStr;

use mosaic_core::Error;

/// Longest key in bytes.
const KEY_LEN_MAX: usize = 256;
/// Longest segment in bytes: a file name may have 255, and engines add to it.
const SEGMENT_LEN_MAX: usize = 128;

/// Names a blob; clean once it exists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobKey(String);

impl BlobKey {
    /// Returns the key as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the parts between slashes, at least one.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl FromStr for BlobKey {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() <= KEY_LEN_MAX && text.split('/').all(is_clean) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid_argument("BLOB_KEY_INVALID", "is no key of a blob"))
        }
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the keys of a listing begin with: nothing, or what a key may begin with, `avatars/` or `avatars/7`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlobPrefix(String);

impl BlobPrefix {
    /// Returns the prefix as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BlobPrefix {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        if !text.is_empty() {
            text.strip_suffix('/').unwrap_or(text).parse::<BlobKey>()?;
        }
        Ok(Self(text.to_owned()))
    }
}

fn is_clean(segment: &str) -> bool {
    let is_allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    segment.bytes().all(is_allowed)
        && (1..=SEGMENT_LEN_MAX).contains(&segment.len())
        && !segment.starts_with('.')
        && !segment.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_keys_stay_as_they_are() {
        let long = "a/".repeat(127) + "a";
        for text in ["a", "avatars/7/x-1_2.png", "0", "a.b.c", &long, &"x".repeat(128)] {
            assert_eq!(text.parse::<BlobKey>().expect(text).as_str(), text);
        }
    }

    #[test]
    fn nothing_else_is_a_key() {
        let long_segment = "x".repeat(129);
        let long_key = "a/".repeat(128) + "a";
        let huge = "a".repeat(10 * 1024);
        for text in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            "/etc/passwd",
            "..",
            ".",
            "../a",
            "a/../b",
            "a/..",
            "a/./b",
            ".hidden",
            "a/.b",
            "a..b",
            "..%2fa",
            "..%2f..%2fetc%2fpasswd",
            "%2e%2e/a",
            "%2e%2e%2fa",
            "%252e%252e%252f",
            "a\\b",
            "..\\a",
            "c:\\a",
            "a\0",
            "a\0.png",
            "CON",
            "Con/a",
            "A",
            "a b",
            "a\n",
            "a\r\nb",
            "a:b",
            "a?b",
            "a#b",
            "a~",
            "~",
            "é",
            "a\u{202e}b",
            "\u{2024}\u{2024}/a",
            "\u{ff0e}\u{ff0e}/a",
            &long_segment,
            &long_key,
            &huge,
        ] {
            let error = text.parse::<BlobKey>().expect_err(text);
            assert_eq!(error.reason(), "BLOB_KEY_INVALID", "{text:?}");
        }
    }

    #[test]
    fn a_prefix_is_nothing_or_the_beginning_of_a_key() {
        for text in ["", "a", "a/", "a/b", "a/b/"] {
            assert_eq!(text.parse::<BlobPrefix>().expect(text).as_str(), text);
        }
        for text in ["/", "a//", "../", "a/../", ".a", "A/"] {
            assert!(text.parse::<BlobPrefix>().is_err(), "{text:?}");
        }
    }
}
