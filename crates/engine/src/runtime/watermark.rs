//! The watermark of one partition, and which of its rows are late.
//!
//! A row is late if its event time is below the greatest event time *before it in the partition* less the delay. That
//! is a property of the sequence of rows alone: however a reader cuts it into batches, the same rows are late.

use std::time::Duration;

use arrow::array::{Array, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::{filter_record_batch, not};
use datafusion_common::cast::as_timestamp_microsecond_array;

use crate::Result;
use crate::time::{MIN_TIME, Micros};

/// The event times of some rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The least.
    pub oldest: Micros,
    /// The greatest.
    pub newest: Micros,
    /// Rows that have one.
    pub count: u64,
    /// All of them together, in seconds since 1970.
    pub sum_seconds: f64,
}

/// The watermark of one partition: the greatest event time seen less a delay, never going back.
#[derive(Debug)]
pub struct Watermark {
    column: usize,
    delay: Micros,
    newest: Option<Micros>,
    floor: Micros,
    spread: Option<Spread>,
}

impl Watermark {
    /// A watermark over the event times in `column`.
    pub fn new(column: usize, delay: Duration) -> Self {
        let delay = Micros::try_from(delay.as_micros()).unwrap_or(Micros::MAX);
        Self { column, delay, newest: None, floor: MIN_TIME, spread: None }
    }

    /// Where it stands: no on-time row to come is older.
    pub fn current(&self) -> Micros {
        self.newest.map_or(MIN_TIME, |t| t.saturating_sub(self.delay)).max(self.floor)
    }

    /// Lifts it although no row did: the partition is idle, or a checkpoint says so.
    pub fn lift(&mut self, floor: Micros) {
        self.floor = self.floor.max(floor);
    }

    /// The greatest event time seen, and what it was lifted to: all that it needs to go on after a restart.
    pub fn position(&self) -> (Option<Micros>, Micros) {
        (self.newest, self.floor)
    }

    /// Goes on from a [`position`](Watermark::position).
    pub fn resume(&mut self, (newest, floor): (Option<Micros>, Micros)) {
        (self.newest, self.floor) = (newest, floor);
    }

    /// The event times of the rows that were last [observed](Watermark::observe); taken.
    pub fn take_spread(&mut self) -> Option<Spread> {
        self.spread.take()
    }

    /// Moves it over `rows` and splits them: (on time, late). Rows without event time count as on time; they move nothing.
    pub fn observe(&mut self, rows: RecordBatch) -> Result<(RecordBatch, Option<RecordBatch>)> {
        let times = as_timestamp_microsecond_array(rows.column(self.column))?.clone();
        let (Some(oldest), Some(newest)) = (arrow::compute::min(&times), arrow::compute::max(&times)) else {
            return Ok((rows, None));
        };
        self.spread = Some(spread(&times, oldest, newest));
        let before = self.newest;
        let highest = newest.max(before.unwrap_or(newest));
        if oldest >= highest.saturating_sub(self.delay).max(self.floor) {
            self.newest = Some(highest);
            return Ok((rows, None));
        }
        let on_time = self.judge(&times);
        if on_time.true_count() == rows.num_rows() {
            return Ok((rows, None));
        }
        let late = filter_record_batch(&rows, &not(&on_time)?)?;
        Ok((filter_record_batch(&rows, &on_time)?, Some(late)))
    }

    /// Row by row: the slow way, taken only by chunks that may hold a late row.
    fn judge(&mut self, times: &TimestampMicrosecondArray) -> BooleanArray {
        let mut watermark = self.current();
        let on_time = times.iter().map(|time| {
            let Some(time) = time else { return true };
            let on_time = time >= watermark;
            if on_time && self.newest.is_none_or(|n| time > n) {
                self.newest = Some(time);
                watermark = watermark.max(time.saturating_sub(self.delay));
            }
            on_time
        });
        BooleanArray::from(on_time.collect::<Vec<_>>())
    }
}

/// Summed as differences from the oldest, which cannot overflow for times that a partition holds.
fn spread(times: &TimestampMicrosecondArray, oldest: Micros, newest: Micros) -> Spread {
    let count = (times.len() - times.null_count()) as u64;
    let above: i64 = if times.null_count() == 0 {
        times.values().iter().map(|t| t.wrapping_sub(oldest)).fold(0, i64::wrapping_add)
    } else {
        times.iter().flatten().map(|t| t.wrapping_sub(oldest)).fold(0, i64::wrapping_add)
    };
    Spread { oldest, newest, count, sum_seconds: oldest as f64 / 1e6 * count as f64 + above as f64 / 1e6 }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    use proptest::prelude::*;

    use super::*;

    fn rows(times: &[i64]) -> RecordBatch {
        let field = Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false);
        let times = TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC");
        RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::new(times)]).unwrap()
    }

    fn times(rows: &RecordBatch) -> Vec<i64> {
        as_timestamp_microsecond_array(rows.column(0)).unwrap().values().to_vec()
    }

    proptest! {
        #[test]
        fn the_same_rows_are_late_however_they_are_cut(all in prop::collection::vec(0i64..1000, 1..80), cuts in prop::collection::vec(1usize..9, 1..40)) {
            let mut newest: Option<i64> = None;
            let expected: Vec<i64> = all.iter().copied().filter(|t| {
                let late = newest.is_some_and(|n| *t < n - 100);
                if !late { newest = Some(newest.map_or(*t, |n| n.max(*t))); }
                late
            }).collect();

            let mut watermark = Watermark::new(0, Duration::from_micros(100));
            let (mut late, mut rest, mut cut) = (Vec::new(), &all[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (chunk, tail) = rest.split_at((*cut.next().unwrap()).min(rest.len()));
                late.extend(watermark.observe(rows(chunk)).unwrap().1.iter().flat_map(times));
                rest = tail;
            }
            prop_assert_eq!(late, expected);
            prop_assert_eq!(watermark.current(), newest.unwrap() - 100);
        }
    }

    #[test]
    fn a_lifted_watermark_makes_older_rows_late() {
        let mut watermark = Watermark::new(0, Duration::from_micros(100));
        watermark.lift(500);
        let (on_time, late) = watermark.observe(rows(&[499, 500, 501])).unwrap();
        assert_eq!((times(&on_time), times(&late.unwrap())), (vec![500, 501], vec![499]));
        assert_eq!(watermark.current(), 500);
    }
}
