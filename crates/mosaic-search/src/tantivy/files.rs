//! The directory of an index: opened, looked at, thrown away.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ::tantivy::directory::error::LockError;
use ::tantivy::directory::{INDEX_WRITER_LOCK, MmapDirectory};
use ::tantivy::schema::{
    IndexRecordOption, NumericOptions, STORED, STRING, Schema, SchemaBuilder, TextFieldIndexing, TextOptions,
};
use ::tantivy::{Directory as _, Index, IndexReader, ReloadPolicy, TantivyError};
use mosaic_core::{Error, Result};

use super::{blocking, words};
use crate::{Field, IndexSchema, Kind, unavailable};

const ID: &str = "_id";
const VERSION: &str = "_version";

/// The fields of an index as tantivy numbers them.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) id: ::tantivy::schema::Field,
    pub(super) fields: BTreeMap<String, (::tantivy::schema::Field, Field)>,
}

impl Layout {
    pub(super) const VERSION: &str = VERSION;

    pub(super) fn of(index: &Index, schema: &IndexSchema) -> Result<Self> {
        let numbered = index.schema();
        let find = |name: &str| numbered.get_field(name).map_err(unavailable);
        let mut fields = BTreeMap::new();
        for field in schema.fields() {
            fields.insert(field.name.clone(), (find(&field.name)?, field.clone()));
        }
        Ok(Self { id: find(ID)?, fields })
    }

    pub(super) fn field(&self, name: &str) -> Result<::tantivy::schema::Field> {
        let found = self.fields.get(name).map(|(number, _)| *number);
        found.ok_or_else(|| Error::internal(format!("field {name:?} was not checked")))
    }
}

/// Opens the index in `path`, if it is there and can be used.
pub(super) async fn open(path: &Path, schema: &IndexSchema) -> Result<Option<Index>> {
    let wanted = tantivy_schema(schema);
    let (place, theirs, name) = (path.to_owned(), wanted, schema.name().as_str().to_owned());
    // A panic in here is damage like any other, and must not be taken for an engine that is away.
    let looked_at = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&place).map_err(unavailable)?;
        remove_older(&place, &name)?;
        look_at(&place, &theirs)
    });
    let why = match looked_at.await {
        Ok(Ok(Found::Whole(index))) => return Ok(Some(*index)),
        Ok(Ok(Found::Nothing)) => return Ok(None),
        Ok(Ok(Found::Damaged(why))) => why,
        Ok(Err(error)) => return Err(error),
        Err(panic) => panic.to_string(),
    };
    tracing::error!(index = %schema.name(), why, "the index is damaged and is to begin anew");
    Ok(None)
}

/// Makes an empty index in `path`, in place of what was there.
pub(super) async fn create(path: &Path, schema: &IndexSchema) -> Result<Index> {
    let (place, wanted) = (path.to_owned(), tantivy_schema(schema));
    blocking(move || {
        remove(&place)?;
        std::fs::create_dir_all(&place).map_err(unavailable)?;
        let index = Index::create_in_dir(&place, wanted).map_err(unavailable)?;
        words::register(&index);
        Ok(index)
    })
    .await
}

enum Found {
    Nothing,
    Whole(Box<Index>),
    Damaged(String),
}

/// Looks whether the index in `path` can be used; fails if somebody else writes it.
fn look_at(path: &Path, wanted: &Schema) -> Result<Found> {
    let directory = MmapDirectory::open(path).map_err(unavailable)?;
    let _lock = directory
        .acquire_lock(&INDEX_WRITER_LOCK)
        .map_err(|error| match error {
            LockError::LockBusy => locked(),
            LockError::IoError(error) => unavailable(error),
        })?;
    if !path.join("meta.json").try_exists().map_err(unavailable)? {
        return Ok(Found::Nothing);
    }
    let found = Index::open_in_dir(path).and_then(|index| {
        let damaged = index.validate_checksum()?;
        let names = || {
            damaged
                .iter()
                .map(|file| file.display().to_string())
                .collect::<Vec<_>>()
        };
        Ok(match () {
            () if !damaged.is_empty() => Found::Damaged(format!("damaged files: {}", names().join(", "))),
            () if index.schema() != *wanted => Found::Damaged("it has another schema".to_owned()),
            () => {
                words::register(&index);
                index.reader()?;
                Found::Whole(Box::new(index))
            }
        })
    });
    Ok(found.unwrap_or_else(|error| Found::Damaged(error.to_string())))
}

pub(super) fn reader(index: &Index) -> Result<IndexReader> {
    let builder = index.reader_builder().reload_policy(ReloadPolicy::Manual);
    builder.try_into().map_err(unavailable)
}

/// Deletes a directory; one that is not there is deleted already.
pub(super) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(unavailable(error)),
        _ => Ok(()),
    }
}

/// Deletes what the index was under other schemas.
fn remove_older(path: &Path, name: &str) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let is_fingerprint = |text: &str| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let others: Vec<PathBuf> = std::fs::read_dir(parent)
        .map_err(unavailable)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|other| other != path)
        .filter(|other| {
            let file = other.file_name().and_then(|file| file.to_str()).unwrap_or_default();
            let rest = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
            rest.is_some_and(is_fingerprint)
        })
        .collect();
    others.iter().try_for_each(|other| remove(other))
}

pub(super) fn failed(error: TantivyError) -> Error {
    match error {
        TantivyError::LockFailure(..) => locked(),
        other => unavailable(other),
    }
}

fn locked() -> Error {
    let message = "another process writes the search index: give them an engine that they share";
    Error::unavailable("SEARCH_INDEX_LOCKED", message)
}

fn tantivy_schema(schema: &IndexSchema) -> Schema {
    let mut builder = SchemaBuilder::new();
    builder.add_text_field(ID, STRING | STORED);
    builder.add_i64_field(VERSION, NumericOptions::default().set_fast());
    for field in schema.fields() {
        let (name, is_stored) = (field.name.as_str(), field.is_returned);
        let text = |tokenizer, record| {
            let indexing = TextFieldIndexing::default()
                .set_tokenizer(tokenizer)
                .set_index_option(record);
            let options = TextOptions::default().set_indexing_options(indexing);
            if is_stored { options.set_stored() } else { options }
        };
        match field.kind {
            Kind::Text => builder.add_text_field(name, text(words::NAME, IndexRecordOption::WithFreqs)),
            Kind::Keyword => builder.add_text_field(name, text("raw", IndexRecordOption::Basic)),
            Kind::Number => {
                let options = NumericOptions::default().set_fast().set_indexed();
                builder.add_i64_field(name, if is_stored { options.set_stored() } else { options })
            }
        };
    }
    builder.build()
}
