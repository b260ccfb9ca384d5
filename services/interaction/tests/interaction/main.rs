//! Interaction as its callers see it, and its rows.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod engines;
mod folders;
mod likes;
mod limits;
mod reads;
mod support;
