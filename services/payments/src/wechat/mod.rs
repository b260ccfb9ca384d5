//! WeChat Pay API v3.
//!
//! One client speaks the protocol; what lies under it is a [`Transport`]: HTTP to WeChat, or the embedded provider in this
//! process, which gets the same bytes and checks the same signatures.

mod bill;
pub(crate) mod client;
pub(crate) mod crypto;
mod gate;
mod notice;
pub(crate) mod transport;
pub(crate) mod wire;

pub(crate) use client::{Addresses, Credentials, Keys, WechatPay};
pub(crate) use notice::{Notice, Refusal};
pub(crate) use transport::{HttpTransport, Transport};
