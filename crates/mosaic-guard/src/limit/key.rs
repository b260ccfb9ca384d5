//! Whose calls are counted together.

use std::net::IpAddr;
use std::sync::Arc;

use mosaic_core::{AccountId, Context, MethodDescriptor};

/// By what calls are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyBy {
    /// Not at all: all calls of the service.
    Service,
    /// Each method has its own.
    Method,
    /// Each account; who is not signed in by his address.
    Account,
    /// Each address.
    Ip,
    /// Each service of the platform that calls.
    Caller,
}

impl KeyBy {
    pub(crate) const ALL: [(Self, &'static str); 5] = [
        (Self::Service, "service"),
        (Self::Method, "method"),
        (Self::Account, "account"),
        (Self::Ip, "ip"),
        (Self::Caller, "caller"),
    ];

    pub(crate) fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(by, _)| *by == self);
        named.map_or("service", |(_, name)| name)
    }

    /// Returns whose allowance a call uses; `None` for a call of the platform itself where people are limited.
    pub(crate) fn key(self, method: &MethodDescriptor, cx: &Context) -> Option<Key> {
        let person = |account: Option<AccountId>| match (account, cx.origin().ip) {
            (Some(account), _) => Some(Key::Account(account)),
            (None, Some(ip)) => Some(Key::Address(ip)),
            (None, None) if cx.service().is_some() => None,
            (None, None) => Some(Key::Unknown),
        };
        match self {
            Self::Service => Some(Key::All),
            Self::Method => Some(Key::Method(method.index)),
            Self::Account => person(cx.identity().map(|identity| identity.account)),
            Self::Ip => person(None),
            Self::Caller => Some(cx.service().map_or(Key::Unknown, |name| Key::Caller(name.clone()))),
        }
    }
}

/// Who calls, as far as a limit cares.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    All,
    Method(usize),
    Account(AccountId),
    Address(IpAddr),
    Caller(Arc<str>),
    Unknown,
}

impl Key {
    /// Prints the key for a store; different keys print differently.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::All => "all".to_owned(),
            Self::Method(index) => format!("m{index}"),
            Self::Account(account) => format!("a{account}"),
            Self::Address(ip) => format!("i{ip}"),
            Self::Caller(name) => format!("c{name}"),
            Self::Unknown => "unknown".to_owned(),
        }
    }
}
