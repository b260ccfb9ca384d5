//! Payments as products and the provider see them.

mod embedded;
mod engines;
mod genuine;
mod partner;
mod provider;
mod support;
