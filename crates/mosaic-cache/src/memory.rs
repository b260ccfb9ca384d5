//! The engine in the memory of one process.
//!
//! Rows, counters and codes are in tables of their own, so that a flood of rows forgets no counter. Time is that of the
//! runtime, so that tests hold it still.

mod table;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::ready;
use mosaic_core::{Result, Runtime, Timestamp};
use subtle::ConstantTimeEq as _;

use self::table::{Table, Weigh};
use crate::{Answer, CacheEngine, CacheKey, Count, Issued, Redeemed, Row};

/// See the module documentation.
#[derive(Debug)]
pub struct MemoryEngine {
    runtime: Runtime,
    rows: Table<Row>,
    counters: Table<i64>,
    codes: Table<Code>,
}

#[derive(Debug, Clone)]
struct Code {
    code: String,
    issued: Timestamp,
    tries_left: u32,
}

impl MemoryEngine {
    /// Makes an empty engine.
    pub fn new(runtime: &Runtime) -> Self {
        Self {
            runtime: runtime.clone(),
            rows: Table::default(),
            counters: Table::default(),
            codes: Table::default(),
        }
    }
}

#[async_trait]
impl CacheEngine for MemoryEngine {
    fn get<'a>(&'a self, key: &'a CacheKey) -> Answer<'a, Option<Row>> {
        let mut found = None;
        self.peek(key, &mut |row| found = Some(row.clone()));
        Answer::Left(ready(Ok(found)))
    }

    fn peek(&self, key: &CacheKey, look: &mut dyn FnMut(&Row)) {
        let now = self.runtime.now();
        self.rows.look(key, now, look);
    }

    async fn set(&self, key: &CacheKey, value: Bytes, ttl: Duration) -> Result<()> {
        let now = self.runtime.now();
        self.rows.place(key).put(Row::new(value), now, ttl);
        Ok(())
    }

    async fn set_if_absent(&self, key: &CacheKey, value: Bytes, ttl: Duration) -> Result<bool> {
        let now = self.runtime.now();
        let mut place = self.rows.place(key);
        let is_absent = place.live(now).is_none();
        if is_absent {
            place.put(Row::new(value), now, ttl);
        }
        Ok(is_absent)
    }

    async fn replace(&self, key: &CacheKey, expected: &Bytes, value: Bytes, ttl: Duration) -> Result<bool> {
        let now = self.runtime.now();
        let mut place = self.rows.place(key);
        let is_expected = place.live(now).is_some_and(|entry| entry.value.bytes() == expected);
        if is_expected {
            place.put(Row::new(value), now, ttl);
        }
        Ok(is_expected)
    }

    async fn remove(&self, key: &CacheKey) -> Result<()> {
        self.rows.place(key).remove();
        self.counters.place(key).remove();
        Ok(())
    }

    async fn increment(&self, key: &CacheKey, by: i64, ttl: Duration) -> Result<Count> {
        let now = self.runtime.now();
        let mut place = self.counters.place(key);
        if let Some(entry) = place.live(now) {
            entry.value = entry.value.saturating_add(by);
            return Ok(Count {
                value: entry.value,
                remaining: entry.expires.since(now),
            });
        }
        place.put(by, now, ttl);
        Ok(Count {
            value: by,
            remaining: ttl,
        })
    }

    async fn counter(&self, key: &CacheKey) -> Result<Option<Count>> {
        let now = self.runtime.now();
        let mut place = self.counters.place(key);
        Ok(place.live(now).map(|entry| Count {
            value: entry.value,
            remaining: entry.expires.since(now),
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
        let now = self.runtime.now();
        let mut place = self.codes.place(key);
        if let Some(entry) = place.live(now) {
            let age = now.since(entry.value.issued);
            if age < every {
                return Ok(Issued::TooSoon {
                    retry_after: every - age,
                });
            }
        }
        let code = Code {
            code: code.to_owned(),
            issued: now,
            tries_left: tries,
        };
        place.put(code, now, ttl);
        Ok(Issued::Issued)
    }

    async fn redeem_code(&self, key: &CacheKey, code: &str) -> Result<Redeemed> {
        let now = self.runtime.now();
        let mut place = self.codes.place(key);
        let Some(entry) = place.live(now) else {
            return Ok(Redeemed::Wrong);
        };
        if entry.value.tries_left == 0 {
            return Ok(Redeemed::Dead);
        }
        // A code that is used up stays as a dead one, so that the next may not come sooner.
        if entry.value.code.as_bytes().ct_eq(code.as_bytes()).into() {
            entry.value.tries_left = 0;
            return Ok(Redeemed::Matched);
        }
        entry.value.tries_left -= 1;
        Ok(if entry.value.tries_left == 0 {
            Redeemed::Dead
        } else {
            Redeemed::Wrong
        })
    }

    async fn clean_up_codes(&self) -> Result<u64> {
        let now = self.runtime.now();
        self.codes.forget_over(now);
        Ok(0)
    }
}

/// Twice its bytes: once as they are, and once as what somebody has read out of them.
impl Weigh for Row {
    fn size_bytes(&self) -> usize {
        2 * self.bytes().len()
    }
}

impl Weigh for i64 {
    fn size_bytes(&self) -> usize {
        0
    }
}

impl Weigh for Code {
    fn size_bytes(&self) -> usize {
        self.code.len()
    }
}
