//! Deadlines that shrink from hop to hop.
//!
//! Whoever calls on keeps a little of its time for itself: to receive the answer, or to answer its own caller that there
//! was none. Without the reserve all hops end at the same instant and the caller learns nothing but that its time is up.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::rules::words::{self, Words, rule_value};

/// What a hop keeps of the time that is left: `5ms floor 1ms`, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserve {
    /// Kept back.
    pub keep: Duration,
    /// Given on at least, as far as it is there.
    pub floor: Duration,
}

impl Reserve {
    /// Keeps nothing.
    pub const OFF: Self = Self {
        keep: Duration::ZERO,
        floor: Duration::ZERO,
    };

    /// Returns what the next hop gets of `remaining`: never more, and nothing only if nothing is left.
    pub fn give(self, remaining: Duration) -> Duration {
        remaining.saturating_sub(self.keep).max(self.floor.min(remaining))
    }
}

impl FromStr for Reserve {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::OFF);
        }
        let mut words = Words::of(text);
        let mut rule = Self {
            keep: words::duration(&mut words)?,
            floor: Duration::from_millis(1),
        };
        words.options("floor", |name, words| {
            (name == "floor").then(|| words::duration(words).map(|floor| rule.floor = floor))
        })?;
        Ok(rule)
    }
}

impl fmt::Display for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::OFF {
            return f.write_str("off");
        }
        write!(f, "{} floor {}", words::show(self.keep), words::show(self.floor))
    }
}

rule_value!(Reserve);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_keeps_its_reserve_and_never_lengthens() {
        let rule: Reserve = "5ms floor 2ms".parse().unwrap();
        let ms = Duration::from_millis;
        for (remaining, given) in [(100, 95), (7, 2), (5, 2), (2, 2), (1, 1), (0, 0)] {
            assert_eq!(rule.give(ms(remaining)), ms(given), "{remaining} ms");
        }
        assert_eq!(Reserve::OFF.give(ms(3)), ms(3));
    }

    #[test]
    fn three_hops_end_one_before_the_other() {
        let rule: Reserve = "5ms".parse().unwrap();
        let mut left = Duration::from_millis(50);
        let hops: Vec<_> = std::iter::repeat_with(|| {
            left = rule.give(left);
            left.as_millis()
        })
        .take(3)
        .collect();
        assert_eq!(hops, [45, 40, 35]);
    }
}
