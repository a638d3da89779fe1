//! Metadata columns: what a record says about itself besides its payload.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryArray, BinaryBuilder, Int32Array, Int64Array, ListArray, MapArray, StringArray, StringBuilder,
    StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, FieldRef, Fields, TimeUnit};
use riverrun_engine::table::Metadata;
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

use super::records::Records;
use super::sql_type;

/// Where records come from.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The topic; for files, the path.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
}

/// Checks that a metadata column has the type of its metadata.
pub(super) fn check(field: &FieldRef, metadata: Metadata) -> Result<()> {
    let wanted = match (metadata, field.data_type()) {
        (Metadata::Key, DataType::Utf8 | DataType::Binary) | (Metadata::Topic, DataType::Utf8) => return Ok(()),
        (Metadata::Partition, DataType::Int32 | DataType::Int64) | (Metadata::Offset, DataType::Int64) => return Ok(()),
        (Metadata::Timestamp | Metadata::ProcessingTime, DataType::Timestamp(TimeUnit::Microsecond, _)) => return Ok(()),
        (Metadata::Headers, DataType::List(item) | DataType::Map(item, _)) if header_fields(item).is_some() => return Ok(()),
        (Metadata::Key, _) => "VARCHAR or BINARY",
        (Metadata::Topic, _) => "VARCHAR",
        (Metadata::Partition, _) => "INT",
        (Metadata::Offset, _) => "BIGINT",
        (Metadata::Timestamp | Metadata::ProcessingTime, _) => "TIMESTAMP",
        (Metadata::Headers, _) => "MAP<VARCHAR, BINARY> or STRUCT<key VARCHAR, value BINARY>[]",
    };
    let name = Metadata::NAMES.iter().find(|(_, m)| *m == metadata).map_or("", |(n, _)| n);
    let found = sql_type(field.data_type());
    Err(Error::invalid(format!("column {}: METADATA FROM '{name}' is {wanted}, not {found}", field.name())))
}

/// The fields of a header's struct (or of a map's entry), where they are such.
fn header_fields(item: &FieldRef) -> Option<&Fields> {
    match item.data_type() {
        DataType::Struct(fields) => match fields.iter().map(|f| f.data_type()).collect::<Vec<_>>()[..] {
            [DataType::Utf8, DataType::Utf8 | DataType::Binary] => Some(fields),
            _ => None,
        },
        _ => None,
    }
}

/// The metadata column of the good records; its type was checked by [`check`].
pub(super) fn column(
    field: &FieldRef,
    metadata: Metadata,
    (records, range): (&Records, Range<usize>),
    origin: &Origin,
    clock: Micros,
    rows: usize,
) -> Result<ArrayRef> {
    let places = records.good(range.clone()).map(|(_, place)| place);
    Ok(match (metadata, field.data_type()) {
        (Metadata::Key, DataType::Binary) => Arc::new(places.map(|p| records.key(p)).collect::<BinaryArray>()),
        (Metadata::Key, _) => Arc::new(places.map(|p| records.key(p).map(String::from_utf8_lossy)).collect::<StringArray>()),
        (Metadata::Topic, _) => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&*origin.topic, rows))),
        (Metadata::Partition, DataType::Int64) => Arc::new(Int64Array::from_value(i64::from(origin.partition), rows)),
        (Metadata::Partition, _) => Arc::new(Int32Array::from_value(origin.partition as i32, rows)),
        (Metadata::Offset, _) => Arc::new(Int64Array::from_iter_values(places.map(|p| p.offset))),
        (Metadata::Timestamp, t) => {
            Arc::new(places.map(|p| p.timestamp).collect::<TimestampMicrosecondArray>().with_data_type(t.clone()))
        }
        (Metadata::ProcessingTime, t) => Arc::new(TimestampMicrosecondArray::from_value(clock, rows).with_data_type(t.clone())),
        (Metadata::Headers, DataType::List(item)) => {
            let (lengths, entries) = headers(item, records, range, false)?;
            Arc::new(ListArray::try_new(Arc::clone(item), lengths, Arc::new(entries), None)?)
        }
        (Metadata::Headers, DataType::Map(item, sorted)) => {
            let (lengths, entries) = headers(item, records, range, true)?;
            Arc::new(MapArray::try_new(Arc::clone(item), lengths, entries, None, *sorted)?)
        }
        (Metadata::Headers, _) => return Err(Error::permanent("the headers column is neither a list nor a map")),
    })
}

/// The headers of the good records, and where each record's end. With `unique` the last header of a name stands for all: a
/// map has each key once.
fn headers(item: &FieldRef, records: &Records, range: Range<usize>, unique: bool) -> Result<(OffsetBuffer<i32>, StructArray)> {
    let fields = header_fields(item).ok_or_else(|| Error::permanent("the headers column is no list of key and value"))?;
    let mut names = StringBuilder::new();
    let mut texts = StringBuilder::new();
    let mut values = BinaryBuilder::new();
    let mut lengths = Vec::new();
    let as_text = fields[1].data_type() == &DataType::Utf8;
    for (_, place) in records.good(range) {
        let headers: Vec<_> = records.headers(place).collect();
        let before = names.len();
        for (i, (name, value)) in headers.iter().enumerate() {
            if unique && headers[i + 1..].iter().any(|(later, _)| later == name) {
                continue;
            }
            names.append_value(String::from_utf8_lossy(name));
            match as_text {
                true => texts.append_option(value.map(String::from_utf8_lossy)),
                false => values.append_option(*value),
            }
        }
        lengths.push(names.len() - before);
    }
    let values: ArrayRef = if as_text { Arc::new(texts.finish()) } else { Arc::new(values.finish()) };
    let entries = StructArray::try_new(fields.clone(), vec![Arc::new(names.finish()), values], None)?;
    Ok((OffsetBuffer::from_lengths(lengths), entries))
}
