-- Who tells a run, or keeps the accounts of a node (the subject is then below zero): one
-- stream at a time. All of this runs within the transaction of ingest.

-- name: list_claims
SELECT subject, stream_id, moved_at IS NOT NULL
FROM claim
WHERE subject = ANY (%(subjects)s::bigint[]);

-- name: insert_claims
INSERT INTO claim (subject, stream_id)
SELECT subject, stream_id
FROM unnest(%(subjects)s::bigint[], %(stream_ids)s::uuid[]) AS said (subject, stream_id)
ORDER BY subject
ON CONFLICT (subject) DO NOTHING;

-- name: lock_claims
SELECT subject, stream_id
FROM claim
WHERE subject = ANY (%(subjects)s::bigint[])
ORDER BY subject
FOR NO KEY UPDATE;

-- name: list_unrated_groups
-- Those that hold records of a node, and when the earliest of these begins.
SELECT unrated.ingest_group_id, unrated.min_started_at
FROM ingest_group AS unrated
WHERE unrated.rated_at IS NULL AND unrated.record_count > 0
  AND EXISTS (
      SELECT FROM batch JOIN stream USING (stream_id)
      WHERE stream.node_id = %(node_id)s AND batch.ingest_group_id = unrated.ingest_group_id
  );

-- name: raise_run_floors
-- Through when each type and device of these runs is durable: rated, or in the groups that
-- were not rated when they were listed (the other way round something could be in neither).
INSERT INTO claim_floor AS kept (subject, type, device, floor_at)
SELECT meter.run_id, class.type, meter.device, max(told.ended_at)
FROM meter
JOIN price_class AS class USING (price_class_id)
JOIN (
    SELECT charge.meter_id, charge.ended_at
    FROM charge
    WHERE charge.meter_id = ANY (ARRAY(
        SELECT meter_id FROM meter WHERE run_id = ANY (%(run_ids)s::bigint[])))
    UNION ALL
    SELECT late.meter_id, late.ended_at  -- of a closed period
    FROM adjustment AS late
    WHERE late.meter_id = ANY (ARRAY(
        SELECT meter_id FROM meter WHERE run_id = ANY (%(run_ids)s::bigint[])))
    UNION ALL
    SELECT usage.meter_id, usage.ended_at
    FROM usage
    WHERE usage.ingest_group_id = ANY (%(ingest_group_ids)s::bigint[])
      AND usage.started_at >= %(starts_at)s::timestamptz AND usage.meter_id > 0
) AS told USING (meter_id)
WHERE meter.run_id = ANY (%(run_ids)s::bigint[])
GROUP BY meter.run_id, class.type, meter.device
ON CONFLICT (subject, type, device)
DO UPDATE SET floor_at = greatest(kept.floor_at, excluded.floor_at);

-- name: raise_account_floors
-- All accounts of a type and device are told together, though not each has something to tell.
INSERT INTO claim_floor AS kept (subject, type, device, floor_at)
SELECT -meter.node_id, meter.type, meter.device, max(told.ended_at)
FROM node_meter AS meter
JOIN (
    SELECT account.meter_id, coalesce(account.ended_at, account.hour + INTERVAL '1 hour') AS ended_at
    FROM node_account AS account
    WHERE account.meter_id = ANY (ARRAY(
        SELECT meter_id FROM node_meter WHERE node_id = %(node_id)s))
      AND account.hour >= now() - INTERVAL '100 days'  -- the spool of an agent is not older
    UNION ALL
    SELECT late.meter_id, late.hour + INTERVAL '1 hour'  -- of a closed period
    FROM late_account AS late
    WHERE late.meter_id = ANY (ARRAY(
        SELECT meter_id FROM node_meter WHERE node_id = %(node_id)s))
    UNION ALL
    SELECT usage.meter_id, usage.ended_at
    FROM usage
    WHERE usage.ingest_group_id = ANY (%(ingest_group_ids)s::bigint[])
      AND usage.started_at >= %(starts_at)s::timestamptz AND usage.meter_id < 0
) AS told USING (meter_id)
WHERE meter.node_id = %(node_id)s
GROUP BY meter.node_id, meter.type, meter.device
ON CONFLICT (subject, type, device)
DO UPDATE SET floor_at = greatest(kept.floor_at, excluded.floor_at);

-- name: move_claims
UPDATE claim SET stream_id = %(stream_id)s, moved_at = now()
WHERE subject = ANY (%(subjects)s::bigint[]);

-- name: note_seizures
-- Whoever has a connection of these streams learns that it may not tell all that it knows.
UPDATE stream SET seizures = seizures + 1 WHERE stream_id = ANY (%(stream_ids)s::uuid[]);

-- name: reopen_runs
-- Their end was said by who does not tell them any more.
UPDATE run SET ended_at = NULL, ended_group_id = NULL, settled_at = NULL
WHERE run_id = ANY (%(run_ids)s::bigint[]) AND ended_at IS NOT NULL;

-- name: list_claim_floors
SELECT subject, type, device, floor_at
FROM claim_floor
WHERE subject = ANY (%(subjects)s::bigint[]);
