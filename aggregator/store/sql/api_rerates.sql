-- Re-rating: the orders, and how far each of them is; what one would do is in rerate.sql.

-- name: is_ratio_key
SELECT EXISTS (SELECT FROM ratio WHERE key = %(key)s);

-- name: insert_rerate
WITH ordered AS (
    INSERT INTO rerate (starts_at, ends_at, key, reason, created_at, created_by, last_meter_id)
    SELECT %(starts_at)s, %(ends_at)s, %(key)s, %(reason)s, clock_timestamp(), %(actor)s,
           coalesce(max(meter_id), 0)
    FROM meter
    RETURNING rerate_id
)
INSERT INTO rerate_progress (rerate_id, through_meter_id, charge_count, line_count, updated_at)
SELECT rerate_id, 0, 0, 0, clock_timestamp() FROM ordered
RETURNING rerate_id;

-- name: list_rerates
-- The newest order first; of one id, or of all.
SELECT rerate.rerate_id, rerate.starts_at, rerate.ends_at, rerate.key, rerate.reason,
       rerate.created_at, rerate.created_by, rerate.last_meter_id,
       progress.through_meter_id, progress.charge_count, progress.line_count,
       progress.finished_at
FROM rerate JOIN rerate_progress AS progress USING (rerate_id)
WHERE %(rerate_id)s::bigint IS NULL OR rerate.rerate_id = %(rerate_id)s
ORDER BY rerate.rerate_id DESC;
