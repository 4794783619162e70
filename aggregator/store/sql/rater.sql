-- The rater: usage of unrated ingest groups into charges and bills, exactly once, and what
-- the nodes' own accounts hold into node_account, by the same statement.

-- name: try_rater_lock
SELECT pg_try_advisory_xact_lock(%(lock)s);

-- name: set_rater_session
-- For this transaction: sums of sorted rows keep one row in memory, hashed ones all of them.
SELECT set_config('work_mem', '64MB', true), set_config('enable_hashagg', 'off', true);

-- name: share_price_lock
-- Until the end of the transaction no price changes; whoever changes one waits.
SELECT pg_advisory_xact_lock_shared(%(lock)s);

-- name: share_period_lock
-- Until the end of the transaction no period is closed; whoever closes one waits. A lock of
-- its own, not on a row: who may only append to a table cannot lock its rows.
SELECT pg_advisory_xact_lock_shared(%(lock)s);

-- name: lock_unrated_groups
-- Groups that end in the future wait: a price may still be set for that time.
SELECT ingest_group_id, record_count, min_started_at, max_ended_at
FROM ingest_group
WHERE rated_at IS NULL AND (max_ended_at IS NULL OR max_ended_at <= clock_timestamp())
ORDER BY ingest_group_id
LIMIT %(limit)s
FOR NO KEY UPDATE SKIP LOCKED;

-- name: list_price_boundaries
-- The instants within a range at which some price or method changes, ascending.
SELECT at
FROM (
    SELECT starts_at AS at FROM ratio
    UNION SELECT ends_at FROM ratio
    UNION SELECT starts_at FROM method
    UNION SELECT ends_at FROM method
) AS boundary
WHERE at > %(starts_at)s AND at < %(ends_at)s
ORDER BY at;

-- fragment: same_class
(class.cluster, class.vc, class.project, class.namespace, class.kind, class.type, class.quota)
        = (item.cluster, item.vc, item.project, item.namespace, item.kind, item.type,
           item.device_quota)
    AND class.model IS NOT DISTINCT FROM item.model
    AND class.gpu IS NOT DISTINCT FROM item.gpu

-- name: create_bills
-- Of the meters that the groups brought, so that a job is seen from its first second. Each is of
-- a class, made where there is none: of its job's device model as far as that is known now. What
-- is known later is for those who ask.
WITH fresh AS MATERIALIZED (
    SELECT DISTINCT ON (meter.bill_id)
        meter.bill_id, run.run_id, run.cluster, meter.node_address AS node, run.job_id,
        run.job_name, run.user_id, run.username, run.vc, run.project, run.namespace, run.kind,
        class.type, class.model, meter.group_quota AS quota, meter.started_at,
        CASE WHEN class.type IN ('gpu', 'npu') THEN coalesce(class.model, class.type) END
            AS device
    FROM meter
    JOIN run USING (run_id)
    JOIN price_class AS class USING (price_class_id)
    WHERE meter.ingest_group_id = ANY (%(ingest_group_ids)s::bigint[])
        AND NOT EXISTS (SELECT FROM bill WHERE bill.bill_id = meter.bill_id)
    ORDER BY meter.bill_id, meter.meter_id
),
pod AS (
    SELECT cluster, job_id, CASE WHEN min(device) = max(device) THEN min(device) END AS gpu
    FROM (
        SELECT cluster, job_id, device FROM fresh
        UNION ALL
        SELECT cluster, job_id, coalesce(bill.model, bill.type)
        FROM (SELECT DISTINCT cluster, job_id FROM fresh) AS job
        JOIN bill USING (cluster, job_id)
        WHERE bill.type IN ('gpu', 'npu')
    ) AS held
    GROUP BY cluster, job_id
),
item AS MATERIALIZED (
    SELECT fresh.*, CASE WHEN device IS NULL THEN 0 ELSE quota END AS device_quota,
           CASE WHEN type <> 'storage' THEN pod.gpu END AS gpu
    FROM fresh JOIN pod USING (cluster, job_id)
),
made AS (
    INSERT INTO item_class (cluster, vc, project, namespace, kind, type, model, quota, gpu)
    SELECT DISTINCT cluster, vc, project, namespace, kind, type, model, device_quota, gpu
    FROM item
    WHERE NOT EXISTS (SELECT FROM item_class AS class WHERE <<same_class>>)
    RETURNING *
)
INSERT INTO bill (
    bill_id, run_id, cluster, node, job_id, job_name, user_id, username, vc, project,
    namespace, kind, type, model, quota, started_at, ended_at,
    allocated, used, effective, billed, unpriced, length_ms, observed_ms, amount,
    ratio_id, is_mixed, item_class_id
)
SELECT
    item.bill_id, item.run_id, item.cluster, item.node, item.job_id, item.job_name,
    item.user_id, item.username, item.vc, item.project, item.namespace, item.kind,
    item.type, item.model, item.quota, item.started_at, item.started_at,
    0, 0, 0, 0, 0, 0, 0, 0, NULL, false, class.item_class_id
FROM item JOIN (SELECT * FROM item_class UNION ALL SELECT * FROM made) AS class ON <<same_class>>
ORDER BY item.bill_id
ON CONFLICT (bill_id) DO NOTHING;

-- name: rate_groups
-- Between two boundaries no price changes, so records are summed first, per meter, hour
-- and slot between boundaries, and priced after: a price is looked up once per price
-- class and slot. Every item that is charged must have its bill: the two counts are equal.
-- Usage of a sealed hour is no charge of it but an adjustment there; and of a closed period
-- one in the hour of now.
WITH closed AS MATERIALIZED (
    SELECT until, greatest(date_trunc('hour', clock_timestamp(), 'UTC'), until) AS booking_hour
    FROM (SELECT coalesce(max(ends_at), '-infinity') AS until FROM period) AS last
),
sealed AS MATERIALIZED (
    SELECT greatest(closed.until, (SELECT max(seal.until) FROM seal)) AS until FROM closed
),
used AS MATERIALIZED (
    SELECT
        meter_id,
        time_bucket(INTERVAL '1 hour', started_at) AS hour,
        width_bucket(started_at, %(boundaries)s::timestamptz[]) AS slot,
        min(started_at) AS started_at,
        max(ended_at) AS ended_at,
        sum(allocated) AS allocated,
        sum(used) AS used,
        sum(effective) AS effective,
        (extract(epoch FROM sum(ended_at - started_at)) * 1000)::bigint AS length_ms,
        sum(observed_ms) AS observed_ms,
        coalesce(max(used / nullif(observed_ms, 0)), 0) AS peak
    FROM usage
    WHERE started_at >= %(starts_at)s::timestamptz AND started_at < %(ends_at)s::timestamptz
      AND ingest_group_id BETWEEN %(first_group_id)s AND %(last_group_id)s
      -- "+ 0": not for the index, which would be read once for each of them.
      AND ingest_group_id + 0 = ANY (%(ingest_group_ids)s::bigint[])
    GROUP BY 1, 2, 3
),
metered AS MATERIALIZED (
    -- The meters of accounts are in another table: nothing of them is priced.
    SELECT used.*, meter.bill_id, meter.price_class_id
    FROM used JOIN meter USING (meter_id)
),
accounted AS (
    INSERT INTO node_account AS kept (
        hour, meter_id, ended_at, allocated, used, effective, length_ms, observed_ms
    )
    SELECT
        hour, meter_id, max(ended_at), sum(allocated), sum(used), sum(effective),
        sum(length_ms), sum(observed_ms)
    FROM used
    WHERE meter_id < 0 AND hour >= (SELECT until FROM closed)
    GROUP BY meter_id, hour
    ORDER BY meter_id, hour
    ON CONFLICT (meter_id, hour) DO UPDATE SET
        ended_at = greatest(kept.ended_at, excluded.ended_at),
        allocated = kept.allocated + excluded.allocated,
        used = kept.used + excluded.used,
        effective = kept.effective + excluded.effective,
        length_ms = kept.length_ms + excluded.length_ms,
        observed_ms = kept.observed_ms + excluded.observed_ms
),
accounted_late AS (
    INSERT INTO late_account (
        hour, meter_id, booked_at, allocated, used, effective, length_ms, observed_ms
    )
    SELECT
        hour, meter_id, clock_timestamp(), sum(allocated), sum(used), sum(effective),
        sum(length_ms), sum(observed_ms)
    FROM used
    WHERE meter_id < 0 AND hour < (SELECT until FROM closed)
    GROUP BY meter_id, hour
),
price AS MATERIALIZED (
    SELECT
        class.price_class_id, class.type, wanted.slot, method.method,
        coalesce(best.ratio_id, 0) AS ratio_id,
        coalesce(best.value, 0) AS value
    FROM (SELECT DISTINCT price_class_id, slot FROM metered) AS wanted
    JOIN price_class AS class USING (price_class_id)
    CROSS JOIN LATERAL (
        SELECT coalesce((%(boundaries)s::timestamptz[])[wanted.slot],
                        %(starts_at)s::timestamptz) AS at
    ) AS slot_start
    JOIN method ON method.type = class.type AND method.validity @> slot_start.at
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
rated AS MATERIALIZED (
    SELECT
        metered.hour, metered.meter_id, price.ratio_id, metered.bill_id, price.type,
        min(metered.started_at) AS started_at,
        max(metered.ended_at) AS ended_at,
        sum(metered.allocated) AS allocated,
        sum(metered.used) AS used,
        sum(metered.effective) AS effective,
        sum(billed) AS billed,
        sum(metered.length_ms) AS length_ms,
        sum(metered.observed_ms) AS observed_ms,
        sum(billed) * price.value AS amount,
        max(metered.peak) AS peak
    FROM metered JOIN price USING (price_class_id, slot)
    CROSS JOIN LATERAL (
        SELECT CASE price.method WHEN 'request' THEN metered.allocated
                                 WHEN 'usage' THEN metered.used
                                 ELSE metered.effective END AS billed
    ) AS by_method
    GROUP BY metered.hour, metered.meter_id, price.ratio_id, metered.bill_id, price.type,
             price.value
),
charged AS (
    INSERT INTO charge AS kept (
        hour, meter_id, ratio_id, bill_id, started_at, ended_at,
        allocated, used, effective, billed, length_ms, observed_ms, amount, peak
    )
    SELECT
        hour, meter_id, ratio_id, bill_id, started_at, ended_at,
        allocated, used, effective, billed, length_ms, observed_ms, amount, peak
    FROM rated
    WHERE hour >= (SELECT until FROM sealed)
    ORDER BY meter_id, hour, ratio_id
    ON CONFLICT (meter_id, hour, ratio_id) DO UPDATE SET
        started_at = least(kept.started_at, excluded.started_at),
        ended_at = greatest(kept.ended_at, excluded.ended_at),
        allocated = kept.allocated + excluded.allocated,
        used = kept.used + excluded.used,
        effective = kept.effective + excluded.effective,
        billed = kept.billed + excluded.billed,
        length_ms = kept.length_ms + excluded.length_ms,
        observed_ms = kept.observed_ms + excluded.observed_ms,
        amount = kept.amount + excluded.amount,
        peak = greatest(kept.peak, excluded.peak)
),
adjusted AS (
    INSERT INTO adjustment (
        hour, used_hour, meter_id, ratio_id, bill_id, kind, booked_at, started_at, ended_at,
        allocated, used, effective, billed, length_ms, observed_ms, amount, peak
    )
    SELECT
        CASE WHEN hour < closed.until THEN closed.booking_hour ELSE hour END AS booked_hour,
        hour, meter_id, ratio_id, bill_id, 'late', clock_timestamp(),
        started_at, ended_at,
        allocated, used, effective, billed, length_ms, observed_ms, amount, peak
    FROM rated CROSS JOIN closed
    WHERE hour < (SELECT until FROM sealed)
    ORDER BY meter_id, hour, ratio_id
),
counted AS MATERIALIZED (
    -- What is added to each item, by the day on which it counts.
    SELECT
        bill_id,
        date_trunc('day', CASE WHEN hour < closed.until THEN closed.booking_hour ELSE hour END,
                   'UTC') AS day,
        max(ended_at) AS ended_at,
        sum(allocated) AS allocated,
        sum(used) AS used,
        sum(effective) AS effective,
        sum(billed) AS billed,
        coalesce(sum(billed) FILTER (WHERE ratio_id = 0), 0) AS unpriced,
        sum(length_ms) AS length_ms,
        sum(observed_ms) AS observed_ms,
        sum(amount) AS amount,
        max(peak) AS peak,
        min(ratio_id) AS min_ratio_id,
        max(ratio_id) AS max_ratio_id
    FROM rated CROSS JOIN closed
    GROUP BY bill_id, day
),
summed AS (
    INSERT INTO daily AS kept (
        day, bill_id, allocated, used, effective, billed, unpriced, length_ms, amount, peak
    )
    SELECT day, bill_id, allocated, used, effective, billed, unpriced, length_ms, amount, peak
    FROM counted
    ORDER BY bill_id, day
    ON CONFLICT (bill_id, day) DO UPDATE SET
        allocated = kept.allocated + excluded.allocated,
        used = kept.used + excluded.used,
        effective = kept.effective + excluded.effective,
        billed = kept.billed + excluded.billed,
        unpriced = kept.unpriced + excluded.unpriced,
        length_ms = kept.length_ms + excluded.length_ms,
        amount = kept.amount + excluded.amount,
        peak = greatest(kept.peak, excluded.peak)
),
item AS (
    SELECT
        bill_id,
        min(day) AS first_day,
        max(day) AS last_day,
        max(ended_at) AS ended_at,
        sum(allocated) AS allocated,
        sum(used) AS used,
        sum(effective) AS effective,
        sum(billed) AS billed,
        sum(unpriced) AS unpriced,
        sum(length_ms) AS length_ms,
        sum(observed_ms) AS observed_ms,
        sum(amount) AS amount,
        min(min_ratio_id) AS ratio_id,
        min(min_ratio_id) <> max(max_ratio_id) AS is_mixed
    FROM counted
    GROUP BY bill_id
),
billed AS (
    UPDATE bill SET
        first_day = least(bill.first_day, item.first_day),
        last_day = greatest(bill.last_day, item.last_day),
        ended_at = greatest(bill.ended_at, item.ended_at),
        allocated = bill.allocated + item.allocated,
        used = bill.used + item.used,
        effective = bill.effective + item.effective,
        billed = bill.billed + item.billed,
        unpriced = bill.unpriced + item.unpriced,
        length_ms = bill.length_ms + item.length_ms,
        observed_ms = bill.observed_ms + item.observed_ms,
        amount = bill.amount + item.amount,
        ratio_id = CASE
            WHEN bill.is_mixed OR item.is_mixed OR bill.ratio_id <> item.ratio_id THEN NULL
            ELSE item.ratio_id END,
        is_mixed = bill.is_mixed OR item.is_mixed
            OR coalesce(bill.ratio_id <> item.ratio_id, false)
    FROM item
    WHERE bill.bill_id = item.bill_id
    RETURNING bill.bill_id
),
summed_by_class AS (
    INSERT INTO daily_class AS kept (
        day, item_class_id, allocated, used, effective, billed, unpriced, length_ms, amount
    )
    SELECT
        counted.day, bill.item_class_id, sum(counted.allocated), sum(counted.used),
        sum(counted.effective), sum(counted.billed), sum(counted.unpriced),
        sum(counted.length_ms), sum(counted.amount)
    FROM counted JOIN bill USING (bill_id)
    GROUP BY counted.day, bill.item_class_id
    ORDER BY counted.day, bill.item_class_id
    ON CONFLICT (day, item_class_id) DO UPDATE SET
        allocated = kept.allocated + excluded.allocated,
        used = kept.used + excluded.used,
        effective = kept.effective + excluded.effective,
        billed = kept.billed + excluded.billed,
        unpriced = kept.unpriced + excluded.unpriced,
        length_ms = kept.length_ms + excluded.length_ms,
        amount = kept.amount + excluded.amount
)
SELECT
    (SELECT count(*) FROM item) AS item_count,
    (SELECT count(*) FROM billed) AS billed_count,
    (SELECT coalesce(jsonb_object_agg(type, charges), '{}')
     FROM (SELECT type, count(*) AS charges FROM rated WHERE ratio_id = 0 GROUP BY type)
         AS unpriced) AS unpriced_charges;

-- name: mark_groups_rated
UPDATE ingest_group SET rated_at = clock_timestamp()
WHERE ingest_group_id = ANY (%(ingest_group_ids)s::bigint[]);

-- name: settle_runs
-- Of the runs whose end came with the groups, all usage is rated now.
UPDATE run SET settled_at = clock_timestamp()
WHERE settled_at IS NULL AND ended_group_id = ANY (%(ingest_group_ids)s::bigint[]);

-- name: get_next_seal
-- The next hour to seal until: over for so long, and of no usage that waits to be rated. Null:
-- it is sealed already.
SELECT next.until
FROM (
    SELECT date_trunc('hour', least(clock_timestamp() - %(after)s::interval,
                                    min(min_started_at)), 'UTC') AS until
    FROM ingest_group
    WHERE rated_at IS NULL
) AS next
WHERE next.until > (SELECT coalesce(max(until), '-infinity') FROM seal);

-- name: lock_seal
-- Until the end of the transaction nothing is rated.
SELECT pg_advisory_xact_lock(%(lock)s);

-- name: insert_seal
INSERT INTO seal (until, sealed_at) VALUES (%(until)s, clock_timestamp());

-- name: get_rater_lag
-- Seconds since the oldest group that could be rated came; null: none waits.
SELECT extract(epoch FROM clock_timestamp() - min(created_at))::float8
FROM ingest_group
WHERE rated_at IS NULL AND (max_ended_at IS NULL OR max_ended_at <= clock_timestamp());

-- name: count_all_unpriced_items
SELECT count(*) FROM bill WHERE is_unpriced;
