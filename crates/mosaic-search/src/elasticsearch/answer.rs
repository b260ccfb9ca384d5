//! What a server says.

use std::collections::BTreeMap;

use mosaic_core::{Error, Result};
use serde::Deserialize;
use serde_json::Value as Json;

use super::body::RETURNED;
use crate::{Hit, Hits, IndexSchema, Kind, Value, unavailable};

#[derive(Deserialize)]
struct Changed {
    errors: bool,
    items: Vec<BTreeMap<String, Change>>,
}

#[derive(Deserialize)]
struct Change {
    status: u16,
}

/// Fails unless every change was made, or is known to be too old, or removes what is not there.
pub(super) fn check_changes(answer: Json) -> Result<()> {
    let changed: Changed = serde_json::from_value(answer).map_err(unavailable)?;
    if !changed.errors {
        return Ok(());
    }
    for (action, change) in changed.items.iter().flatten() {
        match change.status {
            200..=299 | 409 => {}
            404 if action == "delete" => {}
            400 => return Err(Error::internal(format!("the server refuses a document: {action}"))),
            status => return Err(unavailable(format!("a change failed: {action}, {status}"))),
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Found {
    hits: FoundHits,
}

#[derive(Deserialize)]
struct FoundHits {
    hits: Vec<FoundHit>,
}

#[derive(Deserialize)]
struct FoundHit {
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "_score")]
    score: f32,
    #[serde(rename = "_source", default)]
    source: Json,
}

/// Reads hits.
pub(super) fn hits(schema: &IndexSchema, answer: Json) -> Result<Hits> {
    let found: Found = serde_json::from_value(answer).map_err(unavailable)?;
    let hits = found.hits.hits.into_iter().map(|hit| Hit {
        values: values(schema, &hit.source[RETURNED]),
        id: hit.id,
        score: hit.score,
    });
    Ok(Hits { hits: hits.collect() })
}

fn values(schema: &IndexSchema, returned: &Json) -> BTreeMap<String, Value> {
    let values = schema.returned().filter_map(|field| {
        let json = &returned[&field.name];
        let value = match field.kind {
            Kind::Number => Value::Number(json.as_i64()?),
            Kind::Text | Kind::Keyword => {
                let texts = json.as_array()?.iter().filter_map(Json::as_str);
                Value::Texts(texts.map(str::to_owned).collect())
            }
        };
        Some((field.name.clone(), value))
    });
    values.collect()
}
