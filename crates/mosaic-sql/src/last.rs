//! Rows that are added by the trip that commits.
//!
//! An event that a transaction leaves behind is a row that it never looks at again. As a statement of its own it costs a
//! trip to the database, a sixth of a short transaction; in one text with the `COMMIT` it costs next to nothing. Such a text has no
//! placeholders, so all values are numbers, printable ASCII without quotes and backslashes, or else hexadecimal digits: nothing
//! breaks out, whatever the engine takes for an escape.

use std::fmt::Write as _;

use sea_orm::DbBackend;

/// Bytes of such rows that wait for the commit; more are sent at once.
const TEXT_MAX: usize = 64 << 10;

/// A value of a row that is added by the trip that commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain<'a> {
    /// Of a column of numbers.
    Number(i64),
    /// Of a column of text.
    Text(&'a str),
    /// Of a column of bytes.
    Bytes(&'a [u8]),
}

/// Inserts that wait.
#[derive(Debug, Default)]
pub(crate) struct Last {
    into: &'static str,
    text: String,
}

impl Last {
    /// Adds a row; returns the inserts to be carried out now if they are too many to wait.
    pub(crate) fn add(&mut self, backend: DbBackend, into: &'static str, row: &[Plain<'_>]) -> Option<String> {
        if self.text.is_empty() || self.into != into {
            let end = if self.text.is_empty() { "" } else { ";" };
            // Writing to a String does not fail, here and below.
            let _ = write!(self.text, "{end}INSERT INTO {into} VALUES (");
            self.into = into;
        } else {
            self.text.push_str(",(");
        }
        for (position, value) in row.iter().enumerate() {
            if position > 0 {
                self.text.push(',');
            }
            push(&mut self.text, backend, *value);
        }
        self.text.push(')');
        (self.text.len() > TEXT_MAX).then(|| self.take())
    }

    /// Returns what waits; empty if nothing does.
    pub(crate) fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }
}

/// Is it the same between quotes, on every engine?
fn is_harmless(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|b| matches!(b, b' '..=b'~') && !matches!(b, b'\'' | b'\\'))
}

fn push(text: &mut String, backend: DbBackend, value: Plain<'_>) {
    let quoted = match value {
        Plain::Text(value) => Some(value.as_bytes()),
        // SQLite would store a text.
        Plain::Bytes(bytes) => (backend != DbBackend::Sqlite).then_some(bytes),
        Plain::Number(_) => None,
    };
    if let Some(quoted) = quoted
        .filter(|bytes| is_harmless(bytes))
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
    {
        text.extend(["'", quoted, "'"]);
        return;
    }
    let (before, bytes, after) = match (value, backend) {
        (Plain::Number(number), _) => {
            let _ = write!(text, "{number}");
            return;
        }
        (Plain::Text(value), DbBackend::Postgres) => ("convert_from(decode('", value.as_bytes(), "','hex'),'UTF8')"),
        (Plain::Bytes(bytes), DbBackend::Postgres) => ("decode('", bytes, "','hex')"),
        (Plain::Text(value), DbBackend::MySql) => ("_utf8mb4 x'", value.as_bytes(), "'"),
        (Plain::Text(value), _) => ("CAST(x'", value.as_bytes(), "' AS TEXT)"),
        (Plain::Bytes(bytes), _) => ("x'", bytes, "'"),
    };
    text.reserve(before.len() + 2 * bytes.len() + after.len());
    text.push_str(before);
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text.push_str(after);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_table_share_an_insert_and_values_cannot_break_out() {
        let mut last = Last::default();
        let row = [
            Plain::Number(-1),
            Plain::Text("'é"),
            Plain::Text("?;"),
            Plain::Bytes(b"\0;"),
        ];
        for into in ["a (n, t, u, b)", "a (n, t, u, b)", "b (n, t, u, b)"] {
            assert_eq!(last.add(DbBackend::Sqlite, into, &row), None);
        }
        let values = "(-1,CAST(x'27c3a9' AS TEXT),'?;',x'003b')";
        let want =
            format!("INSERT INTO a (n, t, u, b) VALUES {values},{values};INSERT INTO b (n, t, u, b) VALUES {values}");
        assert_eq!((last.take(), last.take()), (want, String::new()));
    }

    #[test]
    fn many_do_not_wait() {
        let mut last = Last::default();
        let big = vec![b'\''; TEXT_MAX / 2];
        let text = last.add(DbBackend::Postgres, "a (b)", &[Plain::Bytes(&big)]);
        assert!(text.is_some_and(|text| text.starts_with("INSERT INTO a (b) VALUES (decode('2727")));
        assert_eq!(last.take(), "");
    }
}
