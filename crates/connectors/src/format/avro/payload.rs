//! Avro records into columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Field, Fields, Schema, SchemaRef};
use arrow_avro::reader::{Decoder, ReaderBuilder};
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use riverrun_engine::{Error, Result};
use serde_json::Value;

use super::columns::misfit;
use super::convert::{bare, column, within};
use super::schema::{Record, Type};
use super::schema_id;
use crate::format::payload::{CHUNK, Payload};
use crate::format::{TimestampFormat, reason};
use crate::schema_registry::{Lookup, Schema as Written, SchemaRegistry};

/// Turns Avro records into rows of the declared columns, each of which may still be NULL.
pub(in crate::format) struct AvroPayload {
    declared: Fields,
    schema: SchemaRef,
    times: TimestampFormat,
    /// Whose defaults stand in for fields that a schema lacks.
    reader: Record,
    /// Where schemas come from; `None`: a decoder that is only made to see whether it can be.
    registry: Option<Arc<SchemaRegistry>>,
    /// The schemas that records came with, by id.
    known: Vec<(u32, Known)>,
    /// Where in `known` the last record's is.
    last: usize,
    /// The last id that the registry does not know, and why.
    missing: Option<(u32, String)>,
    /// For each record that was fed, where in `known` its schema is.
    fed: Vec<usize>,
}

/// What a schema is to the table.
enum Known {
    /// It fills its columns.
    Fits(Box<Reads>),
    /// It cannot: why.
    Unfit(String),
}

/// Reads the records of one schema.
struct Reads {
    id: u32,
    /// The schema and what of it is read, as arrow-avro takes them, to begin anew.
    writer: String,
    wanted: Option<String>,
    decoder: Decoder,
    /// Whether the decoder holds something of a record.
    begun: bool,
    /// For each declared column: where it stands in what is decoded, and its type there.
    places: Vec<Option<(usize, Type)>>,
}

impl AvroPayload {
    /// A payload for these columns.
    ///
    /// # Errors
    /// The `reader_schema` is none.
    pub fn new(declared: &Schema, times: TimestampFormat, reader_schema: Option<&str>) -> Result<Self, String> {
        let reader = reader_schema.map(|text| Record::parse(text, &[])).transpose()?.unwrap_or_default();
        let nullable = declared.fields().iter().map(|f| Field::new(f.name(), f.data_type().clone(), true));
        Ok(Self {
            schema: Arc::new(Schema::new(nullable.collect::<Vec<_>>())),
            declared: declared.fields().clone(),
            times,
            reader,
            registry: None,
            known: Vec::new(),
            last: 0,
            missing: None,
            fed: Vec::new(),
        })
    }

    fn find(&self, id: u32) -> Option<usize> {
        if self.known.get(self.last).is_some_and(|(known, _)| *known == id) {
            return Some(self.last);
        }
        self.known.iter().position(|(known, _)| *known == id)
    }

    /// The rows of one schema's records.
    fn rows_of(&mut self, at: usize) -> Result<RecordBatch, String> {
        let Known::Fits(reads) = &mut self.known[at].1 else { return Err("the schema does not fit".into()) };
        let rows = reads.decoder.flush().map_err(|e| told(&e))?.ok_or("nothing was decoded")?;
        reads.begun = false;
        let columns = reads.places.iter().zip(&self.declared).map(|(place, field)| match place {
            Some((at, kind)) => {
                column(rows.column(*at), kind, field.data_type(), self.times).map_err(|e| within(field.name(), e))
            }
            None => Ok(new_null_array(field.data_type(), rows.num_rows())),
        });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(|e| bare(&e))
    }
}

impl Payload for AvroPayload {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn connect(&mut self, registry: &Arc<SchemaRegistry>) {
        self.registry = Some(Arc::clone(registry));
    }

    fn prepare(&mut self, payload: &[u8]) -> Result<bool> {
        let Ok(id) = schema_id(payload) else { return Ok(true) };
        if let Some(at) = self.find(id) {
            self.last = at;
            return Ok(true);
        }
        let registry = self.registry.as_ref().ok_or_else(|| Error::permanent("the decoder has no schema registry"))?;
        match registry.schema(id)? {
            Lookup::Pending => return Ok(false),
            Lookup::Missing(why) => self.missing = Some((id, why)),
            Lookup::Known(schema) => {
                let reads = Reads::new(id, &schema, &self.declared, self.times, &self.reader);
                let known = match reads {
                    Ok(reads) => Known::Fits(Box::new(reads)),
                    Err(why) => Known::Unfit(why),
                };
                self.last = self.known.len();
                self.known.push((id, known));
            }
        }
        Ok(true)
    }

    fn refuse(&self, payload: &[u8]) -> Option<(&'static str, String)> {
        if payload.is_empty() {
            return Some((reason::EMPTY, "the record is empty".into()));
        }
        let id = match schema_id(payload) {
            Ok(id) => id,
            Err(why) => return Some((reason::MALFORMED, format!("not Avro with a schema's id: {why}"))),
        };
        match self.find(id).map(|at| &self.known[at].1) {
            Some(Known::Fits(_)) => None,
            Some(Known::Unfit(why)) => Some((reason::SCHEMA, format!("schema {id} does not fit the table: {why}"))),
            None => {
                let why =
                    self.missing.as_ref().filter(|(missing, _)| *missing == id).map_or("it was not asked for", |(_, why)| why);
                Some((reason::SCHEMA, format!("the registry has no schema {id}: {why}")))
            }
        }
    }

    fn reset(&mut self) -> Result<()> {
        self.fed.clear();
        for (_, known) in &mut self.known {
            if let Known::Fits(reads) = known
                && reads.begun
            {
                reads.decoder = decoder(reads.id, &reads.writer, reads.wanted.as_deref()).map_err(Error::permanent)?;
                reads.begun = false;
            }
        }
        Ok(())
    }

    fn feed(&mut self, payload: &[u8]) -> Result<(), String> {
        let at = self.find(schema_id(payload)?).ok_or("its schema is not known")?;
        self.last = at;
        let Known::Fits(reads) = &mut self.known[at].1 else { return Err("its schema does not fit".into()) };
        reads.begun = true;
        let room = reads.decoder.capacity();
        let read = reads.decoder.decode(payload).map_err(|e| told(&e))?;
        if reads.decoder.capacity() == room {
            return Err("the record ends before its schema does".into());
        }
        if read < payload.len() || reads.decoder.capacity() != room - 1 {
            return Err("the record goes on behind the end of its schema".into());
        }
        self.fed.push(at);
        Ok(())
    }

    fn flush(&mut self) -> Result<Option<RecordBatch>, String> {
        let Some(first) = self.fed.first().copied() else { return Ok(None) };
        if self.fed.iter().all(|at| *at == first) {
            let rows = self.rows_of(first)?;
            self.fed.clear();
            return Ok(Some(rows));
        }
        // The rows of each schema, then all of them in the order of the records.
        let nothing = RecordBatch::new_empty(Arc::clone(&self.schema));
        let mut batches = Vec::with_capacity(self.known.len());
        for at in 0..self.known.len() {
            batches.push(if self.fed.contains(&at) { self.rows_of(at)? } else { nothing.clone() });
        }
        let mut next = vec![0; self.known.len()];
        let order = self.fed.iter().map(|at| {
            next[*at] += 1;
            (*at, next[*at] - 1)
        });
        let order: Vec<(usize, usize)> = order.collect();
        self.fed.clear();
        match self.schema.fields().is_empty() {
            true => {
                let options = RecordBatchOptions::new().with_row_count(Some(order.len()));
                RecordBatch::try_new_with_options(Arc::clone(&self.schema), Vec::new(), &options)
            }
            false => interleave_record_batch(&batches.iter().collect::<Vec<_>>(), &order),
        }
        .map(Some)
        .map_err(|e| bare(&e))
    }

    fn syntax_error(&self, payload: &[u8], why: &str) -> String {
        let id = schema_id(payload).map_or_else(|_| String::new(), |id| format!("not a record of schema {id}: "));
        format!("{id}{why}")
    }

    fn type_error(&self, _: &[u8], why: &str) -> (&'static str, String) {
        let damaged = ["utf-8", "utf8"].iter().any(|word| why.to_ascii_lowercase().contains(word)) || why.contains("ictionary");
        (if damaged { reason::MALFORMED } else { reason::WRONG_TYPE }, why.to_owned())
    }
}

impl Reads {
    /// How the records of a schema fill the declared columns.
    ///
    /// # Errors
    /// They cannot: why.
    fn new(id: u32, schema: &Written, declared: &Fields, times: TimestampFormat, reader: &Record) -> Result<Self, String> {
        let written = Record::parse(&schema.text, &schema.references)?;
        let (mut wanted, mut defaults) = (Record::default(), Vec::new());
        for field in &written.fields {
            if declared.iter().any(|column| *column.name() == field.name) {
                wanted.fields.push(field.clone());
            }
        }
        for column in declared {
            if written.field(column.name()).is_some() {
                continue;
            }
            match reader.field(column.name()) {
                Some(field) if field.default.is_some() => {
                    defaults.push(field.name.clone());
                    wanted.fields.push(field.clone());
                }
                _ => tell_missing(id, column, &written),
            }
        }
        for column in declared {
            if let Some(why) = wanted.field(column.name()).and_then(|field| misfit(&field.kind, column.data_type(), times)) {
                return Err(format!("field {}: {why}", column.name()));
            }
        }
        let writer = written.plain("r").to_string();
        let whole = wanted.fields.len() == written.fields.len() && defaults.is_empty();
        let wanted_text = (!whole).then(|| with_defaults(&wanted, &defaults).to_string());
        let decoder = decoder(id, &writer, wanted_text.as_deref())?;
        let decoded = decoder.schema();
        let place = |column: &Arc<Field>| {
            let field = wanted.field(column.name())?;
            decoded.index_of(&field.name).ok().map(|at| (at, field.kind.clone()))
        };
        let places = declared.iter().map(place).collect();
        Ok(Self { id, writer, wanted: wanted_text, decoder, begun: false, places })
    }
}

/// What is read of a record, for arrow-avro.
fn with_defaults(wanted: &Record, defaults: &[String]) -> Value {
    let mut plain = wanted.plain("r");
    for (i, field) in wanted.fields.iter().enumerate() {
        if let Some(default) = field.default.as_ref().filter(|_| defaults.contains(&field.name)) {
            plain["fields"][i]["default"] = default.clone();
        }
    }
    plain
}

/// arrow-avro's decoder of records of one schema, or of the `wanted` part of it.
pub(super) fn decoder(id: u32, writer: &str, wanted: Option<&str>) -> Result<Decoder, String> {
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    store.set(Fingerprint::Id(id), AvroSchema::new(writer.to_owned())).map_err(|e| bare(&e))?;
    // One more than a chunk, so that a second record behind one is seen as such.
    let mut builder = ReaderBuilder::new().with_writer_schema_store(store).with_batch_size(CHUNK + 1);
    if let Some(wanted) = wanted {
        builder = builder.with_reader_schema(AvroSchema::new(wanted.to_owned()));
    }
    builder.build_decoder().map_err(|e| bare(&e))
}

/// Tells once that a schema lacks a column but for the case of its letters.
fn tell_missing(id: u32, column: &Field, written: &Record) {
    if let Some(like) = written.fields.iter().find(|f| f.name.eq_ignore_ascii_case(column.name())) {
        let (name, like) = (column.name(), &like.name);
        tracing::warn!("schema {id} has no field {name}, so the column is NULL; it has {like}: write \"{like}\" for that");
    }
}

fn told(error: &arrow_avro::errors::AvroError) -> String {
    let text = error.to_string();
    text.split_once(" error: ").map_or(text.clone(), |(_, rest)| rest.to_owned())
}
