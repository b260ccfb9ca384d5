//! An engine in Redis.
//!
//! A lease is a hash that outlives its time, so that its number never falls: holder, number, end by the server's clock. Each
//! method is one script. A Redis that loses its data forgets the numbers: run it with persistence where fencing must
//! survive that, or keep leases in the database that is fenced.

use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::{Error, Result};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{FromRedisValue, RedisError, Script, ScriptInvocation};

use crate::lease::{Acquired, Holder, Lease, Leases, NodeLoad, check_names, read_load, stored_load};

/// Longest wait for an answer.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(1);

/// Milliseconds of the server.
const NOW: &str = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) ";

/// `ARGV`: holder, ttl. Returns whether it is ours, holder, number, time left.
const ACQUIRE: &str = r"
local held = redis.call('HMGET', KEYS[1], 'holder', 'fence', 'until')
local left = tonumber(held[3] or '0') - now
if left > 0 then return {0, held[1], tonumber(held[2]), left} end
local fence = redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'until', string.format('%.0f', now + ARGV[2]))
return {1, ARGV[1], fence, tonumber(ARGV[2])}";

/// `ARGV`: number, ttl. Returns whether it was ours.
const SET_END: &str = r"
local held = redis.call('HMGET', KEYS[1], 'fence', 'until')
if held[1] ~= ARGV[1] or tonumber(held[2]) <= now then return 0 end
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + ARGV[2]))
return 1";

/// Returns holder, number and time left, or nothing.
const HOLDER: &str = r"
local held = redis.call('HMGET', KEYS[1], 'holder', 'fence', 'until')
local left = tonumber(held[3] or '0') - now
if left <= 0 then return false end
return {held[1], tonumber(held[2]), left}";

/// `ARGV`: node, load, ttl. Two keys of one slot: loads by node, ends by node.
const REPORT: &str = r"
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1";

/// Forgets the old and returns node, load, node, load ...
const REPORTS: &str = r"
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)) do
  redis.call('HDEL', KEYS[1], node)
  redis.call('ZREM', KEYS[2], node)
end
return redis.call('HGETALL', KEYS[1])";

/// See the module documentation.
pub struct RedisLeases {
    connection: ConnectionManager,
    acquire: Script,
    set_end: Script,
    holder: Script,
    report: Script,
    reports: Script,
}

impl RedisLeases {
    /// Makes an engine for `redis://` or `rediss://`; connects at the first command, so Redis need not be there yet.
    ///
    /// # Errors
    /// `LEASE_URL_INVALID`.
    pub fn open(url: &str) -> Result<Self> {
        let bad = |error: RedisError| {
            Error::invalid_argument("LEASE_URL_INVALID", "the URL of the leases is not valid")
                .caused_by(error.to_string())
        };
        let client = redis::Client::open(url).map_err(bad)?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(COMMAND_TIMEOUT))
            .set_connection_timeout(Some(COMMAND_TIMEOUT))
            .set_number_of_retries(0)
            .set_max_delay(Duration::from_secs(1));
        let script = |body: &str| Script::new(&format!("{NOW}{body}"));
        Ok(Self {
            connection: ConnectionManager::new_lazy_with_config(client, config).map_err(bad)?,
            acquire: script(ACQUIRE),
            set_end: script(SET_END),
            holder: script(HOLDER),
            report: script(REPORT),
            reports: script(REPORTS),
        })
    }

    async fn run<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T> {
        let mut connection = self.connection.clone();
        let down = || Error::unavailable("LEASE_UNAVAILABLE", "the store of leases does not answer");
        match tokio::time::timeout(COMMAND_TIMEOUT, call.invoke_async(&mut connection)).await {
            Ok(outcome) => outcome.map_err(|error| down().caused_by(error)),
            Err(_) => Err(down().caused_by("no answer in time")),
        }
    }

    async fn set_end(&self, lease: &Lease, ttl: u64) -> Result<bool> {
        let mut call = self.set_end.key(lease_key(&lease.name));
        let was_ours: i64 = self.run(call.arg(lease.fence).arg(ttl)).await?;
        Ok(was_ours == 1)
    }
}

impl std::fmt::Debug for RedisLeases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisLeases").finish_non_exhaustive()
    }
}

fn lease_key(name: &str) -> String {
    format!("lease:{{{name}}}")
}

/// Loads and their ends, in one slot.
fn load_keys(group: &str) -> [String; 2] {
    [format!("load:{{{group}}}"), format!("load:{{{group}}}:until")]
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX >> 12).max(1)
}

#[async_trait]
impl Leases for RedisLeases {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Acquired> {
        check_names(&[name, holder])?;
        let mut call = self.acquire.key(lease_key(name));
        let (is_ours, holder, fence, left): (i64, String, i64, u64) =
            self.run(call.arg(holder).arg(millis(ttl))).await?;
        if is_ours == 1 {
            let name = name.to_owned();
            return Ok(Acquired::Ours(Lease { name, fence }));
        }
        let remaining = Duration::from_millis(left);
        Ok(Acquired::Theirs(Holder {
            holder,
            fence,
            remaining,
        }))
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool> {
        self.set_end(lease, millis(ttl)).await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        self.set_end(lease, 0).await.map(|_| ())
    }

    async fn holder(&self, name: &str) -> Result<Option<Holder>> {
        let held: Option<(String, i64, u64)> = self.run(&self.holder.key(lease_key(name))).await?;
        Ok(held.map(|(holder, fence, left)| Holder {
            holder,
            fence,
            remaining: Duration::from_millis(left),
        }))
    }

    async fn report(&self, group: &str, load: &NodeLoad, ttl: Duration) -> Result<()> {
        check_names(&[group, &load.node])?;
        let [loads, ends] = load_keys(group);
        let mut call = self.report.key(loads);
        call.key(ends)
            .arg(&load.node)
            .arg(stored_load(load.load))
            .arg(millis(ttl));
        let _: i64 = self.run(&call).await?;
        Ok(())
    }

    async fn reports(&self, group: &str) -> Result<Vec<NodeLoad>> {
        let [loads, ends] = load_keys(group);
        let mut call = self.reports.key(loads);
        let mut reports: Vec<(String, i64)> = self.run(call.key(ends)).await?;
        reports.sort_unstable();
        let read = |(node, load)| NodeLoad {
            node,
            load: read_load(load),
        };
        Ok(reports.into_iter().map(read).collect())
    }
}
