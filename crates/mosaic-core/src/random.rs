//! Randomness: a port for what must be hard to guess, and the arithmetic for what need not be.

use std::fmt;
use std::sync::Mutex;

use rand::Rng as _;

use crate::lock;

/// Where randomness comes from. Must be fit for secrets, except in tests.
pub trait Random: Send + Sync + fmt::Debug + 'static {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// A generator of each thread (ChaCha with 12 rounds), seeded by the operating system when the thread begins and after every 64 KiB:
/// the system's own costs a call into the kernel for each number, and an event takes three.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): repeatable and not fit for secrets; for tests and simulation.
#[derive(Debug)]
pub struct SeededRandom(Mutex<u64>);

impl SeededRandom {
    /// Makes a generator; equal seeds give equal bytes.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = lock(&self.0);
        for chunk in bytes.chunks_mut(8) {
            *state = state.wrapping_add(SPLIT_MIX_STEP);
            chunk.copy_from_slice(&split_mix(*state).to_le_bytes()[..chunk.len()]);
        }
    }
}

/// What SplitMix64 adds to its state for each number.
pub const SPLIT_MIX_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Scrambles a state of SplitMix64; different states give different results.
pub const fn split_mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Maps 64 random bits to a number from 0 (included) to 1 (excluded): 53 of them are what a double holds exactly.
pub const fn fraction(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}
