//! What happens by itself: due tasks go, groups become one task, keys let the next ones try, leases run out, the old is deleted.

use mosaic_core::{Result, Timestamp};
use prost::Message as _;
use redis::Value;

use super::RedisEngine;
use super::args::Args;
use super::change::{ATTEMPTS, Draft, With, read_all};
use super::commit::{Changes, Committed};
use super::message::{Extra, micros};
use super::stored::{self, Stored, items, plain};
use crate::engine::{ENDED_MAX, Promoted};
use crate::id::TaskId;
use crate::model::{self, ARCHIVED_FOR, Event, MERGED_BYTES_MAX, Record};

/// Most that wait for one key and are let go in one step.
const RELEASED_MAX: usize = 1000;

/// What the script says is due.
struct Due {
    now: Timestamp,
    n_promoted: usize,
    next_at: Option<Timestamp>,
    /// Queue and name.
    groups: Vec<Value>,
    keys: Vec<Value>,
}

impl RedisEngine {
    pub(super) async fn let_go(&self, limit: usize) -> Result<Promoted> {
        let due = self.due(limit).await?;
        let mut n_due = due.n_promoted;
        let has_more = !due.groups.is_empty() || !due.keys.is_empty();
        for group in due.groups {
            n_due += self.merge(group).await?;
        }
        for key in due.keys {
            n_due += self.release(key, due.now).await?;
        }
        let last = if has_more {
            self.due(0).await?
        } else {
            Due {
                groups: Vec::new(),
                keys: Vec::new(),
                ..due
            }
        };
        Ok(Promoted {
            n_due,
            next_in: last.next_at.map(|at| at.since(last.now)),
        })
    }

    /// Lets go what is due, and says what else is.
    async fn due(&self, limit: usize) -> Result<Due> {
        let mut args = Args::new();
        args.show(limit);
        let answer = self.connection.run(&self.connection.scripts.promote, args).await?;
        let mut answer = items(answer)?.into_iter();
        let mut next = || answer.next().unwrap_or(Value::Nil);
        let now = stored::now(next())?;
        let n_promoted = plain(next())?;
        let next_at: String = plain(next())?;
        Ok(Due {
            now,
            n_promoted,
            next_at: stored::time(&next_at),
            groups: items(next())?,
            keys: items(next())?,
        })
    }

    /// Makes tasks of a group that has come to its time; returns how many.
    async fn merge(&self, group: Value) -> Result<usize> {
        let group: Vec<String> = plain(group)?;
        let (mut n_merged, mut n_stale) = (0, 0);
        while n_stale < ATTEMPTS {
            let mut args = Args::new();
            for part in &group {
                args.text(part);
            }
            args.show(MERGED_BYTES_MAX);
            let answer = self.connection.run(&self.connection.scripts.members, args).await?;
            let mut answer = items(answer)?.into_iter();
            let now = stored::now(answer.next().unwrap_or(Value::Nil))?;
            let members = read_all(answer.next().unwrap_or(Value::Nil))?;
            let Some(changes) = self.merged(&members, now) else {
                return Ok(n_merged);
            };
            // Another worker may be at it: what it has taken is not there when we look again.
            if self.commit(None, changes, &[]).await? == Committed::Stale {
                n_stale += 1;
            } else {
                n_merged += 1;
            }
        }
        Ok(n_merged)
    }

    /// Returns the changes that make one task of the first of `members`, `None` if there are none.
    fn merged(&self, members: &[Stored], now: Timestamp) -> Option<Changes> {
        let first = members.first()?;
        let max_size = first.record.group.as_ref()?.max_size;
        let sizes = members.iter().map(|member| member.message.payload.len());
        let members = &members[..model::n_to_merge(sizes, max_size)];
        let records: Vec<Record> = members.iter().map(|member| member.record.clone()).collect();
        let task = model::merged(TaskId::new(&self.runtime), &records, now)?;
        let payload = model::frame(members.iter().map(|member| member.message.payload.as_slice()));
        let mut changes = Changes::default();
        for member in members {
            changes.remove(member);
        }
        changes.create(&task, payload, "");
        Some(changes)
    }

    /// Lets those try again that wait for a key; returns how many.
    async fn release(&self, key: Value, now: Timestamp) -> Result<usize> {
        let mut key = items(key)?.into_iter();
        let mut next = || key.next().unwrap_or(Value::Nil);
        let name: String = plain(next())?;
        let extra: Vec<u8> = plain(next())?;
        let n_active: u32 = plain(next())?;
        let n_waiting: usize = plain(next())?;
        let time: String = plain(next())?;
        let limit = Extra::decode(extra.as_slice()).ok().and_then(|extra| extra.limit());
        let time = stored::time(&time).unwrap_or_default();
        let released = limit.map(|limit| model::release(&limit, n_active, n_waiting.min(RELEASED_MAX), time, now));
        let n = released.map_or(0, |released| released.n);
        let again_at = released.filter(|_| n < n_waiting).map(|released| match n {
            RELEASED_MAX => now,
            _ => released.again_at,
        });
        let mut args = Args::new();
        args.text(name).show(n).maybe(again_at.map(Timestamp::as_micros));
        plain(self.connection.run(&self.connection.scripts.release, args).await?)
    }

    /// Counts a failure for those whose lease has run out.
    pub(super) async fn lose(&self, limit: usize) -> Result<usize> {
        self.sweep("leases", limit, |_| Event::Expire { roll: self.roll() })
            .await
    }

    /// Deletes what was kept for its time or is too much.
    pub(super) async fn delete_old(&self, limit: usize) -> Result<usize> {
        self.sweep("ended", limit, |why| match why {
            "room" => Event::Evict,
            _ => Event::Purge,
        })
        .await
    }

    async fn sweep(&self, what: &str, limit: usize, event: impl Fn(&str) -> Event + Send + Sync) -> Result<usize> {
        for _ in 0..ATTEMPTS {
            let mut args = Args::new();
            args.text(what).show(limit).show(micros(ARCHIVED_FOR)).show(ENDED_MAX);
            let answer = self.connection.run(&self.connection.scripts.sweep, args).await?;
            let found = items(items(answer)?.pop().unwrap_or(Value::Nil))?;
            let mut why = std::collections::BTreeMap::new();
            for one in found {
                let mut one = items(one)?.into_iter();
                let reason: String = plain(one.next().unwrap_or(Value::Nil))?;
                if let Some(task) = Stored::read(one.next().unwrap_or(Value::Nil))? {
                    why.insert(task.record.id, (reason, task));
                }
            }
            if why.is_empty() {
                return Ok(0);
            }
            // Read again where others come after one of them.
            let (now, tasks) = self.fetch(why.keys().copied(), With::Successors).await?;
            let mut draft = Draft::new(now, tasks)?;
            let mut n_done = 0;
            for (id, (reason, _)) in &why {
                n_done += usize::from(draft.get(*id).is_some() && draft.happen(*id, &event(reason)).is_ok());
            }
            if self.commit(None, draft.changes(), &[]).await? != Committed::Stale {
                return Ok(n_done);
            }
        }
        Ok(0)
    }
}
