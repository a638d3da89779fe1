SET pipeline.name = 'transactions';
SET checkpoint.location = '${DATA_DIR:-./riverrun-data}/checkpoints';     -- a path, or s3://…
SET checkpoint.interval = '10 seconds';
SET trigger.interval = '0';                                               -- 0: continuous

CREATE TABLE transactions (
    transaction_id VARCHAR NOT NULL,
    user_id        VARCHAR NOT NULL,
    amount         DOUBLE NOT NULL,
    merchant       VARCHAR,
    category       VARCHAR,
    timestamp      TIMESTAMP NOT NULL,
    location       STRUCT<lat DOUBLE, lon DOUBLE>,
    device_type    VARCHAR,
    kafka_offset   BIGINT METADATA FROM 'offset',          -- key, topic, partition, offset, timestamp, headers, processing_time
    WATERMARK FOR timestamp AS timestamp - INTERVAL '10 minutes'
) PARTITIONED BY (user_id)                                 -- what the topic is keyed by
WITH (connector = '${BUS:-log}', brokers = '${KAFKA_BROKERS:-localhost:9092}', topic = 'financial-transactions', format = 'json',
      starting_offsets = '${STARTING_OFFSETS:-latest}', max_offsets_per_trigger = 10000,
      bad_records = 'dead_letter', dead_letter_topic = 'financial-transactions-dlq', late_rows = 'too_late');   -- or dead_letter_path

CREATE TABLE fraud_alerts (transaction_id VARCHAR, distance_km DOUBLE, PRIMARY KEY (transaction_id))
WITH (connector = '${BUS:-log}', topic = 'fraud-alerts', key = 'user_id', format = 'json');
CREATE TABLE aggregates (
    user_id VARCHAR, category VARCHAR, window_start TIMESTAMP, transaction_count BIGINT, merchants VARCHAR[],
    PRIMARY KEY (user_id, category, window_start) NOT ENFORCED
) WITH (connector = 'cassandra', emit = 'update', trigger = '1 second');
CREATE TABLE lake WITH (connector = 'delta', path = 's3://data-lake/transactions', partition_by = 'date', emit = 'append');   -- columns from the query
CREATE TABLE screen WITH (connector = 'console', trigger = '30 seconds', emit = 'update');

CREATE VIEW steps AS
  SELECT *, LAG(timestamp) OVER by_user AS prev_timestamp, LAG(location) OVER by_user AS prev_location
  FROM transactions WINDOW by_user AS (PARTITION BY user_id ORDER BY timestamp);

INSERT INTO aggregates
  SELECT user_id, category, tumble(timestamp, INTERVAL '5 minutes')['start'] AS window_start, count(*), array_agg(merchant)
  FROM transactions GROUP BY tumble(timestamp, INTERVAL '5 minutes'), user_id, category;
INSERT INTO fraud_alerts
  SELECT transaction_id, haversine_km(location['lat'], location['lon'], prev_location['lat'], prev_location['lon'])
  FROM steps WHERE amount > 10000;
