//! Alert rules name metrics of the code: a rule about a number that nobody reports never fires.

use std::collections::BTreeSet;
use std::path::Path;

/// What names of metrics begin with; labels and functions of the rules do not.
const PREFIXES: [&str; 9] = [
    "events_",
    "outbox_",
    "tasks_",
    "content_",
    "interaction_",
    "ranking_",
    "payments_",
    "rewards_",
    "mosaic_guard_",
];

/// Returns every metric named in an expression of the rules.
fn named(rules: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = rules
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(|line| line.split(|c| !is_part(c)));
    words
        // `outbox_*` is all of them.
        .filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)) && !word.ends_with('_'))
        .map(|word| {
            let suffixes = ["_bucket", "_sum", "_count"];
            suffixes
                .iter()
                .find_map(|suffix| word.strip_suffix(suffix))
                .unwrap_or(word)
                .to_owned()
        })
        .collect()
}

fn source(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source(&path, into);
        } else {
            into.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[track_caller]
fn check(rules: &str, folders: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut code = String::new();
    folders.iter().for_each(|folder| source(&root.join(folder), &mut code));
    let named = named(&std::fs::read_to_string(root.join("deploy/alerts").join(rules)).unwrap());
    assert!(named.len() >= 5, "{named:?}");
    assert_reported(&named, &code);
}

#[track_caller]
fn assert_reported(metrics: &BTreeSet<String>, code: &str) {
    let unknown = metrics.iter().filter(|name| !code.contains(&format!("\"{name}\"")));
    let unknown: Vec<_> = unknown.collect();
    assert!(unknown.is_empty(), "no code reports {unknown:?}");
}

#[test]
fn rules_about_events_name_metrics_of_the_code() {
    check("events.yaml", &["crates/mosaic-events/src"]);
}

#[test]
fn rules_about_tasks_name_metrics_of_the_code() {
    check("tasks.yaml", &["crates/mosaic-tasks/src"]);
}

#[test]
fn rules_about_content_name_metrics_of_the_code() {
    let folders = [
        "crates/mosaic-events/src",
        "crates/mosaic-guard/src",
        "services",
        "products",
    ];
    check("content.yaml", &folders);
}

#[test]
fn the_guide_names_metrics_of_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let guide = std::fs::read_to_string(root.join("docs/guides/consumer-metrics.md")).unwrap();
    let mut code = String::new();
    source(&root.join("crates/mosaic-events/src"), &mut code);
    source(&root.join("crates/mosaic-tasks/src"), &mut code);
    assert_reported(&named(&guide), &code);
}
