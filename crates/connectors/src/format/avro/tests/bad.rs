//! Bytes that are no records.

use proptest::prelude::*;

use super::*;

const SCHEMA: &str = r#"{"type":"record","name":"R","fields":[
    {"name":"n","type":"long"},{"name":"s","type":["null","string"]},
    {"name":"tags","type":{"type":"array","items":"string"}},{"name":"by","type":{"type":"map","values":"double"}},
    {"name":"kind","type":{"type":"enum","name":"K","symbols":["A","B"]}}]}"#;

fn columns() -> Table {
    let entry = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Float64, true)];
    let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry.into()), false)), false);
    let columns = [
        ("n", DataType::Int64, false),
        ("s", DataType::Utf8, true),
        ("tags", DataType::new_list(DataType::Utf8, true), true),
        ("by", map, true),
        ("kind", DataType::Utf8, true),
    ];
    table(&columns, &[])
}

fn record(n: i64) -> Vec<u8> {
    let tags = [long(1), text(&format!("tag {n}")), long(0)].concat();
    let by = [long(1), text("x"), 0.5_f64.to_le_bytes().to_vec(), long(0)].concat();
    framed(1, &[long(n), long(1), text("some text"), tags, by, long(n % 2)].concat())
}

fn reasons(records: &[Vec<u8>]) -> Vec<(&'static str, i64, String)> {
    let read = decode(&columns(), &[(1, SCHEMA)], records);
    read.bad.into_iter().map(|bad| (bad.reason, bad.offset, bad.detail)).collect()
}

#[test]
fn each_kind_of_damage_costs_one_record_and_says_what_it_is() {
    let mut long_one = record(3);
    long_one.push(0);
    let whole = record(2);
    let mut no_symbol = record(4);
    *no_symbol.last_mut().unwrap() = 9;
    let records = [
        record(0),
        b"{\"n\": 1}".to_vec(),
        vec![7, 0, 0],
        vec![0, 0, 1],
        whole[..whole.len() - 3].to_vec(),
        long_one,
        framed(77, &[1, 2, 3]),
        Vec::new(),
        no_symbol,
        [record(5), record(6)].concat(),
        record(7),
    ];
    let told = reasons(&records);
    let short: Vec<_> = told.iter().map(|(reason, offset, _)| (*offset, *reason)).collect();
    let expected = [
        (1, "malformed"),
        (2, "malformed"),
        (3, "malformed"),
        (4, "malformed"),
        (5, "malformed"),
        (6, "schema"),
        (7, "empty"),
        (8, "malformed"),
        (9, "malformed"),
    ];
    assert_eq!(short, expected, "{told:?}");
    assert!(told[0].2.contains("looks like JSON") && told[1].2.contains("0x07"), "{told:?}");
    assert!(told[5].2.contains("the registry has no schema 77"), "{told:?}");
    let read = decode(&columns(), &[(1, SCHEMA)], &records);
    assert_eq!(read.rows.num_rows(), 2);
    assert_eq!(read.bad[1].payload, records[2]);
}

#[test]
fn a_text_that_is_no_utf8_costs_its_record() {
    let mut broken = record(1);
    let at = broken.windows(4).position(|w| w == b"some").unwrap();
    broken[at] = 0xff;
    let told = reasons(&[record(0), broken, record(2)]);
    assert_eq!((told.len(), told[0].0, told[0].1), (1, "malformed", 1), "{told:?}");
}

#[test]
fn numbers_that_are_none_are_refused_as_elsewhere() {
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"d","type":"double"}]}"#;
    let bodies = [1.0, f64::NAN, f64::INFINITY, 2.0].map(|d| framed(1, &d.to_le_bytes()));
    let read = decode(&table(&[("d", DataType::Float64, true)], &[]), &[(1, schema)], &bodies);
    assert_eq!(lines(&read.rows), [r#"{"d":1.0}"#, r#"{"d":2.0}"#]);
    assert_eq!(read.bad.iter().map(|b| b.reason).collect::<Vec<_>>(), ["wrong_type"; 2]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever is done to records, there is no panic, each is a row or a bad record, and those that were left alone are rows.
    #[test]
    fn damage_never_reaches_a_neighbour(
        damage in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| (at, Some(byte))),
            any::<prop::sample::Index>().prop_map(|at| (at, None)),
        ]), 0..12),
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4),
        count in 1_usize..40,
    ) {
        let mut records: Vec<Vec<u8>> = (0..count as i64).map(record).collect();
        let mut touched = vec![false; count];
        for (which, (at, byte)) in damage {
            let which = which.index(count);
            let at = 5 + at.index(records[which].len().max(6) - 5);
            match byte {
                Some(byte) if at < records[which].len() => records[which][at] = byte,
                _ => records[which].truncate(at),
            }
            touched[which] = true;
        }
        for (i, body) in noise.iter().enumerate() {
            records.insert(i, framed(1, body));
            touched.insert(i, true);
        }
        let read = decode(&columns(), &[(1, SCHEMA)], &records);
        prop_assert_eq!(read.rows.num_rows() + read.bad.len(), records.len());
        prop_assert!(read.bad.iter().all(|bad| touched[bad.offset as usize]));
        let expected = decode(&columns(), &[(1, SCHEMA)], &(0..count as i64).map(record).collect::<Vec<_>>());
        let (found, whole) = (lines(&read.rows), lines(&expected.rows));
        let untouched = touched[noise.len()..].iter().zip(whole).filter(|(touched, _)| !**touched).map(|(_, line)| line);
        let mut found = found.iter();
        for line in untouched {
            prop_assert!(found.any(|other| *other == line), "{} is missing, or out of order", line);
        }
    }
}
