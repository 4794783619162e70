-- Chunks of the hypertables: made before they are needed, dropped when they are not.
-- Only what the Apache edition of TimescaleDB has.

-- name: add_usage_chunks
-- A row makes its chunk; it is deleted in the same transaction and never seen.
INSERT INTO usage (meter_id, started_at, ended_at, allocated, used, effective, observed_ms,
                   ingest_group_id)
SELECT 0, day, day, 0, 0, 0, 0, 0
FROM generate_series(date_trunc('day', now(), 'UTC'),
                     date_trunc('day', now(), 'UTC') + make_interval(days => %(days)s),
                     INTERVAL '1 day') AS day
WHERE NOT EXISTS (
    SELECT FROM timescaledb_information.chunks
    WHERE hypertable_schema = current_schema() AND hypertable_name = 'usage'
      AND range_start <= day AND range_end > day
)
RETURNING started_at;

-- name: delete_usage_seeds
DELETE FROM usage
WHERE started_at = ANY (%(instants)s::timestamptz[]) AND meter_id = 0 AND ingest_group_id = 0;

-- name: add_charge_chunks
INSERT INTO charge (hour, meter_id, ratio_id, bill_id, started_at, ended_at, allocated, used,
                    effective, billed, length_ms, observed_ms, amount)
SELECT day, 0, 0, '00000000-0000-0000-0000-000000000000', day, day, 0, 0, 0, 0, 0, 0, 0
FROM (VALUES (date_trunc('day', now(), 'UTC')),
             (date_trunc('day', now(), 'UTC') + INTERVAL '7 days')) AS wanted (day)
WHERE NOT EXISTS (
    SELECT FROM timescaledb_information.chunks
    WHERE hypertable_schema = current_schema() AND hypertable_name = 'charge'
      AND range_start <= day AND range_end > day
)
RETURNING hour;

-- name: delete_charge_seeds
DELETE FROM charge WHERE hour = ANY (%(instants)s::timestamptz[]) AND meter_id = 0;

-- name: add_account_chunks
INSERT INTO node_account (hour, meter_id, allocated, used, effective, length_ms, observed_ms)
SELECT day, 0, 0, 0, 0, 0, 0
FROM (VALUES (date_trunc('day', now(), 'UTC')),
             (date_trunc('day', now(), 'UTC') + INTERVAL '7 days')) AS wanted (day)
WHERE NOT EXISTS (
    SELECT FROM timescaledb_information.chunks
    WHERE hypertable_schema = current_schema() AND hypertable_name = 'node_account'
      AND range_start <= day AND range_end > day
)
RETURNING hour;

-- name: delete_account_seeds
DELETE FROM node_account WHERE hour = ANY (%(instants)s::timestamptz[]) AND meter_id = 0;

-- name: count_expired_usage_chunks
SELECT count(*)
FROM timescaledb_information.chunks
WHERE hypertable_schema = current_schema() AND hypertable_name = 'usage'
  AND range_end <= now() - make_interval(days => %(days)s);

-- name: set_drop_timeout
SELECT set_config('lock_timeout', '5s', true);

-- name: wait_rater_lock
SELECT pg_advisory_xact_lock(%(lock)s);

-- name: stop_ingest
-- Nobody can bring late usage while we look for the oldest that is not rated.
LOCK TABLE ingest_group IN SHARE ROW EXCLUSIVE MODE;

-- name: drop_usage_chunks
SELECT drop_chunks('usage', older_than => least(
    now() - make_interval(days => %(days)s),
    (SELECT min(min_started_at) FROM ingest_group WHERE rated_at IS NULL)
));
