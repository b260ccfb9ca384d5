//! The code of the contracts, and nothing else.

include!(concat!(env!("OUT_DIR"), "/mosaic.rs"));
