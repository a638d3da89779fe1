//! CSV records into columns, by arrow-csv.
//!
//! A record is one line, or several where a value in quotes spans them. An empty value is NULL. Without a header the values
//! stand in the order of the table's columns; with one, by name, and names that the table does not know are ignored.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_csv::ReaderBuilder;
use arrow_csv::reader::Decoder;
use riverrun_engine::{Error, Result};

use super::payload::{CHUNK, Payload};
use super::text::text_schema;
use super::{reason, snippet};

/// Turns CSV records into rows of [`text_schema`].
pub(super) struct CsvPayload {
    schema: SchemaRef,
    /// What stands in the file, in its order.
    columns: SchemaRef,
    /// For each column of `schema`, where it stands in `columns`.
    places: Vec<Option<usize>>,
    delimiter: u8,
    lines: Decoder,
}

impl CsvPayload {
    /// A decoder for lines in the table's order of columns.
    pub fn new(declared: &Schema, delimiter: u8) -> Result<Self> {
        if let Some(field) = declared.fields().iter().find(|f| f.data_type().is_nested()) {
            return Err(Error::invalid(format!("column {}: csv has no nested values", field.name())));
        }
        let schema = text_schema(declared);
        let places = (0..schema.fields().len()).map(Some).collect();
        let columns = Arc::clone(&schema);
        Ok(Self { lines: lines(&columns, delimiter), schema, columns, places, delimiter })
    }

    /// Takes the names and the order of columns from a header line.
    pub fn set_header(&mut self, header: &[u8]) -> Result<()> {
        let text = String::from_utf8_lossy(header);
        let unquoted = |name: &str| name.trim().trim_matches('"').to_owned();
        let names: Vec<String> = text.trim_end().split(char::from(self.delimiter)).map(unquoted).collect();
        self.places = self.schema.fields().iter().map(|f| names.iter().position(|n| n == f.name())).collect();
        if self.places.iter().all(Option::is_none) && !self.places.is_empty() {
            let wanted: Vec<_> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
            let hint = format!("the columns are {}; if the file has no header, set header = 'false'", wanted.join(", "));
            return Err(Error::permanent(format!("the header names none of the columns: {}", snippet(header))).hint(hint));
        }
        let columns = names.into_iter().map(|name| Field::new(name, DataType::Utf8, true));
        self.columns = Arc::new(Schema::new(columns.collect::<Vec<_>>()));
        self.reset()
    }
}

impl Payload for CsvPayload {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn refuse(&self, payload: &[u8]) -> Option<(&'static str, String)> {
        payload.trim_ascii().is_empty().then(|| (reason::EMPTY, "the record is empty".into()))
    }

    fn reset(&mut self) -> Result<()> {
        self.lines = lines(&self.columns, self.delimiter);
        Ok(())
    }

    fn feed(&mut self, payload: &[u8]) -> Result<(), String> {
        let free = self.lines.capacity();
        for part in [payload, b"\n"] {
            self.lines.decode(part).map_err(|e| e.to_string())?;
        }
        match free - self.lines.capacity() {
            1 => Ok(()),
            0 => Err("a quote is not closed, or values are missing".into()),
            _ => Err("more than one line in a record".into()),
        }
    }

    fn flush(&mut self) -> Result<Option<RecordBatch>, String> {
        let Some(rows) = self.lines.flush().map_err(|e| e.to_string())? else { return Ok(None) };
        let missing = || arrow::array::new_null_array(&DataType::Utf8, rows.num_rows());
        let columns = self.places.iter().map(|place| place.map_or_else(missing, |p| Arc::clone(rows.column(p))));
        RecordBatch::try_new(Arc::clone(&self.schema), columns.collect()).map(Some).map_err(|e| e.to_string())
    }

    fn syntax_error(&self, _: &[u8], why: &str) -> String {
        let wanted = self.columns.fields().len();
        match why.contains("incorrect number of fields") {
            true => format!("not {wanted} values, as there are columns"),
            false => why.to_owned(),
        }
    }

    fn type_error(&self, payload: &[u8], why: &str) -> (&'static str, String) {
        match std::str::from_utf8(payload) {
            Err(e) => (reason::MALFORMED, format!("not UTF-8 at byte {}", e.valid_up_to())),
            Ok(_) => (reason::WRONG_TYPE, why.to_owned()),
        }
    }
}

fn lines(columns: &SchemaRef, delimiter: u8) -> Decoder {
    // One more than a chunk, so that a second line in a record is seen as such.
    ReaderBuilder::new(Arc::clone(columns)).with_batch_size(CHUNK + 1).with_delimiter(delimiter).build_decoder()
}
