//! What schemas give to columns.

use arrow::datatypes::Fields;

use super::*;

const V1: &str = r#"{"type":"record","name":"Transaction","namespace":"com.example","fields":[
    {"name":"id","type":"string"},{"name":"amount","type":"double"}]}"#;
const V2: &str = r#"{"type":"record","name":"Transaction","namespace":"com.example","fields":[
    {"name":"id","type":"string"},{"name":"amount","type":"double"},
    {"name":"device","type":["null","string"],"default":null}]}"#;
const V3: &str = r#"{"type":"record","name":"Transaction","namespace":"com.example","fields":[
    {"name":"id","type":"string"},{"name":"amount","type":"double"},{"name":"channel","type":"string","default":"web"},
    {"name":"device","type":["null","string"],"default":null}]}"#;

fn transactions(options: &[(&str, &str)]) -> Table {
    let columns = [
        ("id", DataType::Utf8, false),
        ("amount", DataType::Float64, false),
        ("device", DataType::Utf8, true),
        ("channel", DataType::Utf8, true),
    ];
    table(&columns, options)
}

fn double(value: f64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

#[test]
fn versions_of_a_schema_may_be_mixed_in_one_stream() {
    let v1 = framed(1, &[text("a"), double(1.5)].concat());
    let v2 = framed(2, &[text("b"), double(2.5), long(1), text("pos")].concat());
    let v3 = framed(3, &[text("c"), double(3.5), text("app"), long(0)].concat());
    let schemas = [(1, V1), (2, V2), (3, V3)];
    let read = decode(&transactions(&[]), &schemas, &[v1.clone(), v3.clone(), v2.clone(), v1.clone(), v1]);
    let expected = [
        r#"{"id":"a","amount":1.5,"device":null,"channel":null}"#,
        r#"{"id":"c","amount":3.5,"device":null,"channel":"app"}"#,
        r#"{"id":"b","amount":2.5,"device":"pos","channel":null}"#,
        r#"{"id":"a","amount":1.5,"device":null,"channel":null}"#,
        r#"{"id":"a","amount":1.5,"device":null,"channel":null}"#,
    ];
    assert_eq!(lines(&read.rows), expected);
    assert!(read.bad.is_empty());
}

#[test]
fn defaults_of_the_reader_schema_stand_in_for_what_older_records_lack() {
    let old = framed(1, &[text("a"), double(1.5)].concat());
    let new = framed(3, &[text("c"), double(3.5), text("app"), long(0)].concat());
    let read = decode(&transactions(&[("reader_schema", V3)]), &[(1, V1), (3, V3)], &[old, new]);
    assert_eq!(lines(&read.rows)[0], r#"{"id":"a","amount":1.5,"device":null,"channel":"web"}"#);
    assert_eq!(lines(&read.rows)[1], r#"{"id":"c","amount":3.5,"device":null,"channel":"app"}"#);
}

#[test]
fn a_column_that_is_not_null_and_missing_costs_the_record() {
    let table = table(&[("id", DataType::Utf8, false), ("channel", DataType::Utf8, false)], &[]);
    let old = framed(1, &[text("a"), double(1.5)].concat());
    let new = framed(3, &[text("c"), double(3.5), text("app"), long(0)].concat());
    let read = decode(&table, &[(1, V1), (3, V3)], &[old, new]);
    assert_eq!(lines(&read.rows), [r#"{"id":"c","channel":"app"}"#]);
    assert_eq!((read.bad[0].reason, read.bad[0].offset), ("missing_field", 0));
}

const TYPES: &str = r#"{"type":"record","name":"All","fields":[
    {"name":"flag","type":"boolean"},
    {"name":"skipped","type":{"type":"record","name":"Place","namespace":"geo","fields":[{"name":"lat","type":"double"},{"name":"lon","type":["double","null"]}]}},
    {"name":"small","type":"int"},
    {"name":"day","type":{"type":"int","logicalType":"date"}},
    {"name":"millis","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"micros","type":{"type":"long","logicalType":"local-timestamp-micros"}},
    {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
    {"name":"uuid","type":{"type":"string","logicalType":"uuid"}},
    {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["CREDIT","DEBIT"]}},
    {"name":"tags","type":{"type":"array","items":["null","string"]}},
    {"name":"counts","type":{"type":"map","values":"long"}},
    {"name":"hash","type":{"type":"fixed","name":"Hash","size":2}},
    {"name":"place","type":["null","geo.Place"]},
    {"name":"either","type":["null","string","long"]}]}"#;

fn all_types() -> Table {
    let place = Fields::from(vec![
        Field::new("lon", DataType::Float64, true),
        Field::new("lat", DataType::Float64, true),
        Field::new("height", DataType::Float64, true),
    ]);
    let entry = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Float64, true)]);
    let counts = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry), false)), false);
    let columns = [
        ("place", DataType::Struct(place), true),
        ("flag", DataType::Boolean, true),
        ("small", DataType::Int16, true),
        ("day", DataType::Date32, true),
        ("millis", times(), true),
        ("micros", times(), true),
        ("price", DataType::Decimal128(12, 3), true),
        ("uuid", DataType::Utf8, true),
        ("kind", DataType::Utf8, true),
        ("tags", DataType::new_list(DataType::Utf8, true), true),
        ("counts", counts, true),
        ("hash", DataType::Binary, true),
    ];
    table(&columns, &[])
}

fn one_of_all_types(small: i64) -> Vec<u8> {
    let body = [
        vec![1],
        [double(9.0), long(1)].concat(),
        long(small),
        long(19_844),
        long(1_714_564_800_123),
        long(1_714_564_800_123_456),
        [long(2), vec![0x30, 0x39]].concat(),
        text("123e4567-e89b-12d3-a456-426614174000"),
        long(1),
        [long(2), long(1), text("x"), long(0), long(0)].concat(),
        [long(1), text("n"), long(7), long(0)].concat(),
        vec![0xab, 0xcd],
        [long(1), double(40.5), long(0), double(-74.0)].concat(),
        [long(2), long(5)].concat(),
    ];
    framed(9, &body.concat())
}

#[test]
fn every_type_fills_its_column_and_undeclared_ones_are_passed_over() {
    let read = decode(&all_types(), &[(9, TYPES)], &[one_of_all_types(300)]);
    assert!(read.bad.is_empty(), "{:?}", read.bad);
    let expected = r#"{"place":{"lon":-74.0,"lat":40.5,"height":null},"flag":true,"small":300,"day":"2024-05-01","#.to_owned()
        + r#""millis":"2024-05-01T12:00:00.123000Z","micros":"2024-05-01T12:00:00.123456Z","price":123.450,"#
        + r#""uuid":"123e4567-e89b-12d3-a456-426614174000","kind":"DEBIT","tags":["x",null],"counts":{"n":7.0},"hash":"abcd"}"#;
    assert_eq!(lines(&read.rows), [expected]);
}

#[test]
fn a_value_that_does_not_fit_its_column_costs_its_record_alone() {
    let read = decode(&all_types(), &[(9, TYPES)], &[one_of_all_types(1), one_of_all_types(70_000), one_of_all_types(3)]);
    assert_eq!(read.rows.num_rows(), 2);
    assert_eq!((read.bad[0].reason, read.bad[0].offset), ("wrong_type", 1));
    assert!(read.bad[0].detail.contains("small") && read.bad[0].detail.contains("70000"), "{}", read.bad[0].detail);
}

#[test]
fn numbers_and_texts_become_times_as_the_table_says() {
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"long"},{"name":"b","type":"string"}]}"#;
    let record = framed(1, &[long(1_714_564_800_123), text("2024-05-01T12:00:00Z")].concat());
    let of = |column: &str, options: &[(&str, &str)]| {
        let read = decode(&table(&[(column, times(), true)], options), &[(1, schema)], std::slice::from_ref(&record));
        read.bad.first().map_or_else(|| lines(&read.rows)[0].clone(), |bad| format!("{}: {}", bad.reason, bad.detail))
    };
    assert_eq!(of("a", &[("timestamp_format", "unix_ms")]), r#"{"a":"2024-05-01T12:00:00.123000Z"}"#);
    assert_eq!(of("b", &[]), r#"{"b":"2024-05-01T12:00:00.000000Z"}"#);
    assert!(of("a", &[]).starts_with("schema: "), "{}", of("a", &[]));
}

/// Which types fill which columns, and the value that comes out; nothing: the schema does not fit.
#[test]
fn types_are_promoted_as_avro_allows_and_no_further() {
    let cases = [
        (r#""int""#, long(7), DataType::Int64, Some("7")),
        (r#""int""#, long(7), DataType::Float32, Some("7.0")),
        (r#""int""#, long(7), DataType::Float64, Some("7.0")),
        (r#""long""#, long(7), DataType::Float64, Some("7.0")),
        (r#""float""#, 1.5_f32.to_le_bytes().to_vec(), DataType::Float64, Some("1.5")),
        (r#""string""#, text("ab"), DataType::Binary, Some("\"6162\"")),
        (r#""bytes""#, text("ab"), DataType::Utf8, Some("\"ab\"")),
        (r#"["int","null"]"#, [long(0), long(7)].concat(), DataType::Int64, Some("7")),
        (r#""long""#, long(7), DataType::Int32, None),
        (r#""double""#, double(1.5), DataType::Float32, None),
        (r#""double""#, double(1.5), DataType::Int64, None),
        (r#""string""#, text("7"), DataType::Int64, None),
        (r#""long""#, long(7), DataType::Utf8, None),
        (r#"["int","string"]"#, [long(0), long(7)].concat(), DataType::Int32, None),
        (r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#, text("a"), DataType::Decimal128(9, 1), None),
    ];
    for (kind, value, data_type, expected) in cases {
        let schema = format!(r#"{{"type":"record","name":"R","fields":[{{"name":"f","type":{kind}}}]}}"#);
        let read = decode(&table(&[("f", data_type.clone(), true)], &[]), &[(1, &schema)], &[framed(1, &value)]);
        match expected {
            Some(expected) => assert_eq!(lines(&read.rows), [format!("{{\"f\":{expected}}}")], "{kind} to {data_type}"),
            None => assert_eq!(read.bad[0].reason, "schema", "{kind} to {data_type}"),
        }
    }
}

#[test]
fn what_a_schema_cannot_give_is_told_with_what_it_is() {
    let told = |schema: &str| {
        let read = decode(&table(&[("f", DataType::Int32, true)], &[]), &[(1, schema)], &[framed(1, &long(1))]);
        read.bad[0].detail.clone()
    };
    let field = |kind: &str| format!(r#"{{"type":"record","name":"R","fields":[{{"name":"f","type":{kind}}}]}}"#);
    assert!(told(&field("\"long\"")).contains("field f: it is long, and the column is INT; it fits BIGINT"));
    assert!(told(&field("\"R\"")).contains("contains itself"));
    assert!(told(&field("\"Nobody\"")).contains("there is no type Nobody"));
    assert!(told(&field(r#"{"type":"array","items":"null"}"#)).contains("take no bytes"));
    assert!(told("\"string\"").contains("not of a record"));
    assert!(told("{").contains("no JSON"));
}

#[test]
fn a_table_of_metadata_alone_reads_no_field() {
    let mut table = table(&[("offset", DataType::Int64, true)], &[]);
    table.columns[0].metadata = Some(riverrun_engine::table::Metadata::Offset);
    let records = [framed(1, &[text("a"), double(1.5)].concat()), framed(2, &[text("b"), double(2.5), long(0)].concat())];
    let read = decode(&table, &[(1, V1), (2, V2)], &records);
    assert_eq!(lines(&read.rows), [r#"{"offset":0}"#, r#"{"offset":1}"#]);
}
