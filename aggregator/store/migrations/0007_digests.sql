-- Digests of batches are deleted by their owner: no service may delete.

-- The marks are locked first and in the order of ingest. A batch that is not rated yet still
-- says of which node its group is.
CREATE FUNCTION forget_digests(days integer, at_once integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    total bigint;
BEGIN
    IF days IS NULL OR days < 35 THEN
        RAISE 'digests are kept for 35 days at least' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    WITH old AS MATERIALIZED (
        SELECT batch.stream_id, batch.sequence
        FROM batch
        JOIN stream USING (stream_id)
        WHERE batch.received_at < now() - make_interval(days => days)
          AND batch.sequence < stream.acked_through
          AND NOT EXISTS (
              SELECT FROM ingest_group AS unrated
              WHERE unrated.ingest_group_id = batch.ingest_group_id AND unrated.rated_at IS NULL
          )
        ORDER BY batch.stream_id, batch.sequence
        LIMIT at_once
    ),
    locked AS MATERIALIZED (
        SELECT stream_id FROM stream
        WHERE stream_id IN (SELECT stream_id FROM old)
        ORDER BY stream_id
        FOR NO KEY UPDATE
    ),
    noted AS (
        UPDATE stream SET forgotten_through = greatest(stream.forgotten_through, through.sequence)
        FROM (SELECT stream_id, max(sequence) AS sequence FROM old GROUP BY stream_id) AS through
        JOIN locked USING (stream_id)
        WHERE stream.stream_id = through.stream_id
    ),
    deleted AS (
        DELETE FROM batch USING old, locked
        WHERE batch.stream_id = old.stream_id AND batch.sequence = old.sequence
          AND locked.stream_id = old.stream_id
        RETURNING 1
    )
    SELECT count(*) INTO total FROM deleted;
    RETURN total;
END $$;
REVOKE ALL ON FUNCTION forget_digests(integer, integer) FROM PUBLIC;
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION forget_digests(integer, integer) SET search_path = %I, pg_temp',
                   current_schema());
END $$;
