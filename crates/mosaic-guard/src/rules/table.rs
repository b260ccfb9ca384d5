//! Rules by pattern: `users.breaker = "off"`, `"users.v1.Users/Detail".retry = "off"`.

use std::collections::BTreeMap;

use mosaic_core::config::{Raw, Value};

use super::set::RuleSet;

/// The rules of all patterns of one kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleTable(BTreeMap<String, RuleSet>);

impl RuleTable {
    /// Returns what is said of `pattern`.
    pub fn of(&self, pattern: &str) -> Option<&RuleSet> {
        self.0.get(pattern)
    }

    /// Lists the patterns.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(super) fn sets(&self) -> impl Iterator<Item = &RuleSet> {
        self.0.values()
    }
}

impl Value for RuleTable {
    const IS_TABLE: bool = true;

    fn parse(raw: &Raw) -> Result<Self, String> {
        let table = match raw {
            Raw::Table(table) => table,
            Raw::Text(text) if text.trim().is_empty() => return Ok(Self::default()),
            Raw::Text(_) | Raw::List(_) => return Err("must be a table of rules".to_owned()),
        };
        let (mut parsed, mut mistakes) = (Self::default(), Vec::new());
        for (key, raw) in table {
            // Patterns hold dots themselves; what follows the last one is the rule.
            let Some((pattern, rule)) = key.rsplit_once('.') else {
                mistakes.push(format!("{key}: a rule belongs to a pattern, as in {key}.breaker"));
                continue;
            };
            let set = parsed.0.entry(pattern.to_owned()).or_default();
            if let Err(what) = set.set(rule, raw) {
                mistakes.push(format!("{key} {what}"));
            }
        }
        if mistakes.is_empty() {
            Ok(parsed)
        } else {
            Err(mistakes.join("; "))
        }
    }

    fn show(&self) -> String {
        let all = self.0.iter().flat_map(|(pattern, set)| {
            let texts = set.texts().into_iter();
            texts.map(move |(rule, text)| format!("{pattern}.{rule} = {text}"))
        });
        all.collect::<Vec<_>>().join(", ")
    }
}
