//! Schemas: what a Delta table calls our types, and how two schemas differ.

use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel as _;
use deltalake_core::kernel::{DataType as DeltaType, StructField, StructType};
use riverrun_engine::{Error, Result};

use crate::format::sql_type;

/// The columns of a new table for rows of this schema.
pub(super) fn columns(schema: &Schema) -> Result<StructType> {
    for field in schema.fields() {
        delta_type(field)?;
    }
    schema.try_into_kernel().map_err(|e| Error::invalid(format!("these columns cannot be in a Delta table: {e}")))
}

fn delta_type(field: &Field) -> Result<StructField> {
    let wide = matches!(field.data_type(), DataType::Null);
    field.try_into_kernel().ok().filter(|_| !wide).ok_or_else(|| {
        Error::invalid(format!("column {}: Delta tables have no type for {}", field.name(), field.data_type()))
            .hint("CAST it to another type in the query")
    })
}

/// Checks the partition columns of a new table.
pub(super) fn check_partition_by(schema: &Schema, names: &[String]) -> Result<()> {
    for (i, name) in names.iter().enumerate() {
        let Ok(field) = schema.field_with_name(name) else {
            let known: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            let error = Error::invalid(format!("option 'partition_by': the rows have no column {name}"));
            return Err(error.hint(format!("their columns are {}", known.join(", "))));
        };
        if !matches!(delta_type(field)?.data_type(), DeltaType::Primitive(_)) || is_binary(field.data_type()) {
            let error = Error::invalid(format!("option 'partition_by': column {name} is a {}", field.data_type()));
            return Err(error.hint("partition by a number, a text, a date or a time"));
        }
        if names[..i].contains(name) {
            return Err(Error::invalid(format!("option 'partition_by' names {name} twice")));
        }
    }
    if names.len() >= schema.fields().len() {
        return Err(Error::invalid("option 'partition_by' names every column: the files would have none"));
    }
    Ok(())
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

/// How rows differ from the table that they go to: a line for each column. `None`: they fit, in any order of columns.
///
/// Whether a column may be NULL is no difference: a NULL for a NOT NULL column is an error when it comes.
pub(super) fn difference(rows: &Schema, table: &Schema) -> Option<String> {
    let stored = |field: &FieldRef| field.as_ref().clone().with_data_type(signed(field.data_type()).clone());
    let rows = &Schema::new(rows.fields().iter().map(stored).collect::<Vec<_>>());
    let mut lines = unlike(rows, table);
    for field in table.fields().iter().filter(|f| rows.field_with_name(f.name()).is_err()) {
        lines.push(format!("column {} ({}) of the table is missing", field.name(), sql_type(field.data_type())));
    }
    (!lines.is_empty()).then(|| lines.join("\n  "))
}

/// The columns that the table does not have, or has with another type: a line for each.
pub(super) fn unlike(columns: &Schema, table: &Schema) -> Vec<String> {
    let line = |field: &FieldRef| match table.field_with_name(field.name()) {
        Err(_) => Some(format!("column {} ({}) is not in the table", field.name(), sql_type(field.data_type()))),
        Ok(there) if same(field.data_type(), there.data_type()) => None,
        Ok(there) => {
            let (there, here) = (sql_type(there.data_type()), sql_type(field.data_type()));
            Some(format!("column {} is {there} in the table, {here} here", field.name()))
        }
    };
    columns.fields().iter().filter_map(line).collect()
}

/// Whether two types are the same to a Delta table.
pub(super) fn same(a: &DataType, b: &DataType) -> bool {
    use DataType::{LargeList, LargeUtf8, List, Struct, Utf8, Utf8View};
    match (a, b) {
        (Struct(a), Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.name() == b.name() && same(a.data_type(), b.data_type()))
        }
        (List(a) | LargeList(a), List(b) | LargeList(b)) => same(a.data_type(), b.data_type()),
        (DataType::Map(a, _), DataType::Map(b, _)) => match (a.data_type(), b.data_type()) {
            (Struct(a), Struct(b)) => a.iter().zip(b).all(|(a, b)| same(a.data_type(), b.data_type())),
            _ => false,
        },
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => true,
        (a, b) if is_binary(a) && is_binary(b) => true,
        (a, b) => a == b,
    }
}

/// What a column of a new table would be: Delta has no unsigned numbers.
fn signed(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::UInt8 => &DataType::Int8,
        DataType::UInt16 => &DataType::Int16,
        DataType::UInt32 => &DataType::Int32,
        DataType::UInt64 => &DataType::Int64,
        other => other,
    }
}
