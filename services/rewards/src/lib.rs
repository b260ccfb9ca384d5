//! rewards.
