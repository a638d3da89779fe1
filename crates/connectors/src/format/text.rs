//! Text into typed columns, so that a value which does not fit costs its row alone.
//!
//! Payload decoders give numbers, booleans and times as text (nested in structs too), and everything may be NULL; here they
//! become what the table declares. What fits follows Flink: a number in quotes is a number, a number is a fine VARCHAR.
//! A DOUBLE must be finite: `"NaN"` would poison every sum that it meets.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveBuilder, RecordBatch, RecordBatchOptions,
};
use arrow::array::{StringArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime};
use arrow::datatypes::{
    DataType, Date32Type, Field, FieldRef, Fields, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema,
    SchemaRef, TimeUnit, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use riverrun_engine::Result;
use riverrun_engine::time::Micros;

use super::{TimestampFormat, reason, snippet, sql_type};

/// Why a record has no row: by its number, which is that of a row or of a record as the place says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fault {
    pub record: usize,
    pub reason: &'static str,
    pub detail: String,
}

/// Keeps the first fault of each record, in order of records.
pub(super) fn first_per_record(faults: &mut Vec<Fault>) {
    faults.sort_by_key(|f| f.record);
    faults.dedup_by_key(|f| f.record);
}

/// The schema in which payload decoders give their rows to [`to_columns`].
pub(super) fn text_schema(declared: &Schema) -> SchemaRef {
    Arc::new(Schema::new(text_fields(declared.fields())))
}

fn text_fields(fields: &Fields) -> Fields {
    let text = |f: &FieldRef| {
        let data_type = match f.data_type() {
            DataType::Struct(fields) => DataType::Struct(text_fields(fields)),
            t if is_parsed(t) => DataType::Utf8,
            t => t.clone(),
        };
        Field::new(f.name(), data_type, true)
    };
    fields.iter().map(text).collect()
}

/// The types that are parsed here. Others (lists, decimals, …) come typed from the payload decoder.
fn is_parsed(data_type: &DataType) -> bool {
    let timestamp = matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _));
    timestamp
        || data_type.is_integer()
        || matches!(data_type, DataType::Float32 | DataType::Float64 | DataType::Boolean | DataType::Date32)
}

/// Parses the text columns. Rows of a fault are NULL where the fault is; the caller takes them out, then [`declare`]s.
pub(super) fn to_columns(
    text: &RecordBatch,
    declared: &SchemaRef,
    times: TimestampFormat,
    faults: &mut Vec<Fault>,
) -> Result<RecordBatch> {
    let mut parse = Parse { times, faults, path: Vec::new(), parent: None };
    let columns = text.columns().iter().zip(declared.fields());
    let columns: Vec<ArrayRef> = columns.map(|(array, field)| parse.column(array, field)).collect::<Result<_>>()?;
    let fields: Fields =
        columns.iter().zip(declared.fields()).map(|(c, f)| Field::new(f.name(), c.data_type().clone(), true)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(text.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}

/// Gives parsed columns the schema of the table: NOT NULL where it says so.
pub(super) fn declare(parsed: &RecordBatch, declared: &SchemaRef) -> Result<RecordBatch> {
    let columns = parsed.columns().iter().zip(declared.fields()).map(|(array, field)| declare_column(array, field));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(parsed.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(declared), columns, &options)?)
}

fn declare_column(array: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    let DataType::Struct(fields) = field.data_type() else { return Ok(Arc::clone(array)) };
    let rows = array.as_struct();
    let columns = rows.columns().iter().zip(fields).map(|(array, field)| declare_column(array, field));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, rows.nulls().cloned(), rows.len())?))
}

/// The walk over the columns of a batch.
struct Parse<'a> {
    times: TimestampFormat,
    faults: &'a mut Vec<Fault>,
    /// Names of the structs around the column.
    path: Vec<String>,
    /// Where these structs are not NULL.
    parent: Option<NullBuffer>,
}

impl Parse<'_> {
    fn column(&mut self, array: &ArrayRef, field: &Field) -> Result<ArrayRef> {
        if !field.is_nullable() && array.null_count() > 0 {
            self.require(array, field);
        }
        if let DataType::Struct(fields) = field.data_type() {
            return self.structs(array.as_struct(), field, fields);
        }
        if array.data_type() == field.data_type() || !is_parsed(field.data_type()) {
            return Ok(Arc::clone(array));
        }
        let text = array.as_string::<i32>();
        Ok(match field.data_type() {
            DataType::Int8 => self.integers::<Int8Type>(text, field),
            DataType::Int16 => self.integers::<Int16Type>(text, field),
            DataType::Int32 => self.integers::<Int32Type>(text, field),
            DataType::Int64 => self.integers::<Int64Type>(text, field),
            DataType::UInt8 => self.integers::<UInt8Type>(text, field),
            DataType::UInt16 => self.integers::<UInt16Type>(text, field),
            DataType::UInt32 => self.integers::<UInt32Type>(text, field),
            DataType::UInt64 => self.integers::<UInt64Type>(text, field),
            DataType::Float32 => self.values::<Float32Type>(text, field, |s| Float32Type::parse(s).filter(|v| v.is_finite())),
            DataType::Float64 => self.values::<Float64Type>(text, field, |s| Float64Type::parse(s).filter(|v| v.is_finite())),
            DataType::Date32 => self.values::<Date32Type>(text, field, Date32Type::parse),
            DataType::Boolean => self.booleans(text, field),
            _ => {
                let format = self.times;
                self.values::<TimestampMicrosecondType>(text, field, |s| timestamp(s, format))
            }
        })
    }

    fn structs(&mut self, rows: &StructArray, field: &Field, fields: &Fields) -> Result<ArrayRef> {
        let around = self.parent.clone();
        self.parent = NullBuffer::union(around.as_ref(), rows.nulls());
        self.path.push(field.name().clone());
        let columns = rows.columns().iter().zip(fields).map(|(array, field)| self.column(array, field));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        self.path.pop();
        self.parent = around;
        let fields = columns.iter().zip(fields).map(|(c, f)| Field::new(f.name(), c.data_type().clone(), true)).collect();
        Ok(Arc::new(StructArray::try_new_with_length(fields, columns, rows.nulls().cloned(), rows.len())?))
    }

    /// A fault for each NULL of a column that is NOT NULL.
    fn require(&mut self, array: &ArrayRef, field: &Field) {
        for row in (0..array.len()).filter(|row| array.is_null(*row)) {
            if self.parent.as_ref().is_none_or(|p| p.is_valid(row)) {
                let detail = format!("field {} is missing or null", self.name(field));
                self.faults.push(Fault { record: row, reason: reason::MISSING_FIELD, detail });
            }
        }
    }

    fn name(&self, field: &Field) -> String {
        self.path.iter().chain([field.name()]).map(String::as_str).collect::<Vec<_>>().join(".")
    }

    fn wrong(&mut self, row: usize, text: &str, field: &Field) {
        let detail = format!("field {}: '{}' is no {}", self.name(field), snippet(text.as_bytes()), sql_type(field.data_type()));
        self.faults.push(Fault { record: row, reason: reason::WRONG_TYPE, detail });
    }

    fn values<T: ArrowPrimitiveType>(
        &mut self,
        text: &StringArray,
        field: &Field,
        parse: impl Fn(&str) -> Option<T::Native>,
    ) -> ArrayRef {
        let mut values = PrimitiveBuilder::<T>::with_capacity(text.len()).with_data_type(field.data_type().clone());
        for (row, text) in text.iter().enumerate() {
            let value = text.and_then(&parse);
            if let (None, Some(text)) = (value, text) {
                self.wrong(row, text, field);
            }
            values.append_option(value);
        }
        Arc::new(values.finish())
    }

    fn integers<T: ArrowPrimitiveType + Parser>(&mut self, text: &StringArray, field: &Field) -> ArrayRef
    where
        T::Native: TryFrom<i64>,
    {
        self.values::<T>(text, field, |s| T::parse(s).or_else(|| integral(s).and_then(|v| v.try_into().ok())))
    }

    fn booleans(&mut self, text: &StringArray, field: &Field) -> ArrayRef {
        let mut values = Vec::with_capacity(text.len());
        for (row, text) in text.iter().enumerate() {
            let value = match text {
                Some(text) if text.eq_ignore_ascii_case("true") => Some(true),
                Some(text) if text.eq_ignore_ascii_case("false") => Some(false),
                Some(text) => {
                    self.wrong(row, text, field);
                    None
                }
                None => None,
            };
            values.push(value);
        }
        Arc::new(BooleanArray::from(values))
    }
}

/// An integer that is written as a float (`5.0`, `1e3`), as far as floats hold integers exactly.
fn integral(text: &str) -> Option<i64> {
    const EXACT: f64 = (1_i64 << 53) as f64;
    let value = Float64Type::parse(text).filter(|v| v.fract() == 0.0 && v.abs() <= EXACT)?;
    Some(value as i64)
}

/// A time in microseconds. No zone means UTC.
pub(super) fn timestamp(text: &str, format: TimestampFormat) -> Option<Micros> {
    match format {
        TimestampFormat::Iso8601 => string_to_datetime(&chrono::Utc, text).ok().map(|t| t.timestamp_micros()),
        TimestampFormat::Unix(unit) => match text.parse::<i64>() {
            Ok(number) => number.checked_mul(unit),
            Err(_) => {
                let micros = (Float64Type::parse(text)? * unit as f64).round();
                (micros.abs() < 9.2e18).then_some(micros as i64)
            }
        },
    }
}
