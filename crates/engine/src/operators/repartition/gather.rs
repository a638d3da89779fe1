//! Makes rows of the records of a repartition topic's partition, and their watermark.

use std::sync::Arc;

use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_common::cast::{as_binary_array, as_int64_array};

use super::record::Codec;
use crate::batch::{Batch, Port};
use crate::operator::{Operator, OperatorSpec, Output, StatePart};
use crate::planted::{Fault, is_planted};
use crate::state::Backend;
use crate::time::{MAX_TIME, MIN_TIME, Micros};
use crate::{Error, Result};

/// Plan of what takes rows from a repartition topic.
#[derive(Debug, Clone)]
pub struct Gather {
    codec: Codec,
}

impl Gather {
    /// Rows of this schema.
    pub fn new(schema: SchemaRef) -> Result<Self> {
        Ok(Self { codec: Codec::new(schema)? })
    }
}

impl OperatorSpec for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn schema(&self) -> SchemaRef {
        self.codec.schema().clone()
    }

    fn describe(&self) -> Vec<String> {
        vec!["watermark: the least of all tasks of the stage before".into()]
    }

    fn create(&self, _ports: &[Port], _backend: &Backend) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Gathering { codec: self.codec.clone(), told: Vec::new(), least: MIN_TIME }))
    }
}

/// The operator of one task.
struct Gathering {
    codec: Codec,
    /// By task of the stage before: the watermark that it told last; `None`: it was not heard yet. Empty: none was.
    told: Vec<Option<Micros>>,
    /// The least of them.
    least: Micros,
}

impl Gathering {
    fn hear(&mut self, number: u32, of: u32, watermark: Micros) -> Result<()> {
        if self.told.is_empty() {
            self.told = vec![None; of as usize];
        }
        if self.told.len() != of as usize {
            let (then, now) = (self.told.len(), of);
            let what = format!("a repartition topic holds records of {then} tasks, and of {now}: a partition count changed");
            return Err(Error::permanent(what).hint("SET another pipeline.name to begin with empty state"));
        }
        let told = &mut self.told[number as usize];
        *told = (*told).max(Some(watermark));
        Ok(())
    }

    fn reckon(&mut self) {
        // None is less than any.
        let told = self.told.iter().filter(|told| told.is_some() || !is_planted(Fault::UnheardTasksIgnored));
        self.least = told.min().copied().flatten().unwrap_or(MIN_TIME);
    }
}

impl Operator for Gathering {
    fn on_batch(&mut self, _input: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let payloads = as_binary_array(batch.rows.column(0))?;
        let mut all = Vec::with_capacity(payloads.len());
        for payload in payloads.iter().flatten() {
            let (head, rows) = self.codec.decode(payload)?;
            self.hear(head.number, head.of, head.watermark)?;
            all.extend(rows);
        }
        self.reckon();
        match all.len() {
            0 => {}
            1 => out.append(all.remove(0)),
            _ => out.append(concat_batches(self.codec.schema(), &all)?),
        }
        Ok(())
    }

    fn watermark(&self, _inputs: Micros) -> Micros {
        self.least
    }

    fn greatest_told(&self) -> Micros {
        // What has no partition of a source in its task has no time.
        self.told.iter().flatten().copied().filter(|told| *told < MAX_TIME).max().unwrap_or(MIN_TIME)
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        let schema = Arc::new(Schema::new(vec![Field::new("watermark", DataType::Int64, true)]));
        let rows = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(self.told.clone()))])?;
        Ok(vec![StatePart::whole(rows)])
    }

    fn restore(&mut self, state: Vec<StatePart>) -> Result<()> {
        let wrong = || Error::permanent("the state of a repartition is not as it was written");
        let rows = state.first().ok_or_else(wrong)?.rows.load()?;
        let column = rows.columns().first().ok_or_else(wrong)?;
        if !is_planted(Fault::ToldWatermarksNotRestored) {
            self.told = as_int64_array(column)?.iter().collect();
        }
        self.reckon();
        Ok(())
    }
}
