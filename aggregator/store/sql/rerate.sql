-- Re-rating: charges taken back and booked again by the ratios as they stand; the rater
-- does it, some meters at a time. A charge knows its hour, and is rated whole: at the price
-- in force when its usage began. Prices of the past change on whole hours only.

-- name: get_open_rerate
-- The oldest order that is not through.
SELECT rerate.rerate_id, rerate.starts_at, rerate.ends_at, rerate.key, rerate.last_meter_id,
       progress.through_meter_id
FROM rerate JOIN rerate_progress AS progress USING (rerate_id)
WHERE progress.finished_at IS NULL
ORDER BY rerate.rerate_id
LIMIT 1
FOR NO KEY UPDATE OF progress;

-- name: get_rerate_batch
-- The last of the next meters for which so much is booked in the range; null: there is none.
-- A meter is never parted. Both lists are read in the order of their indexes, no further
-- than needed.
SELECT max(meter_id)
FROM (
    SELECT meter_id
    FROM (
        (
            SELECT meter_id FROM charge
            WHERE meter_id > %(after_meter_id)s AND meter_id <= %(last_meter_id)s
              AND hour >= %(starts_at)s::timestamptz AND hour < %(ends_at)s::timestamptz
            ORDER BY meter_id
            LIMIT %(limit)s
        )
        UNION ALL
        (
            SELECT meter_id FROM adjustment
            WHERE meter_id > %(after_meter_id)s AND meter_id <= %(last_meter_id)s
              AND hour >= %(starts_at)s::timestamptz
              AND used_hour >= %(starts_at)s::timestamptz
              AND used_hour < %(ends_at)s::timestamptz
            ORDER BY meter_id
            LIMIT %(limit)s
        )
    ) AS booked
    ORDER BY meter_id
    LIMIT %(limit)s
) AS next;

-- fragment: priced
-- The lines that a key can price, and what prices each of them as the ratios stand.
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
)

-- name: rerate_meters
-- What is left of each charge after all that was booked for it, priced anew; where that is
-- another price, it is taken back and booked again: in its own hour, or in the hour of now
-- if its own is closed. Every item that changes must have its bill.
WITH closed AS MATERIALIZED (
    SELECT until, greatest(date_trunc('hour', clock_timestamp(), 'UTC'), until) AS booking_hour
    FROM (SELECT coalesce(max(ends_at), '-infinity') AS until FROM period) AS last
),
line AS MATERIALIZED (
    SELECT
        used_hour, meter_id, ratio_id, bill_id,
        min(started_at) AS started_at, max(ended_at) AS ended_at,
        sum(allocated) AS allocated, sum(used) AS used, sum(effective) AS effective,
        sum(billed) AS billed, sum(length_ms)::bigint AS length_ms,
        sum(observed_ms)::bigint AS observed_ms, sum(amount) AS amount
    FROM (
        SELECT hour AS used_hour, meter_id, ratio_id, bill_id, started_at, ended_at,
               allocated, used, effective, billed, length_ms, observed_ms, amount
        FROM charge
        WHERE meter_id > %(after_meter_id)s AND meter_id <= %(through_meter_id)s
          AND hour >= %(starts_at)s::timestamptz AND hour < %(ends_at)s::timestamptz
        UNION ALL
        SELECT used_hour, meter_id, ratio_id, bill_id, started_at, ended_at,
               allocated, used, effective, billed, length_ms, observed_ms, amount
        FROM adjustment
        WHERE meter_id > %(after_meter_id)s AND meter_id <= %(through_meter_id)s
          AND hour >= %(starts_at)s::timestamptz
          AND used_hour >= %(starts_at)s::timestamptz AND used_hour < %(ends_at)s::timestamptz
    ) AS booked
    GROUP BY meter_id, used_hour, ratio_id, bill_id
    HAVING sum(length_ms) > 0
),
<<priced>>,
changed AS MATERIALIZED (
    SELECT classed.*, price.ratio_id AS new_ratio_id, classed.billed * price.value AS new_amount
    FROM classed
    JOIN price USING (price_class_id, slot)
    WHERE (price.ratio_id = 0) <> (classed.ratio_id = 0)
       OR classed.billed * price.value <> classed.amount
),
appended AS (
    INSERT INTO adjustment (
        hour, used_hour, meter_id, ratio_id, bill_id, kind, rerate_id, booked_at,
        started_at, ended_at,
        allocated, used, effective, billed, length_ms, observed_ms, amount
    )
    SELECT
        CASE WHEN used_hour < closed.until THEN closed.booking_hour ELSE used_hour END,
        used_hour, meter_id, side.ratio_id, bill_id, side.kind, %(rerate_id)s,
        clock_timestamp(), started_at, ended_at,
        side.sign * allocated, side.sign * used, side.sign * effective, side.sign * billed,
        side.sign * length_ms, side.sign * observed_ms, side.amount
    FROM changed
    CROSS JOIN closed
    CROSS JOIN LATERAL (
        VALUES (1, 'reversal', -1, ratio_id, -amount),
               (2, 'rerated', 1, new_ratio_id, new_amount)
    ) AS side (number, kind, sign, ratio_id, amount)
    ORDER BY changed.meter_id, changed.used_hour, changed.ratio_id, side.number
),
counted AS MATERIALIZED (
    -- What is taken back and booked again is of one size: only its price differs.
    SELECT
        bill_id,
        date_trunc('day',
                   CASE WHEN used_hour < closed.until THEN closed.booking_hour ELSE used_hour END,
                   'UTC') AS day,
        coalesce(sum(billed) FILTER (WHERE new_ratio_id = 0), 0)
            - coalesce(sum(billed) FILTER (WHERE ratio_id = 0), 0) AS unpriced,
        sum(new_amount - amount) AS amount
    FROM changed CROSS JOIN closed
    GROUP BY bill_id, day
),
summed AS (
    INSERT INTO daily AS kept (
        day, bill_id, allocated, used, effective, billed, unpriced, length_ms, amount, peak
    )
    SELECT day, bill_id, 0, 0, 0, 0, unpriced, 0, amount, 0
    FROM counted
    ORDER BY bill_id, day
    ON CONFLICT (bill_id, day) DO UPDATE SET
        unpriced = kept.unpriced + excluded.unpriced,
        amount = kept.amount + excluded.amount
),
item AS (
    SELECT bill_id, min(day) AS first_day, max(day) AS last_day, sum(amount) AS amount,
           sum(unpriced) AS unpriced
    FROM counted
    GROUP BY bill_id
),
billed AS (
    UPDATE bill
    SET first_day = least(bill.first_day, item.first_day),
        last_day = greatest(bill.last_day, item.last_day),
        amount = bill.amount + item.amount,
        unpriced = bill.unpriced + item.unpriced
    FROM item
    WHERE bill.bill_id = item.bill_id
    RETURNING bill.bill_id
),
summed_by_class AS (
    INSERT INTO daily_class AS kept (
        day, item_class_id, allocated, used, effective, billed, unpriced, length_ms, amount
    )
    SELECT counted.day, bill.item_class_id, 0, 0, 0, 0, sum(counted.unpriced), 0,
           sum(counted.amount)
    FROM counted JOIN bill USING (bill_id)
    GROUP BY counted.day, bill.item_class_id
    ORDER BY counted.day, bill.item_class_id
    ON CONFLICT (day, item_class_id) DO UPDATE SET
        unpriced = kept.unpriced + excluded.unpriced,
        amount = kept.amount + excluded.amount
)
SELECT
    (SELECT count(*) FROM line) AS charge_count,
    (SELECT count(*) FROM changed) AS changed_count,
    (SELECT count(*) FROM item) AS item_count,
    (SELECT count(*) FROM billed) AS billed_count;

-- name: update_rerated_versions
-- The versions that are left of the items whose charges were booked again.
UPDATE bill
SET ratio_id = CASE WHEN item.is_mixed THEN NULL ELSE item.ratio_id END,
    is_mixed = item.is_mixed
FROM (
    SELECT bill_id, min(ratio_id) AS ratio_id, count(*) > 1 AS is_mixed
    FROM (
        SELECT meter.bill_id, part.ratio_id
        FROM (
            SELECT DISTINCT bill_id FROM adjustment
            WHERE meter_id > %(after_meter_id)s AND meter_id <= %(through_meter_id)s
              AND hour >= %(starts_at)s::timestamptz AND rerate_id = %(rerate_id)s
        ) AS touched
        JOIN meter USING (bill_id)
        CROSS JOIN LATERAL (
            SELECT ratio_id, sum(length_ms) AS length_ms
            FROM booking
            WHERE booking.meter_id = meter.meter_id
            GROUP BY ratio_id
        ) AS part
        GROUP BY meter.bill_id, part.ratio_id
        HAVING sum(part.length_ms) > 0
    ) AS version
    GROUP BY bill_id
) AS item
WHERE bill.bill_id = item.bill_id;

-- name: move_rerate
UPDATE rerate_progress
SET through_meter_id = %(through_meter_id)s,
    charge_count = charge_count + %(charge_count)s,
    line_count = line_count + %(line_count)s,
    updated_at = clock_timestamp(),
    finished_at = CASE WHEN %(is_finished)s THEN clock_timestamp() END
WHERE rerate_id = %(rerate_id)s;

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
<<priced>>,
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

-- name: list_rerate_boundaries
-- The instants within a range at which some price changes, ascending.
SELECT at
FROM (SELECT starts_at AS at FROM ratio UNION SELECT ends_at FROM ratio) AS boundary
WHERE at > %(starts_at)s AND at < %(ends_at)s
ORDER BY at;
