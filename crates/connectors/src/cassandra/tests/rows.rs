//! Rows as values of a statement, and back.

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Builder, Int64Array, ListArray,
    ListBuilder, MapBuilder, RecordBatch, StringArray, StringBuilder, StructArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use bytes::Bytes;
use proptest::prelude::*;
use scylla::cluster::metadata::ColumnType;
use scylla::deserialize::FrameSlice;
use scylla::deserialize::value::DeserializeValue as _;
use scylla::serialize::row::{RowSerializationContext, SerializeRow as _};
use scylla::serialize::writers::RowWriter;
use scylla::value::{CqlValue, Row};

use super::super::config::NullKeys;
use super::super::row::{Column, Values};
use super::super::values;
use super::*;

fn places(values: Vec<Option<(f64, f64)>>) -> StructArray {
    let nulls = values.iter().map(Option::is_some).collect::<Vec<_>>();
    let part = |f: fn((f64, f64)) -> f64| Arc::new(Float64Array::from_iter(values.iter().map(|v| v.map(f)))) as ArrayRef;
    let DataType::Struct(fields) = place() else { unreachable!() };
    StructArray::new(fields, vec![part(|p| p.0), part(|p| p.1)], Some(nulls.into()))
}

/// Rows of [`schema`]: one with values, one with extreme ones, one with NULLs but for its key.
fn rows() -> RecordBatch {
    let mut merchants = ListBuilder::new(StringBuilder::new());
    merchants.append_value([Some("Amazon"), Some("Costco")]);
    merchants.append_value(Vec::<Option<&str>>::new());
    merchants.append_null();
    let mut counts = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    counts.keys().append_value("a");
    counts.values().append_value(1);
    counts.append(true).unwrap();
    counts.append(true).unwrap();
    counts.append(false).unwrap();
    let visits = ListArray::new(
        Arc::new(Field::new("item", place(), true)),
        OffsetBuffer::from_lengths([2, 0, 0]),
        Arc::new(places(vec![Some((1.5, 2.5)), Some((-3.0, 4.0))])),
        Some(vec![true, true, false].into()),
    );
    let price =
        Decimal128Array::from(vec![Some(1234), Some(-99_999_999_999_999_999), None]).with_precision_and_scale(18, 2).unwrap();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(vec![1_700_000_000_000_000, -1000, 0]).with_timezone("UTC")),
        Arc::new(StringArray::from(vec!["ann", "", "ünï"])),
        Arc::new(StringArray::from(vec!["x", "y", "z"])),
        Arc::new(Int64Array::from(vec![Some(3), Some(i64::MIN), None])),
        Arc::new(Float64Array::from(vec![Some(0.1), Some(f64::NEG_INFINITY), None])),
        Arc::new(price),
        Arc::new(Date32Array::from(vec![Some(19_000), Some(-719_162), None])),
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        Arc::new(BinaryArray::from(vec![Some(&[0_u8, 255][..]), Some(&[]), None])),
        Arc::new(UInt64Array::from(vec![Some(127), Some(u64::MAX), None])),
        Arc::new(merchants.finish()),
        Arc::new(places(vec![Some((48.1, -11.5)), Some((0.0, 0.0)), None])),
        Arc::new(visits),
        Arc::new(counts.finish()),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn columns(batch: &RecordBatch, types: &[ColumnType<'static>], key: &[usize], nulls: NullKeys) -> Vec<Column> {
    let column = |(index, (field, typ)): (usize, (&Arc<Field>, &ColumnType<'static>))| Column {
        index,
        field: field.clone(),
        typ: typ.clone(),
        key: key.contains(&index).then_some(nulls),
    };
    batch.schema().fields().iter().zip(types).enumerate().map(column).collect()
}

/// What a row is on the wire: the bytes of each value.
fn wire(values: &Values, row: usize) -> Result<Vec<Option<Bytes>>, String> {
    let mut buffer = Vec::new();
    let mut writer = RowWriter::new(&mut buffer);
    values.row(row).serialize(&RowSerializationContext::empty(), &mut writer).map_err(|e| e.to_string())?;
    let (count, mut cells, mut rest) = (writer.value_count(), Vec::new(), Bytes::from(buffer));
    while !rest.is_empty() {
        let length = i32::from_be_bytes(rest.split_to(4)[..].try_into().unwrap());
        assert!(length >= -1, "{length}");
        cells.push(usize::try_from(length).ok().map(|length| rest.split_to(length)));
    }
    assert_eq!(cells.len(), count);
    Ok(cells)
}

/// The same, by the client's decoder.
fn decoded(values: &Values, row: usize, types: &[ColumnType<'static>]) -> Vec<Option<CqlValue>> {
    let decode =
        |(cell, typ): (Option<Bytes>, _)| cell.map(|bytes| CqlValue::deserialize(typ, Some(FrameSlice::new(&bytes))).unwrap());
    wire(values, row).unwrap().into_iter().zip(types).map(decode).collect()
}

fn types(more: &[(&str, &str)]) -> Vec<ColumnType<'static>> {
    definition(more).columns.into_iter().map(|(_, typ)| typ).collect()
}

#[test]
fn rows_come_back_as_they_went() {
    for more in [&[][..], &[("timestamps", "bigint")][..]] {
        let (batch, types) = (rows(), types(more));
        let values = Values::bind(&batch, &columns(&batch, &types, &KEY, NullKeys::Fail)).unwrap();
        let read = (0..batch.num_rows()).map(|row| Some(Row { columns: decoded(&values, row, &types) })).collect();
        assert_eq!(values::batch(&schema(), read).unwrap(), batch);
    }
}

#[test]
fn the_clients_decoder_reads_what_was_meant() {
    let (batch, types) = (rows(), types(&[]));
    let values = Values::bind(&batch, &columns(&batch, &types, &KEY, NullKeys::Fail)).unwrap();
    let (first, last) = (decoded(&values, 0, &types), decoded(&values, 2, &types));
    let text = |text: &str| CqlValue::Text(text.into());
    assert_eq!(first[0], Some(CqlValue::Timestamp(scylla::value::CqlTimestamp(1_700_000_000_000))));
    assert_eq!(first[10], Some(CqlValue::List(vec![text("Amazon"), text("Costco")])));
    assert_eq!(first[13], Some(CqlValue::Map(vec![(text("a"), CqlValue::Int(1))])));
    let Some(CqlValue::UserDefinedType { name, fields, .. }) = &first[11] else { panic!("{:?}", first[11]) };
    assert_eq!((name.as_str(), fields[1].clone()), ("totals_place", ("lon".into(), Some(CqlValue::Double(-11.5)))));
    assert!(last[3..].iter().all(Option::is_none), "a NULL deletes what was there: {last:?}");
}

#[test]
fn a_list_goes_without_its_nulls() {
    let mut merchants = ListBuilder::new(StringBuilder::new());
    merchants.append_value([None, Some("a"), None, Some("b")]);
    let array: ArrayRef = Arc::new(merchants.finish());
    let schema = Arc::new(Schema::new(vec![Field::new("merchants", array.data_type().clone(), true)]));
    let batch = RecordBatch::try_new(schema, vec![array]).unwrap();
    let types = &types(&[])[10..11];
    let values = Values::bind(&batch, &columns(&batch, types, &[], NullKeys::Fail)).unwrap();
    let elements = vec![CqlValue::Text("a".into()), CqlValue::Text("b".into())];
    assert_eq!(decoded(&values, 0, types), [Some(CqlValue::List(elements))]);
}

#[test]
fn a_key_holds_no_null_and_no_time_that_would_become_another() {
    let keys: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(vec![Some(1000), None, Some(1001)]).with_timezone("UTC")),
        Arc::new(StringArray::from(vec![None, Some("a"), Some("a")])),
    ];
    let batch = RecordBatch::try_new(Arc::new(schema().project(&[0, 1]).unwrap()), keys).unwrap();
    let values = |more: &[(&str, &str)], nulls| {
        let types = types(more);
        Values::bind(&batch, &columns(&batch, &types[..2], &[0, 1], nulls)).unwrap()
    };
    let strict = values(&[], NullKeys::Fail);
    assert!(wire(&strict, 0).unwrap_err().contains("column user_id of the PRIMARY KEY is NULL"));
    assert!(wire(&strict, 2).unwrap_err().contains("column at of the PRIMARY KEY is a time with microseconds"));
    let lenient = values(&[], NullKeys::Empty);
    assert_eq!(wire(&lenient, 0).unwrap()[1].as_deref(), Some(&[][..]));
    assert!(wire(&lenient, 1).unwrap_err().contains("column at"), "a time cannot be empty");
    let whole = values(&[("timestamps", "bigint")], NullKeys::Fail);
    assert_eq!(wire(&whole, 2).unwrap()[0].as_deref(), Some(&1001_i64.to_be_bytes()[..]));
}

proptest! {
    #[test]
    fn numbers_of_any_length_come_back(decimals in proptest::collection::vec(any::<i128>(), 1..20), ordinals in proptest::collection::vec(any::<u64>(), 20)) {
        let most = 10_i128.pow(38) - 1;
        let decimals: Vec<_> = decimals.into_iter().map(|d| d >> (d.rem_euclid(120) as u32)).filter(|d| d.abs() <= most).collect();
        let price: ArrayRef = Arc::new(Decimal128Array::from(decimals.clone()).with_precision_and_scale(38, -3).unwrap());
        let ordinal: ArrayRef = Arc::new(UInt64Array::from(ordinals[..decimals.len()].to_vec()));
        let field = |name, array: &ArrayRef| Field::new(name, array.data_type().clone(), true);
        let schema = Arc::new(Schema::new(vec![field("price", &price), field("ordinal", &ordinal)]));
        let batch = RecordBatch::try_new(schema.clone(), vec![price, ordinal]).unwrap();
        let types = [ColumnType::Native(scylla::cluster::metadata::NativeType::Decimal), ColumnType::Native(scylla::cluster::metadata::NativeType::Varint)];
        let values = Values::bind(&batch, &columns(&batch, &types, &[], NullKeys::Fail)).unwrap();
        let read = (0..batch.num_rows()).map(|row| Some(Row { columns: decoded(&values, row, &types) })).collect();
        prop_assert_eq!(values::batch(&schema, read).unwrap(), batch);
    }
}
