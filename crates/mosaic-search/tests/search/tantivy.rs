//! What the engine in the process promises alone: its files.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mosaic_core::TaskGroup;
use mosaic_search::{Field, Index, IndexSchema, Options, Query, Tantivy};
use tempfile::TempDir;

use crate::contract::{background, document, found, put, schema};

/// What was found where an index was opened.
#[derive(Debug, PartialEq, Eq)]
enum Opening {
    /// Nothing that could be used.
    Fresh,
    /// The index as it was left.
    Kept,
}

async fn open(files: &Path, schema: IndexSchema, background: &TaskGroup) -> (Index, Opening) {
    let engine = Arc::new(Tantivy::new(files, Options::default(), background));
    match Index::open(engine.clone(), schema.clone()).await.unwrap() {
        Some(index) => (index, Opening::Kept),
        None => (Index::create(engine, schema).await.unwrap(), Opening::Fresh),
    }
}

/// Puts a document and ends, as a process does.
async fn left_behind(files: &Path) {
    let background = background();
    let (index, opening) = open(files, schema("items"), &background).await;
    assert_eq!(opening, Opening::Fresh);
    put(&index, [document("1", 5, "tea", "")]).await;
    assert_eq!(background.shutdown(Duration::from_secs(10)).await, 0);
}

#[tokio::test]
async fn an_index_outlives_the_process() {
    let files = TempDir::new().unwrap();
    left_behind(files.path()).await;
    let (index, opening) = open(files.path(), schema("items"), &background()).await;
    assert_eq!(opening, Opening::Kept);
    assert_eq!(found(&index, Query::new("tea")).await, ["1"]);
    put(&index, [document("1", 4, "old", "")]).await;
    assert_eq!(found(&index, Query::new("tea old")).await, ["1"], "and so do versions");
    assert!(found(&index, Query::new("old")).await.is_empty());
}

#[tokio::test]
async fn what_was_acknowledged_needs_no_orderly_end() {
    let files = TempDir::new().unwrap();
    let first = background();
    let (index, _) = open(files.path(), schema("items"), &first).await;
    index.put(vec![document("1", 1, "tea", "")]).await.unwrap();
    // The files as a crash leaves them at this moment.
    let crashed = TempDir::new().unwrap();
    for directory in std::fs::read_dir(files.path()).unwrap().map(Result::unwrap) {
        let copy = crashed.path().join(directory.file_name());
        std::fs::create_dir(&copy).unwrap();
        for file in std::fs::read_dir(directory.path()).unwrap().map(Result::unwrap) {
            std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        }
    }
    let (index, opening) = open(crashed.path(), schema("items"), &background()).await;
    assert_eq!(opening, Opening::Kept);
    assert_eq!(found(&index, Query::new("tea")).await, ["1"]);
}

#[tokio::test]
async fn damaged_files_are_thrown_away() {
    for (kind, bytes) in [
        ("store", &b"rubbish"[..]),
        ("json", b"{}"),
        ("json", b""),
        ("term", b""),
        ("fast", &[0; 4096]),
    ] {
        let files = TempDir::new().unwrap();
        left_behind(files.path()).await;
        let directory = std::fs::read_dir(files.path()).unwrap().next().unwrap().unwrap().path();
        let mut inside = std::fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path());
        let is_it = |file: &std::path::PathBuf| {
            file.extension().is_some_and(|found| found == kind) && !file.ends_with(".managed.json")
        };
        std::fs::write(inside.find(is_it).unwrap(), bytes).unwrap();
        let (index, opening) = open(files.path(), schema("items"), &background()).await;
        assert_eq!(opening, Opening::Fresh, "{kind}");
        assert!(found(&index, Query::new("tea")).await.is_empty());
        put(&index, [document("1", 1, "coffee", "")]).await;
        assert_eq!(found(&index, Query::new("coffee")).await, ["1"]);
    }
}

#[tokio::test]
async fn a_bit_that_has_turned_is_damage() {
    let files = TempDir::new().unwrap();
    left_behind(files.path()).await;
    let directory = std::fs::read_dir(files.path()).unwrap().next().unwrap().unwrap().path();
    let mut inside = std::fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path());
    let store = inside
        .find(|file| file.extension().is_some_and(|kind| kind == "store"))
        .unwrap();
    let mut bytes = std::fs::read(&store).unwrap();
    bytes[2] ^= 1;
    std::fs::write(&store, bytes).unwrap();
    let (_, opening) = open(files.path(), schema("items"), &background()).await;
    assert_eq!(opening, Opening::Fresh);
}

#[tokio::test]
async fn another_schema_is_another_index() {
    let files = TempDir::new().unwrap();
    left_behind(files.path()).await;
    let other = IndexSchema::new("items", [Field::text("title")]).unwrap();
    let (_, opening) = open(files.path(), other, &background()).await;
    assert_eq!(opening, Opening::Fresh);
    assert_eq!(
        std::fs::read_dir(files.path()).unwrap().count(),
        1,
        "that of the old schema is gone"
    );
}

#[tokio::test]
async fn an_index_that_another_process_writes_is_left_alone() {
    let files = TempDir::new().unwrap();
    let first = background();
    let (index, _) = open(files.path(), schema("items"), &first).await;
    put(&index, [document("1", 1, "tea", "")]).await;
    let engine = Arc::new(Tantivy::new(files.path(), Options::default(), &background()));
    let refused = Index::open(engine.clone(), schema("items")).await.unwrap_err();
    assert_eq!(
        (refused.reason(), refused.is_retryable()),
        ("SEARCH_INDEX_LOCKED", true)
    );
    assert_eq!(found(&index, Query::new("tea")).await, ["1"]);
    first.shutdown(Duration::from_secs(10)).await;
    let index = Index::open(engine, schema("items")).await.unwrap();
    assert_eq!(found(&index.unwrap(), Query::new("tea")).await, ["1"]);
}

#[tokio::test]
async fn a_writer_that_has_ended_is_unavailable() {
    let files = TempDir::new().unwrap();
    let group = background();
    let (index, _) = open(files.path(), schema("items"), &group).await;
    group.shutdown(Duration::from_secs(10)).await;
    let error = index.put(vec![document("1", 1, "tea", "")]).await.unwrap_err();
    assert_eq!(error.reason(), "SEARCH_UNAVAILABLE");
}

#[tokio::test]
async fn changes_that_come_together_share_a_commit() {
    let files = TempDir::new().unwrap();
    let (index, _) = open(files.path(), schema("items"), &background()).await;
    let puts = (0..500).map(|n| index.put(vec![document(&n.to_string(), 1, "tea", "")]));
    futures::future::try_join_all(puts).await.unwrap();
    let directory = std::fs::read_dir(files.path()).unwrap().next().unwrap().unwrap().path();
    let meta = std::fs::read_to_string(directory.join("meta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
    let n_segments = meta["segments"].as_array().unwrap().len();
    assert!(n_segments <= 8, "{n_segments} segments");
    assert_eq!(found(&index, Query::new("tea").page(100, 400)).await.len(), 100);
}
