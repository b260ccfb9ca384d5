//! Keys that no part can forge.

use std::fmt;
use std::net::IpAddr;

use mosaic_core::AccountId;

/// The name of what is cached, built from typed parts, each with its length before it: `profile|3:abc`. A part with a
/// separator in it is still one part, so no user's text reaches another key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CacheKey(String);

/// Room that suffices for most.
const LEN: usize = 64;

impl CacheKey {
    /// Begins the key of what is called `name`.
    pub fn new(name: &'static str) -> Self {
        let mut key = String::with_capacity(LEN);
        key.push_str(name);
        Self(key)
    }

    /// Adds a part.
    #[must_use]
    pub fn part(mut self, part: impl KeyPart) -> Self {
        part.with_text(|text| {
            self.0.push('|');
            self.0.push_str(itoa::Buffer::new().format(text.len()));
            self.0.push(':');
            self.0.push_str(text);
        });
        self
    }

    /// Returns the key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of what is cached; a bounded set, fit for a metric's label.
    pub fn name(&self) -> &str {
        self.0.split('|').next().unwrap_or_default()
    }
}

/// What a key is built of. Its text is lent and not formatted: every read of the cache begins with a key.
pub trait KeyPart {
    /// Hands out the text.
    fn with_text(&self, take: impl FnOnce(&str));
}

impl KeyPart for str {
    fn with_text(&self, take: impl FnOnce(&str)) {
        take(self);
    }
}

impl KeyPart for String {
    fn with_text(&self, take: impl FnOnce(&str)) {
        take(self);
    }
}

impl<T: KeyPart + ?Sized> KeyPart for &T {
    fn with_text(&self, take: impl FnOnce(&str)) {
        (**self).with_text(take);
    }
}

macro_rules! number {
    ($($kind:ty)*) => {$(
        impl KeyPart for $kind {
            fn with_text(&self, take: impl FnOnce(&str)) {
                take(itoa::Buffer::new().format(*self));
            }
        }
    )*};
}

number!(i32 i64 u32 u64 usize);

impl KeyPart for AccountId {
    fn with_text(&self, take: impl FnOnce(&str)) {
        self.get().with_text(take);
    }
}

impl KeyPart for IpAddr {
    fn with_text(&self, take: impl FnOnce(&str)) {
        take(&self.to_string());
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_can_forge_another_key() {
        let honest = CacheKey::new("k").part("a").part("b");
        for forged in [
            CacheKey::new("k").part("a|1:b"),
            CacheKey::new("k").part("ab"),
            CacheKey::new("k").part("a").part("b").part(""),
        ] {
            assert_ne!(honest, forged);
        }
        assert_eq!((honest.as_str(), honest.name()), ("k|1:a|1:b", "k"));
        let numbers = CacheKey::new("n").part(-12).part(IpAddr::from([10, 0, 0, 1]));
        assert_eq!(numbers.as_str(), "n|3:-12|8:10.0.0.1");
    }
}
