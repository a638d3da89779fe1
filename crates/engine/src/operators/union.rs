//! Brings several inputs of the same columns together, in the order in which they come.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::Result;
use crate::batch::{Batch, Port};
use crate::operator::{Operator, OperatorSpec, Output};
use crate::state::Backend;

/// Plan of a UNION ALL.
#[derive(Debug, Clone)]
pub struct Union {
    schema: SchemaRef,
}

impl Union {
    /// Inputs whose columns have the types of `schema`, whatever their names.
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema }
    }
}

impl OperatorSpec for Union {
    fn name(&self) -> &'static str {
        "union"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> Vec<String> {
        Vec::new()
    }

    fn create(&self, _ports: &[Port], _backend: &Backend) -> Result<Box<dyn Operator>> {
        Ok(Box::new(self.clone()))
    }
}

impl Operator for Union {
    fn on_batch(&mut self, _input: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let rows = RecordBatch::try_new(self.schema.clone(), batch.rows.columns().to_vec())?;
        out.push(Port::Rows, batch.with_rows(rows));
        Ok(())
    }
}
