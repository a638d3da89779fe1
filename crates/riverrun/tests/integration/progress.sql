SET pipeline.name = 'devices';
SET progress.interval = '10 seconds';

CREATE TABLE readings (
    device VARCHAR NOT NULL, at TIMESTAMP NOT NULL, value DOUBLE NOT NULL,
    WATERMARK FOR at AS at - INTERVAL '10 seconds'
) WITH (connector = 'filesystem', path = '${INPUT}', format = 'json', watch = 'true', bad_records = 'drop');

CREATE TABLE minutes WITH (connector = 'blackhole');

INSERT INTO minutes
SELECT tumble(at, INTERVAL '1 minute')['start'] AS minute, device, count(*) AS n, sum(value) AS total
FROM readings GROUP BY tumble(at, INTERVAL '1 minute'), device;
