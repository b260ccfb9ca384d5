//! A query in tantivy's terms. Nothing is parsed: words become terms, and only words.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use ::tantivy::collector::TopDocs;
use ::tantivy::index::SegmentId;
use ::tantivy::query::{
    BooleanQuery, BoostQuery, ConstScoreQuery, Occur, Query as Clause, RangeQuery, TermQuery, TermSetQuery,
};
use ::tantivy::schema::{IndexRecordOption, Value as _};
use ::tantivy::{DocAddress, DocId, DocSet as _, Score, Searcher, SegmentReader, TERMINATED, TantivyDocument, Term};
use mosaic_core::Result;

use super::files::Layout;
use crate::words::searched_words;
use crate::{Filter, Hit, Hits, Kind, Query, Value, unavailable};

/// Factors of documents, by segment and number.
type Factors = HashMap<SegmentId, HashMap<DocId, f32>>;

pub(super) fn search(searcher: &Searcher, layout: &Layout, query: &Query) -> Result<Hits> {
    let words = searched_words(&query.text);
    if words.is_empty() {
        return Ok(Hits::default());
    }
    let mut clauses = vec![(Occur::Must, any_word(layout, query, &words)?)];
    for filter in &query.filters {
        let condition = ConstScoreQuery::new(condition(layout, filter)?, 0.0);
        clauses.push((Occur::Must, Box::new(condition)));
    }
    let clause = BooleanQuery::new(clauses);
    let page = TopDocs::with_limit(query.limit).and_offset(query.offset);
    let factors = factors(searcher, layout, query)?;
    let found: Vec<(Score, DocAddress)> = if factors.is_empty() {
        searcher.search(&clause, &page.order_by_score())
    } else {
        let factors = Arc::new(factors);
        let multiplied = page.tweak_score(move |segment: &SegmentReader| {
            let of_segment = factors.get(&segment.segment_id()).cloned().unwrap_or_default();
            move |document: DocId, score: Score| score * of_segment.get(&document).copied().unwrap_or(1.0)
        });
        searcher.search(&clause, &multiplied)
    }
    .map_err(unavailable)?;
    let hits = found
        .into_iter()
        .map(|(score, address)| hit(searcher, layout, score, address));
    Ok(Hits {
        hits: hits.collect::<Result<_>>()?,
    })
}

fn any_word(layout: &Layout, query: &Query, words: &[String]) -> Result<Box<dyn Clause>> {
    let mut clauses: Vec<(Occur, Box<dyn Clause>)> = Vec::with_capacity(words.len() * query.fields.len());
    for (name, boost) in &query.fields {
        let field = layout.field(name)?;
        for word in words {
            let term = TermQuery::new(Term::from_field_text(field, word), IndexRecordOption::WithFreqs);
            clauses.push((Occur::Should, Box::new(BoostQuery::new(Box::new(term), *boost))));
        }
    }
    Ok(Box::new(BooleanQuery::new(clauses)))
}

fn condition(layout: &Layout, filter: &Filter) -> Result<Box<dyn Clause>> {
    Ok(match filter {
        Filter::AnyOf(name, values) => {
            let field = layout.field(name)?;
            Box::new(TermSetQuery::new(
                values.iter().map(|value| Term::from_field_text(field, value)),
            ))
        }
        Filter::Between(name, from, to) => {
            let field = layout.field(name)?;
            let end = |number| Bound::Included(Term::from_field_i64(field, number));
            Box::new(RangeQuery::new(end(*from), end(*to)))
        }
    })
}

/// Finds the documents whose score is multiplied.
fn factors(searcher: &Searcher, layout: &Layout, query: &Query) -> Result<Factors> {
    let mut factors = Factors::new();
    for boost in &query.boosts {
        for id in &boost.ids {
            if let Some((segment, document)) = find(searcher, layout, id)? {
                let of_segment = factors.entry(segment.segment_id()).or_default();
                *of_segment.entry(document).or_insert(1.0) *= boost.factor;
            }
        }
    }
    Ok(factors)
}

/// Returns where the document `id` is.
pub(super) fn find<'a>(
    searcher: &'a Searcher,
    layout: &Layout,
    id: &str,
) -> Result<Option<(&'a SegmentReader, DocId)>> {
    let term = Term::from_field_text(layout.id, id);
    for segment in searcher.segment_readers() {
        let postings = segment
            .inverted_index(layout.id)
            .map_err(unavailable)?
            .read_postings(&term, IndexRecordOption::Basic)
            .map_err(unavailable)?;
        let Some(mut postings) = postings else { continue };
        let mut document = postings.doc();
        while document != TERMINATED {
            if !segment.is_deleted(document) {
                return Ok(Some((segment, document)));
            }
            document = postings.advance();
        }
    }
    Ok(None)
}

fn hit(searcher: &Searcher, layout: &Layout, score: Score, address: DocAddress) -> Result<Hit> {
    let document: TantivyDocument = searcher.doc(address).map_err(unavailable)?;
    let id = document
        .get_first(layout.id)
        .and_then(|id| id.as_str())
        .unwrap_or_default();
    let mut values = BTreeMap::new();
    for (name, (number, field)) in &layout.fields {
        let mut found = document.get_all(*number).peekable();
        if !field.is_returned || found.peek().is_none() {
            continue;
        }
        let value = match field.kind {
            Kind::Number => found.find_map(|value| value.as_i64()).map(Value::Number),
            Kind::Text | Kind::Keyword => Some(Value::Texts(
                found.filter_map(|value| value.as_str().map(str::to_owned)).collect(),
            )),
        };
        values.extend(value.map(|value| (name.clone(), value)));
    }
    Ok(Hit {
        id: id.to_owned(),
        score,
        values,
    })
}
