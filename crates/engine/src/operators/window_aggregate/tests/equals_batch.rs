//! Properties: whatever the rows, the batches, the epochs and the disorder, the answer is plain DataFusion's.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_common::ScalarValue;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::super::{Window, WindowAggregate};
use super::rows::{Cut, Row, aggregates, batch, by_key, column, input, plan, run, same};
use crate::batch::Port;
use crate::time::Micros;

const DELAY: Micros = 50;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| tokio::runtime::Builder::new_current_thread().build().unwrap());

/// What DataFusion answers over all rows at once.
fn batch_answer(rows: &[Row], size: Micros, slide: Micros, sql: &str) -> BTreeMap<String, Vec<ScalarValue>> {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    let table = MemTable::try_new(input(), vec![vec![batch(rows, 0, size, slide)]]).unwrap();
    context.register_table("t", Arc::new(table)).unwrap();
    let answer = RUNTIME.block_on(async { context.sql(sql).await.unwrap().collect().await.unwrap() });
    answer.iter().flat_map(by_key).collect()
}

fn check(streamed: &BTreeMap<String, Vec<ScalarValue>>, batch: &BTreeMap<String, Vec<ScalarValue>>, sorted: bool) {
    assert_eq!(streamed.keys().collect::<Vec<_>>(), batch.keys().collect::<Vec<_>>());
    for (key, row) in streamed {
        for (i, (a, b)) in row.iter().zip(&batch[key]).enumerate().skip(2) {
            assert!(same(a, b, sorted), "{key}: column {i}: streamed {a:?}, batch {b:?}");
        }
    }
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (
        prop::option::weighted(0.9, 0u8..3),
        0..DELAY,
        prop::option::weighted(0.9, -20i32..24),
        prop::option::of(0i64..5),
        prop::option::of(0u8..4),
    );
    (prop::collection::vec(row, 1..120), prop::sample::select(vec![1, 7, 30])).prop_map(|(rows, step)| {
        let rows = rows.into_iter().zip(0..);
        rows.map(|((key, early, v, n, m), i)| Row { time: i * step - early, key, v, n, m }).collect()
    })
}

fn cut() -> impl Strategy<Value = Cut> {
    (prop::collection::vec(1usize..25, 1..5), 1usize..4, prop::option::of(1usize..6)).prop_map(|(batches, epoch, restart)| Cut {
        batches,
        epoch,
        restart,
    })
}

fn check_windows(rows: &[Row], cut: &Cut, size: Micros, slide: Micros, having: bool) {
    let (aggregates, sql) = aggregates();
    let having_sql = if having { "HAVING avg(v) > 0" } else { "" };
    let expected = batch_answer(rows, size, slide, &format!("SELECT w, k, {sql} FROM t GROUP BY w, k {having_sql}"));
    let plan = plan(Window::Struct { key: 0 }, aggregates, having);
    check_ports(&plan, rows, cut, size, slide, &expected, false);
}

fn check_ports(
    plan: &WindowAggregate,
    rows: &[Row],
    cut: &Cut,
    size: Micros,
    slide: Micros,
    expected: &BTreeMap<String, Vec<ScalarValue>>,
    sorted: bool,
) {
    let both = run(plan, &[Port::Rows, Port::Update], rows, cut, DELAY, size, slide);
    assert_eq!(both.late, 0);
    check(&both.final_rows(), expected, sorted);
    check(&both.newest, expected, sorted);
    let appended = run(plan, &[Port::Rows], rows, cut, DELAY, size, slide);
    check(&appended.final_rows(), expected, sorted);
    assert_eq!(appended.upserts, 0);
    let updated = run(plan, &[Port::Update], rows, cut, DELAY, size, slide);
    check(&updated.newest, expected, sorted);
    assert!(updated.finals.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn tumbling_windows_equal_batch(rows in rows(), cut in cut(), having in any::<bool>()) {
        check_windows(&rows, &cut, 100, 100, having);
    }

    #[test]
    fn hopping_windows_equal_batch(rows in rows(), cut in cut(), having in any::<bool>()) {
        check_windows(&rows, &cut, 60, 20, having);
    }

    #[test]
    fn sessions_equal_gaps_and_islands(rows in rows(), cut in cut(), having in any::<bool>(), gap in prop::sample::select(vec![2i64, 10, 31, 60])) {
        let (aggregates, sql) = aggregates();
        let having_sql = if having { "HAVING avg(v) > 0" } else { "" };
        let sql = format!(
            "WITH marked AS (SELECT *, CASE WHEN t - lag(t) OVER (PARTITION BY k ORDER BY t, id) < {gap} THEN 0 ELSE 1 END AS fresh FROM t),
             numbered AS (SELECT *, sum(fresh) OVER (PARTITION BY k ORDER BY t, id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS session FROM marked)
             SELECT named_struct('start', min(ts), 'end', max(ts) + INTERVAL '{gap} microseconds') AS w, k, {sql}
             FROM numbered GROUP BY k, session {having_sql}"
        );
        let expected = batch_answer(&rows, 1000, 1000, &sql);
        let plan = plan(Window::Session { key: 0, time: column("ts"), gap }, aggregates, having);
        check_ports(&plan, &rows, &cut, 1000, 1000, &expected, true);
    }
}
