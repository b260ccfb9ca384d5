//! The grammar that all rules share: a kind, perhaps a number or two, then options.
//!
//! `token-bucket 100/s burst 20 by account`: words between blanks; an option is a name and a value, `burst 20` or
//! `burst=20`, in any order; some names stand alone (`cluster`). What is not understood is a mistake that says what would
//! be: a limit that is silently ignored is an outage later.

use std::time::Duration;

use mosaic_core::config::{Raw, Value};

/// Reads the words of one rule.
#[derive(Debug)]
pub(crate) struct Words<'a> {
    rest: Vec<&'a str>,
}

impl<'a> Words<'a> {
    /// Splits `text`.
    pub(crate) fn of(text: &'a str) -> Self {
        let words = text.split(|c: char| c.is_whitespace() || c == '=');
        let mut rest: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        rest.reverse();
        Self { rest }
    }

    /// Takes the next word.
    pub(crate) fn next(&mut self) -> Option<&'a str> {
        self.rest.pop()
    }

    /// Takes the next word, which `what` describes.
    pub(crate) fn need(&mut self, what: &str) -> Result<&'a str, String> {
        self.next().ok_or_else(|| format!("needs {what}"))
    }

    /// Ends the reading: nothing may be left.
    pub(crate) fn end(mut self) -> Result<(), String> {
        match self.next() {
            None => Ok(()),
            Some(word) => Err(format!("does not understand `{word}`")),
        }
    }

    /// Reads options until the end; `read` takes the value of `name`, or says `None` if there is no such option.
    pub(crate) fn options(
        mut self,
        known: &str,
        mut read: impl FnMut(&str, &mut Self) -> Option<Result<(), String>>,
    ) -> Result<(), String> {
        while let Some(name) = self.next() {
            match read(name, &mut self) {
                Some(Ok(())) => {}
                Some(Err(problem)) => return Err(format!("{name} {problem}")),
                None => return Err(format!("has no option `{name}`; there is {known}")),
            }
        }
        Ok(())
    }
}

/// Reads the text of a rule; a list is its parts, as with `;` between them.
pub(crate) fn rule_text(raw: &Raw) -> Result<String, String> {
    match raw {
        Raw::Text(text) => Ok(text.trim().to_owned()),
        Raw::List(parts) => {
            let texts: Result<Vec<_>, _> = parts.iter().map(rule_text).collect();
            Ok(texts?.join("; "))
        }
        Raw::Table(_) => Err("must be one text, or a list of them".to_owned()),
    }
}

/// Reads a length of time; zero is none.
pub(crate) fn duration(words: &mut Words<'_>) -> Result<Duration, String> {
    let text = words.need("a duration such as 100ms")?;
    let parsed = Duration::parse(&Raw::Text(text.to_owned()))?;
    if parsed.is_zero() {
        return Err("must be longer than 0".to_owned());
    }
    Ok(parsed)
}

/// Reads a whole number above zero.
pub(crate) fn count(words: &mut Words<'_>) -> Result<u32, String> {
    let bad = || "must be a whole number from 1 to 4294967295".to_owned();
    let text = words.need("a whole number")?;
    text.parse().ok().filter(|count| *count > 0).ok_or_else(bad)
}

/// Reads a percentage above 0 and up to 100, as a share of one.
pub(crate) fn percent(words: &mut Words<'_>) -> Result<f64, String> {
    let text = words.need("a percentage such as 90%")?;
    let number = text.strip_suffix('%').and_then(|text| text.parse::<f64>().ok());
    let in_range = number.filter(|percent| *percent > 0.0 && *percent <= 100.0);
    in_range
        .map(|percent| percent / 100.0)
        .ok_or_else(|| "must be a percentage from 0% (excluded) to 100%".to_owned())
}

/// Reads a number from `least` on.
pub(crate) fn number(words: &mut Words<'_>, least: f64) -> Result<f64, String> {
    let text = words.need("a number")?;
    let parsed = text.parse::<f64>().ok();
    parsed
        .filter(|number| number.is_finite() && *number >= least)
        .ok_or_else(|| format!("must be a number from {least}"))
}

/// Reads how many in how long: `100/s`, `5/10s`, `1000/h`.
pub(crate) fn rate(words: &mut Words<'_>) -> Result<(u32, Duration), String> {
    let bad = || "needs a rate such as 100/s, 5/10s or 1000/m".to_owned();
    let (calls, per) = words.next().and_then(|text| text.split_once('/')).ok_or_else(bad)?;
    let calls = calls.parse().ok().filter(|calls| *calls > 0).ok_or_else(bad)?;
    let per = if per.starts_with(|c: char| c.is_ascii_digit()) {
        per.to_owned()
    } else {
        format!("1{per}")
    };
    let per = Duration::parse(&Raw::Text(per)).map_err(|_| bad())?;
    if per.is_zero() { Err(bad()) } else { Ok((calls, per)) }
}

/// Prints a duration as it is written.
pub(crate) fn show(duration: Duration) -> String {
    duration.show()
}

/// Prints a rate as it is written.
pub(crate) fn show_rate(calls: u32, per: Duration) -> String {
    let per = per.show();
    let unit = per
        .strip_prefix('1')
        .filter(|unit| unit.chars().all(char::is_alphabetic));
    format!("{calls}/{}", unit.unwrap_or(&per))
}

/// Prints a share as a percentage, without the noise of binary fractions.
pub(crate) fn show_percent(share: f64) -> String {
    format!("{}%", (share * 100_000.0).round() / 1000.0)
}

/// Makes a rule a value of the configuration: read by `FromStr`, shown by `Display`.
macro_rules! rule_value {
    ($($rule:ty),* $(,)?) => {
        $(impl mosaic_core::config::Value for $rule {
            fn parse(raw: &mosaic_core::config::Raw) -> std::result::Result<Self, String> {
                $crate::rules::words::rule_text(raw)?.parse()
            }
            fn show(&self) -> String {
                self.to_string()
            }
        })*
    };
}
pub(crate) use rule_value;
