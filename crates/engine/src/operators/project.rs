//! Computes columns from columns.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;

use crate::Result;
use crate::batch::{Batch, Port};
use crate::operator::{Operator, OperatorSpec, Output};
use crate::operators::sql_text;
use crate::state::Backend;

/// Plan of a projection.
#[derive(Debug, Clone)]
pub struct Project {
    expressions: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

impl Project {
    /// Expressions over rows of `input`, each with the name of its column.
    ///
    /// # Errors
    /// An expression that does not fit the input's schema.
    pub fn new(input: &Schema, expressions: Vec<(Arc<dyn PhysicalExpr>, String)>) -> Result<Self> {
        let fields = expressions
            .iter()
            .map(|(e, name)| Ok(Field::new(name, e.data_type(input)?, e.nullable(input)?)))
            .collect::<Result<Vec<_>>>()?;
        let expressions = expressions.into_iter().map(|(e, _)| e).collect();
        Ok(Self { expressions, schema: Arc::new(Schema::new(fields)) })
    }

    /// The first columns of the input as a table declares them: its names, and an error where NULL comes to a NOT NULL column.
    pub fn declared(input: &Schema, schema: SchemaRef) -> Self {
        let columns = input.fields().iter().take(schema.fields().len()).enumerate();
        let expressions = columns.map(|(i, f)| Arc::new(Column::new(f.name(), i)) as Arc<dyn PhysicalExpr>);
        Self { expressions: expressions.collect(), schema }
    }
}

impl OperatorSpec for Project {
    fn name(&self) -> &'static str {
        "project"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> Vec<String> {
        let columns = self.expressions.iter().zip(self.schema.fields());
        let columns: Vec<_> = columns
            .map(|(e, f)| {
                let text = sql_text(e.as_ref());
                if text == *f.name() { text } else { format!("{} = {text}", f.name()) }
            })
            .collect();
        vec![columns.join(", ")]
    }

    fn create(&self, _ports: &[Port], _backend: &Backend) -> Result<Box<dyn Operator>> {
        Ok(Box::new(self.clone()))
    }
}

impl Operator for Project {
    fn on_batch(&mut self, _input: usize, batch: Batch, out: &mut Output) -> Result<()> {
        let rows = evaluate(&self.expressions, &self.schema, &batch.rows)?;
        out.push(Port::Rows, batch.with_rows(rows));
        Ok(())
    }
}

/// Evaluates `expressions` over `rows` into a batch of `schema`.
fn evaluate(expressions: &[Arc<dyn PhysicalExpr>], schema: &SchemaRef, rows: &RecordBatch) -> Result<RecordBatch> {
    let count = rows.num_rows();
    let columns = expressions.iter().map(|e| Ok(e.evaluate(rows)?.into_array(count)?)).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}
