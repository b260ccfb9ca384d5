//! The rules: what a phone, an address and a password are, and how long a guesser waits.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use mosaic::{Error, Violation};
use mosaic_api::identity::v1::CredentialKind;

/// A phone number in international form, without the plus: country code and national number.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Phone(String);

/// Country that a number without a country code belongs to.
const HOME: &str = "86";

impl Phone {
    /// Returns how the number is stored and sent to: at home, the national number.
    pub(crate) fn stored(&self) -> &str {
        self.0.strip_prefix(HOME).unwrap_or(&self.0)
    }

    /// Is the number in one of `countries`?
    pub(crate) fn is_in(&self, countries: &[String]) -> bool {
        countries.iter().any(|country| self.0.starts_with(country.as_str()))
    }
}

impl FromStr for Phone {
    type Err = Error;

    /// Reads a number as people write it: spaces, dashes, brackets, full-width digits, `+86`, `0086`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::invalid_argument("PHONE_INVALID", "not a phone number");
        let mut digits = String::new();
        let mut international = false;
        for c in text.trim().chars() {
            match c {
                '0'..='9' => digits.push(c),
                // Full-width digits stand in the same order as ASCII's.
                '\u{ff10}'..='\u{ff19}' => digits.push(char::from(b'0' + (c as u32 - 0xff10) as u8)),
                '+' | '\u{ff0b}' if digits.is_empty() && !international => international = true,
                ' ' | '-' | '(' | ')' | '.' | '\u{a0}' | '\u{3000}' => {}
                _ => return Err(invalid()),
            }
        }
        if !international && let Some(rest) = digits.strip_prefix("00") {
            digits = rest.to_owned();
            international = true;
        }
        let is_home = |number: &str| number.len() == 11 && number.starts_with('1') && !number.starts_with("10");
        if !international && is_home(&digits) {
            digits.insert_str(0, HOME);
        } else if !international && !digits.strip_prefix(HOME).is_some_and(is_home) {
            return Err(invalid());
        }
        // E.164 has at most 15 digits; no country code starts with a zero.
        let is_e164 = (8..=15).contains(&digits.len()) && !digits.starts_with('0');
        let is_valid = is_e164 && digits.strip_prefix(HOME).is_none_or(is_home);
        if is_valid { Ok(Self(digits)) } else { Err(invalid()) }
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Phone(***)")
    }
}

/// Returns the one spelling of an identifier, under which it is stored and compared.
///
/// # Errors
/// `InvalidArgument` (`PHONE_INVALID`, `CREDENTIAL_INVALID`) if it cannot be one of its kind.
pub(crate) fn normalise(kind: CredentialKind, identifier: &str) -> Result<String, Error> {
    let invalid = |what| Err(Error::invalid_argument("CREDENTIAL_INVALID", what));
    match kind {
        CredentialKind::Mobile => identifier.parse::<Phone>().map(|phone| phone.stored().to_owned()),
        CredentialKind::Email => {
            let email = identifier.trim().to_lowercase();
            if is_email(&email) {
                Ok(email)
            } else {
                invalid("not an e-mail address")
            }
        }
        CredentialKind::Username => {
            let name = identifier.trim().to_lowercase();
            let is_name = (1..=64).contains(&name.chars().count()) && !name.chars().any(char::is_control);
            if is_name { Ok(name) } else { invalid("not a user name") }
        }
        CredentialKind::WechatOpen | CredentialKind::WechatMini => Ok(identifier.to_owned()),
        CredentialKind::Unspecified => invalid("the kind of credential is missing"),
    }
}

/// Something before the at, a domain with a dot after it, nothing that a mail header or a log could trip over.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let clean =
        |part: &str| !part.contains(|c: char| c.is_whitespace() || c.is_control() || "\"(),:;<>@[]\\".contains(c));
    let labels: Vec<&str> = domain.split('.').collect();
    let is_label = |label: &&str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
    (1..=64).contains(&local.len()) && clean(local) && clean(domain) && labels.len() >= 2 && labels.iter().all(is_label)
}

/// Shortest password (NIST SP 800-63B advises 15; existing clients ask for 8).
const PASSWORD_CHARS_MIN: usize = 8;
/// Longest password; longer ones are refused, never cut.
const PASSWORD_CHARS_MAX: usize = 128;

/// The 3,000 passwords that attackers try first.
static COMMON: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("../data/common-passwords.txt")
        .lines()
        .map(str::trim)
        .collect()
});

/// Decides whether `password` may protect an account known as `identifier`. No rule on its composition (NIST SP 800-63B
/// 3.1.1.2): such rules make passwords alike.
///
/// # Errors
/// `InvalidArgument` (`PASSWORD_REFUSED`) that says why.
pub(crate) fn check_password(password: &str, identifier: &str) -> Result<(), Error> {
    let n_chars = password.chars().count();
    let lower = password.to_lowercase();
    let digits: String = password.chars().filter(char::is_ascii_digit).collect();
    let is_own = |own: &str| !own.is_empty() && (lower == own || digits == own && password.len() <= own.len() + 4);
    let local_part = identifier.split('@').next().unwrap_or_default();
    let refusal = if n_chars < PASSWORD_CHARS_MIN {
        "must have at least 8 characters"
    } else if n_chars > PASSWORD_CHARS_MAX {
        "must have at most 128 characters"
    } else if password.chars().any(|c| c == '\0') {
        "must not contain a NUL character"
    } else if COMMON.contains(lower.as_str()) {
        "is one of the passwords that attackers try first"
    } else if is_own(identifier) || lower == local_part {
        "must not be your own name or number"
    } else {
        return Ok(());
    };
    let violation = Violation {
        field: "password".to_owned(),
        description: refusal.into(),
    };
    let error = Error::invalid_argument("PASSWORD_REFUSED", format!("password: {refusal}"));
    Err(error.with_violations(vec![violation]))
}

/// How long a credential is closed after its `n_failures`-th failure in a row: nothing at first, then 30 s, doubled with
/// each, up to an hour (a guesser gets fewer than 100 tries in three days).
pub(crate) fn wait_after(n_failures: u64, n_free: u32) -> Duration {
    const FIRST: Duration = Duration::from_secs(30);
    const LONGEST: Duration = Duration::from_secs(3600);
    match n_failures.checked_sub(u64::from(n_free)) {
        None => Duration::ZERO,
        Some(doublings) => (FIRST * 2_u32.pow(u32::try_from(doublings.min(7)).unwrap_or(7))).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_however_it_is_spelled() {
        for text in [
            "13800138000",
            "+86 138 0013 8000",
            "0086-138-0013-8000",
            "86 13800138000",
            "１３８００１３８０００",
            "(138)00138000",
        ] {
            assert_eq!(text.parse::<Phone>().unwrap().stored(), "13800138000", "{text}");
        }
        assert_eq!("+44 7911 123456".parse::<Phone>().unwrap().stored(), "447911123456");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            "1",
            "abc",
            "1380013800",
            "138001380000",
            "23800138000",
            "+86 1380013800",
            "13800138000x",
            "+",
            "+0123456789",
            "12345678901234567890",
            "110",
            "1380013800\0",
        ] {
            assert!(text.parse::<Phone>().is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_have_one_spelling() {
        assert_eq!(
            normalise(CredentialKind::Email, " A.b@Example.COM ").unwrap(),
            "a.b@example.com"
        );
        for bad in [
            "",
            "a",
            "@b.c",
            "a@b",
            "a@b..c",
            "a b@c.d",
            "a@b.c\r\nBcc: x@y.z",
            "a@-b.c",
            "a@@b.c",
            "<a>@b.c",
        ] {
            assert!(normalise(CredentialKind::Email, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_that_are_refused_and_those_that_are_not() {
        #[track_caller]
        fn check(password: &str, refused: bool) {
            assert_eq!(check_password(password, "13800138000").is_err(), refused, "{password}");
        }
        check("a7#kq2p", true);
        check("a7#kq2pz", false);
        check(&"x1".repeat(32), false);
        check(&"x1".repeat(64), false);
        check(&"x".repeat(129), true);
        check("🔑🔑🔑🔑🔑🔑🔑🔑", false);
        check("🔑🔑🔑🔑🔑🔑🔑", true);
        check("abc\0defgh", true);
        check("password", true);
        check("PassWord", true);
        check("12345678", true);
        check("13800138000", true);
        check("138-0013-8000", true);
        check("correct horse battery", false);
        assert!(check_password("somebody-else", "somebody-else@example.com").is_err());
    }

    #[test]
    fn waits_grow_to_an_hour() {
        let secs = |n| wait_after(n, 5).as_secs();
        assert_eq!((0..5).map(secs).sum::<u64>(), 0);
        assert_eq!(
            (5..=13).map(secs).collect::<Vec<_>>(),
            [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
        );
    }
}
