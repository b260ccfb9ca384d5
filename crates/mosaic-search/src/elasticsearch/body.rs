//! What is said to a server.

use serde_json::{Map, Value as Json, json};

use crate::words::{indexed_words, searched_words};
use crate::{Document, Filter, IndexSchema, Kind, Query, Removal, Value};

/// How long a server remembers a removal.
pub(super) const REMOVALS_KEPT: &str = "1h";
/// Where documents have what is returned of them.
pub(super) const RETURNED: &str = "_returned";

/// Makes an index: words are separated by spaces, what is not in the schema is refused.
pub(super) fn index(schema: &IndexSchema) -> Json {
    let mut properties = Map::new();
    properties.insert(RETURNED.to_owned(), json!({"type": "object", "enabled": false}));
    for field in schema.fields() {
        let mapping = match field.kind {
            Kind::Text => json!({"type": "text", "analyzer": "whitespace", "index_options": "freqs"}),
            Kind::Keyword => json!({"type": "keyword"}),
            Kind::Number => json!({"type": "long"}),
        };
        properties.insert(field.name.clone(), mapping);
    }
    json!({
        "settings": {"index": {"gc_deletes": REMOVALS_KEPT}},
        "mappings": {"dynamic": "strict", "properties": properties},
    })
}

/// Puts documents, each unless a later version is known.
pub(super) fn puts(schema: &IndexSchema, documents: &[Document]) -> String {
    let lines = documents.iter().flat_map(|document| {
        let action = json!({"index": subject(&document.id, document.version)});
        [action, source(schema, document)]
    });
    lines_of(lines)
}

/// Removes documents, each unless a later version is known.
pub(super) fn removals(removals: &[Removal]) -> String {
    let actions = removals
        .iter()
        .map(|removal| json!({"delete": subject(&removal.id, removal.version)}));
    lines_of(actions)
}

fn subject(id: &str, version: i64) -> Json {
    json!({"_id": id, "version": version, "version_type": "external_gte"})
}

fn lines_of(lines: impl Iterator<Item = Json>) -> String {
    lines.map(|line| format!("{line}\n")).collect()
}

fn source(schema: &IndexSchema, document: &Document) -> Json {
    let (mut source, mut returned) = (Map::new(), Map::new());
    for field in schema.fields() {
        let Some(value) = document.values.get(&field.name) else {
            continue;
        };
        let plain = match value {
            Value::Texts(texts) => json!(texts),
            Value::Number(number) => json!(number),
        };
        let searched = match (field.kind, value) {
            (Kind::Text, Value::Texts(texts)) => {
                let words = texts.iter().map(|text| indexed_words(text).join(" "));
                json!(words.collect::<Vec<_>>())
            }
            _ => plain.clone(),
        };
        source.insert(field.name.clone(), searched);
        if field.is_returned {
            returned.insert(field.name.clone(), plain);
        }
    }
    source.insert(RETURNED.to_owned(), returned.into());
    source.into()
}

/// Asks; `None` if there is no word to look for.
pub(super) fn search(query: &Query) -> Option<Json> {
    let words = searched_words(&query.text);
    if words.is_empty() {
        return None;
    }
    let fields: Vec<_> = query
        .fields
        .iter()
        .map(|(name, boost)| format!("{name}^{boost}"))
        .collect();
    let any_word = json!({"multi_match": {
        "query": words.join(" "), "fields": fields, "type": "most_fields", "operator": "or",
    }});
    let filters: Vec<_> = query.filters.iter().map(condition).collect();
    let mut clause = json!({"bool": {"must": [any_word], "filter": filters}});
    if !query.boosts.is_empty() {
        let functions = query.boosts.iter();
        let functions =
            functions.map(|boost| json!({"filter": {"ids": {"values": boost.ids}}, "weight": boost.factor}));
        clause = json!({"function_score": {
            "query": clause, "functions": functions.collect::<Vec<_>>(), "score_mode": "multiply", "boost_mode": "multiply",
        }});
    }
    Some(json!({
        "from": query.offset, "size": query.limit, "track_total_hits": false, "_source": [RETURNED], "query": clause,
    }))
}

fn condition(filter: &Filter) -> Json {
    // Names are those of the schema, and so are keys here.
    let (kind, name, value) = match filter {
        Filter::AnyOf(name, values) => ("terms", name, json!(values)),
        Filter::Between(name, from, to) => ("range", name, json!({"gte": from, "lte": to})),
    };
    let named = Map::from_iter([(name.clone(), value)]);
    Map::from_iter([(kind.to_owned(), named.into())]).into()
}
