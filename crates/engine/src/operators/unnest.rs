//! Gives one row per element of a list column: how hop() puts a row into each of its windows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::batch::{Batch, Port};
use crate::operator::{Operator, OperatorSpec, Output};
use crate::state::Backend;
use crate::{Error, Result};

/// Plan: column `column` of the input, a list, becomes its elements; the other columns are repeated. Rows whose list is
/// NULL or empty go away.
#[derive(Debug, Clone)]
pub struct Unnest {
    column: usize,
    schema: SchemaRef,
}

impl Unnest {
    /// Unnests column `column` of `input`; its name becomes `name`.
    ///
    /// # Errors
    /// The column is no list.
    pub fn new(input: &Schema, column: usize, name: &str) -> Result<Self> {
        let DataType::List(item) = input.field(column).data_type() else {
            return Err(Error::invalid(format!("{} is no list: it cannot be unnested", input.field(column).name())));
        };
        let mut fields: Vec<_> = input.fields().iter().cloned().collect();
        fields[column] = Arc::new(Field::new(name, item.data_type().clone(), item.is_nullable()));
        Ok(Self { column, schema: Arc::new(Schema::new(fields)) })
    }
}

impl OperatorSpec for Unnest {
    fn name(&self) -> &'static str {
        "unnest"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> Vec<String> {
        vec![self.schema.field(self.column).name().clone()]
    }

    fn create(&self, _ports: &[Port], _backend: &Backend) -> Result<Box<dyn Operator>> {
        Ok(Box::new(self.clone()))
    }
}

impl Operator for Unnest {
    fn on_batch(&mut self, _input: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let list = batch.rows.column(self.column).as_any().downcast_ref::<ListArray>();
        let list = list.ok_or_else(|| Error::permanent("unnest: the column is no list"))?;
        let (parents, elements) = positions(list);
        let columns = batch.rows.columns().iter().enumerate().map(|(i, column)| {
            Ok(if i == self.column { take(list.values(), &elements, None)? } else { take(column, &parents, None)? })
        });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
        out.push(Port::Rows, batch.with_rows(RecordBatch::try_new(self.schema.clone(), columns)?));
        Ok(())
    }
}

/// For each element of the lists: its row, and its place among the values.
fn positions(list: &ListArray) -> (UInt32Array, UInt32Array) {
    let mut parents = Vec::with_capacity(list.values().len());
    let mut elements = Vec::with_capacity(list.values().len());
    for (row, bounds) in list.value_offsets().windows(2).enumerate() {
        if list.is_valid(row) {
            elements.extend(bounds[0] as u32..bounds[1] as u32);
            parents.resize(elements.len(), row as u32);
        }
    }
    (UInt32Array::from(parents), UInt32Array::from(elements))
}
