//! Keys that no part can forge.

use std::fmt::{self, Display, Write as _};

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
    pub fn part(mut self, part: impl Display) -> Self {
        self.0.push('|');
        let begin = self.0.len();
        // Nothing here fails.
        let _ = write!(self.0, ":{part}");
        let len = self.0.len() - begin - 1;
        // Known only now; what it moves is short.
        self.0.insert_str(begin, itoa::Buffer::new().format(len));
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
    }
}
