//! The log, on standard error: for people on a terminal, else one JSON object a line.
//!
//! Lines about progress carry the whole event as JSON in one field ([`JSON_FIELDS`]). A terminal does not show it; in JSON
//! lines it stands as an object, not as a text with an object in it.

use std::fmt::{self, Write};
use std::io::IsTerminal;

use riverrun_engine::progress::JSON_FIELDS;
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer, debug_fn};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, fmt};
use tracing_subscriber::registry::LookupSpan;

/// What is logged unless `RIVERRUN_LOG` says otherwise. That a commit to a Delta table met another instance's and is tried again
/// is no news; where that does not help, it is told as the sink's error. So is a Cassandra that cannot be reached: once, not with each
/// attempt of the driver.
const DEFAULT: &str = "warn,deltalake_core::kernel::transaction=off,scylla=off,riverrun=info,riverrun_engine=info";

/// Starts to log what `RIVERRUN_LOG` asks for.
pub fn start() {
    let filter = EnvFilter::try_from_env("RIVERRUN_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    if std::io::stderr().is_terminal() {
        builder.without_time().fmt_fields(debug_fn(for_people)).init();
    } else {
        builder.event_format(JsonLines).init();
    }
}

fn for_people(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match field.name() {
        "message" => write!(writer, "{value:?}"),
        name if JSON_FIELDS.contains(&name) => Ok(()),
        name => write!(writer, " {name}={value:?}"),
    }
}

/// An event as one line of JSON.
struct JsonLines;

#[derive(Serialize)]
struct Line {
    timestamp: String,
    level: &'static str,
    fields: Map<String, Value>,
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = Line { timestamp, level: event.metadata().level().as_str(), fields: fields.0 };
        writeln!(writer, "{}", serde_json::to_string(&line).map_err(|_| fmt::Error)?)
    }
}

/// The fields of an event.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn set(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }

    fn set_text(&mut self, field: &Field, text: String) {
        let whole = if JSON_FIELDS.contains(&field.name()) { serde_json::from_str(&text).ok() } else { None };
        self.set(field, whole.unwrap_or(Value::String(text)));
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set_text(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing to a String cannot fail; a value whose Debug does is written as far as it came.
        let _ = write!(text, "{value:?}");
        self.set_text(field, text);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn log(json: bool) -> String {
        let written = Written::default();
        let to = written.clone();
        let builder = fmt().with_writer(move || to.clone()).with_target(false).with_ansi(false);
        let say = || tracing::info!(progress = %"{\"num_input_rows\":7}", tries = 3, "read {} rows", 7);
        if json {
            tracing::subscriber::with_default(builder.event_format(JsonLines).finish(), say);
        } else {
            tracing::subscriber::with_default(builder.without_time().fmt_fields(debug_fn(for_people)).finish(), say);
        }
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_terminal_shows_the_message_and_json_lines_the_whole_event() {
        assert_eq!(log(false), " INFO read 7 rows tries=3\n");
        let line: Value = serde_json::from_str(&log(true)).unwrap();
        assert_eq!(line["level"], "INFO");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
        assert_eq!(line["fields"], serde_json::json!({"message": "read 7 rows", "tries": 3, "progress": {"num_input_rows": 7}}));
    }
}
