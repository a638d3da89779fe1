//! The script of the documentation, and what each mistake says and where.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use riverrun_engine::table::{Location, Metadata};

use super::*;

/// The example of the documentation, with the column lists that it leaves out.
const EXAMPLE: &str = include_str!("tests/example.sql");

fn none(_: &str) -> Option<String> {
    None
}

fn at(line: u64, column: u64) -> Location {
    Location { line, column }
}

/// `line:column: message | hint` of the error of a script.
fn error(text: &str) -> String {
    let error = parse("s.sql", text, &none).unwrap_err();
    format!("{}: {} | {}", error.location, error.message, error.hint.unwrap_or_default())
}

/// A source table with `columns`.
fn table(columns: &str) -> String {
    format!("CREATE TABLE t ({columns}) WITH (connector = 'log')")
}

#[test]
fn the_example_of_the_documentation_parses() {
    let script = parse("example.sql", EXAMPLE, &none).unwrap();
    assert_eq!(script.settings["pipeline.name"].value, "transactions");
    assert_eq!(script.settings["checkpoint.location"].value, "./riverrun-data/checkpoints");
    assert_eq!(script.settings["pipeline.name"].location, at(1, 5));
    let tables: Vec<_> = script.tables.iter().map(|t| (t.name.as_str(), t.columns.len())).collect();
    assert_eq!(tables, [("transactions", 9), ("fraud_alerts", 2), ("aggregates", 5), ("lake", 0), ("screen", 0)]);
    assert_eq!(script.views.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["steps"]);
    assert_eq!(script.inserts.iter().map(|i| i.table.as_str()).collect::<Vec<_>>(), ["aggregates", "fraud_alerts"]);
    assert!(script.require_insert().is_ok());
}

#[test]
fn a_source_table_has_its_types_time_keys_and_options() {
    let script = parse("example.sql", EXAMPLE, &none).unwrap();
    let source = &script.tables[0];
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let place = Fields::from(vec![Field::new("lat", DataType::Float64, true), Field::new("lon", DataType::Float64, true)]);
    let fields: Vec<_> = source.columns.iter().map(|c| c.field.as_ref().clone()).collect();
    assert_eq!(fields[0], Field::new("transaction_id", DataType::Utf8, false));
    assert_eq!(fields[2], Field::new("amount", DataType::Float64, false));
    assert_eq!(fields[5], Field::new("timestamp", time, false));
    assert_eq!(fields[6], Field::new("location", DataType::Struct(place), true));
    assert_eq!(source.columns[8].metadata, Some(Metadata::Offset));
    assert_eq!(source.columns[8].location, at(15, 5));
    let watermark = source.watermark.as_ref().unwrap();
    assert_eq!((watermark.column, watermark.delay), (5, Duration::from_secs(600)));
    assert_eq!(source.partitioned_by, [1]);
    assert_eq!(source.options.get("max_offsets_per_trigger").as_deref(), Some("10000"));
    assert_eq!(source.connector().unwrap(), "log");
    assert_eq!(script.tables[2].primary_key, ["user_id", "category", "window_start"]);
}

#[test]
fn names_that_are_keywords_need_no_quotes() {
    let text = table(
        "timestamp TIMESTAMP, key BINARY METADATA, \"Offset\" BIGINT METADATA FROM 'offset', partition INT METADATA, watermark INT",
    );
    let script = parse("s.sql", &text, &none).unwrap();
    let names: Vec<_> = script.tables[0].columns.iter().map(|c| c.field.name().clone()).collect();
    assert_eq!(names, ["timestamp", "key", "Offset", "partition", "watermark"]);
}

fn map_to(value: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

#[test]
fn every_type_has_its_arrow_type() {
    let cases = [
        ("STRING", DataType::Utf8),
        ("text", DataType::Utf8),
        ("VARCHAR(20)", DataType::Utf8),
        ("BOOLEAN", DataType::Boolean),
        ("TINYINT", DataType::Int8),
        ("SMALLINT", DataType::Int16),
        ("INT", DataType::Int32),
        ("INTEGER", DataType::Int32),
        ("BIGINT", DataType::Int64),
        ("BIGINT UNSIGNED", DataType::UInt64),
        ("FLOAT", DataType::Float32),
        ("REAL", DataType::Float32),
        ("DOUBLE PRECISION", DataType::Float64),
        ("DECIMAL(18, 2)", DataType::Decimal128(18, 2)),
        ("DATE", DataType::Date32),
        ("TIMESTAMP(3)", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("TIMESTAMP WITH TIME ZONE", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("BYTEA", DataType::Binary),
        ("VARBINARY", DataType::Binary),
        ("INT[]", DataType::new_list(DataType::Int32, true)),
        ("ARRAY<STRUCT<a INT>>", {
            let item = Fields::from(vec![Field::new("a", DataType::Int32, true)]);
            DataType::new_list(DataType::Struct(item), true)
        }),
        ("MAP<VARCHAR, INT>", map_to(DataType::Int32)),
        ("MAP(VARCHAR, INT[])", map_to(DataType::new_list(DataType::Int32, true))),
    ];
    for (sql, expected) in cases {
        let script = parse("s.sql", &table(&format!("c {sql}")), &none).unwrap();
        assert_eq!(*script.tables[0].columns[0].field.data_type(), expected, "{sql}");
    }
}

#[test]
fn a_place_behind_a_variable_is_that_of_the_users_text() {
    let text = "SET a = '${LONG}'; SET b = '${X:-short}'; SELCT 1;\nSET c = ${MISSING};";
    let long = |name: &str| (name == "LONG").then(|| "a value\nof two lines".to_owned());
    let error = parse("s.sql", text, &|n| long(n).or((n == "MISSING").then(|| "1".to_owned()))).unwrap_err();
    assert_eq!(error.location, at(1, 43));
    assert!(error.line.unwrap().contains("${LONG}"), "the value of a variable must not show");
}

#[test]
fn variables_are_replaced_but_in_comments() {
    let text = "-- ${NOT_ME}\nSET a = '${A}'; /* ${NOR_ME} */ SET b = '${B:-x}/y'; SET c = ${C:-7}; SET d = '$${D}${1}';";
    let script = parse("s.sql", text, &|name| (name == "A").then(|| "it's".to_owned())).unwrap();
    let values: Vec<_> = script.settings.values().map(|v| v.value.as_str()).collect();
    assert_eq!(values, ["it's", "x/y", "7", "${D}${1}"]);
}

#[test]
fn an_unknown_variable_is_told_with_its_place() {
    let expected =
        "2:10: the variable NOPE has no value | give --set NOPE=value, set it in the environment, or write ${NOPE:-default}";
    assert_eq!(error("SET a = 1;\nSET b = '${NOPE}';"), expected);
}

#[test]
fn a_script_without_insert_has_nothing_to_run() {
    let script = parse("s.sql", "SET a = 1;", &none).unwrap();
    let error = script.require_insert().unwrap_err();
    assert_eq!(error.to_string().lines().next(), Some("s.sql: the script has no INSERT: nothing would run"));
}

#[test]
fn an_error_shows_its_line_and_marks_the_place() {
    let error = parse("s.sql", "SET a = 1;\n\tSELCT 1;", &none).unwrap_err();
    let expected = "s.sql:2:2: unknown statement SELCT\n  2 | \tSELCT 1;\n    | \t^\n  hint: a script holds SET, CREATE TABLE, CREATE VIEW and INSERT INTO … SELECT";
    assert_eq!(error.to_string(), expected);
}

/// Scripts that are wrong, and what is said of them.
#[test]
fn each_mistake_is_told_with_its_place_and_what_to_write() {
    let cases = [
        ("CRAETE TABLE t WITH (a = 1)", "1:1: unknown statement CRAETE | did you mean CREATE?"),
        ("CREATE TABEL t WITH (a = 1)", "1:8: unknown keyword TABEL | did you mean TABLE?"),
        ("INSERT INTO t SELCT 1", "1:15: unknown keyword SELCT | did you mean SELECT?"),
        ("INSERT INTO t SELECT a FRM x", "1:24: unknown keyword FRM | did you mean FROM?"),
        ("INSERT INTO t\nSELECT a FROM x WHER b > 3", "2:17: unknown keyword WHER | did you mean WHERE?"),
        ("INSERT INTO t SELECT a FROM x GROPU BY a", "1:31: unknown keyword GROPU | did you mean GROUP?"),
        ("SET a = kafka", "1:9: expected a value, found kafka | put texts into single quotes: 'kafka'"),
        ("SET a.b 'x'", "1:9: expected '=', found 'x' | "),
        ("SET a = 'x", "1:9: a text begins here and is never closed | close it with '"),
        ("CREATE TABLE t (a INT,) WITH (k = 1)", "1:22: nothing follows this comma in the table | remove the comma"),
        ("CREATE TABLE t (a INT) WITH (k = 1,)", "1:35: nothing follows this comma in the options | remove the comma"),
        (
            "CREATE TABLE t (a INT b INT) WITH (k = 1)",
            "1:23: expected NOT NULL, METADATA, ',' or ')' behind the column's type, found b | ",
        ),
        ("CREATE TABLE t (a STRNG) WITH (k = 1)", "1:19: unknown type STRNG | did you mean STRING?"),
        ("CREATE TABLE t (a STRUCT<x DUOBLE>) WITH (k = 1)", "1:28: unknown type DUOBLE | did you mean DOUBLE?"),
        ("CREATE TABLE t (a INT, a INT) WITH (k = 1)", "1:24: table t has two columns a | "),
        (
            "CREATE TABLE t (a INT)",
            "1:23: expected WITH, found the end of the script | say where the rows are: WITH (connector = '…', …)",
        ),
        ("CREATE TABLE t WITH (k = 1, k = 2)", "1:29: option 'k' is given twice | "),
        (
            "CREATE TABLE t WITH (k = 1);\nCREATE VIEW t AS SELECT 1",
            "2:13: t is there already, as a table on line 1 | choose another name",
        ),
        (
            "SELECT 1",
            "1:1: SELECT cannot stand in a script: a script holds SET, CREATE TABLE, CREATE VIEW and INSERT INTO … SELECT | name where the rows go: INSERT INTO <sink table> SELECT …; or run it with `riverrun sql`",
        ),
        (
            "DROP TABLE t",
            "1:1: DROP cannot stand in a script: a script holds SET, CREATE TABLE, CREATE VIEW and INSERT INTO … SELECT | a script says all that there is: remove the CREATE",
        ),
        (
            "CREATE VIEW v AS SELECT 1 INSERT INTO t SELECT 2",
            "1:39: SELECT … INTO t is no query | write INSERT INTO t SELECT …, with ';' behind the statement before it",
        ),
        ("CREATE VIEW v AS SELECT 1 FROM t SET a = 1", "1:34: expected ';' at the end of the statement, found SET | "),
        ("CREATE VIEW v AS SELECT a FROM t JOIN u ON", "1:43: expected an expression, found the end of the script | "),
        (
            "CREATE VIEW v AS SELECT hop(ts) FROM t",
            "1:25: hop() takes a time, a size and a slide | such as hop(ts, INTERVAL '1 minute', INTERVAL '30 seconds')",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn each_mistake_in_a_clause_is_told_with_its_place_and_what_to_write() {
    let cases = [
        ("ts TIMESTAMP, WATERMRAK FOR ts AS ts", "1:31: unknown keyword WATERMRAK | did you mean WATERMARK?"),
        ("ts TIMESTAMP, WATERMARK FOR tz AS tz", "1:45: table t has no column tz | did you mean ts?"),
        (
            "ts BIGINT, WATERMARK FOR ts AS ts",
            "1:42: the watermark needs a TIMESTAMP, and ts is BIGINT | declare it as ts TIMESTAMP, or name another column",
        ),
        (
            "ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 month'",
            "1:51: a watermark trails its column by a fixed time, in days or less | write WATERMARK FOR ts AS ts - INTERVAL '10 minutes'",
        ),
        ("a BIGINT METADATA FROM 'ofset'", "1:40: unknown metadata 'ofset' | did you mean offset?"),
        ("a INT METADATA FROM 'offset'", "1:37: metadata 'offset' is BIGINT, not INT | "),
        ("user INT, PRIMARY KEY (usr)", "1:40: table t has no column usr | did you mean user?"),
        ("user INT, PRIMRY KEY (user)", "1:27: unknown keyword PRIMRY | did you mean PRIMARY?"),
        ("a TIMESTAMP(9)", "1:19: TIMESTAMP(9): times are kept in microseconds | write TIMESTAMP"),
        ("a DECIMAL(80, 2)", "1:19: DECIMAL(80, 2): 1 to 76 digits, and not more behind the point | such as DECIMAL(18, 2)"),
        ("a", "1:18: expected the type of column a, found ) | such as a VARCHAR"),
    ];
    for (columns, expected) in cases {
        assert_eq!(error(&table(columns)), expected, "{columns}");
    }
    let partitioned = "CREATE TABLE t (a INT) PARTITIONED BY (b) WITH (k = 1)";
    assert_eq!(error(partitioned), "1:40: table t has no column b | did you mean a?");
    let sink = parse("s.sql", "CREATE TABLE t (PRIMARY KEY (x)) WITH (k = 1)", &none).unwrap();
    assert_eq!(sink.tables[0].primary_key, ["x"], "the columns of a sink may come from its query");
}

#[test]
fn keywords_have_no_case_and_inserts_may_name_columns() {
    let script = parse(
        "s.sql",
        "create table T with ('Connector' = 'x', a.b = -1.5, c = TRUE);\ninsert into t (A, \"B\") (select 1, 2)",
        &none,
    )
    .unwrap();
    assert_eq!(script.tables[0].name, "t");
    assert_eq!(script.tables[0].options.get("a.b").as_deref(), Some("-1.5"));
    assert_eq!(script.tables[0].options.get("c").as_deref(), Some("true"));
    assert_eq!(script.inserts[0].columns, ["a", "B"]);
    assert_eq!(script.inserts[0].location, at(2, 13));
    assert!(parse("s.sql", "insert into t (select 1)", &none).unwrap().inserts[0].columns.is_empty());
}

#[test]
fn one_query_is_read_for_the_prompt() {
    assert!(parse_query("prompt", "SELECT 1;").is_ok());
    let error = parse_query("prompt", "SELECT 1; SELECT 2").unwrap_err();
    assert_eq!((error.location, error.message.as_str()), (at(1, 11), "one query at a time"));
}
