//! Events: how far groups are behind, what they could not handle, and reading again.

use axum::extract::{Path, Query, State as Extract};
use axum::routing::{get, post};
use axum::{Json, Router};
use mosaic_core::{Error, Timestamp};
use mosaic_events::{DeadLetter, DeadLetters, Position};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Failed, Handle, shown};
use crate::work::ConsumerGroup;

/// Dead letters on a page, unless asked for fewer.
const PAGE: usize = 50;
/// Most dead letters on a page.
const PAGE_MAX: usize = 500;

pub(super) fn router() -> Router<Handle> {
    Router::new()
        .route("/events", get(lag))
        .route("/events/{group}/dead", get(dead))
        .route("/events/{group}/dead/replay", post(replay_all))
        .route("/events/{group}/dead/{seq}", get(look).delete(delete))
        .route("/events/{group}/dead/{seq}/replay", post(replay))
        .route("/events/{group}/pause", post(pause))
        .route("/events/{group}/resume", post(resume))
        .route("/events/{group}/seek", post(seek))
}

fn group<'a>(handle: &'a Handle, name: &str) -> Result<&'a ConsumerGroup, Failed> {
    let found = handle.get()?.groups.iter().find(|group| group.name == name);
    let unknown = || Error::not_found("EVENTS_GROUP_UNKNOWN", "this process runs no such group");
    Ok(found.ok_or_else(unknown)?)
}

fn letters<'a>(handle: &'a Handle, name: &str) -> Result<&'a DeadLetters, Failed> {
    let none = || Error::internal("a group has dead letters");
    Ok(group(handle, name)?.running.dead_letters().ok_or_else(none)?)
}

async fn lag(Extract(handle): Extract<Handle>) -> Answer {
    let inspection = handle.get()?;
    let mut all = Vec::new();
    for group in &inspection.groups {
        let name = group.name.parse()?;
        let n_dead = letters(&handle, &group.name)?.count().await?;
        for topic in group.running.topics() {
            let lags = match &inspection.bus {
                Some(bus) => bus.lag(topic, &name).await?,
                None => Vec::new(),
            };
            all.push(json!({
                "module": group.module,
                "group": group.name,
                "topic": topic.as_str(),
                "behind": lags.iter().map(|lag| lag.events).sum::<u64>(),
                "behind_s": lags.iter().map(|lag| lag.age).max().unwrap_or_default().as_secs_f64(),
                "partitions": lags.len(),
                "dead_letters": n_dead,
            }));
        }
    }
    Ok(Json(all.into()))
}

/// Which dead letters.
#[derive(Debug, Deserialize)]
struct Which {
    after: Option<i64>,
    limit: Option<usize>,
}

async fn dead(Extract(handle): Extract<Handle>, Path(name): Path<String>, Query(which): Query<Which>) -> Answer {
    let limit = which.limit.unwrap_or(PAGE).min(PAGE_MAX);
    let found = letters(&handle, &name)?.list(which.after.unwrap_or(0), limit).await?;
    Ok(Json(found.iter().map(shown_letter).collect()))
}

fn shown_letter(letter: &DeadLetter) -> Value {
    json!({
        "seq": letter.seq,
        "event": letter.message.id.to_string(),
        "name": letter.message.name,
        "key": letter.message.key,
        "attempts": letter.attempts,
        "failed_at": letter.failed_at.to_string(),
        "error": letter.error,
    })
}

async fn look(Extract(handle): Extract<Handle>, Path((name, seq)): Path<(String, i64)>) -> Answer {
    let letter = letters(&handle, &name)?.get(seq).await?;
    let mut fields = shown_letter(&letter);
    fields["topic"] = letter.message.topic.as_str().into();
    fields["published_at"] = letter.message.at.to_string().into();
    let mut headers = serde_json::Map::new();
    letter.message.headers.each(|name, text| {
        headers.insert(name.to_owned(), text.into());
    });
    fields["headers"] = headers.into();
    fields["payload"] = shown(&letter.message.payload);
    Ok(Json(fields))
}

async fn delete(Extract(handle): Extract<Handle>, Path((name, seq)): Path<(String, i64)>) -> Answer {
    letters(&handle, &name)?.delete(seq).await?;
    Ok(Json(json!({"done": 1})))
}

async fn replay(Extract(handle): Extract<Handle>, Path((name, seq)): Path<(String, i64)>) -> Answer {
    group(&handle, &name)?.running.replay(seq).await?;
    Ok(Json(json!({"done": 1})))
}

async fn replay_all(Extract(handle): Extract<Handle>, Path(name): Path<String>) -> Answer {
    let n_done = group(&handle, &name)?.running.replay_all().await?;
    Ok(Json(json!({"done": n_done})))
}

async fn pause(Extract(handle): Extract<Handle>, Path(name): Path<String>) -> Answer {
    group(&handle, &name)?.running.pause();
    Ok(Json(json!({"done": 1})))
}

async fn resume(Extract(handle): Extract<Handle>, Path(name): Path<String>) -> Answer {
    group(&handle, &name)?.running.resume();
    Ok(Json(json!({"done": 1})))
}

/// Where to read again.
#[derive(Debug, Deserialize)]
struct Target {
    topic: String,
    /// `beginning`, `end`, a time as of RFC 3339, or `partition:offset`.
    from: String,
}

impl Target {
    fn position(&self) -> Result<Position, Failed> {
        match self.from.as_str() {
            "beginning" => return Ok(Position::Beginning),
            "end" => return Ok(Position::End),
            _ => {}
        }
        if let Some((partition, offset)) = self.from.split_once(':')
            && let (Ok(partition), Ok(offset)) = (partition.parse(), offset.parse())
        {
            return Ok(Position::Offset { partition, offset });
        }
        let time = self.from.parse::<Timestamp>().map_err(|_| {
            let message = "read from beginning, end, a time (2026-01-31T12:00:00Z) or partition:offset";
            Error::invalid_argument("EVENTS_POSITION_INVALID", message)
        });
        Ok(Position::Time(time?))
    }
}

async fn seek(Extract(handle): Extract<Handle>, Path(name): Path<String>, Json(target): Json<Target>) -> Answer {
    let to = target.position()?;
    group(&handle, &name)?;
    let bus = handle.get()?.bus.as_ref();
    let bus = bus.ok_or_else(|| Error::internal("a group has a bus"))?;
    bus.seek(&target.topic.parse()?, &name.parse()?, &to).await?;
    Ok(Json(json!({"done": 1})))
}
