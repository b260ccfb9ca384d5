//! The contracts of the platform, as code: for each service its trait, server, client, routes and messages.
//!
//! The source is in `proto/`; what is written by hand is what modules tell each other ([`events`]).

pub mod events;

include!(concat!(env!("OUT_DIR"), "/mosaic.rs"));
