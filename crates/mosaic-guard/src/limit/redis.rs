//! Limits in Redis: one script and one key for each call, and the clock of the server.
//!
//! The time is that of the server, in microseconds: clocks of the processes that call differ, and a clock of whole seconds
//! (as go-zero's) lets a burst through at every turn. One key a limit and caller, so that any slot of a cluster will do. A
//! script writes the same effect however often it is retried by the server, and each key ends by itself.

use std::time::Duration;

use redis::{Script, ScriptInvocation};

use super::rule::{Algorithm, LimitRule};
use super::sliding_window::PARTS;

/// What the store says of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    Taken,
    Refused { wait: Duration },
}

/// Microseconds of the server. Doubles hold them exactly until the year 2255.
const NOW: &str = "local t = redis.call('TIME') local now = t[1] * 1000000 + t[2] ";

/// `ARGV`: calls, period in microseconds.
const COUNTER: &str = r"
local n = tonumber(redis.call('GET', KEYS[1]) or '0')
if n >= tonumber(ARGV[1]) then
  local left = redis.call('PTTL', KEYS[1])
  if left >= 0 then return left * 1000 + 1 end
  redis.call('DEL', KEYS[1])
end
if redis.call('INCR', KEYS[1]) == 1 then redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000)) end
return 0";

/// `ARGV`: calls, period in microseconds.
const FIXED_WINDOW: &str = r"
local per = tonumber(ARGV[2])
local window = math.floor(now / per)
local held = redis.call('HMGET', KEYS[1], 'w', 'n')
local n = 0
if tonumber(held[1]) == window then n = tonumber(held[2]) end
if n >= tonumber(ARGV[1]) then return math.max(1, (window + 1) * per - now) end
redis.call('HSET', KEYS[1], 'w', window, 'n', n + 1)
redis.call('PEXPIRE', KEYS[1], math.ceil(per / 1000))
return 0";

/// `ARGV`: calls, period in microseconds, parts. Fields are parts of the period; see the sliding window in memory.
const SLIDING_WINDOW: &str = r"
local parts = tonumber(ARGV[3])
local width = math.ceil(ARGV[2] / parts)
local part = math.floor(now / width)
local held = redis.call('HGETALL', KEYS[1])
local sum, oldest = 0, part
for i = 1, #held, 2 do
  local p = tonumber(held[i])
  if p < part - parts then redis.call('HDEL', KEYS[1], held[i])
  else
    sum = sum + tonumber(held[i + 1])
    if p < oldest then oldest = p end
  end
end
if sum >= tonumber(ARGV[1]) then return math.max(1, (oldest + parts + 1) * width - now) end
redis.call('HINCRBY', KEYS[1], string.format('%.0f', part), 1)
redis.call('PEXPIRE', KEYS[1], math.ceil(width * (parts + 1) / 1000))
return 0";

/// `ARGV`: calls, period in microseconds, burst.
const TOKEN_BUCKET: &str = r"
local rate, burst = ARGV[1] / ARGV[2], tonumber(ARGV[3])
local held = redis.call('HMGET', KEYS[1], 'l', 't')
local level = burst
if held[1] then level = math.min(burst, tonumber(held[1]) + math.max(0, now - tonumber(held[2])) * rate) end
if level < 1 then return math.max(1, math.ceil((1 - level) / rate)) end
redis.call('HSET', KEYS[1], 'l', level - 1, 't', now)
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate / 1000) + 1)
return 0";

/// `ARGV`: calls, period in microseconds, burst.
const LEAKY_BUCKET: &str = r"
local interval = ARGV[2] / ARGV[1]
local tolerance = interval * (ARGV[3] - 1)
local due = math.max(now, tonumber(redis.call('GET', KEYS[1]) or '0'))
if due - now > tolerance then return math.max(1, math.ceil(due - now - tolerance)) end
redis.call('SET', KEYS[1], due + interval, 'PX', math.ceil((due + interval - now) / 1000) + 1)
return 0";

/// The scripts, each sent once and then named by its hash.
pub(crate) struct Scripts {
    counter: Script,
    fixed_window: Script,
    sliding_window: Script,
    token_bucket: Script,
    leaky_bucket: Script,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        let timed = |body: &str| Script::new(&format!("{NOW}{body}"));
        Self {
            counter: Script::new(COUNTER),
            fixed_window: timed(FIXED_WINDOW),
            sliding_window: timed(SLIDING_WINDOW),
            token_bucket: timed(TOKEN_BUCKET),
            leaky_bucket: timed(LEAKY_BUCKET),
        }
    }

    /// Returns the call that counts by `rule`; `None` for what only a process can count.
    pub(crate) fn invocation(&self, rule: &LimitRule, key: &str) -> Option<ScriptInvocation<'_>> {
        let script = match rule.algorithm {
            Algorithm::Concurrent => return None,
            Algorithm::Counter => &self.counter,
            Algorithm::FixedWindow => &self.fixed_window,
            Algorithm::SlidingWindow => &self.sliding_window,
            Algorithm::TokenBucket => &self.token_bucket,
            Algorithm::LeakyBucket => &self.leaky_bucket,
        };
        let mut call = script.key(key);
        let per = u64::try_from(rule.per.as_micros()).unwrap_or(u64::MAX);
        call.arg(rule.calls).arg(per);
        if rule.algorithm == Algorithm::SlidingWindow {
            call.arg(PARTS);
        } else {
            call.arg(rule.burst);
        }
        Some(call)
    }
}

/// Reads what a script returns: zero, or microseconds to wait.
pub(crate) fn counted(answer: i64) -> Counted {
    match u64::try_from(answer) {
        Ok(0) | Err(_) => Counted::Taken,
        Ok(wait) => Counted::Refused {
            wait: Duration::from_micros(wait),
        },
    }
}
