//! Whole queries and the graphs that they become.

use riverrun_engine::graph::{NodeKind, Parallelism};

use super::{explained, try_plan};

const AGGREGATES: &str = "
CREATE TABLE aggregates (user_id VARCHAR, category VARCHAR, window_start TIMESTAMP, window_end TIMESTAMP, transactions BIGINT,
    total DOUBLE, merchants VARCHAR[], PRIMARY KEY (user_id, category, window_start)) WITH (connector = 'store', trigger = '1 second');
INSERT INTO aggregates
SELECT user_id, category, tumble(timestamp, INTERVAL '5 minutes')['start'], tumble(timestamp, INTERVAL '5 minutes')['end'],
    count(*), sum(amount), array_agg(merchant)
FROM transactions GROUP BY tumble(timestamp, INTERVAL '5 minutes'), user_id, category;";

#[test]
fn tumbling_windows_are_upserted_by_key() {
    assert_eq!(explained(AGGREGATES), "tasks: one per partition; tasks share nothing
#0 source bus transactions
     partitioned by user_id
     watermark: timestamp - 600s
#1 aggregates.window_aggregate <- #0
     keys: user_id, category
     window: tumble(transactions.timestamp,300s), closes when the watermark passes its end
     aggregates: count(Int64(1)), sum(transactions.amount), array_agg(transactions.merchant)
     state: one row per key and window, freed when the watermark passes the window's end
#2 aggregates.project <- #1 (updates)
     user_id, category, window_start = get_field(tumble(transactions.timestamp,300s), start), window_end = get_field(tumble(transactions.timestamp,300s), end), transactions = count(Int64(1)), total = sum(transactions.amount), merchants = array_agg(transactions.merchant)
#3 aggregates.columns <- #2
     user_id, category, window_start, window_end, transactions, total, merchants
#4 sink store aggregates <- #3
     emit update, by key user_id, category, window_start, at most every 1s
");
}

const RAPID: &str = "
CREATE TABLE rapid WITH (connector = 'bus');
INSERT INTO rapid
SELECT hop(timestamp, INTERVAL '1 minute', INTERVAL '30 seconds')['start'] AS window_start,
    user_id, count(*) AS txn_count, sum(amount) AS total_spent
FROM transactions GROUP BY hop(timestamp, INTERVAL '1 minute', INTERVAL '30 seconds'), user_id HAVING count(*) > 5;";

#[test]
fn hopping_windows_unnest_only_what_is_read() {
    assert_eq!(explained(RAPID), "tasks: one per partition; tasks share nothing
#0 source bus transactions
     partitioned by user_id
     watermark: timestamp - 600s
#1 rapid.project <- #0
     user_id, amount, hop_windows(transactions.timestamp,60s,30s) = hop_windows(timestamp, 60s, 30s)
#2 rapid.unnest <- #1
     hop_windows(transactions.timestamp,60s,30s)
#3 rapid.window_aggregate <- #2
     keys: user_id
     window: hop(timestamp, INTERVAL '1 minute', INTERVAL '30 seconds'), closes when the watermark passes its end
     aggregates: count(Int64(1)), sum(transactions.amount)
     having: count(Int64(1))@2 > 5
     state: one row per key and window, freed when the watermark passes the window's end
#4 rapid.project_2 <- #3
     window_start = get_field(hop(timestamp, INTERVAL '1 minute', INTERVAL '30 seconds'), start), user_id, txn_count = count(Int64(1)), total_spent = sum(transactions.amount)
#5 sink bus rapid <- #4
     emit append
");
}

#[test]
fn final_and_changing_groups_come_from_one_aggregate_with_its_having() {
    let text = explained(
        "
CREATE TABLE once WITH (connector = 'bus');
CREATE TABLE live (PRIMARY KEY (user_id, window_start)) WITH (connector = 'store');
CREATE VIEW rapid AS
SELECT tumble(timestamp, INTERVAL '1 minute')['start'] AS window_start, user_id, count(*) AS n
FROM transactions GROUP BY tumble(timestamp, INTERVAL '1 minute'), user_id HAVING count(*) > 5;
INSERT INTO once SELECT * FROM rapid;
INSERT INTO live SELECT * FROM rapid;",
    );
    assert_eq!(text.matches("window_aggregate <-").count(), 1, "{text}");
}

const STEPS: &str = "
CREATE VIEW steps AS
SELECT *, LAG(timestamp) OVER w AS prev_timestamp, LAG(location) OVER w AS prev_location
FROM transactions WINDOW w AS (PARTITION BY user_id ORDER BY timestamp);
CREATE VIEW moves AS
SELECT *, haversine_km(prev_location['lat'], prev_location['lon'], location['lat'], location['lon']) AS distance_km FROM steps;
";

#[test]
fn alerts_leave_at_once() {
    let script = format!(
        "{STEPS}CREATE TABLE alerts (id VARCHAR NOT NULL, user_id VARCHAR, distance DOUBLE, PRIMARY KEY (id)) WITH (connector = 'store');
        INSERT INTO alerts SELECT transaction_id, user_id, distance_km FROM moves WHERE distance_km > 50;"
    );
    assert_eq!(explained(&script), "tasks: one per partition; tasks share nothing
#0 source bus transactions
     partitioned by user_id
     watermark: timestamp - 600s
#1 steps.project <- #0
     transaction_id, user_id, timestamp, location
#2 steps.over <- #1
     key user_id@1, ordered by timestamp@2
     lag(transactions.timestamp) = lag(timestamp@2, 1)
     lag(transactions.location) = lag(location@3, 1)
     kept: timestamp@2, location@3 of rows younger than the watermark
     newest row per key kept for ever; SET state.ttl to bound it
#3 moves.project <- #2 (updates)
     transaction_id, user_id, distance_km = haversine_km(get_field(prev_location, lat), get_field(prev_location, lon), get_field(location, lat), get_field(location, lon))
#4 alerts.filter <- #3
     distance_km > 50
#5 alerts.project <- #4
     id = transaction_id, user_id, distance = distance_km
#6 alerts.columns <- #5
     id, user_id, distance
#7 sink store alerts <- #6
     emit update, by key id
");
}

#[test]
fn a_view_that_two_queries_read_is_one_node() {
    let script = format!(
        "{STEPS}CREATE TABLE a WITH (connector = 'bus'); CREATE TABLE b WITH (connector = 'bus');
        INSERT INTO a SELECT transaction_id, distance_km FROM moves WHERE distance_km > 50;
        INSERT INTO b SELECT m.user_id, s.prev_timestamp FROM (SELECT * FROM steps) s;"
    )
    .replace("m.user_id", "s.user_id");
    let graph = try_plan(&script).unwrap().graph;
    let count = |name: &str| graph.nodes.iter().filter(|n| matches!(&n.kind, NodeKind::Operator(o) if o.name() == name)).count();
    assert_eq!(count("over"), 1);
    assert_eq!(graph.sources().count(), 1);
    assert_eq!(graph.parallelism, Parallelism::Partitioned);
}

#[test]
fn an_aggregate_of_an_aggregate_follows_its_windows() {
    let script = "CREATE VIEW minutes AS SELECT user_id, tumble(timestamp, INTERVAL '1 minute')['start'] AS minute, count(*) AS n
            FROM transactions GROUP BY tumble(timestamp, INTERVAL '1 minute')['start'], user_id;
        CREATE TABLE hours WITH (connector = 'bus');
        INSERT INTO hours SELECT user_id, tumble(minute, INTERVAL '1 hour') AS hour, max(n) AS most
            FROM minutes GROUP BY user_id, tumble(minute, INTERVAL '1 hour');";
    assert_eq!(
        explained(script),
        "tasks: one per partition; tasks share nothing
#0 source bus transactions
     partitioned by user_id
     watermark: timestamp - 600s
#1 minutes.window_aggregate <- #0
     keys: user_id
     window: tumble(transactions.timestamp,60s)[start], closes when the watermark passes it by 60s
     aggregates: count(Int64(1))
     state: one row per key and window, freed when the watermark passes the window's end
#2 minutes.project <- #1
     user_id, minute = tumble(transactions.timestamp,60s)[start], n = count(Int64(1))
#3 hours.window_aggregate <- #2
     keys: user_id
     window: tumble(minutes.minute,3600s), closes when the watermark passes its end
     aggregates: max(minutes.n)
     state: one row per key and window, freed when the watermark passes the window's end
#4 hours.columns <- #3
     user_id, hour = tumble(minutes.minute,3600s), most = max(minutes.n)
#5 sink bus hours <- #4
     emit append
"
    );
}

#[test]
fn union_all_is_one_node_with_two_inputs() {
    let script = "CREATE TABLE large WITH (connector = 'bus');
        INSERT INTO large SELECT user_id, amount FROM transactions WHERE amount > 5000
            UNION ALL SELECT merchant, 1 FROM transactions WHERE category = 'Electronics';";
    assert_eq!(
        explained(script),
        "tasks: one per partition; tasks share nothing
#0 source bus transactions   (shared by 2)
     partitioned by user_id
     watermark: timestamp - 600s
#1 large.filter <- #0
     amount > 5000
#2 large.project <- #1
     user_id, amount
#3 large.filter_2 <- #0
     category = Electronics
#4 large.project_2 <- #3
     user_id = merchant, amount = 1
#5 large.union <- #2 <- #4
#6 sink bus large <- #5
     emit append
"
    );
}

#[test]
fn late_rows_and_dead_letters_have_sinks_of_their_own() {
    let script =
        "CREATE TABLE readings (sensor VARCHAR, at TIMESTAMP, value DOUBLE, WATERMARK FOR at AS at - INTERVAL '1 second')
            WITH (connector = 'bus', late_rows = 'too_late', dead_letter_topic = 'broken', keyspace = 'x');
        CREATE TABLE too_late (at TIMESTAMP, sensor VARCHAR) WITH (connector = 'bus');
        CREATE TABLE all_readings WITH (connector = 'bus');
        INSERT INTO all_readings SELECT * FROM readings;";
    assert_eq!(
        explained(script),
        "tasks: one per partition; tasks share nothing
#0 source bus readings   (shared by 3)
     watermark: at - 1s
#1 too_late.project <- #0 (late rows)
     at, sensor
#2 sink bus all_readings <- #0
     emit append
#3 sink bus too_late <- #1
     emit append
#4 sink bus broken <- #0 (dead letters)
     emit append
ignored: option 'keyspace' of readings (it belongs to another connector)
"
    );
}

#[test]
fn a_key_without_the_partition_key_needs_one_task() {
    let script = "CREATE TABLE by_category WITH (connector = 'bus');
        INSERT INTO by_category SELECT category, date_trunc('hour', timestamp) AS hour, sum(amount) AS total
            FROM transactions GROUP BY category, date_trunc('hour', timestamp);";
    assert_eq!(
        explained(script).lines().next(),
        Some(
            "tasks: one, over all partitions: GROUP BY category, date_trunc(Utf8(\"hour\"),transactions.timestamp) does not contain user_id, by which the source is partitioned"
        )
    );
}
