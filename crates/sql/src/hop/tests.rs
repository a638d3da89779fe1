//! The rewritten queries, run by stock DataFusion.

use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;

use crate::parse::parse_query;
use crate::session::session_context;

const DATA: &str = "CREATE TABLE t AS SELECT column1 AS user_id, CAST(column2 AS TIMESTAMP) AS ts FROM (VALUES \
                    ('a', '2024-01-01T00:00:10Z'), ('a', '2024-01-01T00:00:40Z'), ('b', '2024-01-01T00:00:50Z'), ('b', NULL))";

/// The rows of a query, one text each, cells separated by a bar.
async fn rows(sql: &str) -> Vec<String> {
    let context: SessionContext = session_context();
    context.sql(DATA).await.unwrap().collect().await.unwrap();
    let query = parse_query("test", sql).unwrap_or_else(|e| panic!("{e}"));
    let batches = context.sql(&query.to_string()).await.unwrap_or_else(|e| panic!("{query}: {e}")).collect().await.unwrap();
    let text = pretty_format_batches(&batches).unwrap().to_string();
    let cells = |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|");
    text.lines().filter(|l| l.starts_with('|')).skip(1).map(cells).collect()
}

fn error(sql: &str) -> String {
    let error = parse_query("test", sql).unwrap_err();
    format!("{}: {}", error.location, error.message)
}

const HOP: &str = "hop(ts, INTERVAL '1 minute', INTERVAL '30 seconds')";

#[tokio::test(flavor = "current_thread")]
async fn rows_are_grouped_into_each_of_their_windows() {
    let sql = format!(
        "SELECT user_id, {HOP}['start'] AS s, {HOP}['end'] AS e, count(*) FROM t WHERE user_id <> 'x' \
         GROUP BY Hop(TS, INTERVAL '1 minute', INTERVAL '30 seconds'), user_id HAVING count(*) > 0 ORDER BY {HOP}['start'], user_id"
    );
    let expected = [
        "a|2023-12-31T23:59:30Z|2024-01-01T00:00:30Z|1",
        "a|2024-01-01T00:00:00Z|2024-01-01T00:01:00Z|2",
        "b|2024-01-01T00:00:00Z|2024-01-01T00:01:00Z|1",
        "a|2024-01-01T00:00:30Z|2024-01-01T00:01:30Z|1",
        "b|2024-01-01T00:00:30Z|2024-01-01T00:01:30Z|1",
    ];
    assert_eq!(rows(&sql).await, expected);
}

#[tokio::test(flavor = "current_thread")]
async fn a_star_does_not_stand_for_the_windows() {
    let sql = format!("SELECT *, {HOP}['start'] AS s FROM t AS x WHERE x.user_id = 'b'");
    let mut found = rows(&sql).await;
    found.sort();
    assert_eq!(found, ["b|2024-01-01T00:00:50Z|2024-01-01T00:00:00Z", "b|2024-01-01T00:00:50Z|2024-01-01T00:00:30Z"]);
}

#[tokio::test(flavor = "current_thread")]
async fn subqueries_unions_and_joins_have_windows_of_their_own() {
    let inside = format!("SELECT sum(n) FROM (SELECT count(*) AS n FROM t GROUP BY {HOP})");
    assert_eq!(rows(&inside).await, ["6"]);
    let union = format!("SELECT {HOP}['end'] AS e FROM t UNION SELECT {HOP}['end'] FROM t");
    assert_eq!(rows(&union).await.len(), 3);
    let join =
        "SELECT count(*) FROM t a JOIN t b ON a.user_id = b.user_id GROUP BY hop(a.ts, INTERVAL '1 day', INTERVAL '1 day')";
    assert_eq!(rows(join).await, ["6"]);
    assert_eq!(
        rows("SELECT hop(TIMESTAMP '2024-01-01', INTERVAL '1 day', INTERVAL '1 day')['end'] AS e").await,
        ["2024-01-02T00:00:00Z"]
    );
}

#[test]
fn a_time_of_no_one_table_is_told() {
    let message = "hop() over several tables must say whose column its time is";
    assert_eq!(error(&format!("SELECT {HOP} FROM t a, t b")), format!("1:8: {message}"));
    let order_by = format!("SELECT 1 FROM t ORDER BY {HOP}");
    assert_eq!(error(&order_by), "1:26: hop() in ORDER BY must stand in SELECT or GROUP BY too");
}
