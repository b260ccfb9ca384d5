//! Time, randomness and ids, handed in rather than asked for.
//!
//! A [`Runtime`] is what a process gives its services instead of globals. Production uses [`Runtime::system`]; tests
//! build one from a [`ManualClock`](crate::ManualClock) and a [`SeededRandom`], and a run repeats exactly.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use crate::random::{Random, SPLIT_MIX_STEP, SystemRandom, fraction, split_mix};
use crate::{Clock, Striped, SystemClock, Timestamp, hex};

/// Clock, randomness and ids of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Runtime(Arc<Parts>);

/// One pointer to what is only read, which every processor keeps.
#[derive(Debug, Clone)]
struct Parts {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    drawn: Arc<Drawn>,
}

/// What has been drawn.
#[derive(Debug, Default)]
struct Drawn {
    last_id: CachePadded<AtomicU64>,
    traces: Striped<Traces>,
}

/// Where names of traces come from, for each thread its own: SplitMix64 from a random start. They must differ, they need not be hard
/// to guess, and the operating system's generator would be one more system call for every request.
#[derive(Debug, Default)]
struct Traces {
    start: OnceLock<[u64; 3]>,
    n_drawn: AtomicU64,
}

impl Runtime {
    /// Makes the runtime of a real process.
    pub fn system() -> Self {
        Self::new(Arc::new(SystemClock), Arc::new(SystemRandom))
    }

    /// Makes a runtime from parts.
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self(Arc::new(Parts {
            clock,
            random,
            drawn: Arc::default(),
        }))
    }

    /// Returns the same runtime, whose clones are not counted with those of this one: for a [`Striped`] of who clones it for every
    /// request.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self(Arc::new(Parts::clone(&self.0)))
    }

    /// Returns the clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// Returns the wall clock's time.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Returns the monotonic clock's time.
    pub fn instant(&self) -> Instant {
        self.0.clock.instant()
    }

    /// Returns `N` random bytes.
    pub fn random_bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.random.fill(&mut bytes);
        bytes
    }

    /// Returns 64 random bits.
    pub fn random_u64(&self) -> u64 {
        u64::from_le_bytes(self.random_bytes())
    }

    /// Returns a number below `bound`, without bias (Lemire 2019); zero if `bound` is zero.
    pub fn random_below(&self, bound: u64) -> u64 {
        loop {
            let product = u128::from(self.random_u64()) * u128::from(bound);
            // The low half tells whether this draw falls into the uneven rest.
            if bound == 0 || (product as u64) >= bound.wrapping_neg() % bound {
                return (product >> 64) as u64;
            }
        }
    }

    /// Returns a number from 0 (included) to 1 (excluded).
    pub fn random_fraction(&self) -> f64 {
        fraction(self.random_u64())
    }

    /// Returns between half and one and a half of `pause`, so that many who wait do not march in step.
    pub fn jittered(&self, pause: Duration) -> Duration {
        let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        pause / 2 + Duration::from_micros(self.random_below(micros))
    }

    /// Returns `len` decimal digits, each as likely as any other.
    pub fn random_digits(&self, len: usize) -> String {
        (0..len)
            .map(|_| char::from(b'0' + self.random_below(10) as u8))
            .collect()
    }

    /// Returns `2 * N` lower-case hexadecimal digits.
    pub fn random_hex<const N: usize>(&self) -> String {
        hex(self.random_bytes::<N>())
    }

    /// Returns 192 bits that no other call returns, here or (most likely) in another process; no secret.
    pub(crate) fn trace_bits(&self) -> [u64; 3] {
        let traces = self.0.drawn.traces.own();
        let start = traces.start.get_or_init(|| std::array::from_fn(|_| self.random_u64()));
        let n_drawn = traces.n_drawn.fetch_add(1, Ordering::Relaxed);
        start.map(|start| split_mix(start.wrapping_add(n_drawn.wrapping_mul(SPLIT_MIX_STEP))))
    }

    /// Returns a new id: positive, below 2^53 (so that a JSON number keeps it), rising within a process, hard to guess.
    ///
    /// Layout: 41 bits of milliseconds since 2025-01-01, 12 bits that are random and then count on. Two processes may
    /// draw the same id in the same millisecond, once in some thousand such coincidences: the primary key decides, and the
    /// request that lost fails.
    pub fn next_id(&self) -> i64 {
        let fresh = Self::least_id_at(self.now()) as u64 | (self.random_u64() & 0xfff);
        let step = 1 + (self.random_u64() & 0x3);
        let next = |last: u64| if fresh > last { fresh } else { last + step };
        let last = self
            .0
            .drawn
            .last_id
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        let last = last.unwrap_or_else(|last| last);
        next(last) as i64
    }

    /// Returns the least id that may be drawn at `time`: those below were drawn before, as far as clocks agree.
    pub fn least_id_at(time: Timestamp) -> i64 {
        const EPOCH_MS: i64 = 1_735_689_600_000;
        let ms = (time.as_micros() / 1000 - EPOCH_MS).max(0) & ((1 << 41) - 1);
        ms << 12
    }
}

impl Default for Runtime {
    fn default() -> Self {
        Self::system()
    }
}

/// Declares an id type: a positive `i64` that is valid once it exists.
///
/// ```
/// mosaic_core::id_type! {
///     /// Identifies a trip.
///     pub struct TripId;
/// }
/// assert_eq!("7".parse::<TripId>().unwrap().get(), 7);
/// assert!("-1".parse::<TripId>().is_err());
/// ```
#[macro_export]
macro_rules! id_type {
    ($(#[$doc:meta])* $vis:vis struct $name:ident;) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis struct $name(i64);

        impl $name {
            /// Draws a new id.
            $vis fn new(runtime: &$crate::Runtime) -> Self {
                Self(runtime.next_id())
            }

            /// Returns the number, as stored and sent.
            $vis const fn get(self) -> i64 {
                self.0
            }
        }

        impl ::core::convert::TryFrom<i64> for $name {
            type Error = $crate::Error;
            fn try_from(number: i64) -> ::core::result::Result<Self, $crate::Error> {
                if number > 0 {
                    Ok(Self(number))
                } else {
                    Err($crate::Error::invalid_argument("INVALID_ID", concat!(stringify!($name), " must be positive")))
                }
            }
        }

        impl ::core::str::FromStr for $name {
            type Err = $crate::Error;
            fn from_str(text: &str) -> ::core::result::Result<Self, $crate::Error> {
                let number: i64 = text.parse().map_err(|_| {
                    $crate::Error::invalid_argument("INVALID_ID", concat!(stringify!($name), " must be a number"))
                })?;
                Self::try_from(number)
            }
        }

        impl ::core::fmt::Display for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Display::fmt(&self.0, f)
            }
        }

        impl $crate::json::serde::Serialize for $name {
            fn serialize<S: $crate::json::serde::Serializer>(&self, to: S) -> ::core::result::Result<S::Ok, S::Error> {
                $crate::json::serde::Serialize::serialize(&self.0, to)
            }
        }

        impl<'de> $crate::json::serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::json::serde::Deserializer<'de>>(
                from: D,
            ) -> ::core::result::Result<Self, D::Error> {
                let number = <i64 as $crate::json::serde::Deserialize>::deserialize(from)?;
                Self::try_from(number).map_err($crate::json::serde::de::Error::custom)
            }
        }
    };
}

id_type! {
    /// Identifies an account, for all products.
    pub struct AccountId;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ManualClock, SeededRandom};

    fn still(seed: u64) -> Runtime {
        Runtime::new(
            Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000))),
            Arc::new(SeededRandom::new(seed)),
        )
    }

    #[test]
    fn ids_rise_fit_json_and_do_not_repeat() {
        let runtime = still(1);
        let ids: Vec<i64> = (0..10_000).map(|_| runtime.next_id()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(ids.iter().all(|id| (1..(1 << 53)).contains(id)));
    }

    #[test]
    fn equal_seeds_give_equal_runs() {
        assert_eq!(still(7).random_hex::<16>(), still(7).random_hex::<16>());
        assert_ne!(still(7).random_hex::<16>(), still(8).random_hex::<16>());
    }

    #[test]
    fn random_below_stays_below_and_reaches_every_value() {
        let runtime = still(3);
        let mut seen = [0; 6];
        for _ in 0..600 {
            seen[runtime.random_below(6) as usize] += 1;
        }
        assert!(seen.iter().all(|count| (60..140).contains(count)), "{seen:?}");
        assert_eq!(runtime.random_below(0), 0);
    }
}
