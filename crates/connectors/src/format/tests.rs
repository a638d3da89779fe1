use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use proptest::prelude::*;
use riverrun_engine::source::{BadRecord, Fetch};
use riverrun_engine::table::{Column, Location, Metadata, Options, Table, Watermark};

use super::*;

const CLOCK: Micros = 1_800_000_000_000_000;

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn column(name: &str, data_type: DataType, nullable: bool, metadata: Option<Metadata>) -> Column {
    Column { field: Arc::new(Field::new(name, data_type, nullable)), metadata, location: Location::default() }
}

fn table_of(columns: Vec<Column>, event_time: Option<usize>, options: &[(&str, &str)]) -> Table {
    Table {
        name: "transactions".into(),
        columns,
        watermark: event_time.map(|column| Watermark { column, delay: Duration::ZERO }),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
        options: Options::of(options),
        location: Location::default(),
    }
}

/// The table of the transactions pipeline, with metadata columns between.
pub(crate) fn transactions(options: &[(&str, &str)]) -> Table {
    let location = [("lat", DataType::Float64), ("lon", DataType::Float64)];
    let location = DataType::Struct(location.map(|(n, t)| Field::new(n, t, true)).into_iter().collect());
    let columns = vec![
        column("transaction_id", DataType::Utf8, false, None),
        column("user_id", DataType::Utf8, false, None),
        column("kafka_offset", DataType::Int64, true, Some(Metadata::Offset)),
        column("amount", DataType::Float64, false, None),
        column("merchant", DataType::Utf8, true, None),
        column("category", DataType::Utf8, true, None),
        column("timestamp", timestamp(), false, None),
        column("location", location, true, None),
        column("device_type", DataType::Utf8, true, None),
    ];
    table_of(columns, Some(6), options)
}

fn decode_all(table: &Table, records: &[RawRecord<'_>]) -> Fetch {
    let mut decoder = Decoder::new(table, "topic", 3).unwrap();
    for record in records {
        decoder.push(record).unwrap();
    }
    decoder.finish(records.len() as i64).unwrap().into_fetch(CLOCK).unwrap()
}

fn records<'a>(payloads: &[&'a [u8]]) -> Vec<RawRecord<'a>> {
    let record = |(i, p): (usize, &&'a [u8])| RawRecord { offset: i as i64, payload: Some(p), ..RawRecord::default() };
    payloads.iter().enumerate().map(record).collect()
}

const GOOD: &str = r#"{"transaction_id":"t1","user_id":"u1","amount":12.5,"merchant":null,"timestamp":"2024-05-01T12:00:00.000001Z","location":{"lat":40.5,"lon":-74.25},"device_type":"web","more":[1,{"x":2}]}"#;

/// What becomes of one record between two good ones; both neighbours must come through.
fn fate(payload: &[u8]) -> Option<(&'static str, String)> {
    let fetch = decode_all(&transactions(&[]), &records(&[GOOD.as_bytes(), payload, GOOD.as_bytes()]));
    assert_eq!(fetch.rows.num_rows() + fetch.bad.len(), 3);
    let offsets = fetch.rows.column(2).as_primitive::<Int64Type>().values().to_vec();
    assert!(offsets.contains(&0) && offsets.contains(&2), "{offsets:?} {:?}", fetch.bad);
    fetch.bad.first().map(|bad| {
        assert_eq!(bad.offset, 1);
        assert_eq!(&bad.payload[..], payload);
        (bad.reason, bad.detail.clone())
    })
}

fn with(field: &str, value: &str) -> String {
    let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(GOOD).unwrap();
    object.insert(field.to_owned(), serde_json::from_str(value).unwrap());
    serde_json::to_string(&object).unwrap()
}

fn without(field: &str) -> String {
    let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(GOOD).unwrap();
    object.remove(field);
    serde_json::to_string(&object).unwrap()
}

#[track_caller]
fn bad(payload: impl AsRef<[u8]>, reason: &str, told: &str) {
    let (found, detail) = fate(payload.as_ref()).expect("the record passed");
    assert_eq!(found, reason, "{detail}");
    assert!(detail.contains(told), "{detail}");
}

#[test]
fn a_record_becomes_a_row_of_all_columns_in_order() {
    let fetch = decode_all(&transactions(&[]), &records(&[GOOD.as_bytes()]));
    assert!(fetch.bad.is_empty(), "{:?}", fetch.bad);
    let rows = &fetch.rows;
    assert_eq!(rows.schema(), transactions(&[]).schema());
    assert_eq!(rows.column(0).as_string::<i32>().value(0), "t1");
    assert_eq!(rows.column(2).as_primitive::<Int64Type>().value(0), 0);
    assert_eq!(rows.column(3).as_primitive::<Float64Type>().value(0), 12.5);
    assert!(rows.column(4).is_null(0) && rows.column(5).is_null(0));
    assert_eq!(rows.column(6).as_primitive::<TimestampMicrosecondType>().value(0), 1_714_564_800_000_001);
    let location = rows.column(7).as_struct();
    assert_eq!(location.column(1).as_primitive::<Float64Type>().value(0), -74.25);
    assert_eq!(fetch.bytes, GOOD.len());
}

#[test]
fn what_is_not_one_json_object_is_malformed() {
    bad("amount is 5", reason::MALFORMED, "not JSON: expected value at line 1 column 1");
    bad("17", reason::MALFORMED, "not a JSON object: 17");
    bad("[1,2]", reason::MALFORMED, "not a JSON object");
    bad(format!("{GOOD}{GOOD}"), reason::MALFORMED, "trailing characters");
    bad(format!("{GOOD}\n{GOOD}\n{GOOD}"), reason::MALFORMED, "trailing characters");
    bad(format!("{GOOD} and so on"), reason::MALFORMED, "trailing characters");
    bad(&GOOD[..GOOD.len() - 1], reason::MALFORMED, "EOF while parsing");
    bad(r#"{"transaction_id":"t1","location":{"lat":1}"#, reason::MALFORMED, "EOF while parsing");
    bad(r#"{"transaction_id":"t1}"#, reason::MALFORMED, "EOF while parsing a string");
    bad(r#"{"amount":NaN}"#, reason::MALFORMED, "expected value");
    bad("}{", reason::MALFORMED, "not JSON");
    bad(b"{\"user_id\":\"\xff\xfe\"}", reason::MALFORMED, "not UTF-8 at byte 12");
}

#[test]
fn two_halves_of_an_object_do_not_merge() {
    let halves = [r#"{"transaction_id":"t","user_id":"u","x":{}"#, r#","amount":1,"timestamp":"2024-05-01T00:00:00Z","y":{}}"#];
    let fetch = decode_all(&transactions(&[]), &records(&[halves[0].as_bytes(), halves[1].as_bytes(), GOOD.as_bytes()]));
    assert_eq!(fetch.rows.num_rows(), 1);
    assert_eq!(fetch.bad.iter().map(|b| b.reason).collect::<Vec<_>>(), [reason::MALFORMED; 2]);
}

#[test]
fn a_value_of_the_wrong_type_names_its_field() {
    bad(with("amount", r#""NaN""#), reason::WRONG_TYPE, "field amount: 'NaN' is no DOUBLE");
    bad(with("amount", r#""a lot""#), reason::WRONG_TYPE, "field amount: 'a lot' is no DOUBLE");
    bad(with("amount", "true"), reason::WRONG_TYPE, "field amount: 'true' is no DOUBLE");
    bad(with("amount", "{\"x\":1}"), reason::WRONG_TYPE, "field amount: ");
    bad(with("user_id", "[1]"), reason::WRONG_TYPE, "field user_id: ");
    bad(with("location", "\"here\""), reason::WRONG_TYPE, "field location: ");
    bad(with("location", r#"{"lat":"north"}"#), reason::WRONG_TYPE, "field location.lat: 'north' is no DOUBLE");
    bad(with("location", r#"{"lat":[]}"#), reason::WRONG_TYPE, "field location.lat: ");
    bad(with("timestamp", "\"yesterday\""), reason::WRONG_TYPE, "field timestamp: 'yesterday' is no TIMESTAMP");
    bad(with("timestamp", "1714564800000"), reason::WRONG_TYPE, "field timestamp");
    bad(GOOD.replace("12.5", "1e999"), reason::WRONG_TYPE, "field amount");
}

#[test]
fn numbers_and_text_stand_for_each_other() {
    assert_eq!(fate(with("amount", r#""12.5""#).as_bytes()), None);
    assert_eq!(fate(with("user_id", "17").as_bytes()), None);
    let fetch = decode_all(&transactions(&[]), &records(&[with("user_id", "17").as_bytes()]));
    assert_eq!(fetch.rows.column(1).as_string::<i32>().value(0), "17");
}

#[test]
fn a_column_that_is_not_null_must_be_there() {
    bad(without("amount"), reason::MISSING_FIELD, "field amount is missing or null");
    bad(with("user_id", "null"), reason::MISSING_FIELD, "field user_id is missing or null");
    bad("{}", reason::MISSING_FIELD, "is missing or null");
    assert_eq!(fate(without("location").as_bytes()), None);
    assert_eq!(fate(with("location", "{}").as_bytes()), None);
}

#[test]
fn integers_must_be_whole_and_in_range() {
    let table = table_of(vec![column("n", DataType::Int32, true, None)], None, &[]);
    let payloads = ["{\"n\":5}", "{\"n\":\"-6\"}", "{\"n\":7.0}", "{\"n\":1.5}", "{\"n\":3000000000}", "{\"n\":null}"];
    let fetch = decode_all(&table, &records(&payloads.map(str::as_bytes)));
    let rows = fetch.rows.column(0).as_primitive::<arrow::datatypes::Int32Type>();
    assert_eq!(rows.iter().collect::<Vec<_>>(), [Some(5), Some(-6), Some(7), None]);
    assert_eq!(fetch.bad.iter().map(|b| b.offset).collect::<Vec<_>>(), [3, 4]);
    assert!(fetch.bad[0].detail.contains("'1.5' is no INT"), "{}", fetch.bad[0].detail);
}

#[test]
fn deep_nesting_and_size_cost_only_their_record() {
    let deep = |levels: usize| format!("{}1{}", "{\"x\":".repeat(levels), "}".repeat(levels));
    bad(deep(10_000), reason::MALFORMED, "levels deep");
    let lists = |levels| format!("{{\"user_id\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    bad(lists(400_000), reason::MALFORMED, "levels deep");
    bad(lists(200), reason::WRONG_TYPE, "field user_id");
    assert_eq!(fate(with("more", &"[".repeat(100).chars().chain("]".repeat(100).chars()).collect::<String>()).as_bytes()), None);

    let large = with("merchant", &format!("\"{}\"", "x".repeat(5 << 20)));
    let fetch = decode_all(&transactions(&[]), &records(&[GOOD.as_bytes(), large.as_bytes(), GOOD.as_bytes()]));
    assert_eq!((fetch.rows.num_rows(), fetch.bad[0].reason), (2, reason::TOO_LARGE));
    assert_eq!(fetch.bad[0].payload.len(), 64 << 10);
    let allowed = transactions(&[("max_record_bytes", "8 MiB")]);
    assert_eq!(decode_all(&allowed, &records(&[large.as_bytes()])).rows.num_rows(), 1);
}

#[test]
fn records_without_a_value_are_empty() {
    bad("", reason::EMPTY, "empty");
    bad(" \r\n", reason::EMPTY, "empty");
    let tombstone = RawRecord { offset: 4, key: Some(b"u1"), ..RawRecord::default() };
    let fetch = decode_all(&transactions(&[]), &[tombstone]);
    assert_eq!((fetch.bad[0].reason, fetch.bad[0].offset), (reason::EMPTY, 4));
    assert_eq!(fetch.bad[0].key.as_deref(), Some(&b"u1"[..]));
}

#[test]
fn headers_go_with_bad_records_where_those_are_kept() {
    let headers: [Header<'_>; 2] = [("trace", Some(b"\xff")), ("none", None)];
    let of = |offset, payload| RawRecord { offset, payload, headers: &headers, ..RawRecord::default() };
    // Refused at first sight, by its syntax, by its types, by its event time.
    let wrong = with("timestamp", "\"0001-01-01T00:00:00Z\"");
    let payloads: [Option<&[u8]>; 4] = [None, Some(b"{\"user_id\"}"), Some(b"{}"), Some(wrong.as_bytes())];
    let all: Vec<_> = (0..).zip(payloads).map(|(offset, payload)| of(offset, payload)).collect();
    let kept = decode_all(&transactions(&[("dead_letter_path", "dead.jsonl")]), &all);
    assert_eq!(kept.bad.len(), 4);
    for bad in &kept.bad {
        let expected = [("trace".to_owned(), Some(bytes::Bytes::from_static(b"\xff"))), ("none".to_owned(), None)];
        assert_eq!((&bad.headers[..], bad.tombstone), (&expected[..], bad.offset == 0), "{}", bad.detail);
    }
    let dropped = decode_all(&transactions(&[("bad_records", "drop")]), &all);
    assert!(dropped.bad.len() == 4 && dropped.bad.iter().all(|bad| bad.headers.is_empty()));
}

#[test]
fn event_times_out_of_bounds_never_reach_a_watermark() {
    bad(with("timestamp", "\"0001-01-01T00:00:00Z\""), reason::EVENT_TIME, "0001-01-01T00:00:00+00:00 is before 1970");
    bad(with("timestamp", "\"9999-12-31T23:59:59.999999Z\""), reason::EVENT_TIME, "past the record's time");
    let nullable = table_of(vec![column("at", timestamp(), true, None)], Some(0), &[]);
    let fetch = decode_all(&nullable, &records(&[b"{}"]));
    assert_eq!((fetch.bad[0].reason, fetch.bad[0].detail.as_str()), (reason::EVENT_TIME, "field at: no event time"));
}

#[test]
fn max_ahead_counts_from_the_records_own_time_else_from_the_clock() {
    let table = table_of(
        vec![column("at", timestamp(), false, None)],
        Some(0),
        &[("max_ahead", "1 hour"), ("timestamp_format", "unix_us")],
    );
    let hour = 3_600_000_000;
    let fate = |at: i64, own: Option<Micros>| {
        let payload = format!("{{\"at\":{at}}}");
        let record = RawRecord { payload: Some(payload.as_bytes()), timestamp: own, ..RawRecord::default() };
        decode_all(&table, &[record]).rows.num_rows()
    };
    assert_eq!((fate(CLOCK + hour, None), fate(CLOCK + hour + 1, None)), (1, 0));
    assert_eq!((fate(5000 + hour, Some(5000)), fate(5000 + hour + 1, Some(5000))), (1, 0));
}

#[test]
fn times_are_read_as_the_option_says() {
    let read = |format: &str, value: &str| {
        let table = table_of(vec![column("at", timestamp(), true, None)], None, &[("timestamp_format", format)]);
        let fetch = decode_all(&table, &records(&[format!("{{\"at\":{value}}}").as_bytes()]));
        fetch.rows.column(0).as_primitive::<TimestampMicrosecondType>().iter().next()
    };
    let noon = Some(Some(1_714_564_800_000_000));
    assert_eq!(read("iso8601", "\"2024-05-01T12:00:00Z\""), noon);
    assert_eq!(read("iso8601", "\"2024-05-01T14:00:00+02:00\""), noon);
    assert_eq!(read("iso8601", "\"2024-05-01T12:00:00.000\""), noon);
    assert_eq!(read("iso8601", "\"2024-05-01 12:00:00\""), noon);
    assert_eq!(read("iso8601", "1714564800"), None);
    assert_eq!(read("unix_s", "1714564800"), noon);
    assert_eq!(read("unix_s", "1714564800.0"), noon);
    assert_eq!(read("unix_ms", "\"1714564800000\""), noon);
    assert_eq!(read("unix_us", "1714564800000000"), noon);
    assert_eq!(read("unix_us", "\"2024-05-01T12:00:00Z\""), None);
}

#[test]
fn metadata_columns_show_where_a_record_came_from() {
    let header = DataType::Struct(
        [Field::new("key", DataType::Utf8, true), Field::new("value", DataType::Binary, true)].into_iter().collect(),
    );
    let headers = DataType::List(Arc::new(Field::new("item", header, true)));
    let columns = vec![
        column("k", DataType::Utf8, true, Some(Metadata::Key)),
        column("raw", DataType::Binary, true, Some(Metadata::Key)),
        column("t", DataType::Utf8, false, Some(Metadata::Topic)),
        column("p", DataType::Int32, false, Some(Metadata::Partition)),
        column("at", timestamp(), true, Some(Metadata::Timestamp)),
        column("h", headers, true, Some(Metadata::Headers)),
        column("now", timestamp(), false, Some(Metadata::ProcessingTime)),
    ];
    let table = table_of(columns, None, &[]);
    let payload = Some(&b"{}"[..]);
    let all = [("trace", Some(&b"\x01"[..])), ("none", None)];
    let input = [
        RawRecord { offset: 7, timestamp: Some(9), key: Some(b"u1"), payload, headers: &all },
        RawRecord { offset: 8, key: Some(b"\xff"), payload, ..RawRecord::default() },
        RawRecord { offset: 9, payload, ..RawRecord::default() },
    ];
    let fetch = decode_all(&table, &input);
    assert_eq!(fetch.bad.iter().map(|b| (b.offset, b.reason)).collect::<Vec<_>>(), [(8, reason::WRONG_TYPE)]);
    assert_eq!(fetch.newest_record_time, Some(9));
    let rows: Vec<serde_json::Value> =
        JsonEncoder::default().encode(&fetch.rows).unwrap().iter().map(|r| serde_json::from_slice(r).unwrap()).collect();
    assert_eq!(rows[0]["k"], "u1");
    assert_eq!(rows[0]["raw"], "7531");
    assert_eq!((&rows[0]["t"], &rows[0]["p"]), (&"topic".into(), &3.into()));
    assert_eq!(rows[0]["at"], "1970-01-01T00:00:00.000009Z");
    assert_eq!(rows[0]["h"], serde_json::json!([{"key":"trace","value":"01"},{"key":"none","value":null}]));
    assert_eq!(rows[0]["now"], "2027-01-15T08:00:00.000000Z");
    assert!(rows[1]["k"].is_null() && rows[1]["at"].is_null());
    assert_eq!(rows[1]["h"], serde_json::json!([]));
}

#[test]
fn a_metadata_column_of_the_wrong_type_is_refused_by_name() {
    let table = table_of(vec![column("o", DataType::Utf8, true, Some(Metadata::Offset))], None, &[]);
    let told = check_source(&table).unwrap_err().to_string();
    assert!(told.contains("column o: METADATA FROM 'offset' is BIGINT, not VARCHAR"), "{told}");
    let table = table_of(vec![column("at", DataType::Utf8, true, None)], Some(0), &[]);
    assert!(check_source(&table).unwrap_err().to_string().contains("event time at is a VARCHAR"));
}

#[test]
fn decoded_records_can_be_taken_in_parts() {
    let payloads = [GOOD.as_bytes(), b"x", GOOD.as_bytes(), b"", GOOD.as_bytes(), b"y"];
    let mut decoder = Decoder::new(&transactions(&[]), "topic", 0).unwrap();
    records(&payloads).iter().for_each(|r| decoder.push(r).unwrap());
    let mut decoded = decoder.finish(6).unwrap();
    let mut parts = Vec::new();
    while !decoded.is_empty() {
        let fetch = decoded.take(2, i64::MAX, CLOCK).unwrap();
        parts.push((fetch.rows.num_rows(), fetch.bad.iter().map(|b| b.offset).collect::<Vec<_>>(), fetch.next_offset));
    }
    assert_eq!(parts, [(2, vec![1, 3], 4), (1, vec![5], 6)]);
}

#[test]
fn decoded_records_can_be_taken_up_to_an_offset() {
    let payloads = [GOOD.as_bytes(), b"x", GOOD.as_bytes(), b"", GOOD.as_bytes(), b"y"];
    for step in 1..7 {
        let mut decoder = Decoder::new(&transactions(&[]), "topic", 0).unwrap();
        records(&payloads).iter().for_each(|r| decoder.push(r).unwrap());
        let mut decoded = decoder.finish(6).unwrap();
        let (mut rows, mut bad, mut until) = (0, Vec::new(), 0);
        while !decoded.is_empty() {
            until += step;
            let fetch = decoded.take(usize::MAX, until, CLOCK).unwrap();
            assert_eq!(fetch.next_offset, until.min(6));
            assert_eq!(fetch.rows.num_rows() as i64, (until.min(6) + 1) / 2 - (until - step + 1) / 2, "{until} by {step}");
            assert!(fetch.bad.iter().all(|b| (until - step..until).contains(&b.offset)));
            rows += fetch.rows.num_rows();
            bad.extend(fetch.bad.into_iter().map(|b| b.offset));
        }
        assert_eq!((rows, bad), (3, vec![1, 3, 5]));
    }
}

#[test]
fn encoded_rows_read_back_the_same() {
    let fetch = decode_all(&transactions(&[]), &records(&[GOOD.as_bytes(), without("location").as_bytes()]));
    let encoded = JsonEncoder::default().encode(&fetch.rows).unwrap();
    assert_eq!(encoded.len(), 2);
    let text = std::str::from_utf8(encoded.row(0)).unwrap();
    assert!(text.contains(r#""timestamp":"2024-05-01T12:00:00.000001Z""#) && text.contains(r#""merchant":null"#), "{text}");
    let again = decode_all(&transactions(&[]), &records(&encoded.iter().collect::<Vec<_>>()));
    assert_eq!(again.rows, fetch.rows);
    let mut lines = Vec::new();
    JsonEncoder::default().encode_lines(&fetch.rows, &mut lines).unwrap();
    assert_eq!(lines.split(|b| *b == b'\n').count(), 3);
}

#[test]
fn floats_that_json_cannot_write_are_null() {
    let values: arrow::array::ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![f64::NAN, f64::INFINITY, 0.1]));
    let rows = RecordBatch::try_from_iter([("x", values)]).unwrap();
    let encoded = JsonEncoder::default().encode(&rows).unwrap();
    let rows: Vec<_> = encoded.iter().map(|r| std::str::from_utf8(r).unwrap()).collect();
    assert_eq!(rows, [r#"{"x":null}"#, r#"{"x":null}"#, r#"{"x":0.1}"#]);
}

/// One record of each kind of fault, and good ones.
fn any_payload() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (0..1000_u32).prop_map(|n| with("amount", &n.to_string())),
        1 => Just(GOOD[..100].to_owned()),
        1 => Just(format!("{GOOD}{GOOD}")),
        1 => Just("{\"a\":1,,\"b\":2}".to_owned()),
        1 => Just(with("amount", "\"x\"")),
        1 => Just(with("user_id", "{}")),
        1 => Just(without("user_id")),
        1 => Just(with("timestamp", "\"9999-01-01\"")),
        1 => Just(",\"amount\":1}".to_owned()),
        1 => Just(String::new()),
        1 => "[\\[\\]{}\",:a0 ]{0,12}".prop_map(|s| format!("{{{s}}}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn neither_batches_nor_neighbours_decide_what_a_record_is(
        payloads in proptest::collection::vec(any_payload(), 1..60),
        cuts in proptest::collection::vec(1..20_usize, 1..60),
    ) {
        let table = transactions(&[]);
        let raw: Vec<&[u8]> = payloads.iter().map(String::as_bytes).collect();
        let raw = records(&raw);
        let whole = decode_all(&table, &raw);
        prop_assert_eq!(whole.rows.num_rows() + whole.bad.len(), raw.len());

        let mut decoder = Decoder::new(&table, "topic", 3).unwrap();
        let (mut rows, mut bad): (Vec<RecordBatch>, Vec<BadRecord>) = Default::default();
        let mut rest = &raw[..];
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            now.iter().for_each(|r| decoder.push(r).unwrap());
            let fetch = decoder.finish(0).unwrap().into_fetch(CLOCK).unwrap();
            rows.push(fetch.rows);
            bad.extend(fetch.bad);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(arrow::compute::concat_batches(&table.schema(), &rows).unwrap(), whole.rows);
        prop_assert_eq!(bad, whole.bad);
    }
}
