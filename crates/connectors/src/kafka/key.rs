//! A record's key, made of columns: one column's text as it is, several as a JSON object.

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use riverrun_engine::{Error, Result};

use crate::format::{EncodedRows, JsonEncoder};

/// Which columns make the key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Key(Vec<usize>);

/// The keys of a batch.
pub(super) enum Keys<'a> {
    /// Records without key.
    None,
    /// Text, with NULL as no key.
    Text(&'a arrow::array::StringArray),
    /// Another type, as text in one buffer: where each ends, and whether it is there.
    Shown(String, Vec<(usize, bool)>),
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
            [column] => shown(rows.column(column)),
            _ => Ok(Keys::Objects(encoder.encode(&rows.project(&self.0)?)?)),
        }
    }
}

fn shown(column: &ArrayRef) -> Result<Keys<'static>> {
    let formatter = ArrayFormatter::try_new(column, &FormatOptions::default())?;
    let (mut text, mut ends) = (String::new(), Vec::with_capacity(column.len()));
    for row in 0..column.len() {
        let there = column.is_valid(row);
        if there {
            write!(text, "{}", formatter.value(row)).map_err(|_| Error::permanent("a key's value cannot be shown as text"))?;
        }
        ends.push((text.len(), there));
    }
    Ok(Keys::Shown(text, ends))
}

impl Keys<'_> {
    /// The key of a row.
    pub fn row(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::None => None,
            Self::Text(texts) => texts.is_valid(row).then(|| texts.value(row).as_bytes()),
            Self::Shown(text, ends) => {
                let begin = if row == 0 { 0 } else { ends[row - 1].0 };
                ends[row].1.then(|| &text.as_bytes()[begin..ends[row].0])
            }
            Self::Objects(objects) => Some(objects.row(row)),
        }
    }
}
