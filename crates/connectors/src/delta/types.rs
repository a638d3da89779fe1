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

/// How rows differ from the table that they go to: a line for each column. `None`: they fit, in any order of columns. `may_lack`:
/// rows may lack columns that may be NULL.
///
/// Whether a column may be NULL is no difference else: a NULL for a NOT NULL column is an error when it comes.
pub(super) fn difference(rows: &Schema, table: &Schema, may_lack: bool) -> Option<String> {
    let mut lines = unlike(rows, table);
    let lacks = |f: &&FieldRef| rows.field_with_name(f.name()).is_err() && !(may_lack && f.is_nullable());
    for field in table.fields().iter().filter(lacks) {
        lines.push(format!("column {} ({}) of the table is missing", field.name(), sql_type(field.data_type())));
    }
    (!lines.is_empty()).then(|| lines.join("\n  "))
}

/// The columns that the table does not have. As they are added to it they may be NULL: rows that are there have no value.
pub(super) fn missing(rows: &Schema, table: &Schema) -> Vec<Field> {
    let missing = rows.fields().iter().filter(|f| table.field_with_name(f.name()).is_err());
    missing.map(|field| Field::new(field.name(), field.data_type().clone(), true)).collect()
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

/// Whether two types are the same to a Delta table: it has no unsigned numbers, one type for texts, and so on. Whether what is
/// nested may be NULL is no difference.
pub(super) fn same(a: &DataType, b: &DataType) -> bool {
    let delta = |data_type: &DataType| delta_type(&Field::new("", data_type.clone(), true)).ok();
    match (delta(a), delta(b)) {
        (Some(a), Some(b)) => alike(a.data_type(), b.data_type()),
        _ => a == b,
    }
}

fn alike(a: &DeltaType, b: &DeltaType) -> bool {
    match (a, b) {
        (DeltaType::Struct(a), DeltaType::Struct(b)) => {
            let alike = |(a, b): (&StructField, &StructField)| a.name() == b.name() && alike(a.data_type(), b.data_type());
            a.fields().count() == b.fields().count() && a.fields().zip(b.fields()).all(alike)
        }
        (DeltaType::Array(a), DeltaType::Array(b)) => alike(&a.element_type, &b.element_type),
        (DeltaType::Map(a), DeltaType::Map(b)) => alike(&a.key_type, &b.key_type) && alike(&a.value_type, &b.value_type),
        (a, b) => a == b,
    }
}
