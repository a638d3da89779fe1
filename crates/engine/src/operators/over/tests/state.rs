//! What is kept, for how long, and what is refused.

use arrow::array::new_null_array;

use super::*;
use crate::batch::Change;
use crate::error::Kind;
use crate::state::Backend;
use crate::state::parts::lives::Kept;

fn lag_of_value() -> [(Function, DataType); 1] {
    [(lag("v", 1, None), DataType::Float64)]
}

/// `count` rows in order, one every 10 ms, of `keys` keys in turn.
fn steady(from: usize, count: usize, keys: usize) -> RecordBatch {
    let row = |i: usize| Row { key: (1 + i % keys) as u8, time: i as i64 * SECOND / 100, value: Some(1) };
    batch(&(from..from + count).map(row).collect::<Vec<_>>(), from)
}

/// Rows and bytes held at most during a long run in order.
fn most_held(ports: &[Port], functions: impl IntoIterator<Item = (Function, DataType)>) -> (u64, u64) {
    let mut driver = Driver::new(plan(functions, None), ports);
    let (mut rows, mut bytes) = (0, 0);
    for from in (0..400_000).step_by(1000) {
        driver.push(steady(from, 1000, 100));
        driver.watermark((from + 999) as i64 * SECOND / 100 - DELAY);
        driver.out.take();
        rows = rows.max(driver.operator.state_size().rows);
        bytes = bytes.max(driver.operator.state_size().bytes);
    }
    (rows, bytes)
}

#[test]
fn kept_rows_stay_in_proportion_to_keys_and_delay() {
    // 500 rows within the delay, 1000 of the newest batch, what the functions look back on, a second of a bucket.
    let (rows, bytes) = most_held(&[Port::Update], lag_of_value());
    assert!(rows <= 100 + 500 + 1000 + 200, "{rows} rows");
    assert!(bytes < 1 << 20, "{bytes} bytes");
    let (rows, bytes) = most_held(&[Port::Rows], lag_of_value());
    assert!(rows <= 100 + 500 + 1000 + 200, "{rows} rows");
    assert!(bytes < 1 << 20, "{bytes} bytes");
    let all = super::functions().into_iter().map(|(f, t, _)| (f, t));
    let (rows, bytes) = most_held(&[Port::Update, Port::Rows], all);
    assert!(rows <= 2 * (5 * 100 + 300 + 500 + 1000 + 200), "{rows} rows");
    assert!(bytes < 4 << 20, "{bytes} bytes");
}

#[test]
fn a_silent_key_is_purged_without_being_touched() {
    let mut driver = Driver::new(plan(lag_of_value(), None), &[Port::Update]);
    driver.push(steady(0, 300, 1));
    driver.watermark(SECOND);
    assert!(driver.operator.state_size().rows >= 200);
    driver.watermark(10 * SECOND);
    assert_eq!(driver.operator.state_size().rows, 1);
}

#[test]
fn keys_that_only_look_back_in_time_are_freed_by_time() {
    let functions = [(aggregate(sum_udaf(), range(3)), DataType::Float64)];
    let mut driver = Driver::new(plan(functions, None), &[Port::Update]);
    driver.push(steady(0, 300, 3));
    driver.watermark(4 * SECOND);
    assert!(driver.operator.state_size().rows > 100, "rows within the range of the watermark stay");
    driver.watermark(10 * SECOND);
    assert_eq!(driver.operator.state_size().rows, 0);
}

#[test]
fn ttl_frees_silent_keys_and_their_numbers_start_again() {
    let functions = [(Function::RowNumber, DataType::UInt64), (lag("v", 1, None), DataType::Float64)];
    let mut driver = Driver::new(plan(functions, Some(Duration::from_secs(60))), &[Port::Update]);
    driver.push(steady(0, 200, 100));
    driver.watermark(30 * SECOND);
    assert_eq!(driver.operator.state_size().rows, 100);
    driver.restart();
    driver.push(batch(&[Row { key: 7, time: 50 * SECOND, value: Some(8) }], 200));
    driver.watermark(70 * SECOND);
    assert_eq!(driver.operator.state_size().rows, 1, "the key that was not silent stays");
    driver.out.take();
    driver.push(batch(&[7, 8].map(|key| Row { key, time: 80 * SECOND, value: Some(1) }), 201));
    let (rows, _) = driver.take(Port::Update);
    let numbers = rows.column(5).as_primitive::<arrow::datatypes::UInt64Type>();
    assert_eq!(numbers.values(), &[4, 1]);
    assert_eq!(value_at(rows.column(6), 0), ScalarValue::Float64(Some(2.0)));
    assert!(rows.column(6).is_null(1));
}

#[test]
fn late_rows_and_rows_without_time_are_counted_and_dropped() {
    for port in [Port::Update, Port::Rows] {
        let mut driver = Driver::new(plan(lag_of_value(), None), &[port]);
        driver.watermark(10 * SECOND);
        let row = |s: i64| Row { key: 1, time: s * SECOND, value: Some(1) };
        let late = Batch { rows: batch(&[row(1), row(2)], 0), change: Change::Late };
        driver.operator.on_batch(0, late, &mut driver.out).unwrap();
        driver.push(batch(&[row(9), row(10)], 2));
        let mut columns = batch(&[row(11)], 4).columns().to_vec();
        columns[2] = new_null_array(&utc(), 1);
        driver.push(RecordBatch::try_new(schema(), columns).unwrap());
        driver.watermark(MAX_TIME);
        let (rows, late) = driver.take(port);
        assert_eq!(seqs(&rows), [3]);
        assert_eq!(late, 4);
    }
}

#[test]
fn an_aggregate_over_all_rows_is_refused_with_what_to_write() {
    let over = plan([(aggregate(sum_udaf(), Frame::Unbounded), DataType::Float64)], None);
    let error = over.create(&[Port::Rows], &Backend::Memory).err().unwrap();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.message().contains("f0") && error.hint_text().unwrap().contains("PRECEDING"), "{error}");
}

#[test]
fn an_order_that_is_no_event_time_is_refused() {
    let over = Over::new(schema(), vec![column("k")], column("seq"), Vec::new(), None);
    assert_eq!(over.create(&[Port::Rows], &Backend::Memory).err().unwrap().kind(), Kind::Invalid);
}

#[test]
fn updates_are_no_input() {
    let mut driver = Driver::new(plan(lag_of_value(), None), &[Port::Rows]);
    let upsert = Batch { rows: steady(0, 1, 1), change: Change::Upsert };
    assert!(driver.operator.on_batch(0, upsert, &mut driver.out).is_err());
}

#[test]
fn state_of_other_functions_is_refused() {
    let mut driver = Driver::new(plan(lag_of_value(), None), &[Port::Update]);
    driver.push(steady(0, 1, 1));
    let state = driver.operator.snapshot().unwrap();
    let other = plan([(lag("ts", 1, None), utc())], None);
    assert!(other.create(&[Port::Update], &Backend::Memory).unwrap().restore(state.clone()).is_err());
    assert!(other.create(&[Port::Rows], &Backend::Memory).unwrap().restore(state).is_err());
}

#[test]
fn without_partition_by_all_rows_have_one_key() {
    let functions = vec![(Function::RowNumber, Arc::new(Field::new("n", DataType::UInt64, false)))];
    let over = Over::new(schema(), Vec::new(), column("ts"), functions, None);
    let mut driver = Driver::new(over, &[Port::Update]);
    driver.push(steady(0, 5, 3));
    driver.restart();
    driver.push(steady(5, 2, 3));
    let (rows, _) = driver.take(Port::Update);
    assert_eq!(rows.column(5).as_primitive::<arrow::datatypes::UInt64Type>().values(), &[1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn describe_says_what_is_kept_and_until_when() {
    let over = plan(lag_of_value(), None);
    assert_eq!(
        over.describe(),
        [
            "key k@1, ordered by ts@2",
            "f0 = lag(v@3, 1)",
            "kept: ts@2, v@3 of rows younger than the watermark",
            "newest row per key kept for ever; SET state.ttl to bound it",
        ]
    );
    let functions = [(aggregate(sum_udaf(), range(3)), DataType::Float64), (Function::RowNumber, DataType::UInt64)];
    let over = plan(functions, Some(Duration::from_secs(3600)));
    assert_eq!(
        over.describe()[1..],
        [
            "f0 = sum(v@3) over RANGE 3s PRECEDING",
            "f1 = row_number()",
            "kept: ts@2, v@3 of rows younger than the watermark",
            "kept: rows up to 3s older than the watermark",
            "newest row per key kept until the key is silent for 3600s",
        ]
    );
}

/// Bytes of the first checkpoint of 1,000,000 keys, and of those behind it, between which 1,000 keys have a row.
fn checkpoints(port: Port, functions: impl IntoIterator<Item = (Function, DataType)>) -> (usize, Vec<usize>) {
    const KEPT: usize = 1_000_000;
    let rows = |keys: &mut dyn Iterator<Item = usize>, time: Micros| {
        let keys: Vec<_> = keys.collect();
        let mut columns = batch(&vec![Row { key: 1, time, value: Some(3) }; keys.len()], 0).columns().to_vec();
        columns[1] = Arc::new(StringArray::from_iter_values(keys.iter().map(|key| format!("account {key}"))));
        RecordBatch::try_new(schema(), columns).unwrap()
    };
    let over = plan(functions, None);
    let (mut operator, mut out, mut kept) = (over.create(&[port], &Backend::Memory).unwrap(), Output::default(), Kept::new());
    for from in (0..KEPT).step_by(50_000) {
        operator.on_batch(0, Batch::insert(rows(&mut (from..from + 50_000), SECOND)), &mut out).unwrap();
        out.take();
    }
    operator.on_watermark(2 * SECOND, &mut out).unwrap();
    assert_eq!(operator.state_size().rows, KEPT as u64);
    let first = kept.write(operator.snapshot().unwrap());
    let mut each = Vec::new();
    for round in 0..24 {
        let time = (3 + round as i64) * SECOND;
        let key = |i: usize| (i * 7919 + round * 104_729) % KEPT;
        operator.on_batch(0, Batch::insert(rows(&mut (0..1000).map(key), time)), &mut out).unwrap();
        operator.on_watermark(time, &mut out).unwrap();
        out.take();
        each.push(kept.write(operator.snapshot().unwrap()));
        if round == 12 {
            operator = over.create(&[port], &Backend::Memory).unwrap();
            operator.restore(kept.read()).unwrap();
        }
    }
    (first, each)
}

#[test]
fn a_checkpoint_of_a_million_keys_costs_what_changed() {
    let numbered = [(Function::RowNumber, DataType::UInt64)];
    for (name, (first, each)) in [
        ("updates", checkpoints(Port::Update, lag_of_value())),
        ("finals", checkpoints(Port::Rows, lag_of_value())),
        ("numbered", checkpoints(Port::Update, numbered)),
    ] {
        let (most, mean) = (*each.iter().max().unwrap(), each.iter().sum::<usize>() / each.len());
        println!("{name}: first {} KiB, then {mean} bytes, at most {most}", first >> 10);
        assert!(first > 5 << 20, "{name}: {first} bytes hold all keys");
        assert!(mean < 300 << 10, "{name}: {mean} bytes: {each:?}");
        assert!(most < 1 << 20, "{name}: {most} bytes: {each:?}");
    }
}
