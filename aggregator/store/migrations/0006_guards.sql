-- Guards of what the owner alone may do, and of what nobody may. The services' roles and
-- their rights are no migration: see aggregator.store.grants.

-- Chunks are made and dropped by their owner. Services call these functions, which check
-- for themselves; both find their tables by a fixed search path, set below.

-- A row makes its chunk; it is deleted in the same transaction and never seen.
CREATE FUNCTION add_chunks(days_ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    today CONSTANT timestamptz := date_trunc('day', now(), 'UTC');
    made timestamptz[];
    total integer := 0;
BEGIN
    IF days_ahead IS NULL OR days_ahead NOT BETWEEN 0 AND 31 THEN
        RAISE 'chunks are made for 0 to 31 days ahead' USING ERRCODE = 'invalid_parameter_value';
    END IF;

    WITH seed AS (
        INSERT INTO usage (meter_id, started_at, ended_at, allocated, used, effective,
                           observed_ms, ingest_group_id)
        SELECT 0, day, day, 0, 0, 0, 0, 0
        FROM generate_series(today, today + make_interval(days => days_ahead),
                             INTERVAL '1 day') AS day
        WHERE NOT EXISTS (
            SELECT FROM timescaledb_information.chunks
            WHERE hypertable_schema = current_schema() AND hypertable_name = 'usage'
              AND range_start <= day AND range_end > day
        )
        RETURNING started_at
    )
    SELECT array_agg(started_at) INTO made FROM seed;
    DELETE FROM usage
    WHERE started_at = ANY (made) AND meter_id = 0 AND ingest_group_id = 0;
    total := total + coalesce(cardinality(made), 0);

    WITH seed AS (
        INSERT INTO charge (hour, meter_id, ratio_id, bill_id, started_at, ended_at, allocated,
                            used, effective, billed, length_ms, observed_ms, amount)
        SELECT day, 0, 0, '00000000-0000-0000-0000-000000000000', day, day,
               0, 0, 0, 0, 0, 0, 0
        FROM (VALUES (today), (today + INTERVAL '7 days')) AS wanted (day)
        WHERE NOT EXISTS (
            SELECT FROM timescaledb_information.chunks
            WHERE hypertable_schema = current_schema() AND hypertable_name = 'charge'
              AND range_start <= day AND range_end > day
        )
        RETURNING hour
    )
    SELECT array_agg(hour) INTO made FROM seed;
    DELETE FROM charge WHERE hour = ANY (made) AND meter_id = 0;
    total := total + coalesce(cardinality(made), 0);

    WITH seed AS (
        INSERT INTO node_account (hour, meter_id, allocated, used, effective, length_ms,
                                  observed_ms)
        SELECT day, 0, 0, 0, 0, 0, 0
        FROM (VALUES (today), (today + INTERVAL '7 days')) AS wanted (day)
        WHERE NOT EXISTS (
            SELECT FROM timescaledb_information.chunks
            WHERE hypertable_schema = current_schema() AND hypertable_name = 'node_account'
              AND range_start <= day AND range_end > day
        )
        RETURNING hour
    )
    SELECT array_agg(hour) INTO made FROM seed;
    DELETE FROM node_account WHERE hour = ANY (made) AND meter_id = 0;
    RETURN total + coalesce(cardinality(made), 0);
END $$;

-- Whole chunks of raw usage whose days are over for so long, and never one that is as new as
-- usage which is not rated: nobody can bring such while we look for the oldest.
CREATE FUNCTION drop_usage_chunks(usage_days integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '5s' AS $$
DECLARE
    dropped integer;
BEGIN
    IF usage_days IS NULL OR usage_days < 2 THEN
        RAISE 'usage is kept for 2 days at least' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE 'a snapshot that is older than the locks cannot tell what is not rated'
            USING ERRCODE = 'invalid_transaction_state';
    END IF;
    IF NOT EXISTS (
        SELECT FROM timescaledb_information.chunks
        WHERE hypertable_schema = current_schema() AND hypertable_name = 'usage'
          AND range_end <= now() - make_interval(days => usage_days)
    ) THEN
        RETURN 0;
    END IF;
    PERFORM pg_advisory_xact_lock(1852637187);  -- aggregator.model.RATER_LOCK
    LOCK TABLE ingest_group IN SHARE ROW EXCLUSIVE MODE;
    SELECT count(*) INTO dropped
    FROM drop_chunks('usage', older_than => least(
        now() - make_interval(days => usage_days),
        (SELECT min(min_started_at) FROM ingest_group WHERE rated_at IS NULL)
    ));
    RETURN dropped;
END $$;

REVOKE ALL ON FUNCTION add_chunks(integer), drop_usage_chunks(integer) FROM PUBLIC;

-- Our tables' schema, TimescaleDB's, and last what a session could make for itself.
DO $$
DECLARE
    path CONSTANT text := (
        SELECT quote_ident(nspname) || ', pg_temp'
        FROM pg_namespace
        WHERE oid = (SELECT extnamespace FROM pg_extension WHERE extname = 'timescaledb')
    );
BEGIN
    EXECUTE format('ALTER FUNCTION add_chunks(integer) SET search_path = %I, %s',
                   current_schema(), path);
    EXECUTE format('ALTER FUNCTION drop_usage_chunks(integer) SET search_path = %I, %s',
                   current_schema(), path);
END $$;

-- An end that was declared may be brought forward, and is never put back or taken away.
CREATE FUNCTION refuse_later_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE 'the version of % ended at %: it cannot end later', TG_TABLE_NAME, OLD.ends_at
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER ratio_ends_at_guard BEFORE UPDATE ON ratio FOR EACH ROW
    WHEN (OLD.ends_at < coalesce(NEW.ends_at, 'infinity'))
    EXECUTE FUNCTION refuse_later_end();
CREATE TRIGGER method_ends_at_guard BEFORE UPDATE ON method FOR EACH ROW
    WHEN (OLD.ends_at < coalesce(NEW.ends_at, 'infinity'))
    EXECUTE FUNCTION refuse_later_end();
