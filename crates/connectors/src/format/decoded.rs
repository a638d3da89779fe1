//! Decoded records: rows and bad records of one partition that wait for the clock of the epoch which takes them.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, TimestampMicrosecondType};
use bytes::Bytes;
use riverrun_engine::Result;
use riverrun_engine::source::{BadRecord, Fetch};
use riverrun_engine::time::Micros;

use super::decode::Plan;
use super::metadata::{self, Origin};
use super::records::Records;
use super::{JsonEncoder, reason};

/// Decoded records that wait for the clock of the epoch which takes them.
pub struct Decoded {
    pub(super) plan: Arc<Plan>,
    pub(super) origin: Origin,
    /// The rows that were not taken yet.
    pub(super) payload: RecordBatch,
    pub(super) records: Records,
    /// The records that were not taken yet.
    pub(super) left: Range<usize>,
    /// The bad records that were not taken yet, by offset.
    pub(super) bad: Vec<BadRecord>,
    pub(super) next_offset: i64,
    /// Whether rows came typed, so that there is no payload to show.
    pub(super) typed: bool,
}

impl Decoded {
    /// Whether all was taken, rows and bad records.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty() && self.bad.is_empty()
    }

    /// Everything that was not taken yet: rows with their metadata columns, and bad records by offset.
    /// `clock` is the epoch's clock.
    pub fn into_fetch(mut self, clock: Micros) -> Result<Fetch> {
        self.take(usize::MAX, i64::MAX, clock)
    }

    /// The next `rows` rows before offset `until`, and the bad records before and between them.
    pub fn take(&mut self, rows: usize, until: i64, clock: Micros) -> Result<Fetch> {
        let before = self.left.start..self.records.first_at(self.left.clone(), until);
        let rest = self.records.good(before.clone()).nth(rows).map(|(record, place)| (record, place.offset));
        let (end, next_offset) = rest.unwrap_or((before.end, self.next_offset.min(until)));
        let taken = self.left.start..end;
        self.left.start = end;
        let rows = self.records.good(taken.clone()).count();
        let payload = self.payload.slice(0, rows);
        self.payload = self.payload.slice(rows, self.payload.num_rows() - rows);
        let bound = rest.map_or(until, |(_, offset)| offset);
        let behind = self.bad.partition_point(|b| b.offset < bound);
        let later = self.bad.split_off(behind);
        let mut bad = std::mem::replace(&mut self.bad, later);

        let refused = bad.iter().map(|b| b.payload.len()).sum::<usize>();
        let newest = self.records.newest(taken.clone()).max(bad.iter().filter_map(|b| b.timestamp).max());
        let bytes = self.records.bytes(taken.clone()) + refused;
        let rows = self.all_columns(&payload, taken.clone(), clock)?;
        let rows = self.check_event_time(rows, taken, clock, &mut bad)?;
        bad.sort_by_key(|b| b.offset);
        Ok(Fetch { rows, bad, next_offset, bytes, newest_record_time: newest })
    }

    fn all_columns(&self, payload: &RecordBatch, taken: Range<usize>, clock: Micros) -> Result<RecordBatch> {
        let plan = &self.plan;
        let rows = payload.num_rows();
        let mut payload = payload.columns().iter();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(plan.metadata.len());
        for (field, metadata) in plan.schema.fields().iter().zip(&plan.metadata) {
            match metadata {
                Some(m) => {
                    let records = (&self.records, taken.clone());
                    columns.push(metadata::column(field, *m, records, &self.origin, clock, rows)?);
                }
                None => columns.extend(payload.next().cloned()),
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&plan.schema), columns, &options)?)
    }

    /// Takes out the rows whose event time would harm the watermark.
    fn check_event_time(
        &mut self,
        rows: RecordBatch,
        taken: Range<usize>,
        clock: Micros,
        bad: &mut Vec<BadRecord>,
    ) -> Result<RecordBatch> {
        let Some(column) = self.plan.event_time else { return Ok(rows) };
        let ahead = i64::try_from(self.plan.options.max_ahead.as_micros()).unwrap_or(i64::MAX);
        let times = rows.column(column).as_primitive::<TimestampMicrosecondType>();
        let mut wrong = Vec::new();
        for (row, (record, place)) in self.records.good(taken).enumerate() {
            let latest = place.timestamp.unwrap_or(clock).saturating_add(ahead);
            if times.is_null(row) || !(0..=latest).contains(&times.value(row)) {
                wrong.push((row, record));
            }
        }
        if wrong.is_empty() {
            return Ok(rows);
        }
        for (row, record) in &wrong {
            let time = (!times.is_null(*row)).then(|| times.value(*row));
            let detail = self.event_time_detail(self.plan.schema.field(column), time);
            let mut rejected = self.records.reject(*record, reason::EVENT_TIME, detail);
            if self.typed {
                rejected.payload = Bytes::copy_from_slice(JsonEncoder::default().encode(&rows.slice(*row, 1))?.row(0));
            }
            bad.push(rejected);
        }
        Ok(filter_record_batch(&rows, &mask(rows.num_rows(), wrong.iter().map(|(row, _)| *row)))?)
    }

    fn event_time_detail(&self, field: &Field, time: Option<Micros>) -> String {
        let name = field.name();
        let Some(time) = time else { return format!("field {name}: no event time") };
        let shown = chrono::DateTime::from_timestamp_micros(time).map_or_else(|| time.to_string(), |t| t.to_rfc3339());
        match time < 0 {
            true => format!("field {name}: {shown} is before 1970"),
            false => format!("field {name}: {shown} is more than {:?} past the record's time", self.plan.options.max_ahead),
        }
    }
}

/// A mask that is true but at these rows.
pub(super) fn mask(rows: usize, without: impl Iterator<Item = usize>) -> BooleanArray {
    let mut keep = vec![true; rows];
    for row in without {
        keep[row] = false;
    }
    BooleanArray::from(keep)
}
