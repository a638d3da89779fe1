//! A row of a batch as the values of a statement.

use std::fmt;

use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::record_batch::RecordBatch;
use riverrun_engine::Result;
use scylla::cluster::metadata::ColumnType;
use scylla::serialize::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::{CellWriter, RowWriter, WrittenCellProof};

use super::cells::Cells;
use super::config::NullKeys;

/// What is known of a column before any rows come.
#[derive(Clone)]
pub(super) struct Column {
    /// Its place in the rows.
    pub index: usize,
    pub field: FieldRef,
    /// Its type in the table.
    pub typ: ColumnType<'static>,
    /// In the PRIMARY KEY: what a NULL does.
    pub key: Option<NullKeys>,
}

/// The values of some columns of a batch, in the order of a statement's marks.
pub(super) struct Values {
    columns: Vec<(FieldRef, Option<NullKeys>, Cells)>,
}

impl Values {
    /// The columns of `rows`.
    pub fn bind(rows: &RecordBatch, columns: &[Column]) -> Result<Self> {
        let bind = |column: &Column| {
            let cells = Cells::bind(rows.column(column.index), &column.typ)?;
            Ok((column.field.clone(), column.key, cells))
        };
        Ok(Self { columns: columns.iter().map(bind).collect::<Result<_>>()? })
    }

    /// One row.
    pub fn row(&self, row: usize) -> Row<'_> {
        Row { values: self, row }
    }
}

/// One row of [`Values`].
pub(super) struct Row<'a> {
    values: &'a Values,
    row: usize,
}

impl SerializeRow for Row<'_> {
    fn serialize(&self, _: &RowSerializationContext<'_>, writer: &mut RowWriter<'_>) -> Result<(), SerializationError> {
        for (field, key, cells) in &self.values.columns {
            let cell = writer.make_cell_writer();
            match key {
                None => cells.write(self.row, cell)?,
                Some(nulls) => write_key(field, *nulls, cells, self.row, cell)?,
            };
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.values.columns.is_empty()
    }
}

fn write_key<'b>(
    field: &Field,
    nulls: NullKeys,
    cells: &Cells,
    row: usize,
    cell: CellWriter<'b>,
) -> Result<WrittenCellProof<'b>, SerializationError> {
    let wrong = |why| Err(SerializationError::new(WrongKey { column: field.name().clone(), why }));
    if cells.is_null(row) {
        return match (nulls, field.data_type()) {
            (NullKeys::Empty, DataType::Utf8 | DataType::Binary) => cell.set_value(&[]).map_err(SerializationError::new),
            _ => wrong(Why::Null),
        };
    }
    match cells {
        // Two keys must not become one.
        Cells::Millis(times) if times.value(row) % 1000 != 0 => wrong(Why::Fine),
        _ => cells.write(row, cell),
    }
}

/// A value that cannot be in a key.
#[derive(Debug)]
struct WrongKey {
    column: String,
    why: Why,
}

#[derive(Debug, Clone, Copy)]
enum Why {
    Null,
    Fine,
}

impl fmt::Display for WrongKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = &self.column;
        match self.why {
            Why::Null => write!(
                f,
                "column {column} of the PRIMARY KEY is NULL, which Cassandra does not have there: coalesce({column}, …) in the query, or \
                 null_keys = 'empty' for texts"
            ),
            Why::Fine => write!(
                f,
                "column {column} of the PRIMARY KEY is a time with microseconds, and two of them may be one in milliseconds: \
                 date_trunc it in the query, or timestamps = 'bigint'"
            ),
        }
    }
}

impl std::error::Error for WrongKey {}
