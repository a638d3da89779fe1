//! What a payload format must give, and how one bad record is kept from its neighbours.
//!
//! What a record is does not depend on the records around it: a chunk that fails is halved until the failing records stand
//! alone.

use std::ops::Range;
#[cfg(feature = "avro")]
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use riverrun_engine::Result;

use super::reason;
use super::records::Records;
use super::text::Fault;
#[cfg(feature = "avro")]
use crate::schema_registry::SchemaRegistry;

/// Records that are decoded together: few enough that what is half decoded stays in the processor's cache.
pub(super) const CHUNK: usize = 1024;

/// A payload format: takes records one by one, gives their rows together.
pub(super) trait Payload: Send {
    /// The schema of the rows: [`text_schema`](super::text::text_schema) of the table's payload columns, or these columns
    /// themselves, each nullable.
    fn schema(&self) -> &SchemaRef;

    /// Where the schemas of records come from, for formats whose records only name them.
    #[cfg(feature = "avro")]
    fn connect(&mut self, registry: &Arc<SchemaRegistry>) {
        let _ = registry;
    }

    /// Gets ready for a record, before anything else is asked of it; `false`: not yet, ask again later. Never waits.
    fn prepare(&mut self, payload: &[u8]) -> Result<bool> {
        let _ = payload;
        Ok(true)
    }

    /// Why a record is bad at first sight, without parsing it.
    fn refuse(&self, payload: &[u8]) -> Option<(&'static str, String)>;

    /// Forgets all records that were fed.
    fn reset(&mut self) -> Result<()>;

    /// Takes a record, which must be whole and just one. After an error only [`reset`](Payload::reset) may follow.
    fn feed(&mut self, payload: &[u8]) -> Result<(), String>;

    /// The rows of what was fed, if anything was. After an error only [`reset`](Payload::reset) may follow.
    fn flush(&mut self) -> Result<Option<RecordBatch>, String>;

    /// What is wrong with a record that [`feed`](Payload::feed) refused for `why`.
    fn syntax_error(&self, payload: &[u8], why: &str) -> String;

    /// What is wrong with a record whose rows [`flush`](Payload::flush) refused for `why`.
    fn type_error(&self, payload: &[u8], why: &str) -> (&'static str, String);
}

/// The rows of the records of a chunk; those without a row are told in `faults`, in order.
pub(super) fn decode(
    payload: &mut dyn Payload,
    records: &Records,
    chunk: Range<usize>,
    faults: &mut Vec<Fault>,
) -> Result<RecordBatch> {
    let mut whole = Vec::with_capacity(chunk.len());
    for record in chunk.clone() {
        match payload.feed(records.payload(record)) {
            Ok(()) => whole.push(record),
            Err(why) => {
                let detail = payload.syntax_error(records.payload(record), &why);
                faults.push(Fault { record, reason: reason::MALFORMED, detail });
                payload.reset()?;
            }
        }
    }
    let mut batches = Vec::new();
    if whole.len() == chunk.len()
        && let Ok(rows) = payload.flush()
    {
        batches.extend(rows);
    } else {
        halve(payload, records, &whole, &mut batches, faults)?;
        faults.sort_by_key(|f| f.record);
    }
    match batches.len() {
        1 => Ok(batches.remove(0)),
        _ => Ok(concat_batches(payload.schema(), &batches)?),
    }
}

/// Decodes whole records; those with a value that the format refuses become faults.
fn halve(
    payload: &mut dyn Payload,
    records: &Records,
    whole: &[usize],
    out: &mut Vec<RecordBatch>,
    faults: &mut Vec<Fault>,
) -> Result<()> {
    payload.reset()?;
    let fed = whole.iter().try_for_each(|record| payload.feed(records.payload(*record)));
    match (fed.and_then(|()| payload.flush()), whole) {
        (Ok(rows), _) => out.extend(rows),
        (Err(why), [record]) => {
            let (reason, detail) = payload.type_error(records.payload(*record), &why);
            faults.push(Fault { record: *record, reason, detail });
            payload.reset()?;
        }
        (Err(_), _) => {
            let (left, right) = whole.split_at(whole.len() / 2);
            halve(payload, records, left, out, faults)?;
            halve(payload, records, right, out, faults)?;
        }
    }
    Ok(())
}
