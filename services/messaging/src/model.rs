//! What a message is.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a message reaches its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Channel {
    /// Text message.
    Sms,
    /// E-mail.
    Email,
    /// WeChat subscribe message.
    Wechat,
}

impl Channel {
    /// Returns the name that is stored and shown.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sms => "sms",
            Self::Email => "email",
            Self::Wechat => "wechat",
        }
    }
}

/// A message to one person. Its arguments may hold codes, so they do not print.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Message {
    /// How.
    pub(crate) channel: Channel,
    /// To whom.
    pub(crate) to: String,
    /// Template at the provider.
    pub(crate) template: String,
    /// What is put into the template.
    pub(crate) args: BTreeMap<String, String>,
    /// After this it is worthless and not sent any more.
    pub(crate) good_for: Option<Duration>,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("channel", &self.channel)
            .field("template", &self.template)
            .finish_non_exhaustive()
    }
}
