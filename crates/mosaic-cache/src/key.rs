//! Keys that no part can forge.

use std::fmt::{self, Display, Write as _};

/// The name of what is cached, built from typed parts, each with its length before it: `profile|3:abc`. A part with a
/// separator in it is still one part, so no user's text reaches another key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CacheKey(String);

/// Room that suffices for most.
const LEN: usize = 64;

/// Measures what is written to it: a part is written twice rather than stored in between.
struct Length(usize);

impl fmt::Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

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
        let mut len = Length(0);
        // Nothing here fails.
        let _ = write!(len, "{part}");
        let _ = write!(self.0, "|{}:{part}", len.0);
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
