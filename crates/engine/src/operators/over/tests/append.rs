//! Final rows: equal to plain DataFusion over the same rows.

use datafusion::prelude::{SessionConfig, SessionContext};

use super::*;

/// The functions over all rows at rest, by plain DataFusion; ordered by seq.
fn at_rest(all: &[Row]) -> RecordBatch {
    // In the order of the windows, so that rows of equal time keep their order of arrival where the query names none.
    let mut order: Vec<_> = all.iter().enumerate().collect();
    order.sort_by_key(|(seq, row)| (row.key, row.time, *seq));
    let rows: Vec<_> = order.iter().map(|(seq, row)| batch(std::slice::from_ref(row), *seq)).collect();
    let table = concat_batches(&schema(), &rows).unwrap();
    let columns = functions().into_iter().enumerate().map(|(i, (_, _, sql))| format!("{sql} AS f{i}"));
    // DataFusion 55 does not take the ORDER BY of a named window for a frame that is added to it.
    let in_full =
        |sql: String| sql.replace("(w ", "(PARTITION BY k ORDER BY ts, seq ").replace("(p ", "(PARTITION BY k ORDER BY ts ");
    let columns: Vec<_> = columns.map(in_full).collect();
    let sql = format!(
        "SELECT *, {} FROM t WINDOW w AS (PARTITION BY k ORDER BY ts, seq), p AS (PARTITION BY k ORDER BY ts) ORDER BY seq",
        columns.join(", ")
    );
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        context.register_batch("t", table).unwrap();
        let result = context.sql(&sql).await.unwrap().collect().await.unwrap();
        concat_batches(&result[0].schema(), &result).unwrap()
    })
}

fn assert_same(streamed: &RecordBatch, expected: &RecordBatch) {
    assert_eq!(seqs(streamed), seqs(expected));
    for (i, (_, _, sql)) in functions().iter().enumerate() {
        let (a, b) = (streamed.column_by_name(&format!("f{i}")).unwrap(), expected.column_by_name(&format!("f{i}")).unwrap());
        for row in 0..streamed.num_rows() {
            let (a, mut b) = (value_at(a, row), value_at(b, row));
            // DataFusion's sliding deviation of equal values is the root of a tiny number, at times a negative one.
            if sql.starts_with("STDDEV") && matches!(b, ScalarValue::Float64(Some(d)) if d.is_nan() || d < 1e-3) {
                b = ScalarValue::Float64(Some(0.0));
            }
            assert!(same(&a, &b), "{sql} at seq {row}: {a:?}, but at rest {b:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn final_rows_equal_the_query_at_rest(all in arrivals(), cuts in cuts()) {
        let over = plan(functions().into_iter().map(|(f, t, _)| (f, t)), None);
        let mut driver = Driver::new(over, &[Port::Rows]);
        driver.run(&all, &cuts);
        let (rows, late) = driver.take(Port::Rows);
        prop_assert_eq!(late, 0);
        let times = rows.column(2).as_primitive::<arrow::datatypes::TimestampMicrosecondType>().values();
        prop_assert!(times.is_sorted());
        assert_same(&by_seq(&rows), &at_rest(&all));
    }
}

#[test]
fn rows_leave_once_the_watermark_has_passed_them() {
    let mut driver = Driver::new(plan([(lag("v", 1, None), DataType::Float64)], None), &[Port::Rows]);
    let all: Vec<_> = [3, 1, 2].map(|s| Row { key: 1, time: s * SECOND, value: Some(s as i32) }).to_vec();
    driver.push(batch(&all, 0));
    assert_eq!(driver.operator.state_size().rows, 3);
    driver.watermark(2 * SECOND);
    assert_eq!(seqs(&driver.take(Port::Rows).0), [1], "a row at the watermark waits: its peers may come");
    driver.watermark(2 * SECOND + 1);
    assert_eq!(seqs(&driver.take(Port::Rows).0), [2]);
    driver.watermark(MAX_TIME);
    assert_eq!(seqs(&driver.take(Port::Rows).0), [0]);
    assert_eq!(driver.operator.state_size().rows, 1, "the key's newest row stays");
}

#[test]
fn many_final_rows_leave_in_bounded_batches_that_keep_peers_together() {
    let count = 7 * 10_000;
    let mut driver = Driver::new(plan([(aggregate(count_udaf(), range(0)), DataType::Int64)], None), &[Port::Rows]);
    let row = |i: usize| Row { key: 1, time: (i / 7) as i64 * SECOND, value: Some(1) };
    driver.push(batch(&(0..count).map(row).collect::<Vec<_>>(), 0));
    driver.watermark(MAX_TIME);
    let (batches, _) = driver.out.take();
    assert!(batches.len() > 1);
    let rows: Vec<_> = batches.into_iter().map(|(_, b)| b.rows).collect();
    let rows = concat_batches(&driver.over.schema(), &rows).unwrap();
    let counts = rows.column(5).as_primitive::<Int64Type>();
    assert!(counts.values().iter().all(|c| *c == 7));
}
