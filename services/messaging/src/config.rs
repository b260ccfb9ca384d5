//! Settings of the messaging service.

use std::time::Duration;

use mosaic::config::{Raw, Value};

use crate::judge::JudgeOptions;
use crate::later::LaterOptions;
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
        /// Attempts after the first for messages that had to wait: at a limit, or while the provider is judged down.
        pub later_retries: u32 = "10",
        /// Time between these attempts.
        pub later_every: Duration = "30s",
        /// Length of the window in which the provider is judged.
        pub judge_window: Duration = "30s",
        /// Fewer messages in a window say nothing of the provider.
        pub judge_messages_min: u32 = "20",
        /// Down if so many percent more of a window fail than usual.
        pub judge_error_growth: u32 = "30",
        /// Down if a window takes so many times longer than usual.
        pub judge_latency_growth: u32 = "5",
        /// Time between probes while it is judged down.
        pub judge_probe_every: Duration = "5s",
        /// Good probes in a row after which it is up again.
        pub judge_probes: u32 = "3",
        /// Send a welcome to people who have just registered.
        pub welcome: bool = "true",
        /// Messages that one receiver gets a day.
        pub per_receiver_day: u64 = "30",
        /// Messages that one account may cause an hour.
        pub per_sender_hour: u64 = "60",
    }
}

impl MessagingConfig {
    /// Returns how messages that must wait are sent.
    pub(crate) fn later(&self) -> LaterOptions {
        LaterOptions {
            retries: self.later_retries,
            retry_every: self.later_every,
            judge: JudgeOptions {
                window: self.judge_window,
                messages_min: self.judge_messages_min,
                error_growth: f64::from(self.judge_error_growth) / 100.0,
                latency_growth: f64::from(self.judge_latency_growth),
                probe_every: self.judge_probe_every,
                probes: self.judge_probes,
            },
        }
    }
}
