//! The newest rows that passed a place of the pipeline: what people look at while it runs.
//!
//! Invariants: bounded in rows; rows are shared, not copied. A writer holds the lock to append an entry, once per batch; a
//! reader who has seen everything takes none, others take it to copy at most as many pointers as rows are kept. So reading
//! never holds up who writes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;

use crate::batch::Change;
use crate::time::Micros;

/// How many rows are kept.
const ROWS: usize = 256;

/// Rows that passed together.
#[derive(Debug, Clone)]
pub struct Passed {
    /// The number of the first of them: rows are numbered from 0 as they pass.
    pub first: u64,
    /// What they mean.
    pub change: Change,
    /// The clock of their epoch.
    pub clock: Micros,
    /// The rows.
    pub rows: RecordBatch,
}

impl Passed {
    /// The number of the row behind them.
    pub fn end(&self) -> u64 {
        self.first + self.rows.num_rows() as u64
    }

    /// Those of them that have this number or a greater one.
    fn from(&self, number: u64) -> Self {
        let skipped = number.saturating_sub(self.first) as usize;
        let rows = self.rows.slice(skipped, self.rows.num_rows() - skipped);
        Self { first: self.first + skipped as u64, rows, ..*self }
    }
}

/// The newest rows of a place.
#[derive(Debug, Default)]
pub struct Newest {
    kept: Mutex<VecDeque<Arc<Passed>>>,
    /// The number of the next row.
    next: AtomicU64,
}

impl Newest {
    /// Takes rows that passed.
    pub(in crate::runtime) fn push(&self, change: Change, clock: Micros, rows: &RecordBatch) {
        let count = rows.num_rows();
        if count == 0 {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let first = self.next.load(Acquire);
        let passed = Passed { first, change, clock, rows: rows.clone() };
        let next = passed.end();
        let oldest = next.saturating_sub(ROWS as u64);
        while kept.front().is_some_and(|passed| passed.end() <= oldest) {
            kept.pop_front();
        }
        kept.push_back(Arc::new(if count > ROWS { passed.from(oldest) } else { passed }));
        self.next.store(next, Release);
    }

    /// The number that the next row will have: how many rows have passed.
    pub fn next(&self) -> u64 {
        self.next.load(Acquire)
    }

    /// The kept rows with this number or a greater one, oldest first. What lies between the number and the first row of the
    /// answer was not kept.
    pub fn since(&self, number: u64) -> Vec<Passed> {
        if number >= self.next() {
            return Vec::new();
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: Vec<Arc<Passed>> = kept.iter().filter(|passed| passed.end() > number).cloned().collect();
        kept.iter().map(|passed| passed.from(number)).collect()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn rows(numbers: std::ops::Range<i64>) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(numbers))]).unwrap()
    }

    fn numbers(passed: &[Passed]) -> Vec<i64> {
        let values = |p: &Passed| p.rows.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec();
        passed.iter().flat_map(values).collect()
    }

    #[test]
    fn the_newest_rows_are_kept_and_a_reader_sees_what_it_missed() {
        let newest = Newest::default();
        assert_eq!((newest.next(), newest.since(0).len()), (0, 0));
        newest.push(Change::Insert, 1, &rows(0..3));
        newest.push(Change::Upsert, 2, &rows(3..5));
        assert_eq!(numbers(&newest.since(1)), [1, 2, 3, 4]);
        assert_eq!(newest.since(4)[0].first, 4);
        assert!(newest.since(5).is_empty() && newest.since(99).is_empty());

        newest.push(Change::Insert, 3, &rows(5..1000));
        let kept = newest.since(0);
        assert_eq!((numbers(&kept), kept[0].first), ((744..1000).collect(), 744), "744 rows were missed");
        newest.push(Change::Insert, 4, &rows(1000..1001));
        assert_eq!(newest.since(999).iter().map(|p| p.clock).collect::<Vec<_>>(), [3, 4]);
    }
}
