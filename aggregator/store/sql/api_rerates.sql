-- Re-rating: what an order would do, the orders, and how far each of them is.

-- name: preview_rerate
-- What an order would do, by job: what the charges that it would change come to, before and
-- after, by type. As rerate_meters, which it must equal; but of all meters, and written nowhere.
WITH line AS MATERIALIZED (
    SELECT meter_id, ratio_id, bill_id, min(started_at) AS started_at,
           sum(billed) AS billed, sum(amount) AS amount
    FROM (
        SELECT hour AS used_hour, meter_id, ratio_id, bill_id, started_at, billed, length_ms,
               amount
        FROM charge
        WHERE hour >= %(starts_at)s::timestamptz AND hour < %(ends_at)s::timestamptz
        UNION ALL
        SELECT used_hour, meter_id, ratio_id, bill_id, started_at, billed, length_ms, amount
        FROM adjustment
        WHERE hour >= %(starts_at)s::timestamptz
          AND used_hour >= %(starts_at)s::timestamptz AND used_hour < %(ends_at)s::timestamptz
    ) AS booked
    GROUP BY meter_id, used_hour, ratio_id, bill_id
    HAVING sum(length_ms) > 0
),
classed AS MATERIALIZED (
    SELECT line.*, meter.price_class_id,
           width_bucket(line.started_at, %(boundaries)s::timestamptz[]) AS slot
    FROM line
    JOIN meter USING (meter_id)
    JOIN price_class AS class USING (price_class_id)
    WHERE (%(type)s::text IS NULL OR class.type = %(type)s)
      AND (%(model)s::text IS NULL OR class.model = %(model)s)
      AND (%(vc)s::text IS NULL OR class.vc = %(vc)s)
),
price AS MATERIALIZED (
    SELECT wanted.price_class_id, wanted.slot,
           coalesce(best.ratio_id, 0) AS ratio_id, coalesce(best.value, 0) AS value
    FROM (SELECT DISTINCT price_class_id, slot FROM classed) AS wanted
    JOIN price_class AS class USING (price_class_id)
    CROSS JOIN LATERAL (
        SELECT coalesce((%(boundaries)s::timestamptz[])[wanted.slot],
                        %(starts_at)s::timestamptz) AS at
    ) AS slot_start
    LEFT JOIN LATERAL (
        SELECT ratio.ratio_id, ratio.value
        FROM ratio
        WHERE ratio.type = class.type
          AND coalesce(ratio.model, '') IN ('', coalesce(class.model, ''))
          AND coalesce(ratio.vc, '') IN ('', class.vc)
          AND ratio.validity @> slot_start.at
        ORDER BY ratio.vc IS NOT NULL DESC, ratio.model IS NOT NULL DESC
        LIMIT 1
    ) AS best ON true
),
changed AS MATERIALIZED (
    SELECT classed.bill_id, sum(classed.amount) AS old_amount,
           sum(classed.billed * price.value) AS new_amount, count(*) AS charges
    FROM classed
    JOIN price USING (price_class_id, slot)
    WHERE (price.ratio_id = 0) <> (classed.ratio_id = 0)
       OR classed.billed * price.value <> classed.amount
    GROUP BY classed.bill_id
),
typed AS (
    SELECT bill.cluster, bill.job_id, min(bill.job_name) AS job_name,
           min(bill.username) AS username, min(bill.vc) AS vc, bill.type,
           sum(changed.old_amount) AS before, sum(changed.new_amount) AS after,
           sum(changed.charges)::bigint AS charges
    FROM changed JOIN bill USING (bill_id)
    GROUP BY bill.cluster, bill.job_id, bill.type
)
SELECT cluster, job_id, min(job_name) AS job_name, min(username) AS username, min(vc) AS vc,
       array_agg(type ORDER BY type) AS types,
       array_agg(before ORDER BY type) AS befores,
       array_agg(after ORDER BY type) AS afters,
       sum(charges)::bigint AS charges
FROM typed
GROUP BY cluster, job_id
ORDER BY cluster, job_id;

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
