//! What is written comes back.

use arrow::util::display::{ArrayFormatter, FormatOptions};
use riverrun_engine::graph::SourceNode;
use riverrun_engine::source::{Limit, Poll, Source, Start};
use riverrun_engine::table::{Column, Metadata};

use super::*;
use crate::delta::{DeltaSource, scan, schema};

pub(super) fn path(dir: &Path) -> String {
    dir.join("lake").to_str().unwrap().to_owned()
}

/// Writes each batch as a commit of its own.
pub(super) fn write(dir: &Path, options: &[(&str, &str)], batches: &[RecordBatch]) {
    let mut sink = open(dir, &batches[0].schema(), options).unwrap();
    for (n, rows) in batches.iter().enumerate() {
        sink.write(&epoch(0, n as u64 + 1, rows.clone())).unwrap();
        assert_eq!(sink.flush(n as i64, true).unwrap(), Flushed::All);
    }
}

/// All rows, ordered by the first column.
fn sorted(batches: &[RecordBatch]) -> RecordBatch {
    let all = arrow::compute::concat_batches(&batches[0].schema(), batches).unwrap();
    let order = arrow::compute::sort_to_indices(all.column(0), None, None).unwrap();
    arrow::compute::take_record_batch(&all, &order).unwrap()
}

/// Cell by cell, as text: nested fields are named differently in a Delta table.
fn cells(rows: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::new().with_null("NULL");
    let column = |(array, field): (&ArrayRef, &Arc<Field>)| {
        let format = ArrayFormatter::try_new(array, &options).unwrap();
        (0..rows.num_rows()).map(|row| format!("{} = {}", field.name(), format.value(row))).collect::<Vec<_>>()
    };
    rows.columns().iter().zip(rows.schema().fields()).flat_map(column).collect()
}

fn source(dir: &Path, columns: Vec<Column>) -> riverrun_engine::Result<DeltaSource> {
    source_with(dir, columns, &[])
}

pub(super) fn source_with(dir: &Path, columns: Vec<Column>, options: &[(&str, &str)]) -> riverrun_engine::Result<DeltaSource> {
    let path = path(dir);
    let mut table = table(&[&[("connector", "delta"), ("path", &path)], options].concat());
    table.columns = columns;
    let schema = table.schema();
    DeltaSource::open(&SourceNode { table, schema })
}

pub(super) fn column(name: &str, data_type: DataType, metadata: Option<Metadata>) -> Column {
    Column { field: Arc::new(Field::new(name, data_type, true)), metadata, location: Location::default() }
}

/// Where reading starts.
fn first(source: &DeltaSource) -> i64 {
    source.resolve(0, Start::Earliest).unwrap()
}

/// Polls to the end, in batches of at most `rows`.
fn poll_all(source: &DeltaSource, offset: i64, stop: Option<i64>, rows: usize) -> Vec<RecordBatch> {
    let mut reader = source.open(0, offset, stop).unwrap();
    let mut batches = Vec::new();
    let mut next = offset;
    loop {
        match reader.poll(Limit::new(rows, 1 << 20), 77).unwrap() {
            Poll::Ready(fetch) => {
                assert!(fetch.rows.num_rows() <= rows);
                next += fetch.rows.num_rows() as i64;
                assert!(fetch.next_offset == next || Some(fetch.next_offset) == source.end_offset(0).unwrap());
                batches.push(fetch.rows);
            }
            Poll::End => return batches,
            Poll::Pending => {}
        }
    }
}

#[test]
fn rows_of_every_type_come_back_equal() {
    for partition_by in [None, Some("date"), Some("date, name"), Some("at"), Some("small,flag")] {
        let dir = tempfile::tempdir().unwrap();
        let options: Vec<_> = partition_by.map(|p| ("partition_by", p)).into_iter().collect();
        write(dir.path(), &options, &[all_types()]);
        let back: Vec<_> = scan(&path(dir.path()), None).unwrap().collect::<Result<_, _>>().unwrap();
        let mut expected = cells(&all_types());
        if partition_by == Some("date, name") {
            // An empty text and NULL are the same as values of partition columns.
            expected.iter_mut().filter(|cell| *cell == "name = ").for_each(|cell| *cell = "name = NULL".to_owned());
        }
        assert_eq!(cells(&sorted(&back)), expected, "{partition_by:?}");
    }
}

#[test]
fn text_with_signs_is_a_partition_value() {
    let dir = tempfile::tempdir().unwrap();
    let fields = vec![Field::new("id", DataType::Int64, false), Field::new("shop", DataType::Utf8, true)];
    let shops = StringArray::from(vec!["a/b", "50% off", "Zoë = ok", "x\"y"]);
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1, 2, 3, 4])), Arc::new(shops)];
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    write(dir.path(), &[("partition_by", "shop")], std::slice::from_ref(&rows));
    let back: Vec<_> = scan(&path(dir.path()), None).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(sorted(&back), rows);
}

#[test]
fn the_schema_of_a_table_is_known_without_a_declaration() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("partition_by", "date")], &[ids_by_date(0..3, 2)]);
    assert_eq!(schema(&path(dir.path())).unwrap(), ids_by_date(0..1, 1).schema());
    let error = schema(dir.path().join("nothing").to_str().unwrap()).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.message().contains("there is no Delta table at"), "{error}");
}

#[test]
fn a_projection_reads_only_its_columns_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("partition_by", "date")], &[ids_by_date(0..3, 1)]);
    let read =
        |projection: &[usize]| -> RecordBatch { scan(&path(dir.path()), Some(projection)).unwrap().next().unwrap().unwrap() };
    assert_eq!(read(&[1, 0]), ids_by_date(0..3, 1).project(&[1, 0]).unwrap());
    assert_eq!(read(&[1]), ids_by_date(0..3, 1).project(&[1]).unwrap());
    assert_eq!((read(&[]).num_rows(), read(&[]).num_columns()), (3, 0));
}

#[test]
fn a_source_reads_every_row_once_from_any_offset() {
    let dir = tempfile::tempdir().unwrap();
    let batches = [ids_by_date(0..100, 3), ids_by_date(100..20_000, 2), ids_by_date(20_000..20_001, 1)];
    write(dir.path(), &[("partition_by", "date")], &batches);
    let source = source(dir.path(), vec![column("id", DataType::Int64, None)]).unwrap();
    assert_eq!(source.partitions().unwrap(), 1);
    let (first, end) = (first(&source), source.end_offset(0).unwrap().unwrap());
    assert_eq!(source.resolve(0, Start::Latest).unwrap(), end);
    let whole = poll_all(&source, first, None, 1_000);
    let ids = sorted(&whole);
    assert_eq!(ids.column(0).as_ref(), &Int64Array::from_iter_values(0..20_001) as &dyn arrow::array::Array);
    let whole = arrow::compute::concat_batches(&whole[0].schema(), &whole).unwrap();
    for (offset, stop) in [(1, None), (99, Some(103)), (100, Some(20_000)), (9_000, None), (20_001, None), (5, Some(5))] {
        let part = poll_all(&source, first + offset, stop.map(|stop| first + stop), 3_000);
        let count = stop.unwrap_or(20_001) - offset;
        assert_eq!(part.iter().map(|b| b.num_rows() as i64).sum::<i64>(), count);
        if count > 0 {
            let part = arrow::compute::concat_batches(&part[0].schema(), &part).unwrap();
            assert_eq!(part, whole.slice(offset as usize, count as usize));
        }
    }
    assert!(poll_all(&source, end, None, 1).is_empty());
    let mut reader = source.open(0, first + 7, None).unwrap();
    let mut pieces = Vec::new();
    for until in [3, 7, 8, 8192, 9000, 20_001] {
        let mut read: i64 = pieces.iter().map(|b: &RecordBatch| b.num_rows() as i64).sum();
        while read < until - 7 {
            let limit = Limit { until: first + until, ..Limit::new(3_000, 1 << 20) };
            if let Poll::Ready(fetch) = reader.poll(limit, 0).unwrap() {
                read += fetch.rows.num_rows() as i64;
                pieces.push(fetch.rows);
            }
        }
        assert_eq!(read, (until - 7).max(0), "rows up to {until} and none behind");
    }
    assert_eq!(arrow::compute::concat_batches(&whole.schema(), &pieces).unwrap(), whole.slice(7, 19_994));
    let error = loop {
        match source.open(0, first + 20_002, None).unwrap().poll(Limit::new(1, 1), 0) {
            Err(error) => break error,
            Ok(poll) => assert!(matches!(poll, Poll::Pending)),
        }
    };
    assert_eq!(error.kind(), Kind::Permanent);
    assert_eq!(source.open(0, end << 8, None).err().unwrap().kind(), Kind::Permanent);
}

#[test]
fn metadata_columns_say_where_a_row_is() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[], &[ids_by_date(0..3, 1)]);
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let columns = vec![
        column("at", DataType::Int64, Some(Metadata::Offset)),
        column("id", DataType::Int64, None),
        column("part", DataType::Int32, Some(Metadata::Partition)),
        column("place", DataType::Utf8, Some(Metadata::Topic)),
        column("seen", utc, Some(Metadata::ProcessingTime)),
    ];
    let source = source(dir.path(), columns).unwrap();
    let second = first(&source) + 1;
    let rows = &poll_all(&source, second, None, 100)[0];
    let expected: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![second, second + 1])),
        Arc::new(Int64Array::from(vec![1, 2])),
        Arc::new(Int32Array::from(vec![0, 0])),
        Arc::new(StringArray::from(vec![path(dir.path()); 2])),
        Arc::new(TimestampMicrosecondArray::from(vec![77, 77]).with_timezone("UTC")),
    ];
    assert_eq!(rows.columns(), expected);
}

#[test]
fn a_declaration_that_does_not_fit_is_refused_with_the_difference() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[], &[ids_by_date(0..3, 1)]);
    let columns = vec![column("id", DataType::Utf8, None), column("idd", DataType::Int64, None)];
    let error = source(dir.path(), columns).err().unwrap();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.message().contains("column id is BIGINT in the table, VARCHAR here"), "{error}");
    assert!(error.message().contains("column idd (BIGINT) is not in the table"), "{error}");
}
