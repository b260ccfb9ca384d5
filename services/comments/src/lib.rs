//! Comments on whatever products show.
