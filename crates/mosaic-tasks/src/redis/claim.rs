//! Giving out tasks, and keeping leases.

use std::time::Duration;

use mosaic_core::Result;
use redis::Value;

use super::RedisEngine;
use super::args::Args;
use super::message::micros;
use super::stored::{self, Stored, garbled, items, plain};
use crate::engine::{Claim, Claimed, Hold, Lease};

/// What the rules say of a task whose deadline has passed.
const TOO_LATE: &str = "the deadline has passed";

impl RedisEngine {
    pub(super) async fn give_out(&self, claim: &Claim) -> Result<Vec<Claimed>> {
        if claim.kinds.is_empty() || claim.limit == 0 {
            return Ok(Vec::new());
        }
        let mut args = Args::new();
        args.text(claim.queue.as_str())
            .show(claim.limit)
            .show(micros(claim.lease))
            .text(TOO_LATE)
            .show(claim.kinds.len());
        for kind in &claim.kinds {
            args.text(kind);
        }
        let answer = self.connection.run(&self.connection.scripts.claim, args).await?;
        let mut answer = items(answer)?.into_iter();
        let lease_until = answer.next().unwrap_or(Value::Nil);
        let tasks = items(answer.next().unwrap_or(Value::Nil))?;
        let mut claimed = Vec::with_capacity(tasks.len());
        let mut places = Vec::with_capacity(tasks.len());
        for task in tasks {
            let task = whole(task, claim.queue.as_str(), &lease_until)?;
            let Some(stored) = Stored::read(task)? else { continue };
            places.push((stored.record.id, (stored.record.queue.to_string(), stored.raw)));
            claimed.push(Claimed {
                earlier: stored::earlier(stored.rest)?,
                task: stored.record,
                payload: stored.message.payload,
            });
        }
        self.remember(places.into_iter());
        Ok(claimed)
    }

    pub(super) async fn keep(&self, leases: &[Lease], lease: Duration) -> Result<Vec<Hold>> {
        self.locate(leases.iter().map(|lease| lease.id).collect()).await?;
        let mut args = Args::new();
        args.show(micros(lease)).show(leases.len());
        {
            let places = self.places();
            for lease in leases {
                match places.get(&lease.id) {
                    Some((queue, raw)) => args.text(queue).text(raw),
                    // Of no queue there is a task.
                    None => args.none().none(),
                };
                args.show(lease.fence);
            }
        }
        let answer = self.connection.run(&self.connection.scripts.extend, args).await?;
        let letters: Vec<u8> = plain(answer)?;
        let hold = |letter: &u8| match letter {
            b'k' => Hold::Kept,
            b'c' => Hold::Cancelled,
            _ => Hold::Lost,
        };
        let holds: Vec<Hold> = letters.iter().map(hold).collect();
        let mut places = self.places();
        for (lease, _) in leases.iter().zip(&holds).filter(|(_, hold)| **hold == Hold::Lost) {
            places.remove(&lease.id);
        }
        Ok(holds)
    }

    /// Looks for tasks that were not claimed here, or too long ago.
    pub(super) async fn locate(&self, ids: Vec<crate::id::TaskId>) -> Result<()> {
        let unknown: Vec<_> = {
            let places = self.places();
            ids.into_iter().filter(|id| !places.contains_key(id)).collect()
        };
        if unknown.is_empty() {
            return Ok(());
        }
        let (_, found) = self.fetch(unknown, super::change::With::Nothing).await?;
        let places = found
            .into_iter()
            .map(|stored| (stored.record.id, (stored.record.queue.to_string(), stored.raw)));
        self.remember(places);
        Ok(())
    }
}

/// Returns a claimed task with all that other scripts say of one.
fn whole(task: Value, queue: &str, lease_until: &Value) -> Result<Value> {
    let fields: [Value; 10] = items(task)?.try_into().map_err(|_| garbled("not a claimed task"))?;
    let [raw, name, msg, x, fence, enqueued, due, held_until, awaited, earlier] = fields;
    let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
    let name = if name == Value::Nil { raw.clone() } else { name };
    Ok(Value::Array(vec![
        text(queue),
        raw,
        name,
        text("active"),
        msg,
        x,
        Value::Nil,
        fence,
        enqueued,
        due,
        Value::Nil,
        Value::Nil,
        held_until,
        Value::Nil,
        awaited,
        lease_until.clone(),
        earlier,
    ]))
}
