//! Keeps the rows for which a predicate is true.
//!
//! On updates a row that fails the predicate is taken back, since an earlier version of it may have passed; unless the
//! predicate reads nothing but the row's key, which is the same in all versions.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, not, prep_null_mask_filter};
use arrow::datatypes::SchemaRef;
use datafusion_common::cast::as_boolean_array;
use datafusion_physical_expr::PhysicalExpr;

use crate::Result;
use crate::batch::{Batch, Change, Port};
use crate::operator::{Operator, OperatorSpec, Output};
use crate::operators::sql_text;
use crate::state::Backend;

/// Plan of a filter.
#[derive(Debug, Clone)]
pub struct Filter {
    schema: SchemaRef,
    predicate: Arc<dyn PhysicalExpr>,
    over_keys: bool,
}

impl Filter {
    /// A filter over rows of `schema`; `predicate` gives a boolean, NULL counts as false.
    pub fn new(schema: SchemaRef, predicate: Arc<dyn PhysicalExpr>) -> Self {
        Self { schema, predicate, over_keys: false }
    }

    /// The predicate reads only columns that identify a row on [`Port::Update`]: what fails it never passed.
    pub fn over_keys(mut self) -> Self {
        self.over_keys = true;
        self
    }
}

impl OperatorSpec for Filter {
    fn name(&self) -> &'static str {
        "filter"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> Vec<String> {
        vec![sql_text(self.predicate.as_ref())]
    }

    fn create(&self, _ports: &[Port], _backend: &Backend) -> Result<Box<dyn Operator>> {
        Ok(Box::new(self.clone()))
    }
}

impl Operator for Filter {
    fn on_batch(&mut self, _input: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let mask = passes(&self.predicate, &batch.rows)?;
        let passing = mask.true_count();
        if batch.change == Change::Upsert && !self.over_keys && passing < batch.rows.num_rows() {
            let rows = filter_record_batch(&batch.rows, &not(&mask)?)?;
            out.push(Port::Rows, Batch { rows, change: Change::Delete });
        }
        if (batch.change == Change::Delete && !self.over_keys) || passing == batch.rows.num_rows() {
            out.push(Port::Rows, batch);
        } else if passing > 0 {
            let rows = filter_record_batch(&batch.rows, &mask)?;
            out.push(Port::Rows, batch.with_rows(rows));
        }
        Ok(())
    }
}

/// For which rows `predicate` is true (NULL is not).
pub(crate) fn passes(predicate: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<BooleanArray> {
    let value = predicate.evaluate(rows)?.into_array(rows.num_rows())?;
    let mask = as_boolean_array(&value)?;
    Ok(if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() })
}
