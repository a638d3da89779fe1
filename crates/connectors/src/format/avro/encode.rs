//! Rows into Avro records, each behind a zero byte and the id of its schema.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::new_null_array;
use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, ListArray, MapArray, RecordBatch, StringArray, StructArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use arrow_avro::schema::{FingerprintStrategy, SCHEMA_METADATA_KEY};
use arrow_avro::writer::format::AvroSoeFormat;
use arrow_avro::writer::{Encoder, WriterBuilder};
use riverrun_engine::connect::Context;
use riverrun_engine::table::Table;
use riverrun_engine::{Error, Result};
use serde_json::{Value, json};

use super::convert::{bare, within};
use super::payload::decoder;
use super::schema::{Record, Type};
use crate::format::{EncodedRows, snippet, sql_type};
use crate::schema_registry::{Config, SchemaRegistry, is_name};

/// Encodes the rows of a sink by one schema.
pub(crate) struct AvroEncoder {
    /// Its lock is taken once a batch, by the one thread that writes.
    encoder: Mutex<Encoder>,
    schema: SchemaRef,
    /// For each field of the schema: which column fills it (none: it is NULL), and its type.
    fields: Vec<(Option<usize>, Type)>,
}

impl AvroEncoder {
    /// Registers the schema of the columns, or takes the registered one (`auto_register = 'false'`).
    ///
    /// # Errors
    /// A column that Avro cannot hold; a schema that the registry refuses, or that the columns do not fit.
    pub fn connect(table: &Table, columns: &Schema, context: &Context) -> Result<Self> {
        let registry = SchemaRegistry::open(table, context)?;
        let config = registry.config();
        let subject = config.subject(&table.options)?;
        let own = schema_of(columns, config)?;
        if config.auto_register {
            let id = registry.register(&subject, &own)?;
            tracing::info!("sink {}: rows have schema {id} of subject '{subject}'", table.name);
            let record = Record::parse(&own, &[]).map_err(Error::permanent)?;
            return Self::new(id, &record, columns);
        }
        let (registered, _) = registry.version(&subject, config.schema_version)?;
        let version = registered.version;
        let place = format!("version {version} of subject '{subject}'");
        let record = Record::parse(&registered.schema.text, &registered.schema.references);
        let record = record.map_err(|why| Error::permanent(format!("{place}: {why}")))?;
        Self::new(registered.id, &record, columns).map_err(|e| {
            let hint = "select what the schema has; or let the sink register its columns' schema: auto_register = 'true'";
            Error::permanent(format!("the columns do not fit {place}: {}", e.message())).hint(hint)
        })
    }

    /// An encoder of rows with these columns, by a schema.
    ///
    /// # Errors
    /// They do not fit.
    pub fn new(id: u32, record: &Record, columns: &Schema) -> Result<Self> {
        if let Some(column) = columns.fields().iter().find(|column| record.field(column.name()).is_none()) {
            return Err(Error::permanent(format!("the schema has no field {}", column.name())));
        }
        let mut fields = Vec::new();
        for field in &record.fields {
            let name = &field.name;
            let at = columns.index_of(name).ok();
            let why = match at {
                Some(at) => misfit(columns.field(at).data_type(), &field.kind),
                None if matches!(field.kind, Type::Nullable(..)) => None,
                None => Some("no column has its name, and it is never null".into()),
            };
            if let Some(why) = why {
                return Err(Error::permanent(format!("field {name}: {why}")));
            }
            fields.push((at, field.kind.clone()));
        }
        let plain = record.plain("r").to_string();
        // What arrow-avro would read it as is what it takes to write.
        let arrays = decoder(id, &plain, None).map_err(Error::permanent)?.schema();
        let metadata = [(SCHEMA_METADATA_KEY.to_owned(), plain)].into();
        let schema = Schema::new_with_metadata(arrays.fields().clone(), metadata);
        let encoder = WriterBuilder::new(schema).with_fingerprint_strategy(FingerprintStrategy::Id(id));
        let encoder = encoder.build_encoder::<AvroSoeFormat>().map_err(|e| Error::permanent(format!("Avro: {e}")))?;
        Ok(Self { schema: encoder.schema(), encoder: Mutex::new(encoder), fields })
    }

    /// Encodes a batch.
    ///
    /// # Errors
    /// A value that its field cannot hold.
    pub fn encode(&self, rows: &RecordBatch) -> Result<EncodedRows> {
        let columns = self.fields.iter().zip(self.schema.fields()).map(|((at, kind), field)| match at {
            Some(at) => written(rows.column(*at), kind, field).map_err(|e| Error::permanent(within(field.name(), e))),
            None => Ok(new_null_array(field.data_type(), rows.num_rows())),
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        let mut encoder = self.encoder.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |e| Error::permanent(format!("Avro: {e}"));
        let encoded = encoder.encode(&batch).map(|()| encoder.flush()).map_err(failed)?;
        Ok(EncodedRows::new(encoded.bytes().to_vec(), encoded.offsets()[1..].to_vec()))
    }
}

/// The schema of rows with these columns, as it is registered.
///
/// # Errors
/// A column that Avro cannot hold.
pub(crate) fn schema_of(columns: &Schema, config: &Config) -> Result<String> {
    let (namespace, name) = config.record_name.rsplit_once('.').unwrap_or(("", &config.record_name));
    let fields = columns.fields().iter().map(|column| field_of(column, name).map_err(Error::invalid));
    let mut schema = json!({"type": "record", "name": name, "fields": fields.collect::<Result<Vec<_>>>()?});
    if !namespace.is_empty() {
        schema["namespace"] = json!(namespace);
    }
    if let Some(doc) = &config.record_doc {
        schema["doc"] = json!(doc);
    }
    Ok(schema.to_string())
}

/// A field; one that may be NULL is so by default, so that it can be added to a schema and taken away.
fn field_of(column: &Field, path: &str) -> Result<Value, String> {
    let name = column.name();
    if !is_name(name) {
        return Err(format!("column \"{name}\": Avro takes letters, digits and '_' in names; name it otherwise: AS other"));
    }
    let kind = type_of(column.data_type(), &format!("{path}_{name}")).map_err(|why| format!("column {name}: {why}"))?;
    Ok(match column.is_nullable() {
        true => json!({"name": name, "type": ["null", kind], "default": null}),
        false => json!({"name": name, "type": kind}),
    })
}

fn type_of(data_type: &DataType, path: &str) -> Result<Value, String> {
    let nested = |field: &Field, path: &str| {
        let kind = type_of(field.data_type(), path)?;
        Ok::<_, String>(if field.is_nullable() { json!(["null", kind]) } else { kind })
    };
    Ok(match data_type {
        DataType::Boolean => json!("boolean"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => json!("int"),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => json!("long"),
        DataType::Float16 | DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => json!("string"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => json!("bytes"),
        DataType::Date32 => json!({"type": "int", "logicalType": "date"}),
        DataType::Timestamp(..) => json!({"type": "long", "logicalType": "timestamp-micros"}),
        DataType::Decimal128(p, s) | DataType::Decimal256(p, s) if *s >= 0 => {
            json!({"type": "bytes", "logicalType": "decimal", "precision": p, "scale": s})
        }
        DataType::Dictionary(_, value) => type_of(value, path)?,
        DataType::List(item) | DataType::LargeList(item) => {
            json!({"type": "array", "items": nested(item, &format!("{path}_item"))?})
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(entry) if entry[0].data_type() == &DataType::Utf8 => {
                json!({"type": "map", "values": nested(&entry[1], &format!("{path}_value"))?})
            }
            _ => return Err("the keys of a map are texts in Avro".into()),
        },
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| field_of(field, path)).collect::<Result<Vec<_>, _>>()?;
            json!({"type": "record", "name": path, "fields": fields})
        }
        other => return Err(format!("{} cannot be written to Avro; CAST it to another type", sql_type(other))),
    })
}

/// Why values of a column cannot be written as a type; nothing: they can.
fn misfit(from: &DataType, to: &Type) -> Option<String> {
    let fits = match (to.value(), from) {
        (Type::Boolean, DataType::Boolean) | (Type::Date, DataType::Date32) | (Type::Timestamp(_), DataType::Timestamp(..)) => {
            true
        }
        (Type::Int | Type::Long | Type::Double, DataType::Int8 | DataType::Int16 | DataType::Int32) => true,
        (Type::Int | Type::Long | Type::Double, DataType::UInt8 | DataType::UInt16) => true,
        (Type::Long, DataType::Int64 | DataType::UInt32 | DataType::UInt64) => true,
        (Type::Float | Type::Double, DataType::Float16 | DataType::Float32) | (Type::Double, DataType::Float64) => true,
        (Type::Text | Type::Enum(_), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..)) => {
            true
        }
        (Type::Bytes | Type::Fixed(_), DataType::Binary | DataType::FixedSizeBinary(_)) => true,
        (Type::Bytes, DataType::LargeBinary | DataType::BinaryView) => true,
        (Type::Decimal(p, s, _), DataType::Decimal128(q, t) | DataType::Decimal256(q, t)) => s == t && p >= q,
        (Type::Array(item), DataType::List(from) | DataType::LargeList(from)) => {
            return misfit(from.data_type(), item).map(|why| format!("its items: {why}"));
        }
        (Type::Map(value), DataType::Map(entries, _)) => {
            let DataType::Struct(entry) = entries.data_type() else { return Some("a map has entries".into()) };
            return misfit(entry[1].data_type(), value).map(|why| format!("its values: {why}"));
        }
        (Type::Record(record), DataType::Struct(from)) => {
            if let Some(extra) = from.iter().find(|f| record.field(f.name()).is_none()) {
                return Some(format!("the schema has no field {} in it", extra.name()));
            }
            return record.fields.iter().find_map(|field| match from.find(&field.name) {
                Some((_, column)) => misfit(column.data_type(), &field.kind).map(|why| within(&field.name, why)),
                None if matches!(field.kind, Type::Nullable(..)) => None,
                None => Some(format!("field {}: it is never null, and the column lacks it", field.name)),
            });
        }
        _ => false,
    };
    (!fits).then(|| format!("it is {}, and the column is {}", to.value().name(), sql_type(from)))
}

/// The array that arrow-avro writes as a field.
fn written(array: &ArrayRef, kind: &Type, field: &Field) -> Result<ArrayRef, String> {
    if !matches!(kind, Type::Nullable(..)) && array.null_count() > 0 && !field.is_nullable() {
        return Err("a row has NULL there, and the schema says that it is never null".into());
    }
    match (kind.value(), field.data_type()) {
        (Type::Record(record), DataType::Struct(fields)) => {
            let rows = array.as_struct();
            let columns = record.fields.iter().zip(fields).map(|(inside, field)| match rows.column_by_name(&inside.name) {
                // Where the struct is NULL its fields are too, whatever the schema says of them.
                Some(column) if rows.null_count() > 0 => {
                    written(column, &inside.kind, &field.as_ref().clone().with_nullable(true))
                        .map_err(|e| within(&inside.name, e))
                }
                Some(column) => written(column, &inside.kind, field).map_err(|e| within(&inside.name, e)),
                None => Ok(new_null_array(field.data_type(), rows.len())),
            });
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            made(StructArray::try_new_with_length(fields.clone(), columns, rows.nulls().cloned(), rows.len()))
        }
        (Type::Array(item), DataType::List(to)) => {
            let small = DataType::List(match array.data_type() {
                DataType::LargeList(item) => Arc::clone(item),
                DataType::List(item) => Arc::clone(item),
                _ => Arc::clone(to),
            });
            let lists = exact(array, &small)?;
            let lists = lists.as_list::<i32>();
            let items = written(lists.values(), item, to)?;
            made(ListArray::try_new(Arc::clone(to), lists.offsets().clone(), items, lists.nulls().cloned()))
        }
        (Type::Map(value), DataType::Map(entries, sorted)) => {
            let maps = array.as_map();
            let DataType::Struct(entry) = entries.data_type() else { return Err("a map has entries".into()) };
            let values = written(maps.values(), value, &entry[1])?;
            let pairs = StructArray::try_new(entry.clone(), vec![Arc::clone(maps.keys()), values], None).map_err(|e| bare(&e))?;
            made(MapArray::try_new(Arc::clone(entries), maps.offsets().clone(), pairs, maps.nulls().cloned(), *sorted))
        }
        (Type::Timestamp(unit), _) => {
            let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
            let numbers = exact(&exact(array, &micros)?, &DataType::Int64)?;
            let numbers = numbers.as_primitive::<Int64Type>();
            Ok(Arc::new(match unit {
                1000 => numbers.clone(),
                1..1000 => {
                    numbers.try_unary::<_, Int64Type, _>(|n| overflow(n.checked_mul(1000 / unit))).map_err(|e| bare(&e))?
                }
                _ => numbers.unary(|n| n.div_euclid(unit / 1000)),
            }))
        }
        (Type::Enum(symbols), _) => enumerated(&exact(array, &DataType::Utf8)?, symbols),
        (_, to) => exact(array, to),
    }
}

fn overflow(number: Option<i64>) -> Result<i64, arrow::error::ArrowError> {
    number.ok_or_else(|| arrow::error::ArrowError::ComputeError("a time is out of range".into()))
}

fn enumerated(texts: &ArrayRef, symbols: &[String]) -> Result<ArrayRef, String> {
    let place = |text: &str| {
        let at = symbols.iter().position(|symbol| symbol == text);
        at.map(|at| at as i32)
            .ok_or_else(|| format!("'{}' is none of the enum's {}", snippet(text.as_bytes()), symbols.join(", ")))
    };
    let keys = texts.as_string::<i32>().iter().map(|text| text.map(place).transpose()).collect::<Result<Int32Array, _>>()?;
    let values = Arc::new(StringArray::from_iter_values(symbols));
    made(DictionaryArray::try_new(keys, values))
}

/// The same values in another type; one that it cannot hold is an error.
fn exact(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    match array.data_type() {
        same if same == to => Ok(Arc::clone(array)),
        _ => cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() }).map_err(|e| bare(&e)),
    }
}

fn made<A: Array + 'static>(array: Result<A, arrow::error::ArrowError>) -> Result<ArrayRef, String> {
    array.map(|array| Arc::new(array) as ArrayRef).map_err(|e| bare(&e))
}
