-- Every local sink, from one file: what a crash must neither lose nor repeat.
SET pipeline.name = 'crash';
SET checkpoint.location = '${DATA_DIR}/checkpoints';
SET checkpoint.interval = '10 ms';
SET state.backend = '${BACKEND}';
SET trigger.interval = '20 ms';          -- so that there is something to interrupt

CREATE TABLE transactions (
    transaction_id VARCHAR NOT NULL,
    user_id        VARCHAR NOT NULL,
    amount         DOUBLE NOT NULL,
    timestamp      TIMESTAMP NOT NULL,
    WATERMARK FOR timestamp AS timestamp - INTERVAL '2 minutes'
) WITH (
    connector = 'filesystem', path = '${INPUT}', format = 'json', max_offsets_per_trigger = 120,
    bad_records = 'dead_letter', dead_letter_path = '${DATA_DIR}/bad.jsonl', late_rows = 'late'
);

CREATE TABLE late (
    transaction_id VARCHAR, user_id VARCHAR, amount DOUBLE, timestamp TIMESTAMP
) WITH (connector = 'log', topic = 'late', key = 'user_id');

CREATE TABLE spending (PRIMARY KEY (user_id, window_start)) WITH (connector = 'table', emit = 'update');

CREATE TABLE steps (
    transaction_id VARCHAR, user_id VARCHAR, amount DOUBLE, before DOUBLE
) WITH (connector = 'log', topic = 'steps', key = 'user_id', emit = 'update');

CREATE TABLE totals (
    user_id VARCHAR, window_start TIMESTAMP, n BIGINT, total DOUBLE
) WITH (connector = 'log', topic = 'totals', key = 'user_id');

CREATE TABLE lake (
    transaction_id VARCHAR, user_id VARCHAR, amount DOUBLE, timestamp TIMESTAMP
) WITH (connector = 'delta', path = '${DATA_DIR}/lake', roll_interval = '20 ms');

CREATE TABLE folder (
    user_id VARCHAR, window_start TIMESTAMP, n BIGINT, total DOUBLE
) WITH (connector = 'filesystem', path = '${DATA_DIR}/folder/', format = 'json', roll_interval = '20 ms');

CREATE TABLE file (transaction_id VARCHAR, amount DOUBLE) WITH (connector = 'filesystem', path = '${DATA_DIR}/file.jsonl', format = 'json');

CREATE VIEW windows AS
SELECT user_id, tumble(timestamp, INTERVAL '1 minute')['start'] AS window_start, count(*) AS n, sum(amount) AS total
FROM transactions GROUP BY tumble(timestamp, INTERVAL '1 minute'), user_id;

INSERT INTO spending SELECT * FROM windows;
INSERT INTO totals SELECT * FROM windows;
INSERT INTO folder SELECT * FROM windows;
INSERT INTO steps
SELECT transaction_id, user_id, amount, LAG(amount) OVER (PARTITION BY user_id ORDER BY timestamp) AS before FROM transactions;
INSERT INTO lake SELECT transaction_id, user_id, amount, timestamp FROM transactions;
INSERT INTO file SELECT transaction_id, amount FROM transactions WHERE amount > 100;
