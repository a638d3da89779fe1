//! JSON records into columns, by arrow-json.
//!
//! Each record goes into arrow-json's tape on its own and must leave behind exactly one whole object; so a truncated record
//! cannot merge with its neighbour, nor one record with two objects make up for it.
//! arrow-json is lenient about commas (`{"a":1,,"b":2}` passes); names that the table does not know are ignored.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Fields, Schema, SchemaRef};
use arrow_json::ReaderBuilder;
use arrow_json::reader::Decoder;
use riverrun_engine::Result;

use super::payload::{CHUNK, Payload};
use super::text::text_schema;
use super::{reason, snippet, sql_type};

/// Deeper nesting is refused: arrow-json's error texts recurse over it.
const DEEPEST: usize = 256;

/// Turns JSON objects into rows of [`text_schema`].
pub(super) struct JsonPayload {
    declared: Fields,
    schema: SchemaRef,
    tape: Decoder,
}

impl JsonPayload {
    pub fn new(declared: &Schema) -> Result<Self> {
        let schema = text_schema(declared);
        Ok(Self { declared: declared.fields().clone(), tape: tape(&schema)?, schema })
    }
}

impl Payload for JsonPayload {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn refuse(&self, payload: &[u8]) -> Option<(&'static str, String)> {
        let text = payload.trim_ascii();
        match (text.first(), text.last()) {
            (None, _) => Some((reason::EMPTY, "the record is empty".into())),
            (Some(b'{'), Some(b'}')) if nesting(text) <= DEEPEST => None,
            (Some(b'{'), Some(b'}')) => Some((reason::MALFORMED, format!("nested more than {DEEPEST} levels deep"))),
            _ => Some((reason::MALFORMED, self.syntax_error(text, "not a JSON object"))),
        }
    }

    fn reset(&mut self) -> Result<()> {
        self.tape = tape(&self.schema)?;
        Ok(())
    }

    fn feed(&mut self, payload: &[u8]) -> Result<(), String> {
        let before = self.tape.len();
        let read = self.tape.decode(payload).map_err(|e| e.to_string())?;
        if self.tape.has_partial_record() {
            return Err("the object does not end".into());
        }
        if read < payload.len() || self.tape.len() != before + 1 {
            return Err("more than one JSON object in a record".into());
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<Option<RecordBatch>, String> {
        self.tape.flush().map_err(|e| e.to_string())
    }

    fn syntax_error(&self, payload: &[u8], otherwise: &str) -> String {
        match serde_json::from_slice::<serde::de::IgnoredAny>(payload) {
            Ok(_) => format!("{otherwise}: {}", snippet(payload)),
            Err(e) => format!("not JSON: {e}"),
        }
    }

    fn type_error(&self, payload: &[u8], why: &str) -> (&'static str, String) {
        if let Err(e) = std::str::from_utf8(payload) {
            return (reason::MALFORMED, format!("not UTF-8 at byte {}", e.valid_up_to()));
        }
        let (path, rest) = field_path(why);
        if path.is_empty() {
            return (reason::MALFORMED, rest.to_owned());
        }
        let name = path.join(".");
        let found = rest.split_once(" got ").map(|(_, found)| snippet(found.as_bytes()));
        let detail = match (declared_type(&self.declared, &path), found) {
            (Some(wanted), Some(found)) => format!("field {name}: {found} is no {wanted}"),
            _ => format!("field {name}: {}", snippet(rest.as_bytes())),
        };
        let missing = rest.contains("nulls in non-nullable");
        (if missing { reason::MISSING_FIELD } else { reason::WRONG_TYPE }, detail)
    }
}

fn tape(schema: &SchemaRef) -> Result<Decoder> {
    // One more than a chunk, so that a second object in a record is seen as such.
    Ok(ReaderBuilder::new(schema.clone()).with_batch_size(CHUNK + 1).with_coerce_primitive(true).build_decoder()?)
}

/// How deep brackets are nested at most. Records too short to be nested too deep are not read.
fn nesting(text: &[u8]) -> usize {
    if text.len() <= 2 * DEEPEST {
        return 0;
    }
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The names in arrow-json's `whilst decoding field 'a': whilst decoding field 'b': rest`, and the rest.
fn field_path(why: &str) -> (Vec<&str>, &str) {
    let mut rest = why.strip_prefix("Json error: ").unwrap_or(why);
    let mut path = Vec::new();
    while let Some((name, behind)) = rest.strip_prefix("whilst decoding field '").and_then(|r| r.split_once("': ")) {
        path.push(name);
        rest = behind;
    }
    (path, rest)
}

fn declared_type(fields: &Fields, path: &[&str]) -> Option<String> {
    let (name, deeper) = path.split_first()?;
    let field = fields.iter().find(|f| f.name() == name)?;
    match field.data_type() {
        DataType::Struct(fields) if !deeper.is_empty() => declared_type(fields, deeper),
        data_type => Some(sql_type(data_type)),
    }
}
