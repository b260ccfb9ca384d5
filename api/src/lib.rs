//! The contracts of the platform, as code: for each service its trait, server, client, routes and messages.
//!
//! The source is in `proto/`; nothing here is written by hand.

include!(concat!(env!("OUT_DIR"), "/mosaic.rs"));
