//! The layers of a configuration, their reading, and their reload.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use super::value::{Raw, Setter, Value};
use crate::lock;

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// The configuration file.
    File,
    /// An environment variable.
    Environment,
    /// The command line.
    CommandLine,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::CommandLine => "command line",
        })
    }
}

/// One mistake in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted key, `auth.access_ttl`; empty when the mistake is not about one key.
    pub key: String,
    /// What is wrong, without the value.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            f.write_str(&self.what)
        } else {
            write!(f, "{}: {}", self.key, self.what)
        }
    }
}

/// A key as it took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Dotted key.
    pub key: String,
    /// Value as text, secrets masked.
    pub value: String,
    /// Who said so.
    pub source: Source,
    /// Documentation of the field.
    pub doc: &'static str,
}

/// What a reload did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reload {
    /// Keys that took effect.
    pub applied: Vec<String>,
    /// Keys that changed but need a restart.
    pub needs_restart: Vec<String>,
}

/// Values by dotted key, later layers over earlier ones.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    entries: BTreeMap<String, (Raw, Source)>,
    problems: Vec<Problem>,
}

/// Variables that start like ours and are not configuration.
const FOREIGN_VARIABLES: [&str; 3] = ["MOSAIC_TEST_", "MOSAIC_ENGINES_", "MOSAIC_BENCH_"];

impl Layers {
    /// Adds the text of a TOML file; a text that is no TOML is a problem that names line and column.
    #[must_use]
    pub fn file(mut self, name: &str, text: &str) -> Self {
        match text.parse::<toml::Table>() {
            Ok(table) => self.flatten("", table),
            Err(error) => {
                let what = format!("{name} is not valid TOML: {}", error.to_string().trim());
                self.problems.push(Problem {
                    key: String::new(),
                    what,
                });
            }
        }
        self
    }

    /// Adds the variables that start with `MOSAIC_`: `MOSAIC_AUTH__ACCESS_TTL` is `auth.access_ttl`.
    ///
    /// `MOSAIC_CONFIG` names the file and is not part of it; `MOSAIC_SET` holds `key=value` pairs separated by `;`.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        for (name, value) in variables {
            let Some(key) = name.strip_prefix("MOSAIC_") else {
                continue;
            };
            if key == "CONFIG" || FOREIGN_VARIABLES.iter().any(|prefix| name.starts_with(prefix)) {
                continue;
            }
            if key == "SET" {
                for pair in value.split(';').filter(|pair| !pair.trim().is_empty()) {
                    self = self.pair(pair.trim(), Source::Environment);
                }
                continue;
            }
            let key = key.to_ascii_lowercase().replace("__", ".");
            self.insert(key, Raw::Text(value), Source::Environment);
        }
        self
    }

    /// Adds `key=value` of the command line.
    #[must_use]
    pub fn set_pair(self, pair: &str) -> Self {
        self.pair(pair, Source::CommandLine)
    }

    /// Adds a value of the command line.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<String>) -> Self {
        self.insert(key.to_owned(), Raw::Text(value.into()), Source::CommandLine);
        self
    }

    /// Lays `upper` over these layers.
    #[must_use]
    pub fn over(mut self, upper: Self) -> Self {
        self.entries.extend(upper.entries);
        self.problems.extend(upper.problems);
        self
    }

    /// Ends the layering.
    pub fn settings(self) -> Settings {
        let state = State {
            problems: self.problems,
            ..State::default()
        };
        Settings {
            entries: Arc::new(Mutex::new(self.entries)),
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn pair(mut self, pair: &str, source: Source) -> Self {
        match pair.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                self.insert(key.trim().to_owned(), Raw::Text(value.to_owned()), source);
            }
            _ => self.problems.push(Problem {
                key: String::new(),
                what: "--set takes key=value".to_owned(),
            }),
        }
        self
    }

    fn insert(&mut self, key: String, value: Raw, source: Source) {
        self.entries.insert(key, (value, source));
    }

    fn flatten(&mut self, prefix: &str, table: toml::Table) {
        for (name, value) in table {
            let key = if prefix.is_empty() {
                name
            } else {
                format!("{prefix}.{name}")
            };
            match value {
                toml::Value::Table(table) => self.flatten(&key, table),
                other => self.insert(key, raw(other), Source::File),
            }
        }
    }
}

fn raw(value: toml::Value) -> Raw {
    match value {
        toml::Value::String(text) => Raw::Text(text),
        toml::Value::Array(items) => Raw::List(items.into_iter().map(raw).collect()),
        toml::Value::Table(table) => Raw::Table(table.into_iter().map(|(key, value)| (key, raw(value))).collect()),
        other => Raw::Text(other.to_string()),
    }
}

/// A struct whose fields are keys of one section; made by [`config!`](crate::config!).
pub trait Config: Sized {
    /// Prefix of the keys; empty for the top level.
    const SECTION: &'static str;
    /// Reads every field, reporting each mistake to `reader`; `None` if there was one.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;
}

#[derive(Default)]
struct State {
    problems: Vec<Problem>,
    known: BTreeSet<String>,
    known_tables: BTreeSet<String>,
    accepted: BTreeSet<String>,
    effective: BTreeMap<String, Effective>,
    live: BTreeMap<String, (Option<&'static str>, Setter)>,
}

/// A configuration that concerns read their structs from. Cheap to clone: clones are the same configuration.
#[derive(Clone)]
pub struct Settings {
    entries: Arc<Mutex<BTreeMap<String, (Raw, Source)>>>,
    state: Arc<Mutex<State>>,
}

impl Settings {
    /// Reads the struct `C` from its section; `None` if there are mistakes, which [`Settings::problems`] names.
    pub fn read<C: Config>(&self) -> Option<C> {
        self.read_at(C::SECTION)
    }

    /// Reads the struct `C` from `section` instead of its own.
    pub fn read_at<C: Config>(&self, section: &str) -> Option<C> {
        let entries = lock(&self.entries);
        let mut state = lock(&self.state);
        C::read(&mut Reader {
            section,
            entries: &entries,
            state: &mut state,
        })
    }

    /// Accepts whatever stands in `section`: it belongs to a module that this process does not run. A section that is read
    /// all the same is checked all the same.
    pub fn accept_section(&self, section: &str) {
        lock(&self.state).accepted.insert(format!("{section}."));
    }

    /// Reports a mistake that only the meaning of the values shows.
    pub fn report(&self, key: impl Into<String>, what: impl Into<String>) {
        lock(&self.state).problems.push(Problem {
            key: key.into(),
            what: what.into(),
        });
    }

    /// Returns every mistake, unknown keys last.
    pub fn problems(&self) -> Vec<Problem> {
        let state = lock(&self.state);
        let mut problems = state.problems.clone();
        problems.dedup();
        for (key, (_, source)) in lock(&self.entries).iter().filter(|(key, _)| !state.knows(key)) {
            let hint = state
                .nearest(key)
                .map(|near| format!("; did you mean {near}?"))
                .unwrap_or_default();
            problems.push(Problem {
                key: key.clone(),
                what: format!("unknown key ({source}){hint}"),
            });
        }
        problems
    }

    /// Returns every key that was read, in order, as it took effect.
    pub fn effective(&self) -> Vec<Effective> {
        lock(&self.state).effective.values().cloned().collect()
    }

    /// Takes over what changed in `layers`, all or nothing.
    ///
    /// # Errors
    /// The mistakes of the new layers; then nothing has changed.
    pub fn reload(&self, layers: Layers) -> Result<Reload, Vec<Problem>> {
        let mut entries = lock(&self.entries);
        let state = lock(&self.state);
        let mut problems = layers.problems.clone();
        let changed: BTreeSet<&String> = (entries.keys().chain(layers.entries.keys()))
            .filter(|key| entries.get(*key).map(|entry| &entry.0) != layers.entries.get(*key).map(|entry| &entry.0))
            .collect();
        let (mut reload, mut setters) = (Reload::default(), BTreeMap::new());
        for key in changed {
            if !state.knows(key) {
                problems.push(Problem {
                    key: key.clone(),
                    what: "unknown key".to_owned(),
                });
            } else if let Some((field, (default, setter))) = state.live_field(key) {
                // A table is set as a whole, whichever of its keys changed.
                if let Some(raw) = state.value_of(field, &layers.entries, *default) {
                    setters.insert(field.clone(), (setter.clone(), raw));
                }
            } else {
                reload.needs_restart.push(key.clone());
            }
        }
        // The old values come back if one of the new ones is wrong.
        for (key, (setter, raw)) in setters {
            match setter(&raw) {
                Ok(()) => reload.applied.push(key),
                Err(what) => problems.push(Problem { key, what }),
            }
        }
        if problems.is_empty() {
            *entries = layers.entries;
            return Ok(reload);
        }
        for key in &reload.applied {
            if let Some((default, setter)) = state.live.get(key)
                && let Some(raw) = state.value_of(key, &entries, *default)
            {
                let _ = setter(&raw); // it was good before
            }
        }
        Err(problems)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.effective().into_iter().map(|entry| (entry.key, entry.value));
        f.debug_map().entries(shown).finish()
    }
}

impl State {
    fn knows(&self, key: &str) -> bool {
        self.known.contains(key)
            || self.is_accepted(key)
            || self.known_tables.iter().any(|prefix| key.starts_with(prefix.as_str()))
    }

    fn is_accepted(&self, key: &str) -> bool {
        let is_read = |section: &str| self.known.iter().any(|known| known.starts_with(section));
        self.accepted
            .iter()
            .any(|section| key.starts_with(section.as_str()) && !is_read(section))
    }

    /// Returns the live field that holds `key`: the key itself, or the table that it is beneath.
    fn live_field(&self, key: &str) -> Option<(&String, &(Option<&'static str>, Setter))> {
        let tables = self
            .known_tables
            .iter()
            .filter(|prefix| key.starts_with(prefix.as_str()));
        let mut fields = tables.map(|prefix| prefix.trim_end_matches('.')).chain([key]);
        fields.find_map(|field| self.live.get_key_value(field))
    }

    /// Returns what `field` is set to in `entries`.
    fn value_of(
        &self,
        field: &str,
        entries: &BTreeMap<String, (Raw, Source)>,
        default: Option<&'static str>,
    ) -> Option<Raw> {
        let found = if self.known_tables.contains(&format!("{field}.")) {
            table(entries, field)
        } else {
            entries.get(field).cloned()
        };
        found
            .map(|(raw, _)| raw)
            .or_else(|| default.map(|text| Raw::Text(text.to_owned())))
    }

    fn nearest(&self, key: &str) -> Option<&String> {
        let scored = self.known.iter().map(|known| (edit_distance(known, key), known));
        scored
            .filter(|(distance, _)| *distance <= 3)
            .min()
            .map(|(_, known)| known)
    }
}

/// Reads one section.
pub struct Reader<'a> {
    section: &'a str,
    entries: &'a BTreeMap<String, (Raw, Source)>,
    state: &'a mut State,
}

impl Reader<'_> {
    /// Reads one field; used by [`config!`](crate::config!).
    pub fn field<T: Value>(&mut self, name: &str, default: Option<&'static str>, doc: &'static str) -> Option<T> {
        let key = if self.section.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.section)
        };
        self.state.known.insert(key.clone());
        let found = if T::IS_TABLE {
            self.state.known_tables.insert(format!("{key}."));
            table(self.entries, &key)
        } else {
            self.entries.get(&key).cloned()
        };
        let given = found.or_else(|| default.map(|text| (Raw::Text(text.to_owned()), Source::Default)));
        let Some((raw, source)) = given else {
            self.problem(key, "missing, and it has no default".to_owned());
            return None;
        };
        match T::parse(&raw) {
            Ok(value) => {
                if let Some(setter) = value.setter() {
                    self.state.live.insert(key.clone(), (default, setter));
                }
                let effective = Effective {
                    key: key.clone(),
                    value: value.show(),
                    source,
                    doc: doc.trim(),
                };
                self.state.effective.insert(key, effective);
                Some(value)
            }
            Err(what) => {
                self.problem(key, format!("{what} ({source})"));
                None
            }
        }
    }

    fn problem(&mut self, key: String, what: String) {
        let problem = Problem { key, what };
        if !self.state.problems.contains(&problem) {
            self.state.problems.push(problem);
        }
    }
}

/// Collects the keys beneath `key`; `None` if there are none.
fn table(entries: &BTreeMap<String, (Raw, Source)>, key: &str) -> Option<(Raw, Source)> {
    let prefix = format!("{key}.");
    let beneath = entries
        .range(prefix.clone()..)
        .take_while(|(key, _)| key.starts_with(&prefix));
    let mut source = Source::Default;
    let mut table = BTreeMap::new();
    for (key, (raw, from)) in beneath {
        table.insert(key[prefix.len()..].to_owned(), raw.clone());
        source = *from;
    }
    (!table.is_empty()).then_some((Raw::Table(table), source))
}

/// Levenshtein distance, by one row of the matrix.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let substitution = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
