//! The name of a service in a certificate.

use std::str::FromStr;

/// The name of a module, as in `run`: letters, digits, `-` and `_`, a letter first, at most 63.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceName(String);

impl ServiceName {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name as it stands in certificates (the SPIFFE ID standard, section 2).
    pub fn uri(&self) -> String {
        format!("spiffe://mosaic/{}", self.0)
    }
}

impl FromStr for ServiceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_clean = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        let begins_well = text.bytes().next().is_some_and(|first| first.is_ascii_lowercase());
        if begins_well && text.len() <= 63 && text.bytes().all(is_clean) {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be small letters, digits, - and _, a letter first".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_modules() {
        for good in ["users", "a", "order-2", "identity_watch"] {
            assert_eq!(
                good.parse::<ServiceName>().unwrap().uri(),
                format!("spiffe://mosaic/{good}")
            );
        }
        for bad in ["", "Users", "2nd", "a/b", "a b", "ü", &"a".repeat(64)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
        }
    }
}
