//! Alert rules name metrics of the code: a rule about a number that nobody reports never fires.

use std::collections::BTreeSet;
use std::path::Path;

/// Returns every metric named in an expression of the rules.
fn named(rules: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = rules
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(|line| line.split(|c| !is_part(c)));
    words
        .filter(|word| {
            ["events_", "outbox_", "tasks_"]
                .iter()
                .any(|prefix| word.starts_with(prefix))
        })
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
fn check(rules: &str, crates: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut code = String::new();
    crates
        .iter()
        .for_each(|name| source(&root.join("crates").join(name).join("src"), &mut code));
    let named = named(&std::fs::read_to_string(root.join("deploy/alerts").join(rules)).unwrap());
    assert!(named.len() >= 5, "{named:?}");
    let unknown: Vec<&String> = named
        .iter()
        .filter(|name| !code.contains(&format!("\"{name}\"")))
        .collect();
    assert!(unknown.is_empty(), "no code reports {unknown:?}");
}

#[test]
fn rules_about_events_name_metrics_of_the_code() {
    check("events.yaml", &["mosaic-events"]);
}

#[test]
fn rules_about_tasks_name_metrics_of_the_code() {
    check("tasks.yaml", &["mosaic-tasks"]);
}

#[test]
fn the_guide_names_metrics_of_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let guide = std::fs::read_to_string(root.join("docs/guides/consumer-metrics.md")).unwrap();
    let mut code = String::new();
    source(&root.join("crates/mosaic-events/src"), &mut code);
    source(&root.join("crates/mosaic-tasks/src"), &mut code);
    // `outbox_*` is all of them.
    let unknown: Vec<String> = named(&guide).into_iter().filter(|name| !name.ends_with('_')).collect();
    let unknown: Vec<&String> = unknown
        .iter()
        .filter(|name| !code.contains(&format!("\"{name}\"")))
        .collect();
    assert!(unknown.is_empty(), "no code reports {unknown:?}");
}
