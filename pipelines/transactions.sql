-- Fraud detection over financial transactions: queries 1 to 3 in one graph, from one read and one decode of the topic.
--
-- On a laptop nothing else is needed: the embedded log stands in for Kafka, the embedded table for Cassandra.
--   riverrun run pipelines/transactions.sql
-- With Kafka and Cassandra, and the lake elsewhere (and transactions and alerts in Avro: --set FORMAT=avro
-- --set SCHEMA_REGISTRY=http://…):
--   riverrun run pipelines/transactions.sql --set BUS=kafka --set KAFKA_BROKERS=broker:9092 --set LAKE=/data/lake \
--     --set AGGREGATES=cassandra --set CASSANDRA=node:9042

SET pipeline.name = 'transactions';
SET checkpoint.location = '${DATA_DIR:-./riverrun-data}/checkpoints';
SET checkpoint.interval = '10 seconds';
SET trigger.interval = '${TRIGGER_INTERVAL:-0}';          -- 0: continuous; '10 seconds': micro-batches

-- Names of our own for three metrics, beside all others on /metrics: how many, how fast (from a record's time in the topic to
-- its alert), and how many users there were in the current minute.
SET metric.transactions_processed_total = 'riverrun_source_rows_total{source="transactions"}';
SET metric.processing_latency_seconds = 'riverrun_sink_latency_seconds{sink="fraud_alerts"}';
SET metric.active_users = 'riverrun_window_groups{operator="rapid.window_aggregate"}';

CREATE TABLE transactions (
    transaction_id  VARCHAR NOT NULL,
    user_id         VARCHAR NOT NULL,
    amount          DOUBLE NOT NULL,
    merchant        VARCHAR,
    category        VARCHAR,
    timestamp       TIMESTAMP NOT NULL,
    location        STRUCT<lat DOUBLE, lon DOUBLE>,
    device_type     VARCHAR,
    kafka_key       VARCHAR   METADATA FROM 'key',
    kafka_topic     VARCHAR   METADATA FROM 'topic',
    kafka_partition INT       METADATA FROM 'partition',
    kafka_offset    BIGINT    METADATA FROM 'offset',
    kafka_timestamp TIMESTAMP METADATA FROM 'timestamp',
    processing_time TIMESTAMP METADATA FROM 'processing_time',
    WATERMARK FOR timestamp AS timestamp - INTERVAL '10 minutes'
) PARTITIONED BY (user_id)
WITH (
    connector = '${BUS:-log}', brokers = '${KAFKA_BROKERS:-localhost:9092}', topic = 'financial-transactions',
    partitions = '${PARTITIONS:-10}',
    format = '${FORMAT:-json}', schema_registry = '${SCHEMA_REGISTRY:-http://localhost:8081}',
    starting_offsets = '${STARTING_OFFSETS:-latest}', max_offsets_per_trigger = '${MAX_OFFSETS_PER_TRIGGER:-1000000}',
    bad_records = 'dead_letter', dead_letter_topic = 'financial-transactions-dlq', late_rows = 'too_late'
);

-- Rows that came more than 10 minutes behind: kept, with where they came from.
CREATE TABLE too_late WITH (
    connector = '${BUS:-log}', brokers = '${KAFKA_BROKERS:-localhost:9092}', topic = 'financial-transactions-late',
    key = 'user_id', format = 'json'
);

-- Query 1: spending per user and category in windows of 5 minutes, kept up to date while they are open.
CREATE TABLE transaction_aggregates (
    PRIMARY KEY (user_id, category, window_start)
) WITH (
    connector = '${AGGREGATES:-table}', emit = 'update',
    contact_points = '${CASSANDRA:-localhost:9042}', keyspace = '${CASSANDRA_KEYSPACE:-realtime_analytics}',
    username = '${CASSANDRA_USERNAME:-}', password = '${CASSANDRA_PASSWORD:-}', null_keys = 'empty'
);

CREATE TABLE screen WITH (connector = '${SCREEN:-console}', emit = 'update', trigger = '30 seconds');

CREATE VIEW spending AS
SELECT tumble(timestamp, INTERVAL '5 minutes')['start'] AS window_start,
       tumble(timestamp, INTERVAL '5 minutes')['end']   AS window_end,
       user_id,
       category,
       count(*)            AS transaction_count,
       sum(amount)         AS total_amount,
       avg(amount)         AS avg_amount,
       max(amount)         AS max_amount,
       min(amount)         AS min_amount,
       array_agg(merchant) AS merchants
FROM transactions
GROUP BY tumble(timestamp, INTERVAL '5 minutes'), user_id, category;

INSERT INTO transaction_aggregates SELECT * FROM spending;
INSERT INTO screen SELECT * FROM spending;

-- Query 2: users with more than five transactions within a minute. The topic gets each window once, when it is final; the
-- table shows it as soon as the sixth arrives.
CREATE TABLE rapid_transactions WITH (
    connector = '${BUS:-log}', brokers = '${KAFKA_BROKERS:-localhost:9092}', topic = 'rapid-transactions',
    key = 'user_id', format = 'json'
);
CREATE TABLE rapid_users (
    PRIMARY KEY (user_id, window_start)
) WITH (
    connector = '${AGGREGATES:-table}', emit = 'update',
    contact_points = '${CASSANDRA:-localhost:9042}', keyspace = '${CASSANDRA_KEYSPACE:-realtime_analytics}',
    username = '${CASSANDRA_USERNAME:-}', password = '${CASSANDRA_PASSWORD:-}'
);

CREATE VIEW rapid AS
SELECT hop(timestamp, INTERVAL '1 minute', INTERVAL '30 seconds')['start'] AS window_start,
       hop(timestamp, INTERVAL '1 minute', INTERVAL '30 seconds')['end']   AS window_end,
       user_id,
       count(*)    AS txn_count,
       sum(amount) AS total_spent
FROM transactions
GROUP BY hop(timestamp, INTERVAL '1 minute', INTERVAL '30 seconds'), user_id
HAVING count(*) > 5;

INSERT INTO rapid_transactions SELECT * FROM rapid;
INSERT INTO rapid_users SELECT * FROM rapid;

-- Query 3: each transaction against the user's previous one: speed over ground, large amounts, rapid changes of place.
CREATE TABLE fraud_alerts (
    PRIMARY KEY (transaction_id)
) WITH (
    connector = '${BUS:-log}', brokers = '${KAFKA_BROKERS:-localhost:9092}', topic = 'fraud-alerts',
    key = 'user_id', emit = 'update',
    format = '${FORMAT:-json}', schema_registry = '${SCHEMA_REGISTRY:-http://localhost:8081}'
);

CREATE VIEW steps AS
SELECT *, LAG(timestamp) OVER by_user AS prev_timestamp, LAG(location) OVER by_user AS prev_location
FROM transactions
WINDOW by_user AS (PARTITION BY user_id ORDER BY timestamp);

CREATE VIEW journeys AS
SELECT *,
       date_part('epoch', timestamp) - date_part('epoch', prev_timestamp) AS time_diff_seconds,
       haversine_km(prev_location['lat'], prev_location['lon'], location['lat'], location['lon']) AS distance_km
FROM steps;

CREATE VIEW scored AS
SELECT *,
       CASE WHEN time_diff_seconds > 0 THEN coalesce(distance_km / time_diff_seconds * 3600.0, 0.0) ELSE 0.0 END AS velocity_kmh
FROM journeys;

INSERT INTO fraud_alerts
SELECT transaction_id, user_id, amount, merchant, category, timestamp, location, device_type,
       prev_timestamp, prev_location, time_diff_seconds, distance_km, velocity_kmh,
       true AS fraud_flag,
       array_remove_all(make_array(
           CASE WHEN velocity_kmh > 800 THEN 'IMPOSSIBLE_TRAVEL' ELSE '' END,
           CASE WHEN amount > 10000 THEN 'LARGE_AMOUNT' ELSE '' END,
           CASE WHEN time_diff_seconds < 60 AND distance_km > 50 THEN 'RAPID_CHANGE_OF_PLACE' ELSE '' END
       ), '') AS reasons,
       kafka_topic AS topic, kafka_partition AS partition, kafka_offset AS "offset", processing_time
FROM scored
WHERE velocity_kmh > 800 OR amount > 10000 OR (time_diff_seconds < 60 AND distance_km > 50);

-- The lake: every parsed transaction, by day of its event time.
CREATE TABLE lake WITH (connector = '${LAKE_CONNECTOR:-delta}', path = '${LAKE:-./riverrun-data/lake}/transactions', partition_by = 'date');

INSERT INTO lake
SELECT transaction_id, user_id, amount, merchant, category, timestamp, location, device_type,
       kafka_key, kafka_timestamp, kafka_partition AS partition, kafka_offset AS "offset", processing_time,
       CAST(timestamp AS DATE) AS date
FROM transactions;
