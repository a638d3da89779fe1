//! Tables at rest, for ad-hoc queries: their columns, and all their rows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use riverrun_engine::Result;

use super::data::FileReader;
use super::place::Place;
use super::reader::Snapshot;

/// The columns of the newest version of the table at a path or URL.
pub fn schema(path: &str) -> Result<SchemaRef> {
    Ok(newest(path)?.schema)
}

/// All rows of the newest version of the table at a path; with `projection` only these columns, in that order.
pub fn scan(path: &str, projection: Option<&[usize]>) -> Result<Scan> {
    let snapshot = newest(path)?;
    let columns = match projection {
        Some(columns) => Arc::new(snapshot.schema.project(columns)?),
        None => Arc::clone(&snapshot.schema),
    };
    Ok(Scan { snapshot, columns, file: 0, open: None })
}

fn newest(path: &str) -> Result<Snapshot> {
    Snapshot::newest(Place::parse(path, Default::default())?.log()?, path)
}

/// The rows of a table, batch by batch. A file is opened when it is reached.
pub struct Scan {
    snapshot: Snapshot,
    columns: SchemaRef,
    file: usize,
    open: Option<FileReader>,
}

impl Scan {
    /// The columns of the batches.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns)
    }

    /// How many rows there are, as the table's log says.
    pub fn rows(&self) -> u64 {
        self.snapshot.rows()
    }

    fn step(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(reader) = &mut self.open
                && let Some(batch) = reader.next()?
            {
                return Ok(Some(batch));
            }
            let Some(file) = self.snapshot.files.get(self.file) else { return Ok(None) };
            self.open = Some(self.snapshot.open(file, &self.columns, 0)?);
            self.file += 1;
        }
    }
}

impl Iterator for Scan {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            // Nothing comes after an error.
            self.file = self.snapshot.files.len();
            self.open = None;
        }
        step.transpose()
    }
}
