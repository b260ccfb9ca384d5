//! What a browser does with a blob, and under which name it is kept (RFC 6266, RFC 8187).
//!
//! A file name comes from a stranger: what could end the header, lead out of a directory or turn the writing around is
//! replaced before it is quoted, and the name is given twice, in ASCII and percent-encoded.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Longest file name in characters.
const NAME_LEN_MAX: usize = 100;

/// `attr-char` of RFC 8187.
const EXTENDED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Whether a blob is shown or kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// Shown where it is.
    Inline,
    /// Kept as a file, under a name of the browser's choice.
    Attachment,
    /// Kept as a file of this name, or what is left of it.
    Named(String),
}

impl fmt::Display for Disposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline => f.write_str("inline"),
            Self::Attachment => f.write_str("attachment"),
            Self::Named(name) => {
                let name: String = name.chars().take(NAME_LEN_MAX).map(harmless).collect();
                let name = name.trim_matches(['.', ' ']);
                if name.is_empty() {
                    return f.write_str("attachment");
                }
                let plain: String = name.chars().map(|c| if c.is_ascii() { c } else { '_' }).collect();
                let extended = utf8_percent_encode(name, EXTENDED);
                write!(f, "attachment; filename=\"{plain}\"; filename*=UTF-8''{extended}")
            }
        }
    }
}

fn harmless(c: char) -> char {
    let is_turning = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if c.is_control() || is_turning || "\"\\/:*?<>|%;".contains(c) {
        '_'
    } else {
        c
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, want: &str) {
        assert_eq!(Disposition::Named(name.to_owned()).to_string(), want);
    }

    #[test]
    fn names_are_quoted_and_encoded() {
        check("cat.png", "attachment; filename=\"cat.png\"; filename*=UTF-8''cat.png");
        check(
            "猫 1.png",
            "attachment; filename=\"_ 1.png\"; filename*=UTF-8''%E7%8C%AB%201.png",
        );
    }

    #[test]
    fn nothing_in_a_name_reaches_beyond_it() {
        check(
            "../../x\"\r\nset-cookie: a",
            "attachment; filename=\"_.._x___set-cookie_ a\"; filename*=UTF-8''_.._x___set-cookie_%20a",
        );
        check(
            "\u{202e}gnp.exe",
            "attachment; filename=\"_gnp.exe\"; filename*=UTF-8''_gnp.exe",
        );
        check("...", "attachment");
        check("", "attachment");
        let long = Disposition::Named("x".repeat(10_000)).to_string();
        assert!(long.len() < 300, "{}", long.len());
    }
}
