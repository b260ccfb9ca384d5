//! What travels beside a payload.

use std::borrow::Cow;
use std::fmt;

use mosaic_core::Trace;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq as _, Serializer};

/// Name of the header with the W3C trace context.
pub const TRACEPARENT: &str = "traceparent";

/// A name and a text.
pub type Header = (Cow<'static, str>, String);

/// Names and texts in their order, stored and sent as a list of pairs.
///
/// The trace that an event is part of is kept as the number that it is, and becomes a text where it leaves the process: nearly every
/// event has one and nothing else, and this way such an event has no block of memory for its headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// Said by the first header, if it is there.
    trace: Option<Trace>,
    others: Vec<Header>,
}

impl Headers {
    /// Returns the headers of what is part of `trace`.
    pub fn of(trace: Trace) -> Self {
        Self {
            trace: Some(trace),
            others: Vec::new(),
        }
    }

    /// Adds a header.
    pub fn push(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        if name == TRACEPARENT && self.is_empty() {
            // What would be said in other words stays as it is.
            self.trace = Trace::parse(&value).filter(|trace| trace.traceparent().as_str() == value);
            if self.trace.is_some() {
                return;
            }
        }
        self.others.push((name, value));
    }

    /// Returns the trace, if there is one that can be read.
    pub fn trace(&self) -> Option<Trace> {
        let said = || {
            let found = self.others.iter().find(|(name, _)| name == TRACEPARENT);
            found.and_then(|(_, text)| Trace::parse(text))
        };
        self.trace.or_else(said)
    }

    /// Hands each name and its text to `take`.
    pub fn each(&self, mut take: impl FnMut(&str, &str)) {
        if let Some(trace) = self.trace {
            take(TRACEPARENT, trace.traceparent().as_str());
        }
        for (name, text) in &self.others {
            take(name, text);
        }
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        usize::from(self.trace.is_some()) + self.others.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many bytes the names and texts have together.
    pub fn n_bytes(&self) -> usize {
        let of_trace = self.trace.map_or(0, |_| TRACEPARENT.len() + Trace::TRACEPARENT_LEN);
        let of_others = self.others.iter().map(|(name, text)| name.len() + text.len());
        of_trace + of_others.sum::<usize>()
    }
}

impl FromIterator<Header> for Headers {
    fn from_iter<I: IntoIterator<Item = Header>>(pairs: I) -> Self {
        let mut headers = Self::default();
        for (name, text) in pairs {
            headers.push(name, text);
        }
        headers
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut pairs = serializer.serialize_seq(Some(self.len()))?;
        let mut outcome = Ok(());
        self.each(|name, text| {
            if outcome.is_ok() {
                outcome = pairs.serialize_element(&(name, text));
            }
        });
        outcome?;
        pairs.end()
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("pairs of a name and a text")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<Headers, A::Error> {
                let mut headers = Headers::default();
                while let Some((name, text)) = pairs.next_element::<Header>()? {
                    headers.push(name, text);
                }
                Ok(headers)
            }
        }

        deserializer.deserialize_seq(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn headers_survive_as_they_were_said() {
        #[track_caller]
        fn check(pairs: &[(&'static str, &str)], trace: Option<&str>) {
            let headers: Headers = pairs
                .iter()
                .map(|(name, text)| ((*name).into(), (*text).to_owned()))
                .collect();
            let mut said = Vec::new();
            headers.each(|name, text| said.push((name.to_owned(), text.to_owned())));
            let want: Vec<_> = pairs
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect();
            assert_eq!(said, want);
            assert_eq!(headers.len(), pairs.len());
            assert_eq!(
                headers.n_bytes(),
                pairs.iter().map(|(name, text)| name.len() + text.len()).sum::<usize>()
            );
            let found = headers.trace().map(|trace| trace.traceparent().as_str().to_owned());
            assert_eq!(found.as_deref(), trace);
            let json = serde_json::to_string(&headers).unwrap();
            assert_eq!(json, serde_json::to_string(pairs).unwrap());
            assert_eq!(serde_json::from_str::<Headers>(&json).unwrap(), headers);
        }
        check(&[], None);
        check(&[(TRACEPARENT, TRACE)], Some(TRACE));
        check(&[(TRACEPARENT, TRACE), ("a", "b"), ("a", "")], Some(TRACE));
        check(&[("a", "b"), (TRACEPARENT, TRACE)], Some(TRACE));
        check(&[(TRACEPARENT, TRACE), (TRACEPARENT, "x")], Some(TRACE));
        check(&[(TRACEPARENT, "x"), ("a", "b")], None);
        // Other flags are a trace, which we would say in other words.
        let flagged = TRACE.replace("-01", "-03");
        check(&[(TRACEPARENT, &flagged)], Some(TRACE));
    }
}
