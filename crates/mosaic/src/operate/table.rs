//! Answers as people read them: lists as tables, the rest as lines.

use std::io::Write as _;

use serde_json::Value;

/// Widest cell of a table.
const CELL_MAX: usize = 60;
/// What stands first, in this order; the rest follows by name.
const FIRST: [&str; 14] = [
    "module", "group", "topic", "queue", "seq", "id", "event", "kind", "name", "key", "state", "paused", "pending",
    "active",
];

/// Returns the text of an answer: a list as a table, a thing as lines.
pub fn render(answer: &Value) -> String {
    match answer {
        Value::Array(rows) if rows.is_empty() => "none\n".to_owned(),
        Value::Array(rows) => table(rows),
        Value::Object(fields) => {
            let width = fields.keys().map(String::len).max().unwrap_or(0);
            let line = |(name, value): (&String, &Value)| match value {
                Value::Object(_) | Value::Array(_) => format!("{name:width$}  {value:#}\n"),
                _ => format!("{name:width$}  {}\n", text(value)),
            };
            fields.iter().map(line).collect()
        }
        other => format!("{}\n", text(other)),
    }
}

fn table(rows: &[Value]) -> String {
    let Some(Value::Object(first)) = rows.first() else {
        return rows.iter().map(|row| format!("{}\n", text(row))).collect();
    };
    let mut names: Vec<&String> = first.keys().collect();
    names.sort_by_key(|name| FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len()));
    let mut lines: Vec<Vec<String>> = vec![names.iter().map(|name| name.to_uppercase()).collect()];
    lines.extend(
        rows.iter()
            .map(|row| names.iter().map(|name| cell(&row[name.as_str()])).collect()),
    );
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let mut table = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        table.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        table.push('\n');
    }
    table
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => format!("{:.3}", number.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

/// One line, not too long; errors may be pages.
fn cell(value: &Value) -> String {
    let text = text(value);
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() <= CELL_MAX {
        return line;
    }
    line.chars().take(CELL_MAX - 1).chain(['…']).collect()
}

/// A closed pipe is no reason to fail.
pub(super) fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

pub(super) fn complain(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_are_tables_and_things_are_lines() {
        let rows = json!([{"id": "a", "n": 1, "error": null}, {"id": "bcd", "n": 22, "error": "x\ny"}]);
        assert_eq!(render(&rows), "ID   ERROR  N\na    -      1\nbcd  x y    22\n");
        assert_eq!(render(&json!([])), "none\n");
        assert_eq!(render(&json!({"done": 3, "took_s": 0.5})), "done    3\ntook_s  0.500\n");
        let long = render(&json!([{"e": "é".repeat(100)}]));
        assert!(long.lines().all(|line| line.chars().count() <= CELL_MAX), "{long}");
    }
}
