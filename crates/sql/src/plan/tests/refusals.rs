//! What is refused: the place, the reason, and what to write instead.

use super::refused;

/// The refusal of a query into a sink that takes anything.
fn refused_query(query: &str) -> String {
    refused(&format!("CREATE TABLE screen WITH (connector = 'bus');\nINSERT INTO screen {query};"))
}

#[test]
fn order_by_over_a_stream_is_refused() {
    assert_eq!(
        refused_query("SELECT * FROM transactions\n  ORDER BY amount"),
        "3:12: ORDER BY over a whole stream would wait for an end that never comes\nhint: order what reads the sink, or order inside a window: array_agg(x ORDER BY y) … GROUP BY tumble(…)"
    );
}

#[test]
fn limit_is_refused() {
    assert_eq!(
        refused_query("SELECT * FROM transactions LIMIT 5"),
        "2:53: LIMIT over a stream has no meaning that a restart could keep\nhint: leave it out, or filter with WHERE"
    );
}

#[test]
fn a_join_is_refused() {
    assert_eq!(
        refused_query("SELECT t.amount FROM transactions t JOIN transactions u ON t.user_id = u.user_id"),
        "2:61: joins are not supported yet\nhint: compare rows of one stream with LAG(…) OVER (PARTITION BY … ORDER BY …), or bring streams together with UNION ALL and GROUP BY"
    );
}

#[test]
fn a_subquery_is_refused() {
    assert_eq!(
        refused_query("SELECT * FROM transactions WHERE amount > (SELECT max(amount) FROM transactions)"),
        "2:63: a subquery inside an expression reads a whole stream for each row\nhint: compute it in a view of its own, or with a function OVER (PARTITION BY … ORDER BY …)"
    );
}

#[test]
fn random_is_refused() {
    assert_eq!(
        refused_query("SELECT user_id, random() AS r FROM transactions"),
        "2:36: random() gives another value when an epoch is run again, so outputs could not be repeated\nhint: derive the value from the row: a key of the record, or md5(…) of columns that identify it"
    );
}

#[test]
fn now_is_refused() {
    assert_eq!(
        refused_query("SELECT user_id, now() AS n FROM transactions"),
        "2:36: now has no repeatable value in a stream\nhint: declare a column at the source: broker_time TIMESTAMP METADATA FROM 'timestamp', or 'processing_time'"
    );
}

#[test]
fn lead_is_refused() {
    assert_eq!(
        refused_query("SELECT LEAD(amount) OVER (PARTITION BY user_id ORDER BY timestamp) AS n FROM transactions"),
        "2:27: LEAD looks at a row that has not come yet\nhint: write it from the later row's side: LAG(…) gives that row its predecessor"
    );
}

#[test]
fn rank_is_refused() {
    assert_eq!(
        refused_query("SELECT rank() OVER (PARTITION BY user_id ORDER BY timestamp) AS n FROM transactions"),
        "2:27: rank() is not possible over a stream\nhint: OVER knows LAG, ROW_NUMBER, FIRST_VALUE, LAST_VALUE and aggregates over a bounded frame"
    );
}

#[test]
fn a_window_built_on_a_named_one_is_refused_since_it_would_be_planned_without_it() {
    let window = "FROM transactions WINDOW w AS (PARTITION BY user_id ORDER BY timestamp)";
    let hint = "hint: write its PARTITION BY and ORDER BY out, or use the named window as it is: OVER w";
    assert_eq!(
        refused_query(&format!("SELECT sum(amount) OVER (w ROWS 3 PRECEDING) AS n {window}")),
        format!("2:27: a window that builds on a named one is not possible\n{hint}")
    );
    assert_eq!(
        refused_query(&format!("SELECT sum(amount) OVER v AS n {window}, v AS (w ROWS 3 PRECEDING)")),
        format!("2:124: a window that builds on a named one is not possible\n{hint}")
    );
}

#[test]
fn over_by_another_column_is_refused() {
    assert_eq!(
        refused_query("SELECT LAG(amount) OVER (PARTITION BY user_id ORDER BY amount) AS n FROM transactions"),
        "2:75: OVER … ORDER BY transactions.amount: that is not event time\nhint: write OVER (PARTITION BY … ORDER BY t), t being the column that the source's WATERMARK names"
    );
}

#[test]
fn over_in_descending_order_is_refused() {
    assert_eq!(
        refused_query("SELECT LAG(amount) OVER (PARTITION BY user_id ORDER BY timestamp DESC) AS n FROM transactions"),
        "2:75: OVER … ORDER BY … DESC: it would look at rows that have not come yet\nhint: write OVER (PARTITION BY … ORDER BY t), t being the column that the source's WATERMARK names"
    );
}

#[test]
fn a_running_total_is_refused() {
    assert_eq!(
        refused_query("SELECT sum(amount) OVER (PARTITION BY user_id ORDER BY timestamp) AS n FROM transactions"),
        "2:31: sum over all earlier rows would read an ever longer past for each row\nhint: bound the frame (ROWS BETWEEN 10 PRECEDING AND CURRENT ROW, RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW), or GROUP BY the key with emit = 'update'"
    );
}

#[test]
fn rows_that_follow_is_refused() {
    assert_eq!(
        refused_query(
            "SELECT avg(amount) OVER (PARTITION BY user_id ORDER BY timestamp ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) AS n FROM transactions"
        ),
        "2:31: avg OVER (ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING): rows that follow have not come yet\nhint: write ROWS BETWEEN n PRECEDING AND CURRENT ROW, or RANGE BETWEEN INTERVAL … PRECEDING AND CURRENT ROW"
    );
}

#[test]
fn windows_that_do_not_fit_is_refused() {
    assert_eq!(
        refused_query(
            "SELECT tumble(s, INTERVAL '10 minutes') AS w, max(n) AS m FROM (SELECT tumble(timestamp, INTERVAL '7 minutes')['start'] AS s, count(*) AS n FROM transactions GROUP BY tumble(timestamp, INTERVAL '7 minutes')) GROUP BY tumble(s, INTERVAL '10 minutes')"
        ),
        "2:13: these windows do not fit the windows of the aggregate below: its rows would come too late\nhint: take the end of the earlier window as time (its window_end), or a size that is a multiple of its size"
    );
}

#[test]
fn an_unknown_column_is_refused() {
    assert_eq!(refused_query("SELECT usr_id FROM transactions"), "2:27: column 'usr_id' not found\nhint: did you mean user_id?");
}

#[test]
fn an_unknown_table_is_refused() {
    assert_eq!(
        refused_query("SELECT * FROM transaction"),
        "2:34: table 'transaction' not found\nhint: did you mean transactions?"
    );
}

#[test]
fn an_unknown_function_is_refused() {
    assert_eq!(
        refused_query("SELECT tumbl(timestamp, INTERVAL '1 minute') AS w FROM transactions"),
        "2:27: Invalid function 'tumbl'\nhint: Possible function 'tumble'"
    );
}

#[test]
fn two_columns_of_one_name_is_refused() {
    assert_eq!(
        refused_query("SELECT user_id, merchant AS user_id FROM transactions"),
        "2:13: two columns are named user_id\nhint: name one of them otherwise: … AS other"
    );
}

#[test]
fn a_query_without_a_table_is_refused() {
    assert_eq!(
        refused_query("SELECT 1 AS one"),
        "2:13: a query without a table: it would run once, not over a stream\nhint: SELECT … FROM a table of this script"
    );
}

#[test]
fn intersect_is_refused() {
    assert_eq!(
        refused_query("SELECT user_id FROM transactions INTERSECT SELECT merchant FROM transactions"),
        "2:20: INTERSECT would have to remember every row of a stream that has no end\nhint: UNION ALL is possible, and WHERE on one stream"
    );
}

#[test]
fn a_script_without_insert_is_refused() {
    assert_eq!(
        refused("CREATE VIEW v AS SELECT * FROM transactions;"),
        "0:0: the script has no INSERT: there is nothing to run\nhint: add INSERT INTO a_sink SELECT … FROM a_source"
    );
}

#[test]
fn an_unknown_setting_is_refused() {
    assert_eq!(
        refused("SET pipline.name = 'x';\nCREATE TABLE s WITH (connector = 'bus'); INSERT INTO s SELECT * FROM transactions;"),
        "1:5: unknown setting 'pipline.name'\nhint: did you mean pipeline.name?"
    );
}

#[test]
fn a_setting_of_state_that_cannot_be_is_refused_with_its_place() {
    let refused = |set: &str| {
        refused(&format!("{set};\nCREATE TABLE s WITH (connector = 'bus'); INSERT INTO s SELECT * FROM transactions;"))
    };
    assert_eq!(refused("SET state.backend = 'disc'"), "1:5: SET state.backend: 'disc' is neither 'memory' nor 'disk'");
    assert_eq!(
        refused("SET state.memory = 'much'"),
        "1:5: SET state.memory: 'much' is not a size of at least '1 MiB', such as '256 MiB'"
    );
    assert_eq!(refused("SET state.path = ''"), "1:5: SET state.path: '' is no directory");
}

#[test]
fn an_unknown_connector_is_refused() {
    assert_eq!(
        refused("CREATE TABLE s WITH (connector = 'bos');\nINSERT INTO s SELECT * FROM transactions;"),
        "1:22: table s: option 'connector': there is no connector 'bos'"
    );
}

#[test]
fn an_unknown_sink_is_refused() {
    assert_eq!(
        refused("CREATE TABLE alerts WITH (connector = 'bus');\nINSERT INTO alert SELECT * FROM transactions;"),
        "2:13: INSERT INTO alert: there is no such table\nhint: did you mean alerts?"
    );
}

#[test]
fn a_query_of_too_few_columns_is_refused() {
    assert_eq!(
        refused(
            "CREATE TABLE s (a VARCHAR, b DOUBLE) WITH (connector = 'bus');\nINSERT INTO s SELECT user_id FROM transactions;"
        ),
        "2:13: s takes 2 columns (a, b); the query gives 1 (user_id)\nhint: columns are matched by position"
    );
}

#[test]
fn a_column_of_another_type_is_refused() {
    assert_eq!(
        refused(
            "CREATE TABLE s (a VARCHAR, b DOUBLE) WITH (connector = 'bus');\nINSERT INTO s SELECT user_id, merchant FROM transactions;"
        ),
        "2:31: column b of s is DOUBLE; the query gives VARCHAR there (transactions.merchant)\nhint: columns are matched by position; where the conversion is meant, write CAST(… AS …)"
    );
}

#[test]
fn a_column_left_out_that_is_not_null_is_refused() {
    assert_eq!(
        refused(
            "CREATE TABLE s (a VARCHAR NOT NULL, b DOUBLE) WITH (connector = 'bus');\nINSERT INTO s (b) SELECT amount FROM transactions;"
        ),
        "2:13: INSERT INTO s leaves out a, which is NOT NULL"
    );
}

#[test]
fn a_primary_key_that_is_no_column_is_refused() {
    assert_eq!(
        refused(
            "CREATE TABLE s (PRIMARY KEY (usr_id)) WITH (connector = 'store');\nINSERT INTO s SELECT user_id FROM transactions;"
        ),
        "1:14: PRIMARY KEY names usr_id, which is no column of s\nhint: did you mean user_id?"
    );
}

#[test]
fn reading_what_is_only_written_is_refused() {
    assert_eq!(
        refused(
            "CREATE TABLE s (a VARCHAR) WITH (connector = 'store');\nCREATE TABLE t WITH (connector = 'bus'); INSERT INTO t SELECT a FROM s;"
        ),
        "1:14: s can't be read: connector 'store' only writes"
    );
}
