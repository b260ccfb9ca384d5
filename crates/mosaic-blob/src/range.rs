//! Which part of a file a request wants (RFC 9110 14).
//!
//! A list of ranges can ask for the same bytes a thousand times. One range is what players and downloads that continue
//! use; a few are answered with the whole, as the RFC allows, and many are refused.

use std::ops::Range;

use http::{HeaderMap, header};

/// Ranges that one request may ask for.
const RANGES_MAX: usize = 4;

/// What to answer with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it: no range, or none that we understand.
    Whole,
    /// These bytes, at least one.
    Part(Range<u64>),
    /// A refusal: none of it is there, or too many are asked for.
    Nothing,
}

pub(crate) fn wanted(headers: &HeaderMap, size_bytes: u64) -> Wanted {
    let mut values = headers.get_all(header::RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Wanted::Whole;
    };
    // We have no validator that a condition could name.
    if headers.contains_key(header::IF_RANGE) {
        return Wanted::Whole;
    }
    let Some(ranges) = value.to_str().ok().and_then(|text| text.strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    match ranges.split(',').take(RANGES_MAX + 1).count() {
        1 => one(ranges.trim(), size_bytes),
        2..=RANGES_MAX => Wanted::Whole,
        _ => Wanted::Nothing,
    }
}

fn one(range: &str, size_bytes: u64) -> Wanted {
    let Some((first, last)) = range.split_once('-') else {
        return Wanted::Whole;
    };
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size_bytes),
        (Some(first), None) if last.is_empty() => first..size_bytes,
        (None, Some(n_last)) if first.is_empty() => size_bytes.saturating_sub(n_last)..size_bytes,
        _ => return Wanted::Whole,
    };
    if range.is_empty() {
        Wanted::Nothing
    } else {
        Wanted::Part(range)
    }
}

/// Reads digits only: the standard library takes a sign, too.
fn number(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, size_bytes: u64, want: &Wanted) {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, value.parse().unwrap());
        assert_eq!(wanted(&headers, size_bytes), *want, "{value}");
    }

    #[test]
    fn one_range_is_served_as_far_as_it_goes() {
        check("bytes=0-0", 10, &Wanted::Part(0..1));
        check("bytes=2-5", 10, &Wanted::Part(2..6));
        check("bytes=2-", 10, &Wanted::Part(2..10));
        check("bytes=-3", 10, &Wanted::Part(7..10));
        check("bytes=-30", 10, &Wanted::Part(0..10));
        check("bytes=2-18446744073709551615", 10, &Wanted::Part(2..10));
    }

    #[test]
    fn what_is_not_there_is_refused() {
        for value in ["bytes=10-", "bytes=10-11", "bytes=-0", "bytes=18446744073709551615-"] {
            check(value, 10, &Wanted::Nothing);
        }
        check("bytes=0-", 0, &Wanted::Nothing);
        check("bytes=-1", 0, &Wanted::Nothing);
    }

    #[test]
    fn what_is_not_understood_is_ignored() {
        for value in [
            "lines=0-1",
            "bytes=",
            "bytes=a-b",
            "bytes=5-2",
            "bytes=+1-2",
            "bytes=1-+2",
            "bytes=--1",
            "bytes=1",
            "bytes=99999999999999999999-",
        ] {
            check(value, 10, &Wanted::Whole);
        }
    }

    #[test]
    fn few_ranges_are_the_whole_and_many_are_refused() {
        check("bytes=0-0,1-1", 10, &Wanted::Whole);
        check("bytes=0-0,1-1,2-2,3-3", 10, &Wanted::Whole);
        check("bytes=0-0,1-1,2-2,3-3,4-4", 10, &Wanted::Nothing);
        check(&format!("bytes={}", "0-0,".repeat(1000)), 10, &Wanted::Nothing);
    }
}
