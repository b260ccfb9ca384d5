//! What the checks of contracts ask of a value (`buf.validate`), beyond what the language says by itself.
//!
//! Plain functions without reflection: a request is checked on every call, local ones too, and may cost no more than
//! looking at its bytes.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::OnceLock;

use regex::Regex;
use regex_automata::dfa::{Automaton as _, dense};
use regex_automata::{Anchored, Input};

/// Longest host name (RFC 1035).
const MAX_HOSTNAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;
/// Longest part of an address before the @ (RFC 5321).
const MAX_LOCAL_PART_BYTES: usize = 64;

/// Longest table of a pattern in bytes; larger ones are left to the general engine.
const TABLE_BYTES_MAX: usize = 64 << 10;

/// A pattern of a contract, compiled when it is first used.
#[derive(Debug)]
pub struct Pattern {
    text: &'static str,
    compiled: OnceLock<Compiled>,
}

/// A name is matched with each call: by a table, which is a step a byte and nothing besides.
#[derive(Debug)]
enum Compiled {
    Table(Box<dense::DFA<Vec<u32>>>),
    General(Regex),
}

impl Pattern {
    /// Makes a pattern of `text`, which the build has tried.
    pub const fn new(text: &'static str) -> Self {
        Self {
            text,
            compiled: OnceLock::new(),
        }
    }

    /// Does `value` match, anywhere unless the pattern is anchored?
    ///
    /// # Panics
    /// If the pattern is no regular expression, which is a build error in a contract.
    pub fn matches(&self, value: &str) -> bool {
        match self.compiled.get_or_init(|| compile(self.text)) {
            Compiled::Table(table) => {
                let input = Input::new(value).anchored(Anchored::No).earliest(true);
                // No table gives up: those that might are not made.
                table.try_search_fwd(&input).is_ok_and(|end| end.is_some())
            }
            Compiled::General(regex) => regex.is_match(value),
        }
    }
}

fn compile(text: &str) -> Compiled {
    let config = dense::Config::new()
        .dfa_size_limit(Some(TABLE_BYTES_MAX))
        .determinize_size_limit(Some(TABLE_BYTES_MAX));
    match dense::Builder::new().configure(config).build(text) {
        Ok(table) => Compiled::Table(Box::new(table)),
        Err(_) => Compiled::General(Regex::new(text).expect("the build has tried it")),
    }
}

/// Returns the number of characters (Unicode scalar values).
pub fn n_chars(text: &str) -> usize {
    text.chars().count()
}

/// Is no item there twice?
pub fn are_unique<T: Ord>(items: &[T]) -> bool {
    let mut sorted: Vec<&T> = items.iter().collect();
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| pair[0] != pair[1])
}

/// Is it an address of mail, as HTML forms understand it?
pub fn is_email(text: &str) -> bool {
    let Some((local, host)) = text.rsplit_once('@') else {
        return false;
    };
    let is_local_byte = |byte: u8| byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte);
    !local.is_empty() && local.len() <= MAX_LOCAL_PART_BYTES && local.bytes().all(is_local_byte) && is_hostname(host)
}

/// Is it a host name (RFC 1123) and not an address?
pub fn is_hostname(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.len() > MAX_HOSTNAME_BYTES {
        return false;
    }
    let is_label = |label: &str| {
        let is_label_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && label.bytes().all(is_label_byte)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    text.split('.').all(is_label) && !text.rsplit('.').next().is_some_and(is_number)
}

/// Is it an address of version 4 or 6?
pub fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// Is it a UUID in its usual form of 36 characters?
pub fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Is it an absolute URI (RFC 3986): scheme, colon, and only bytes that a URI may have?
pub fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let is_scheme = scheme.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let path = rest.split_once('#').unwrap_or((rest, ""));
    let has_good_host = match path.0.strip_prefix("//") {
        Some(after) => is_authority(after.split(['/', '?']).next().unwrap_or_default()),
        None => !path.0.is_empty() && !path.0.contains(['[', ']']),
    };
    is_scheme && has_good_host && has_uri_bytes(path.0) && has_uri_bytes(path.1)
}

fn has_uri_bytes(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().all(|(index, byte)| match byte {
        b'%' => bytes
            .get(index + 1..index + 3)
            .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
        _ => byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=".contains(byte),
    })
}

fn is_authority(authority: &str) -> bool {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        return address.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    !name.contains(['[', ']']) && is_port(port)
}

fn is_port(text: &str) -> bool {
    text.is_empty() || text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rule: fn(&str) -> bool, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(rule(text), "{text:?} is refused");
        }
        for text in bad {
            assert!(!rule(text), "{text:?} is accepted");
        }
    }

    #[test]
    fn a_pattern_is_a_table_or_a_large_one_and_matches_alike() {
        let long = "a".repeat(33);
        let values = ["", "a", "a_1", "A", "1a", "aé", "é", "a\n", "b a", "中文", "中", &long];
        for text in [
            "^[a-z][a-z0-9_]{0,31}$",
            "^([a-z]+)?$",
            "a",
            "^\\p{Han}{2}$",
            "(?i)^A$",
            r"\bа\b",
            r"\w{20}",
        ] {
            let (pattern, regex) = (Pattern::new(text), Regex::new(text).unwrap());
            for value in values {
                assert_eq!(pattern.matches(value), regex.is_match(value), "{text} and {value:?}");
            }
        }
        assert!(matches!(compile("^[a-z][a-z0-9_]*$"), Compiled::Table(_)));
        assert!(matches!(compile(r"\w{20}"), Compiled::General(_)));
    }

    #[test]
    fn emails() {
        let long = format!("{}@b.cn", "a".repeat(65));
        let bad = [
            "", "a", "@b.cn", "a@", "a@b@", "a b@c.cn", "a@-b.cn", "a@b..cn", "<a@b.cn>", "é@b.cn", &long,
        ];
        check(is_email, &["a@b.cn", "a.b+c@d-e.example.com", "o'neil@localhost"], &bad);
    }

    #[test]
    fn hostnames() {
        let long = "a".repeat(64);
        let bad = ["", ".", "a..b", "-a", "a-", "a_b", "1.2.3.4", "a.b:80", &long];
        check(is_hostname, &["a", "a.b", "xn--fiq228c.cn", "a.b.", "1a.com"], &bad);
    }

    #[test]
    fn addresses() {
        check(
            is_ip,
            &["1.2.3.4", "::1", "2001:db8::1"],
            &["", "1.2.3", "1.2.3.256", "::1%eth0", "01.2.3.4"],
        );
    }

    #[test]
    fn uuids() {
        let good = [
            "550e8400-e29b-41d4-a716-446655440000",
            "550E8400-E29B-41D4-A716-446655440000",
        ];
        let bad = [
            "",
            "550e8400e29b41d4a716446655440000",
            "550e8400-e29b-41d4-a716-44665544000g",
            "550e8400ae29ba41d4aa716a446655440000",
        ];
        check(is_uuid, &good, &bad);
    }

    #[test]
    fn uris() {
        let good = [
            "https://example.com",
            "https://user@example.com:8080/a/b?c=d#e",
            "http://[::1]:80/",
            "mailto:a@b.cn",
            "urn:isbn:1",
            "file:///a%20b",
        ];
        let bad = [
            "",
            "example.com",
            "/a",
            "http:",
            "1http://a",
            "http://a b",
            "http://a/%zz",
            "http://[::1",
            "http://a:99999",
            "http://a/\u{7f}",
            "http://é",
            "http://a#b#c",
        ];
        check(is_uri, &good, &bad);
    }

    #[test]
    fn unique_items() {
        assert!(are_unique::<i32>(&[]));
        assert!(are_unique(&["a", "b"]));
        assert!(!are_unique(&["a", "b", "a"]));
    }

    #[test]
    fn patterns_match_anywhere_unless_anchored() {
        static DIGITS: Pattern = Pattern::new("[0-9]+");
        static ONLY_DIGITS: Pattern = Pattern::new("^[0-9]+$");
        assert!(DIGITS.matches("a1") && !DIGITS.matches("a"));
        assert!(!ONLY_DIGITS.matches("a1") && ONLY_DIGITS.matches("11"));
    }
}
