//! The HTTP border: everything between a socket and a generated client.
//!
//! A request passes, in this order: the accept loop ([`listen`]: connection caps, first byte, header and idle timeouts),
//! the layers ([`EdgeBuilder::build`]: request id and span, panic, deadline, size, load, rate), and its generated route
//! ([`Routes`]: authentication, JSON to message, client). Answers and errors of every origin, our own rejections
//! included, are rendered by one place in the envelope style of their service, and logged by one place, once.

mod access_log;
mod config;
mod edge;
mod envelope;
mod facts;
mod forward_auth;
mod front;
mod input;
mod layers;
mod listen;
mod openapi;
mod output;
mod routes;
mod watchdog;

pub use config::EdgeConfig;
pub use edge::{Edge, EdgeBuilder};
pub use envelope::{render_error, render_ok};
pub use facts::Facts;
pub use front::Front;
pub use input::Input;
pub use listen::listen;
pub use output::{CookieOptions, Output};
pub use routes::{RouteEntry, Routes, Steps};

pub use axum;
