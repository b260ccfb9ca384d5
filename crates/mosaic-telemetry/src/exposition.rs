//! Metrics as text, in Prometheus' format (version 0.0.4).
//!
//! Names and labels are those that the code gives; what Prometheus does not take in a name becomes an underscore.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};

use metrics::{Key, SharedString};

/// Bounds of a histogram.
pub(crate) const N_BOUNDS: usize = 14;

/// Everything that is to be read, by name and then by labels.
#[derive(Default)]
pub(crate) struct Exposition {
    families: BTreeMap<String, Family>,
}

impl Exposition {
    /// Adds what one metric says.
    pub(crate) fn add(&mut self, key: &Key, kind: &'static str, value: Value) {
        let family = self.families.entry(plain(key.name()));
        let family = family.or_insert_with(|| Family::new(kind));
        family.values.insert(labels_of(key), value);
    }

    /// Returns the text, with what is told of the names.
    pub(crate) fn write(&self, help: &BTreeMap<String, SharedString>) -> String {
        let mut text = String::new();
        for (name, family) in &self.families {
            // Nothing here fails.
            let _ = family.write(&mut text, name, help.get(name));
        }
        text
    }
}

/// What a histogram has counted.
pub(crate) struct Buckets {
    pub(crate) bounds: &'static [f64; N_BOUNDS],
    pub(crate) counts: [u64; N_BOUNDS + 1],
    pub(crate) sum: f64,
}

/// All metrics of one name.
struct Family {
    kind: &'static str,
    /// By their labels, as they are written.
    values: BTreeMap<String, Value>,
}

/// What a metric says.
pub(crate) enum Value {
    Count(u64),
    Level(f64),
    Buckets(Buckets),
}

impl Family {
    fn new(kind: &'static str) -> Self {
        Self {
            kind,
            values: BTreeMap::new(),
        }
    }

    fn write(&self, text: &mut String, name: &str, help: Option<&SharedString>) -> fmt::Result {
        if let Some(help) = help {
            writeln!(
                text,
                "# HELP {name} {}",
                help.replace('\\', "\\\\").replace('\n', "\\n")
            )?;
        }
        writeln!(text, "# TYPE {name} {}", self.kind)?;
        for (labels, value) in &self.values {
            match value {
                Value::Count(count) => line(text, name, labels, count)?,
                Value::Level(level) => line(text, name, labels, level)?,
                Value::Buckets(buckets) => buckets.write(text, name, labels)?,
            }
        }
        text.push('\n');
        Ok(())
    }
}

impl Buckets {
    fn write(&self, text: &mut String, name: &str, labels: &str) -> fmt::Result {
        let bounds = self.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let comma = if labels.is_empty() { "" } else { "," };
        let mut n_below = 0;
        for (bound, count) in bounds.zip(self.counts) {
            n_below += count;
            writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {n_below}")?;
        }
        line(text, &format!("{name}_sum"), labels, self.sum)?;
        line(text, &format!("{name}_count"), labels, n_below)
    }
}

fn line(text: &mut String, name: &str, labels: &str, value: impl Display) -> fmt::Result {
    match labels {
        "" => writeln!(text, "{name} {value}"),
        _ => writeln!(text, "{name}{{{labels}}} {value}"),
    }
}

/// Returns the labels as they stand between braces.
fn labels_of(key: &Key) -> String {
    let label = |label: &metrics::Label| {
        let value = label
            .value()
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        format!("{}=\"{value}\"", plain(label.key()))
    };
    key.labels().map(label).collect::<Vec<_>>().join(",")
}

/// Returns a name of the characters that Prometheus takes.
pub(crate) fn plain(name: &str) -> String {
    let taken = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    name.chars().map(|c| if taken(c) { c } else { '_' }).collect()
}
