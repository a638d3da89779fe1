//! Updates: equal to a model that looks at all rows that came before.

use super::*;

/// The rows that row `at` sees, in order, itself last.
fn seen(all: &[Row], at: usize) -> Vec<&Row> {
    let before = all[..at].iter().filter(|r| r.key == all[at].key && r.time <= all[at].time);
    let mut rows: Vec<_> = before.collect();
    rows.sort_by_key(|r| r.time);
    rows.push(&all[at]);
    rows
}

fn double(value: Option<&Row>) -> ScalarValue {
    ScalarValue::Float64(value.and_then(|r| r.value).map(|v| f64::from(v) / 4.0))
}

fn sum<'a>(rows: impl Iterator<Item = &'a Row>) -> ScalarValue {
    let values: Vec<_> = rows.filter_map(|r| r.value).map(|v| f64::from(v) / 4.0).collect();
    ScalarValue::Float64((!values.is_empty()).then(|| values.iter().sum()))
}

/// What [`modelled`] must give for row `at`.
fn model(all: &[Row], at: usize) -> Vec<ScalarValue> {
    let rows = seen(all, at);
    let last = rows.len() - 1;
    let back = |n: usize| last.checked_sub(n).map(|i| rows[i]);
    let within = |seconds: i64| rows.iter().copied().filter(move |r| r.time >= all[at].time - seconds * SECOND);
    vec![
        double(back(1)),
        back(2).map_or(ScalarValue::Float64(Some(-1.0)), |r| double(Some(r))),
        ScalarValue::TimestampMicrosecond(back(3).map(|r| r.time), Some("UTC".into())),
        ScalarValue::UInt64(Some(rows.len() as u64)),
        double(Some(rows[0])),
        double(Some(rows[last.saturating_sub(2)])),
        double(within(3).next()),
        double(back(1)),
        double(Some(rows[last])),
        sum(rows[last.saturating_sub(2)..].iter().copied()),
        sum(within(3)),
        ScalarValue::Int64(Some(within(2).filter(|r| r.value.is_some()).count() as i64)),
    ]
}

fn modelled() -> Vec<(Function, DataType)> {
    let value = || column("v");
    let double = DataType::Float64;
    vec![
        (lag("v", 1, None), double.clone()),
        (lag("v", 2, Some(-1.0)), double.clone()),
        (lag("ts", 3, None), utc()),
        (Function::RowNumber, DataType::UInt64),
        (Function::FirstValue { value: value(), frame: Frame::Unbounded }, double.clone()),
        (Function::FirstValue { value: value(), frame: rows(2, 0) }, double.clone()),
        (Function::FirstValue { value: value(), frame: range(3) }, double.clone()),
        (Function::LastValue { value: value(), frame: rows(4, 1) }, double.clone()),
        (Function::LastValue { value: value(), frame: Frame::Unbounded }, double.clone()),
        (aggregate(sum_udaf(), rows(2, 0)), double.clone()),
        (aggregate(sum_udaf(), range(3)), double),
        (aggregate(count_udaf(), range(2)), DataType::Int64),
    ]
}

fn assert_equals_model(out: &RecordBatch, all: &[Row], names: std::ops::Range<usize>) {
    assert_eq!(seqs(out), (0..all.len() as i64).collect::<Vec<_>>(), "rows go out in the order of arrival");
    for row in 0..all.len() {
        let expected = model(all, row);
        for i in names.clone() {
            let value = value_at(out.column(5 + i - names.start), row);
            assert!(same(&value, &expected[i]), "f{i} at seq {row}: {value:?}, but the model says {:?}", expected[i]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_row_sees_the_rows_of_its_key_that_came_before(all in arrivals(), cuts in cuts()) {
        let mut driver = Driver::new(plan(modelled(), None), &[Port::Update]);
        driver.run(&all, &cuts);
        let (rows, late) = driver.take(Port::Update);
        prop_assert_eq!(late, 0);
        assert_equals_model(&rows, &all, 0..modelled().len());
    }

    /// Each function alone keeps less than all of them together: none may lean on what another one keeps.
    #[test]
    fn every_function_keeps_what_it_needs(all in arrivals(), cuts in cuts(), i in 0..12usize) {
        let mut driver = Driver::new(plan([modelled().swap_remove(i)], None), &[Port::Update]);
        driver.run(&all, &cuts);
        let (rows, _) = driver.take(Port::Update);
        assert_eq!(modelled().len(), 12);
        let expected: Vec<_> = (0..all.len()).map(|row| model(&all, row).swap_remove(i)).collect();
        for (row, expected) in expected.iter().enumerate() {
            let value = value_at(rows.column(5), row);
            prop_assert!(same(&value, expected), "f{} at seq {}: {:?}, but the model says {:?}", i, row, value, expected);
        }
    }
}

#[test]
fn both_ports_at_once_give_each_row_twice() {
    let mut driver = Driver::new(plan([(lag("v", 1, None), DataType::Float64)], None), &[Port::Rows, Port::Update]);
    let all: Vec<_> = [3, 1, 2].map(|s| Row { key: 1, time: s * SECOND, value: Some(4 * s as i32) }).to_vec();
    driver.push(batch(&all, 0));
    driver.restart();
    driver.watermark(MAX_TIME);
    let (batches, _) = driver.out.take();
    let lags = |port| {
        let rows = batches.iter().find(|(p, _)| *p == port).map(|(_, b)| by_seq(&b.rows)).unwrap();
        rows.column(5).as_primitive::<arrow::datatypes::Float64Type>().iter().collect::<Vec<_>>()
    };
    assert_eq!(lags(Port::Update), [None, None, Some(1.0)]);
    assert_eq!(lags(Port::Rows), [Some(2.0), None, Some(1.0)]);
}
