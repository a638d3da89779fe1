//! What Cassandra calls our types, and whether a column that is there can hold what comes.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use riverrun_engine::{Error, Result};
use scylla::cluster::metadata::{CollectionType, ColumnType, NativeType, UserDefinedType};

use super::config::Timestamps;
use crate::format::sql_type;

/// How new types are named and made.
pub(super) struct Naming<'a> {
    pub keyspace: &'a str,
    pub table: &'a str,
    pub timestamps: Timestamps,
}

impl Naming<'_> {
    /// The type of a new column. A STRUCT is a user-defined type `table_column`, one within it `table_column_field`.
    ///
    /// Collections and structs are frozen: such a value is one cell, and replacing it twice is the same as once.
    pub fn column(&self, field: &Field) -> Result<ColumnType<'static>> {
        self.column_type(field.data_type(), field.name(), field.name())
    }

    fn column_type(&self, data_type: &DataType, column: &str, path: &str) -> Result<ColumnType<'static>> {
        let native = match data_type {
            DataType::Boolean => NativeType::Boolean,
            DataType::Int8 => NativeType::TinyInt,
            DataType::Int16 | DataType::UInt8 => NativeType::SmallInt,
            DataType::Int32 | DataType::UInt16 => NativeType::Int,
            DataType::Int64 | DataType::UInt32 => NativeType::BigInt,
            DataType::UInt64 => NativeType::Varint,
            DataType::Float32 => NativeType::Float,
            DataType::Float64 => NativeType::Double,
            DataType::Decimal128(..) => NativeType::Decimal,
            DataType::Utf8 => NativeType::Text,
            DataType::Binary => NativeType::Blob,
            DataType::Date32 => NativeType::Date,
            DataType::Timestamp(TimeUnit::Microsecond, _) if self.timestamps == Timestamps::Millis => NativeType::Timestamp,
            DataType::Timestamp(TimeUnit::Microsecond, _) => NativeType::BigInt,
            DataType::List(item) => {
                let item = self.column_type(item.data_type(), column, path)?;
                return Ok(frozen(CollectionType::List(Box::new(item))));
            }
            DataType::Map(entries, _) => {
                let DataType::Struct(fields) = entries.data_type() else { return Err(no_type(column, data_type)) };
                let [key, value] = &fields[..] else { return Err(no_type(column, data_type)) };
                let key = self.column_type(key.data_type(), column, &format!("{path}_key"))?;
                let value = self.column_type(value.data_type(), column, &format!("{path}_value"))?;
                return Ok(frozen(CollectionType::Map(Box::new(key), Box::new(value))));
            }
            DataType::Struct(fields) => {
                let field = |f: &Arc<Field>| {
                    let inside = self.column_type(f.data_type(), column, &format!("{path}_{}", f.name()))?;
                    Ok((f.name().clone().into(), inside))
                };
                let field_types = fields.iter().map(field).collect::<Result<_>>()?;
                let name = format!("{}_{path}", self.table).into();
                let definition = Arc::new(UserDefinedType { name, keyspace: self.keyspace.to_owned().into(), field_types });
                return Ok(ColumnType::UserDefinedType { frozen: true, definition });
            }
            _ => return Err(no_type(column, data_type)),
        };
        Ok(ColumnType::Native(native))
    }
}

fn frozen(typ: CollectionType<'static>) -> ColumnType<'static> {
    ColumnType::Collection { frozen: true, typ }
}

fn no_type(column: &str, data_type: &DataType) -> Error {
    Error::invalid(format!("column {column}: Cassandra has no type for {}", sql_type(data_type)))
        .hint("CAST it to another type in the query")
}

/// The user-defined types within a type, those that others need first.
pub(super) fn user_types(typ: &ColumnType<'static>, found: &mut Vec<Arc<UserDefinedType<'static>>>) {
    match typ {
        ColumnType::Collection { typ: CollectionType::List(item) | CollectionType::Set(item), .. } => user_types(item, found),
        ColumnType::Collection { typ: CollectionType::Map(key, value), .. } => {
            user_types(key, found);
            user_types(value, found);
        }
        ColumnType::UserDefinedType { definition, .. } => {
            definition.field_types.iter().for_each(|(_, field)| user_types(field, found));
            if !found.iter().any(|other| other.name == definition.name) {
                found.push(Arc::clone(definition));
            }
        }
        ColumnType::Tuple(fields) => fields.iter().for_each(|field| user_types(field, found)),
        _ => {}
    }
}

/// Why a column that is there does not hold values of a new column's type; `None`: it does.
pub(super) fn unfit(wanted: &ColumnType<'_>, there: &ColumnType<'_>) -> Option<String> {
    match (wanted, there) {
        (
            ColumnType::Collection { typ: CollectionType::List(_), .. },
            ColumnType::Collection { frozen: false, typ: CollectionType::List(_) },
        ) => {
            let why = "is not frozen: Cassandra would append the elements again whenever a write is repeated";
            Some(format!("is {} in the table, which {why}; make it {}", text(there), text(wanted)))
        }
        _ if holds(wanted, there) => None,
        _ => Some(format!("is {} in the table, {} here", text(there), text(wanted))),
    }
}

fn holds(wanted: &ColumnType<'_>, there: &ColumnType<'_>) -> bool {
    match (wanted, there) {
        (ColumnType::Native(a), ColumnType::Native(b)) => a == b,
        (ColumnType::Collection { typ: a, .. }, ColumnType::Collection { typ: b, .. }) => match (a, b) {
            (CollectionType::List(a), CollectionType::List(b)) => holds(a, b),
            (CollectionType::Map(a, x), CollectionType::Map(b, y)) => holds(a, b) && holds(x, y),
            _ => false,
        },
        (ColumnType::UserDefinedType { definition: a, .. }, ColumnType::UserDefinedType { definition: b, .. }) => {
            // Values are written by the names of the fields that are there.
            let mut fields = a.field_types.iter();
            a.field_types.len() == b.field_types.len()
                && fields.all(|(name, typ)| b.field_types.iter().any(|(n, t)| n == name && holds(typ, t)))
        }
        (ColumnType::UserDefinedType { definition, .. }, ColumnType::Tuple(there)) => {
            let fields = &definition.field_types;
            fields.len() == there.len() && fields.iter().zip(there).all(|((_, a), b)| holds(a, b))
        }
        _ => false,
    }
}

/// A type as CQL writes it.
pub(super) fn text(typ: &ColumnType<'_>) -> String {
    let wrapped = |frozen: bool, text: String| if frozen { format!("frozen<{text}>") } else { text };
    match typ {
        ColumnType::Native(native) => format!("{native:?}").to_ascii_lowercase(),
        ColumnType::Collection { frozen, typ } => wrapped(
            *frozen,
            match typ {
                CollectionType::List(item) => format!("list<{}>", text(item)),
                CollectionType::Set(item) => format!("set<{}>", text(item)),
                CollectionType::Map(key, value) => format!("map<{}, {}>", text(key), text(value)),
                other => format!("{other:?}"),
            },
        ),
        ColumnType::Tuple(fields) => format!("frozen<tuple<{}>>", fields.iter().map(text).collect::<Vec<_>>().join(", ")),
        ColumnType::UserDefinedType { frozen, definition } => wrapped(*frozen, super::ddl::quoted(&definition.name)),
        ColumnType::Vector { typ, dimensions } => format!("vector<{}, {dimensions}>", text(typ)),
        other => format!("{other:?}"),
    }
}
