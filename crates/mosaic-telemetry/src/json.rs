//! Log lines as JSON, written once, straight through.
//!
//! A span is made and a line written for every request: tracing-subscriber's own JSON sorts and serialises by way of a tree
//! and reads the fields of a span back for each line within it, which is a good part of what a request costs here. Lines
//! look as they do there: `timestamp`, `level`, the fields, `target`, `span`. Values are escaped as serde_json does.

use std::cell::Cell;
use std::fmt::{self, Debug};

use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

thread_local! {
    /// Where this thread writes the fields of a span before their length is known.
    static FIELDS: Cell<String> = Cell::default();
}

/// What a thread keeps for that, at most.
const FIELDS_MAX: usize = 4 << 10;

/// Fields of spans, as an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpanFields;

impl<'a> FormatFields<'a> for SpanFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'a>, fields: R) -> fmt::Result {
        // Whole, so that what keeps it has its length at once.
        let mut text = FIELDS.take();
        text.clear();
        text.push('{');
        let mut object = Object {
            writer: &mut Writer::new(&mut text),
            is_first: true,
            outcome: Ok(()),
        };
        fields.record(&mut object);
        object.outcome?;
        text.push('}');
        let written = writer.write_str(&text);
        if text.capacity() <= FIELDS_MAX {
            FIELDS.set(text);
        }
        written
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

/// Log lines; see the module documentation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JsonLine;

impl<S> FormatEvent<S, SpanFields> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        cx: &FmtContext<'_, S, SpanFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        writer.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer)?;
        write!(writer, "\",\"level\":\"{}\"", metadata.level())?;
        let mut object = Object {
            writer: &mut writer,
            is_first: false,
            outcome: Ok(()),
        };
        event.record(&mut object);
        object.outcome?;
        writer.write_str(",\"target\":")?;
        text(&mut writer, metadata.target())?;
        if let Some(span) = cx.lookup_current() {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<SpanFields>>();
            let fields = fields.and_then(|fields| fields.fields.strip_suffix('}')).unwrap_or("{");
            let comma = if fields == "{" { "" } else { "," };
            write!(writer, ",\"span\":{fields}{comma}\"name\":\"{}\"}}", span.name())?;
        }
        writer.write_str("}\n")
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
        let before = if std::mem::take(&mut self.is_first) {
            "\""
        } else {
            ",\""
        };
        // Names are identifiers and dots: nothing to escape.
        let name = field.name().trim_start_matches("r#");
        let mut parts = [before, name, "\":"].into_iter();
        let named = parts.try_for_each(|part| self.writer.write_str(part));
        self.outcome = named.and_then(|()| write(self.writer));
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

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.put(field, |writer| write!(writer, "{value}"));
        } else {
            self.record_debug(field, &value);
        }
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
        return ["\"", value, "\""]
            .into_iter()
            .try_for_each(|part| writer.write_str(part));
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
    fn whatever_the_values_a_line_is_json() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .fmt_fields(SpanFields)
            .event_format(JsonLine)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let nasty = "a \"quoted\" \\ line\nand \u{1b}[31m ä";
            let span = tracing::info_span!("request", plain = "abc", nasty, n = -3, later = tracing::field::Empty);
            span.record("later", 7_u64);
            span.in_scope(|| tracing::info!(ms = 1.5, wrong = f64::NAN, r#type = nasty, "hello {}", 7));
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
        assert_eq!(
            (&lines[0]["message"], &lines[0]["ms"]),
            (&"hello 7".into(), &1.5.into())
        );
        assert_eq!((&lines[0]["wrong"], &lines[0]["type"]), (&"NaN".into(), &want["nasty"]));
        assert_eq!(
            (&lines[0]["level"], &lines[0]["target"]),
            (&"INFO".into(), &module_path!().into())
        );
        assert!(lines[0]["timestamp"].as_str().unwrap().ends_with('Z'));
        assert_eq!(lines[1]["span"], serde_json::json!({"name": "empty", "late": true}));
    }
}
