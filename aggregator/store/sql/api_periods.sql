-- Periods: which are closed, what counts in one, and the digest that freezes it.

-- name: get_closed_until
-- All before it is closed; null: no period ever was.
SELECT max(ends_at) FROM period;

-- name: list_closed_periods
SELECT starts_at, ends_at, closed_at, closed_by, reason, digest,
       charge_count, adjustment_count, item_count
FROM period
ORDER BY starts_at;

-- name: get_first_usage
-- When the first item began; null: nothing was ever metered.
SELECT min(started_at) FROM bill;

-- name: lock_periods
-- Exclusive: until the end of the transaction nobody adds charges or adjustments.
SELECT pg_advisory_xact_lock(%(lock)s);

-- name: set_close_limits
-- For this transaction: a month of many charges takes its time, and sorts.
SELECT set_config('statement_timeout', '900s', true),
       set_config('idle_in_transaction_session_timeout', '900s', true),
       set_config('work_mem', '64MB', true);

-- name: get_backlog
-- What keeps a period from being closed: groups that may hold usage of it and are not rated,
-- and re-rating that is not through. Definitions alone belong to no period.
SELECT
    (SELECT count(*) FROM ingest_group
     WHERE rated_at IS NULL AND min_started_at < %(ends_at)s::timestamptz) AS group_count,
    (SELECT count(*) FROM rerate JOIN rerate_progress AS progress USING (rerate_id)
     WHERE progress.finished_at IS NULL AND rerate.starts_at < %(ends_at)s::timestamptz)
        AS rerate_count;

-- name: summarise_bookings
-- The hours of a period; see aggregator.rating.digest for what this is the form of.
SELECT
    'booking' AS kind,
    extract(epoch FROM booking.hour)::bigint::text AS name,
    count(*) AS line_count,
    encode(sha256(convert_to(string_agg(line.text, E'\n' ORDER BY line.text COLLATE "C"),
                             'UTF8')), 'hex') AS hash,
    count(*) FILTER (WHERE booking.kind = 'charge') AS charge_count
FROM booking
JOIN meter USING (meter_id)
CROSS JOIN LATERAL (
    SELECT concat_ws(
        E'\t', meter.meter_uid, extract(epoch FROM booking.used_hour)::bigint, booking.kind,
        booking.ratio_id, booking.bill_id,
        (extract(epoch FROM booking.started_at) * 1000)::bigint,
        (extract(epoch FROM booking.ended_at) * 1000)::bigint,
        trim_scale(booking.allocated), trim_scale(booking.used), trim_scale(booking.effective),
        trim_scale(booking.billed), booking.length_ms, booking.observed_ms,
        trim_scale(booking.amount)) AS text
) AS line
WHERE booking.hour >= %(starts_at)s::timestamptz AND booking.hour < %(ends_at)s::timestamptz
GROUP BY booking.hour
ORDER BY booking.hour;

-- name: summarise_items
-- What each item comes to in a period.
WITH item AS (
    SELECT bill_id, sum(allocated) AS allocated, sum(used) AS used, sum(effective) AS effective,
           sum(billed) AS billed,
           coalesce(sum(billed) FILTER (WHERE ratio_id = 0), 0) AS unpriced,
           sum(length_ms) AS length_ms, sum(observed_ms) AS observed_ms, sum(amount) AS amount
    FROM booking
    WHERE hour >= %(starts_at)s::timestamptz AND hour < %(ends_at)s::timestamptz
    GROUP BY bill_id
)
SELECT
    'item' AS kind,
    left(bill_id::text, 2) AS name,
    count(*) AS line_count,
    encode(sha256(convert_to(string_agg(line.text, E'\n' ORDER BY line.text COLLATE "C"),
                             'UTF8')), 'hex') AS hash,
    0::bigint AS charge_count
FROM item
CROSS JOIN LATERAL (
    SELECT concat_ws(
        E'\t', bill_id, trim_scale(allocated), trim_scale(used), trim_scale(effective),
        trim_scale(billed), trim_scale(unpriced), trim_scale(length_ms),
        trim_scale(observed_ms), trim_scale(amount)) AS text
) AS line
GROUP BY left(bill_id::text, 2)
ORDER BY left(bill_id::text, 2) COLLATE "C";

-- name: get_first_booking
-- The first hour in which something counts within a range; starts_at null: from ever.
SELECT min(hour) FROM booking
WHERE (%(starts_at)s::timestamptz IS NULL OR hour >= %(starts_at)s)
    AND hour < %(ends_at)s::timestamptz;

-- name: insert_period
INSERT INTO period (starts_at, ends_at, closed_at, closed_by, reason, digest,
                    charge_count, adjustment_count, item_count)
VALUES (%(starts_at)s, %(ends_at)s, %(closed_at)s, %(actor)s, %(reason)s, %(digest)s,
        %(charge_count)s, %(adjustment_count)s, %(item_count)s);

-- name: list_period_totals
-- What a period comes to, by type.
SELECT bill.type,
       count(DISTINCT booking.bill_id) AS items,
       sum(booking.billed) AS billed,
       coalesce(sum(booking.billed) FILTER (WHERE booking.ratio_id = 0), 0) AS unpriced,
       sum(booking.amount) AS amount,
       coalesce(sum(booking.amount) FILTER (WHERE booking.kind <> 'charge'), 0) AS adjusted
FROM booking JOIN bill USING (bill_id)
WHERE booking.hour >= %(starts_at)s::timestamptz AND booking.hour < %(ends_at)s::timestamptz
GROUP BY bill.type
ORDER BY bill.type;

-- name: list_unpriced_usage
-- What counts in a period, was used in it and has no price, by what a ratio can price: the type,
-- and of devices the model. What was used before it is of
-- a month that is closed already.
SELECT bill.type,
       CASE WHEN bill.type IN ('gpu', 'npu') THEN bill.model END AS model,
       count(DISTINCT bill.bill_id) AS items,
       sum(part.billed) AS billed,
       min(part.used_hour) AS first_hour,
       max(part.used_hour) AS last_hour
FROM (
    SELECT bill_id, used_hour, sum(billed) AS billed
    FROM booking
    WHERE hour >= %(starts_at)s::timestamptz AND hour < %(ends_at)s::timestamptz
        AND used_hour >= %(starts_at)s::timestamptz
        AND ratio_id = 0
    GROUP BY bill_id, used_hour
    HAVING sum(billed) > 0
) AS part
JOIN bill USING (bill_id)
GROUP BY 1, 2
ORDER BY 1, 2;

-- name: list_adjustments
-- By when they were booked; without what came after its hour was sealed, which is a charge like
-- any other. `booked_from`, `booked_until`: hours in which they count.
-- `used_from`, `used_until`: hours of the usage. Null is any.
SELECT adjustment.adjustment_id, adjustment.hour, adjustment.used_hour, adjustment.kind,
       adjustment.rerate_id, adjustment.booked_at, adjustment.started_at, adjustment.ended_at,
       adjustment.bill_id, bill.cluster, bill.job_id, bill.job_name, bill.username, bill.vc,
       bill.type, bill.model, adjustment.billed, adjustment.amount,
       ratio.key, ratio.value AS price
FROM adjustment
JOIN bill USING (bill_id)
LEFT JOIN ratio ON ratio.ratio_id = adjustment.ratio_id
WHERE NOT (adjustment.kind = 'late' AND adjustment.hour = adjustment.used_hour)
    AND (%(booked_from)s::timestamptz IS NULL OR adjustment.hour >= %(booked_from)s)
    AND (%(booked_until)s::timestamptz IS NULL OR adjustment.hour < %(booked_until)s)
    AND (%(used_from)s::timestamptz IS NULL OR adjustment.used_hour >= %(used_from)s)
    AND (%(used_until)s::timestamptz IS NULL OR adjustment.used_hour < %(used_until)s)
    AND (%(rerate_id)s::bigint IS NULL OR adjustment.rerate_id = %(rerate_id)s)
    AND (%(bill_id)s::uuid IS NULL OR adjustment.bill_id = %(bill_id)s)
ORDER BY adjustment.hour, adjustment.adjustment_id;
