//! Random schemas and rows: what an encoder that knows only the specification writes is what is read, and what is written reads
//! back.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::format::avro::columns::column_type;
use crate::format::avro::schema::{Record, Type};
use crate::format::avro::{AvroEncoder, columns};

/// A schema of a record with up to six fields.
fn schema() -> impl Strategy<Value = Value> {
    let simple = prop_oneof![
        Just(json!("boolean")),
        Just(json!("int")),
        Just(json!("long")),
        Just(json!("double")),
        Just(json!("string")),
        Just(json!({"type": "int", "logicalType": "date"})),
        Just(json!({"type": "long", "logicalType": "timestamp-micros"})),
        Just(json!({"type": "long", "logicalType": "timestamp-millis"})),
        Just(json!({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2})),
        Just(json!({"type": "enum", "name": "Card", "symbols": ["HEARTS", "SPADES"]})),
    ];
    let kind = simple.prop_recursive(3, 12, 3, |inside| {
        prop_oneof![
            (inside.clone(), any::<bool>()).prop_map(|(kind, null_first)| match kind {
                Value::Array(union) => Value::Array(union),
                kind if null_first => json!(["null", kind]),
                kind => json!([kind, "null"]),
            }),
            inside.clone().prop_map(|kind| json!({"type": "array", "items": kind})),
            inside.clone().prop_map(|kind| json!({"type": "map", "values": kind})),
            prop::collection::vec(inside, 1..3).prop_map(|kinds| record("Inside", kinds)),
        ]
    });
    prop::collection::vec(kind, 1..6).prop_map(|kinds| record("Outside", kinds))
}

/// A record of fields `f0`, `f1`, …; named types are defined anew at each place, under names of their own.
fn record(name: &str, kinds: Vec<Value>) -> Value {
    let fields: Vec<_> = kinds.into_iter().enumerate().map(|(i, kind)| json!({"name": format!("f{i}"), "type": kind})).collect();
    json!({"type": "record", "name": name, "fields": fields})
}

/// Gives every named type a name that no other has.
fn name_apart(value: &mut Value, next: &mut usize) {
    match value {
        Value::Array(inside) => inside.iter_mut().for_each(|v| name_apart(v, next)),
        Value::Object(object) => {
            if object.contains_key("fields") || object.contains_key("symbols") {
                *next += 1;
                object.insert("name".into(), json!(format!("N{next}")));
            }
            object.values_mut().for_each(|v| name_apart(v, next));
        }
        _ => {}
    }
}

/// A random value of a type: its bytes by the specification, and what a row shows of it.
fn value(kind: &Type, random: &mut impl FnMut(u64) -> u64) -> (Vec<u8>, Value) {
    match kind {
        Type::Boolean => {
            let bit = random(2);
            (vec![bit as u8], json!(bit == 1))
        }
        Type::Int => {
            let n = random(1 << 32) as i64 - (1 << 31);
            (long(n), json!(n))
        }
        Type::Long => {
            let n = random(u64::MAX) as i64 >> random(60);
            (long(n), json!(n))
        }
        Type::Double => {
            let n = random(1 << 40) as f64 / 64.0 - 1e9;
            (n.to_le_bytes().to_vec(), json!(n))
        }
        Type::Text => {
            let shown: String = (0..random(12)).map(|_| ['a', 'ß', '"', '中', ' '][random(5) as usize]).collect();
            (text(&shown), json!(shown))
        }
        Type::Date => {
            let days = random(30_000) as i32;
            let date = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).unwrap() + chrono::Days::new(days as u64);
            (long(i64::from(days)), json!(date.to_string()))
        }
        Type::Timestamp(unit) => {
            let number = random(4_000_000_000) as i64 * (1_000_000_000 / unit) + random(999) as i64;
            let micros = number * (unit / 1000);
            let time = chrono::DateTime::from_timestamp_micros(micros).unwrap();
            (long(number), json!(time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()))
        }
        Type::Decimal(..) => {
            let cents = random(1 << 40) as i64 - (1 << 39);
            let bytes = cents.to_be_bytes();
            (([long(8), bytes.to_vec()]).concat(), serde_json::from_str(&format!("{:.2}", cents as f64 / 100.0)).unwrap())
        }
        Type::Enum(symbols) => {
            let at = random(symbols.len() as u64) as usize;
            (long(at as i64), json!(symbols[at]))
        }
        Type::Nullable(inside, null_first) => {
            if random(3) == 0 {
                return (long(i64::from(!null_first)), Value::Null);
            }
            let (bytes, shown) = value(inside, random);
            ([long(i64::from(*null_first)), bytes].concat(), shown)
        }
        Type::Array(item) => {
            let (mut bytes, mut shown) = (Vec::new(), Vec::new());
            for _ in 0..random(3) {
                // Each item is a block, some with their size before them.
                let (item, seen) = value(item, random);
                match random(2) {
                    0 => bytes.extend([long(1), item].concat()),
                    _ => bytes.extend([long(-1), long(item.len() as i64), item].concat()),
                }
                shown.push(seen);
            }
            ([bytes, long(0)].concat(), Value::Array(shown))
        }
        Type::Map(inside) => {
            let (mut bytes, mut shown) = (Vec::new(), Map::new());
            for i in 0..random(3) {
                let (inside, seen) = value(inside, random);
                bytes.extend([long(1), text(&format!("k{i}")), inside].concat());
                shown.insert(format!("k{i}"), seen);
            }
            ([bytes, long(0)].concat(), Value::Object(shown))
        }
        Type::Record(record) => {
            let (mut bytes, mut shown) = (Vec::new(), Map::new());
            for field in &record.fields {
                let (inside, seen) = value(&field.kind, random);
                bytes.extend(inside);
                shown.insert(field.name.clone(), seen);
            }
            (bytes, Value::Object(shown))
        }
        other => panic!("no values of {}", other.name()),
    }
}

fn shown(rows: &RecordBatch) -> Vec<Value> {
    lines(rows).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whether two values are the same; serde_json reads a double to its last digit or one beside it.
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| alike(a, b)))
        }
        (Value::Number(x), Value::Number(y)) if x.is_f64() && y.is_f64() => {
            let (x, y) = (x.as_f64().unwrap(), y.as_f64().unwrap());
            (x - y).abs() <= 4.0 * f64::EPSILON * x.abs().max(y.abs())
        }
        _ => a == b,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_the_specification_says_is_read_and_written_back(
        mut written in schema(),
        seed in any::<u64>(),
        count in 1_usize..30,
        keep in prop::collection::vec(any::<bool>(), 6),
    ) {
        name_apart(&mut written, &mut 0);
        let parsed = Record::parse(&written.to_string(), &[]).unwrap();
        let mut state = seed | 1;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) * (1 << 31) % below.max(1) + (state >> 40) % below.max(1) / 2
        };
        let mut random = |below: u64| random(below) % below.max(1);
        let kind = Type::Record(parsed.clone());
        let values: Vec<_> = (0..count).map(|_| value(&kind, &mut random)).collect();
        let records: Vec<_> = values.iter().map(|(bytes, _)| framed(5, bytes)).collect();

        // Some of the columns, in another order than the schema's.
        let (all, left_out) = columns(&parsed);
        prop_assert!(left_out.is_empty());
        let mut some: Vec<_> = all.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(f, _)| f.clone()).collect();
        some.reverse();
        let declared: Vec<_> = some.iter().map(|f| (f.name().as_str(), f.data_type().clone(), f.is_nullable())).collect();
        let read = decode(&table(&declared, &[]), &[(5, &written.to_string())], &records);
        prop_assert!(read.bad.is_empty(), "{:?} of {}", read.bad, written);
        let expected: Vec<Value> = values.iter().map(|(_, shown)| {
            some.iter().map(|f| (f.name().clone(), shown[f.name()].clone())).collect::<Map<_, _>>().into()
        }).collect();
        let given = Value::Array(shown(&read.rows));
        let expected = Value::Array(expected);
        prop_assert!(alike(&given, &expected), "{given} is not {expected}");

        // All columns, written by the same schema and read again.
        let declared: Vec<_> = all.iter().map(|f| (f.name().as_str(), f.data_type().clone(), f.is_nullable())).collect();
        let whole = table(&declared, &[]);
        let rows = decode(&whole, &[(5, &written.to_string())], &records).rows;
        let encoded = AvroEncoder::new(5, &parsed, &rows.schema()).unwrap().encode(&rows).unwrap();
        let again: Vec<_> = encoded.iter().map(<[u8]>::to_vec).collect();
        let read = decode(&whole, &[(5, &written.to_string())], &again);
        prop_assert_eq!(shown(&read.rows), shown(&rows));
    }
}

#[test]
fn a_sinks_own_schema_holds_what_sql_has() {
    let config = |table: &Table| crate::schema_registry::Config::of(table).unwrap();
    let place = vec![Field::new("lat", DataType::Float64, true), Field::new("lon", DataType::Float64, true)];
    let columns = [
        ("id", DataType::Utf8, false),
        ("n", DataType::Int64, true),
        ("tiny", DataType::Int8, true),
        ("at", times(), false),
        ("price", DataType::Decimal128(18, 2), true),
        ("place", DataType::Struct(place.into()), true),
        ("tags", DataType::new_list(DataType::Utf8, true), true),
    ];
    let table = table(&columns, &[("record_name", "com.example.Order"), ("record_doc", "An order.")]);
    let text = crate::format::avro::schema_of(&table.schema(), &config(&table)).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&schema["name"], &schema["namespace"], &schema["doc"]),
        (&json!("Order"), &json!("com.example"), &json!("An order."))
    );
    assert_eq!(schema["fields"][0], json!({"name": "id", "type": "string"}));
    assert_eq!(schema["fields"][1], json!({"name": "n", "type": ["null", "long"], "default": null}));
    assert_eq!(schema["fields"][5]["type"][1]["name"], "Order_place");
    let parsed = Record::parse(&text, &[]).unwrap();
    for (field, (name, data_type, _)) in parsed.fields.iter().zip(&columns) {
        let widened = if *data_type == DataType::Int8 { &DataType::Int32 } else { data_type };
        assert_eq!((&*field.name, &column_type(&field.kind).unwrap()), (*name, widened));
    }
}

#[test]
fn rows_that_the_registered_schema_cannot_take_are_refused_with_the_field() {
    let registered = r#"{"type":"record","name":"R","fields":[{"name":"id","type":"string"},{"name":"n","type":"int"},
        {"name":"kind","type":{"type":"enum","name":"K","symbols":["A","B"]}},{"name":"note","type":["null","string"]}]}"#;
    let registered = Record::parse(registered, &[]).unwrap();
    let of = |columns: &[(&str, DataType)]| {
        let fields: Vec<_> = columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect();
        AvroEncoder::new(1, &registered, &arrow::datatypes::Schema::new(fields))
    };
    let refused = |columns: &[(&str, DataType)]| of(columns).map(|_| ()).unwrap_err().to_string();
    let (text, int) = (DataType::Utf8, DataType::Int32);
    let whole = [("id", text.clone()), ("n", int.clone()), ("kind", text.clone())];
    assert!(refused(&whole[..2]).contains("field kind: no column has its name"));
    assert!(refused(&[&whole[..], &[("more", int.clone())]].concat()).contains("no field more"));
    assert!(
        refused(&[("id", int.clone()), ("n", int), ("kind", text)]).contains("field id: it is string, and the column is INT")
    );

    let encoder = of(&whole).unwrap();
    let rows = |id: Option<&str>, kind: &str| {
        let schema = Arc::new(arrow::datatypes::Schema::new(whole.clone().map(|(n, t)| Field::new(n, t, true)).to_vec()));
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(arrow::array::StringArray::from(vec![id])),
            Arc::new(arrow::array::Int32Array::from(vec![7])),
            Arc::new(arrow::array::StringArray::from(vec![kind])),
        ];
        RecordBatch::try_new(schema, columns).unwrap()
    };
    let encoded = encoder.encode(&rows(Some("x"), "B")).unwrap();
    assert_eq!(encoded.row(0), framed(1, &[text_of("x"), long(7), long(1), long(0)].concat()));
    assert!(encoder.encode(&rows(None, "B")).unwrap_err().to_string().contains("field id: a row has NULL"));
    assert!(encoder.encode(&rows(Some("x"), "C")).unwrap_err().to_string().contains("field kind: 'C' is none of"));
}

fn text_of(value: &str) -> Vec<u8> {
    super::text(value)
}
