CREATE TABLE transactions (
    transaction_id VARCHAR NOT NULL, user_id VARCHAR NOT NULL, amount DOUBLE NOT NULL, merchant VARCHAR, category VARCHAR,
    timestamp TIMESTAMP NOT NULL, location STRUCT<lat DOUBLE, lon DOUBLE>, device_type VARCHAR,
    WATERMARK FOR timestamp AS timestamp - INTERVAL '10 minutes'
) PARTITIONED BY (user_id)
WITH (connector = 'filesystem', path = '${INPUT}', format = 'json', bad_records = 'drop');

CREATE TABLE spending WITH (connector = 'blackhole');
CREATE TABLE rapid WITH (connector = 'blackhole');
CREATE TABLE journeys WITH (connector = 'blackhole');
CREATE TABLE hourly WITH (connector = 'blackhole');
CREATE TABLE both WITH (connector = 'blackhole');

CREATE VIEW five_minutes AS
SELECT tumble(timestamp, INTERVAL '5 minutes')['start'] AS window_start, user_id, category, count(*) AS n, round(sum(amount), 4) AS total,
       max(amount) AS most, min(amount) AS least, round(avg(amount), 6) AS average, array_agg(merchant) AS merchants,
       count(DISTINCT merchant) AS shops, count(*) FILTER (WHERE amount > 1000) AS large
FROM transactions GROUP BY tumble(timestamp, INTERVAL '5 minutes'), user_id, category;

INSERT INTO spending SELECT * FROM five_minutes;

INSERT INTO rapid
SELECT hop(timestamp, INTERVAL '1 minute', INTERVAL '30 seconds')['start'] AS window_start, user_id, count(*) AS n, round(sum(amount), 4) AS spent
FROM transactions GROUP BY hop(timestamp, INTERVAL '1 minute', INTERVAL '30 seconds'), user_id HAVING count(*) > 5;

INSERT INTO journeys
SELECT transaction_id, user_id, prev_timestamp,
       round(haversine_km(prev_location['lat'], prev_location['lon'], location['lat'], location['lon']), 6) AS km, row, mean
FROM (
    SELECT *, LAG(timestamp) OVER w AS prev_timestamp, LAG(location) OVER w AS prev_location, ROW_NUMBER() OVER w AS row,
           round(avg(amount) OVER (PARTITION BY user_id ORDER BY timestamp ROWS BETWEEN 9 PRECEDING AND CURRENT ROW), 6) AS mean
    FROM transactions WINDOW w AS (PARTITION BY user_id ORDER BY timestamp)
) WHERE amount > 100;

-- An aggregate of an aggregate.
INSERT INTO hourly
SELECT tumble(window_start, INTERVAL '1 hour')['start'] AS hour, category, sum(n) AS n, count(*) AS windows
FROM five_minutes GROUP BY tumble(window_start, INTERVAL '1 hour'), category;

INSERT INTO both
SELECT transaction_id, 'large' AS why FROM transactions WHERE amount > 2000
UNION ALL
SELECT transaction_id, 'online' AS why FROM transactions WHERE device_type = 'web';
