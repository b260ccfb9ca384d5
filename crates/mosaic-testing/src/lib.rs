//! Applications under test: in one process, in several, or strictly encoded, with the same calls and the same answers.
//!
//! A [`TestApp`] starts real processes of an [`App`](mosaic::App) within the test: real listeners on free ports, the
//! embedded engines in a directory of its own (or the real ones, see [`engine_url`]), everything gone when it is dropped. The
//! log of the test process is kept in memory, for tests that look for what must not be in it ([`log`]).

mod app;
mod engine;
mod etcd;
mod keys;
mod log;
mod proxy;
mod reply;
mod until;

pub use app::{Shape, TestApp, TestAppBuilder};
pub use engine::{FreshDatabase, engine_url};
pub use etcd::Etcd;
pub use keys::keys;
pub use log::log;
pub use proxy::{ChaosProxy, Network};
pub use reply::{Caller, Reply};
pub use until::until;

/// Runs each of the async functions `(Shape)` in one process, strictly encoded, and apart: `in_every_shape!(APART; one, another)`,
/// where `APART` is a [`Shape`] that is known where the macro stands.
#[macro_export]
macro_rules! in_every_shape {
    ($apart:ident; $($name:ident),* $(,)?) => {
        mod together { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::Shape::Together).await })* }
        mod strict { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::Shape::Strict).await })* }
        mod apart { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::$apart).await })* }
    };
}
