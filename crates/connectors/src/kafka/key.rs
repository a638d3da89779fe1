//! A record's key, made of columns: one column's text as it is, several as a JSON object.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use riverrun_engine::Result;

use crate::format::{EncodedRows, JsonEncoder};

/// Which columns make the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key(Vec<usize>);

/// The keys of a batch.
pub(super) enum Keys<'a> {
    /// Records without key.
    None,
    /// Text, with NULL as no key.
    Text(&'a arrow::array::StringArray),
    /// Another type, as text.
    Shown(Vec<Option<String>>),
    /// Several columns.
    Objects(EncodedRows),
}

impl Key {
    /// The columns of these names. The error is for the option 'key'.
    pub fn of(names: &[String], schema: &Schema) -> Result<Self, String> {
        let column = |name: &String| schema.index_of(name).map_err(|_| format!("there is no column '{name}'"));
        names.iter().map(column).collect::<Result<_, _>>().map(Self)
    }

    /// The keys of these rows.
    pub fn of_rows<'a>(&self, rows: &'a RecordBatch, encoder: &JsonEncoder) -> Result<Keys<'a>> {
        match self.0[..] {
            [] => Ok(Keys::None),
            [column] if rows.column(column).data_type() == &DataType::Utf8 => Ok(Keys::Text(rows.column(column).as_string())),
            [column] => shown(rows.column(column)).map(Keys::Shown),
            _ => Ok(Keys::Objects(encoder.encode(&rows.project(&self.0)?)?)),
        }
    }
}

fn shown(column: &ArrayRef) -> Result<Vec<Option<String>>> {
    let formatter = ArrayFormatter::try_new(column, &FormatOptions::default())?;
    Ok((0..column.len()).map(|row| column.is_valid(row).then(|| formatter.value(row).to_string())).collect())
}

impl Keys<'_> {
    /// The key of a row.
    pub fn row(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::None => None,
            Self::Text(texts) => texts.is_valid(row).then(|| texts.value(row).as_bytes()),
            Self::Shown(texts) => texts[row].as_ref().map(String::as_bytes),
            Self::Objects(objects) => Some(objects.row(row)),
        }
    }
}
