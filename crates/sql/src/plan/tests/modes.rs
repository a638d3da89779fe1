//! Emit modes, keys and what they demand of a sink.

use super::{explained, refused};

const BY_USER: &str = "SELECT user_id, tumble(timestamp, INTERVAL '1 hour')['start'] AS hour, sum(amount) AS total
    FROM transactions GROUP BY user_id, tumble(timestamp, INTERVAL '1 hour')";

fn into(table: &str, query: &str) -> String {
    format!("CREATE TABLE totals {table};\nINSERT INTO totals {query};")
}

#[test]
fn without_a_window_only_updates_are_given() {
    let query = "SELECT user_id, sum(amount) FROM transactions GROUP BY user_id";
    let store = "(user_id VARCHAR, total DOUBLE, PRIMARY KEY (user_id)) WITH (connector = 'store')";
    assert!(explained(&into(store, query)).contains("(updates)"));
    assert_eq!(
        refused(&into("WITH (connector = 'bus')", query)),
        "2:75: this GROUP BY has no window of event time: its groups would never be final\nhint: group by a window as well, tumble(timestamp, INTERVAL '5 minutes'); or write the changing groups to a sink with a PRIMARY KEY (emit = 'update')"
    );
}

#[test]
fn a_sink_that_cannot_replace_rows_takes_no_updates() {
    assert_eq!(
        refused(&into("WITH (connector = 'bus', emit = 'update')", BY_USER)),
        "2:13: totals: connector 'bus' can't replace rows that change\nhint: emit = 'append' gives each group once, when it is final"
    );
}

#[test]
fn having_in_update_mode_needs_a_sink_that_deletes() {
    let query = format!("{BY_USER} HAVING sum(amount) > 100");
    let table = "(user_id VARCHAR, hour TIMESTAMP, total DOUBLE, PRIMARY KEY (user_id, hour)) WITH (connector = 'upserts')";
    assert_eq!(
        refused(&into(table, &query)),
        "2:13: totals: a group that passed HAVING may fail it later, and connector 'upserts' can't take a row back\nhint: emit = 'append' gives each group once, when it is final"
    );
    assert!(explained(&into(&table.replace("upserts", "store"), &query)).contains("(updates)"));
}

#[test]
fn a_filter_over_group_keys_takes_nothing_back() {
    let query = format!("SELECT * FROM ({BY_USER}) WHERE user_id <> 'user_1'");
    let table = "(user_id VARCHAR, hour TIMESTAMP, total DOUBLE, PRIMARY KEY (user_id, hour)) WITH (connector = 'upserts')";
    assert!(explained(&into(table, &query)).contains("filter"));
    let refusal = refused(&into(table, &query.replace("user_id <> 'user_1'", "total > 5")));
    assert!(refusal.contains("can't take a row back"), "{refusal}");
}

#[test]
fn sessions_in_update_mode_need_a_sink_that_deletes() {
    let query = "SELECT user_id, session(timestamp, INTERVAL '10 minutes')['start'], count(*)
        FROM transactions GROUP BY user_id, session(timestamp, INTERVAL '10 minutes')";
    let table = "(user_id VARCHAR, start TIMESTAMP, n BIGINT, PRIMARY KEY (user_id, start)) WITH (connector = 'upserts')";
    assert_eq!(
        refused(&into(table, query)),
        "2:13: totals: sessions merge, and what was sent of either is then wrong, and connector 'upserts' can't take a row back\nhint: emit = 'append' gives each group once, when it is final"
    );
    assert!(explained(&into(&table.replace("upserts", "store"), query)).contains("(updates)"));
}

#[test]
fn the_primary_key_must_tell_groups_apart() {
    let table = "(user_id VARCHAR, hour TIMESTAMP, total DOUBLE, PRIMARY KEY (user_id)) WITH (connector = 'store')";
    assert_eq!(
        refused(&into(table, BY_USER)),
        "2:13: the PRIMARY KEY of totals lacks tumble(transactions.timestamp,3600s), by which the query groups: rows of different groups would overwrite each other\nhint: add a column that holds it to the PRIMARY KEY, or take it out of GROUP BY"
    );
}

#[test]
fn the_primary_key_must_not_change_while_a_group_lives() {
    let table = "(user_id VARCHAR, hour TIMESTAMP, total DOUBLE, PRIMARY KEY (user_id, hour, total)) WITH (connector = 'store')";
    assert_eq!(
        refused(&into(table, BY_USER)),
        "2:13: the PRIMARY KEY of totals contains total, which changes while its group lives: each change would leave a row behind\nhint: a PRIMARY KEY may hold what the query groups by"
    );
}
