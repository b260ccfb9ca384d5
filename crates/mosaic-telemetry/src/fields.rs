//! Fields of spans as a JSON object, written once, straight through.
//!
//! A span is made for every request, a log line for few: tracing-subscriber's own JSON fields sort and serialise by way of
//! a tree, which is a good part of what a request costs here. Values are escaped by serde_json as there.

use std::fmt::{self, Debug};

use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormattedFields;
use tracing_subscriber::fmt::format::{FormatFields, Writer};

/// See the module documentation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpanFields;

impl<'a> FormatFields<'a> for SpanFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'a>, fields: R) -> fmt::Result {
        writer.write_char('{')?;
        let mut object = Object {
            writer: &mut writer,
            is_first: true,
            outcome: Ok(()),
        };
        fields.record(&mut object);
        object.outcome?;
        writer.write_char('}')
    }

    fn add_fields(&self, current: &'a mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let is_first = current.fields.len() <= "{}".len();
        if current.fields.pop().is_none() {
            current.fields.push('{');
        }
        let mut writer = current.as_writer();
        let mut object = Object {
            writer: &mut writer,
            is_first,
            outcome: Ok(()),
        };
        fields.record(&mut object);
        object.outcome?;
        writer.write_char('}')
    }
}

/// An object that is being written.
struct Object<'w, 'a> {
    writer: &'w mut Writer<'a>,
    is_first: bool,
    outcome: fmt::Result,
}

impl Object<'_, '_> {
    fn put(&mut self, field: &Field, write: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.outcome.is_err() {
            return;
        }
        let comma = if std::mem::take(&mut self.is_first) { "" } else { "," };
        // Names are identifiers and dots: nothing to escape.
        self.outcome = write!(self.writer, "{comma}\"{}\":", field.name()).and_then(|()| write(self.writer));
    }
}

impl Visit for Object<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, |writer| text(writer, value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, |writer| write!(writer, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, |writer| write!(writer, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, |writer| write!(writer, "{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, |writer| text(writer, &format!("{value:?}")));
    }
}

/// Writes a JSON string.
fn text(writer: &mut Writer<'_>, value: &str) -> fmt::Result {
    let is_plain = value
        .bytes()
        .all(|b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\');
    if is_plain {
        return write!(writer, "\"{value}\"");
    }
    let escaped = serde_json::to_string(value).map_err(|_| fmt::Error)?;
    writer.write_str(&escaped)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whatever_the_values_the_span_of_a_line_is_json() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .json()
            .fmt_fields(SpanFields)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let nasty = "a \"quoted\" \\ line\nand \u{1b}[31m ä";
            let span = tracing::info_span!("request", plain = "abc", nasty, n = -3, later = tracing::field::Empty);
            span.record("later", 7_u64);
            span.in_scope(|| tracing::info!("hello"));
            tracing::info_span!("empty", late = tracing::field::Empty).in_scope(|| {
                tracing::Span::current().record("late", true);
                tracing::info!("again");
            });
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let want = serde_json::json!({
            "name": "request", "plain": "abc", "nasty": "a \"quoted\" \\ line\nand \u{1b}[31m ä", "n": -3, "later": 7
        });
        assert_eq!(lines[0]["span"], want);
        assert_eq!(lines[1]["span"], serde_json::json!({"name": "empty", "late": true}));
    }
}
