//! Settings of the messaging service.

use std::time::Duration;

use mosaic::config::{Raw, Value};

use crate::rate_limit::WhenLimiterDown;

/// How a provider that fails is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failover {
    /// Each message starts at the next provider and goes on until one takes it.
    Rotate,
    /// All messages go to one provider until it is judged down.
    Health,
}

impl Value for Failover {
    fn parse(raw: &Raw) -> Result<Self, String> {
        match String::parse(raw)?.as_str() {
            "rotate" => Ok(Self::Rotate),
            "health" => Ok(Self::Health),
            _ => Err("must be rotate or health".to_owned()),
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Rotate => "rotate".to_owned(),
            Self::Health => "health".to_owned(),
        }
    }
}

mosaic::config! {
    /// Providers of messages and their limits.
    pub struct MessagingConfig in "messaging" {
        /// Providers, in order of preference. There is: `embedded`.
        pub providers: Vec<String> = "embedded",
        /// Time that one provider may take for one message.
        pub provider_timeout: Duration = "3s",
        /// Messages a second that each provider allows; 0 is no limit.
        pub provider_rate: u32 = "0",
        /// What to do while the rate cannot be counted: `conservative` (do not send) or `permissive` (send).
        pub when_limiter_down: WhenLimiterDown = "conservative",
        /// `rotate` or `health`.
        pub failover: Failover = "rotate",
        /// Timeouts in a row after which `health` switches to the next provider.
        pub switch_after: u32 = "3",
        /// Messages that one receiver gets a day.
        pub per_receiver_day: u64 = "30",
        /// Messages that one account may cause an hour.
        pub per_sender_hour: u64 = "60",
    }
}
