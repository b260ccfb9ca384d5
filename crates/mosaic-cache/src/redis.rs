//! The engine in Redis, shared by every process.
//!
//! What must be atomic is a script. Each command has a time limit; the connection comes back by itself. Rows, counters
//! and codes have prefixes of their own, as they have tables of their own in memory.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mosaic_core::{Error, Result};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncCommands as _, FromRedisValue, RedisError, Script, ScriptInvocation};

use crate::{Answer, CacheEngine, CacheKey, Count, Issued, Redeemed, Row};

/// Longest wait for an answer.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(200);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Adds to a counter; only a new one gets its end. Returns value and milliseconds left.
const INCREMENT: &str = r"
local value = redis.call('INCRBY', KEYS[1], ARGV[1])
local left = redis.call('PTTL', KEYS[1])
if left < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]); left = tonumber(ARGV[2]) end
return {value, left}";

/// Stores bytes where the expected ones are: 1 if it did.
const REPLACE: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1";

/// Stores a code unless the last is too young: 0, or the milliseconds to wait, or -1 for one without an end.
const ISSUE: &str = r"
local left = redis.call('PTTL', KEYS[1])
if left == -1 then return -1 end
if left >= 0 then
  local ttl = tonumber(redis.call('HGET', KEYS[1], 'ttl') or ARGV[2])
  local wait = tonumber(ARGV[3]) - (ttl - left)
  if wait > 0 then return wait end
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'code', ARGV[1], 'tries', ARGV[4], 'ttl', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 0";

/// Tries a code: 1 matched, 0 wrong, -1 dead.
const REDEEM: &str = r"
local tries = tonumber(redis.call('HGET', KEYS[1], 'tries'))
if not tries then return 0 end
if tries <= 0 then return -1 end
if redis.call('HGET', KEYS[1], 'code') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'tries', 0)
  return 1
end
tries = redis.call('HINCRBY', KEYS[1], 'tries', -1)
if tries <= 0 then return -1 end
return 0";

/// Removes codes without an end from a part of the keys. Returns where to go on (0: nowhere) and how many there were.
const CLEAN_UP: &str = r"
local page = redis.call('SCAN', ARGV[1], 'MATCH', 'code:*', 'COUNT', ARGV[2])
local n = 0
for _, key in ipairs(page[2]) do
  if redis.call('PTTL', key) == -1 then redis.call('DEL', key); n = n + 1 end
end
return {tonumber(page[1]), n}";

/// Keys that are looked at in one step of a clean-up.
const SCAN_COUNT: u32 = 1000;

/// See the module documentation.
pub struct RedisEngine {
    connection: ConnectionManager,
    increment: Script,
    replace: Script,
    issue: Script,
    redeem: Script,
    clean_up: Script,
}

impl RedisEngine {
    /// Makes an engine for `redis://` or `rediss://`; connects at the first command, so Redis need not be there yet.
    ///
    /// # Errors
    /// `InvalidArgument` (`CACHE_URL_INVALID`) for a bad URL.
    pub fn open(url: &str) -> Result<Self> {
        let bad = |error: RedisError| {
            Error::invalid_argument("CACHE_URL_INVALID", "the URL of the cache is not valid")
                .caused_by(error.to_string())
        };
        let client = redis::Client::open(url).map_err(bad)?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(COMMAND_TIMEOUT))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_number_of_retries(0)
            .set_max_delay(Duration::from_secs(1));
        let connection = ConnectionManager::new_lazy_with_config(client, config).map_err(bad)?;
        Ok(Self {
            connection,
            increment: Script::new(INCREMENT),
            replace: Script::new(REPLACE),
            issue: Script::new(ISSUE),
            redeem: Script::new(REDEEM),
            clean_up: Script::new(CLEAN_UP),
        })
    }

    async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T> {
        let mut connection = self.connection.clone();
        timed(script.invoke_async(&mut connection)).await
    }
}

/// Bounds a command, connecting included.
async fn timed<T>(command: impl Future<Output = redis::RedisResult<T>>) -> Result<T> {
    let down = || Error::unavailable("CACHE_UNAVAILABLE", "the cache does not answer");
    match tokio::time::timeout(COMMAND_TIMEOUT, command).await {
        Ok(outcome) => outcome.map_err(|error| down().caused_by(error)),
        Err(_) => Err(down().caused_by("no answer in time")),
    }
}

fn row(key: &CacheKey) -> String {
    format!("row:{key}")
}

fn counter(key: &CacheKey) -> String {
    format!("count:{key}")
}

fn code_of(key: &CacheKey) -> String {
    format!("code:{key}")
}

fn millis(duration: Duration) -> u64 {
    // Redis knows no end of zero: at least a millisecond.
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX >> 1)
        .clamp(1, u64::MAX >> 1)
}

fn left(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

#[async_trait]
impl CacheEngine for RedisEngine {
    fn get<'a>(&'a self, key: &'a CacheKey) -> Answer<'a, Option<Row>> {
        let mut connection = self.connection.clone();
        Answer::Right(Box::pin(async move {
            let value: Option<Vec<u8>> = timed(connection.get(row(key))).await?;
            Ok(value.map(|value| Row::new(value.into())))
        }))
    }

    async fn set(&self, key: &CacheKey, value: Bytes, ttl: Duration) -> Result<()> {
        let mut connection = self.connection.clone();
        timed(connection.pset_ex(row(key), value.as_ref(), millis(ttl))).await
    }

    async fn set_if_absent(&self, key: &CacheKey, value: Bytes, ttl: Duration) -> Result<bool> {
        let mut connection = self.connection.clone();
        let mut command = redis::cmd("SET");
        command
            .arg(row(key))
            .arg(value.as_ref())
            .arg("NX")
            .arg("PX")
            .arg(millis(ttl));
        let stored: Option<String> = timed(command.query_async(&mut connection)).await?;
        Ok(stored.is_some())
    }

    async fn replace(&self, key: &CacheKey, expected: &Bytes, value: Bytes, ttl: Duration) -> Result<bool> {
        let mut call = self.replace.key(row(key));
        call.arg(expected.as_ref()).arg(value.as_ref()).arg(millis(ttl));
        let replaced: i64 = self.run(&call).await?;
        Ok(replaced == 1)
    }

    async fn remove(&self, key: &CacheKey) -> Result<()> {
        let mut connection = self.connection.clone();
        timed(connection.del(&[row(key), counter(key)])).await
    }

    async fn increment(&self, key: &CacheKey, by: i64, ttl: Duration) -> Result<Count> {
        let mut call = self.increment.key(counter(key));
        let (value, remaining): (i64, i64) = self.run(call.arg(by).arg(millis(ttl))).await?;
        Ok(Count {
            value,
            remaining: left(remaining),
        })
    }

    async fn counter(&self, key: &CacheKey) -> Result<Option<Count>> {
        let mut connection = self.connection.clone();
        let key = counter(key);
        let mut both = redis::pipe();
        both.get(&key).pttl(&key);
        let (value, remaining): (Option<i64>, i64) = timed(both.query_async(&mut connection)).await?;
        Ok(value.map(|value| Count {
            value,
            remaining: left(remaining),
        }))
    }

    async fn issue_code(
        &self,
        key: &CacheKey,
        code: &str,
        ttl: Duration,
        every: Duration,
        tries: u32,
    ) -> Result<Issued> {
        let mut call = self.issue.key(code_of(key));
        let answer: i64 = self
            .run(call.arg(code).arg(millis(ttl)).arg(millis(every)).arg(tries))
            .await?;
        Ok(match answer {
            0 => Issued::Issued,
            -1 => Issued::Corrupt,
            wait => Issued::TooSoon {
                retry_after: left(wait),
            },
        })
    }

    async fn redeem_code(&self, key: &CacheKey, code: &str) -> Result<Redeemed> {
        let answer: i64 = self.run(self.redeem.key(code_of(key)).arg(code)).await?;
        Ok(match answer {
            1 => Redeemed::Matched,
            -1 => Redeemed::Dead,
            _ => Redeemed::Wrong,
        })
    }

    async fn clean_up_codes(&self) -> Result<u64> {
        let (mut cursor, mut n_removed) = (0_u64, 0);
        loop {
            let mut call = self.clean_up.arg(cursor);
            let (next, n): (u64, u64) = self.run(&*call.arg(SCAN_COUNT)).await?;
            n_removed += n;
            cursor = next;
            if cursor == 0 {
                return Ok(n_removed);
            }
        }
    }
}

impl std::fmt::Debug for RedisEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisEngine").finish_non_exhaustive()
    }
}
