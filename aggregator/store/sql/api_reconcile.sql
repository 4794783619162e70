-- Whether what was measured, charged and billed agrees. Each query gives how many things it
-- looked at, how many do not hold, how many nobody can judge, and the first of those that do
-- not hold; one row of nulls if all hold.

-- name: reconcile_conservation
-- Per node, type and hour: jobs + idle + unattributed + down - excess is the capacity, of
-- devices exactly, otherwise within `tolerance` of it. Jobs may have run before their node
-- accounted for anything, and for a part of the first hour in which it did: nobody can judge.
WITH part AS (
    SELECT meter.node_id, kept.hour, meter.type, meter.account,
           CASE WHEN meter.type IN ('gpu', 'npu') THEN kept.allocated ELSE kept.used END
               AS quantity
    FROM node_account AS kept JOIN node_meter AS meter USING (meter_id)
    WHERE kept.hour >= %(starts_at)s::timestamptz AND kept.hour < %(ends_at)s::timestamptz
    UNION ALL
    SELECT run.node_id, charge.hour, class.type, 'jobs',
           CASE WHEN class.type IN ('gpu', 'npu') THEN charge.allocated ELSE charge.used END
    FROM booking AS charge
    JOIN meter USING (meter_id)
    JOIN run USING (run_id)
    JOIN price_class AS class USING (price_class_id)
    WHERE charge.hour >= %(starts_at)s::timestamptz AND charge.hour < %(ends_at)s::timestamptz
      AND charge.hour = charge.used_hour AND class.type <> 'storage'
),
line AS MATERIALIZED (
    SELECT
        node_id, hour, type,
        sum(quantity) FILTER (WHERE account = 'capacity') AS expected,
        coalesce(sum(quantity) FILTER (WHERE account NOT IN ('capacity', 'excess')), 0)
            - coalesce(sum(quantity) FILTER (WHERE account = 'excess'), 0) AS found
    FROM part
    GROUP BY node_id, hour, type
),
differing AS (
    SELECT line.*, EXISTS (
        SELECT FROM node_meter AS meter JOIN node_account AS kept USING (meter_id)
        WHERE meter.node_id = line.node_id AND meter.type = line.type
          AND meter.account = 'capacity'
          AND (kept.hour < line.hour OR kept.hour = line.hour AND kept.length_ms >= 3600000)
        ) AS is_accounted
    FROM line
    WHERE expected IS NULL
       OR abs(expected - found) > CASE WHEN type IN ('gpu', 'npu') THEN 0
                                       ELSE expected * %(tolerance)s::numeric END
),
wrong AS MATERIALIZED (SELECT * FROM differing WHERE is_accounted),
counts AS (
    SELECT (SELECT count(*) FROM line) AS looked_at,
           (SELECT count(*) FROM wrong) AS failed,
           (SELECT count(*) FROM differing WHERE NOT is_accounted) AS unknown
)
SELECT counts.looked_at - counts.unknown AS checked, counts.failed, counts.unknown, first.*
FROM counts
LEFT JOIN LATERAL (
    SELECT wrong.hour, wrong.type, node.name AS node, NULL AS subject, 'capacity' AS quantity,
           wrong.expected, wrong.found
    FROM wrong JOIN node USING (node_id)
    ORDER BY wrong.hour, node.name, wrong.type
    LIMIT %(limit)s
) AS first ON true;

-- name: reconcile_usage
-- Per meter and hour: what was booked is the raw usage that was rated, to the last unit.
WITH raw AS (
    SELECT meter_id, time_bucket(INTERVAL '1 hour', started_at) AS hour,
           sum(allocated) AS allocated, sum(used) AS used, sum(effective) AS effective,
           sum(observed_ms) AS observed_ms
    FROM usage
    WHERE started_at >= %(starts_at)s::timestamptz AND started_at < %(ends_at)s::timestamptz
      AND NOT ingest_group_id = ANY (
          ARRAY(SELECT ingest_group_id FROM ingest_group WHERE rated_at IS NULL))
    GROUP BY 1, 2
),
kept AS (
    SELECT meter_id, hour, sum(allocated) AS allocated, sum(used) AS used,
           sum(effective) AS effective, sum(observed_ms) AS observed_ms
    FROM (
        SELECT meter_id, hour, allocated, used, effective, observed_ms FROM charge
        UNION ALL
        SELECT meter_id, used_hour, allocated, used, effective, observed_ms FROM adjustment
        WHERE kind = 'late'
        UNION ALL
        SELECT meter_id, hour, allocated, used, effective, observed_ms FROM node_account
        UNION ALL
        SELECT meter_id, hour, allocated, used, effective, observed_ms FROM late_account
    ) AS booked
    WHERE hour >= %(starts_at)s::timestamptz AND hour < %(ends_at)s::timestamptz
    GROUP BY meter_id, hour
),
line AS MATERIALIZED (
    SELECT coalesce(raw.meter_id, kept.meter_id) AS meter_id,
           coalesce(raw.hour, kept.hour) AS hour,
           raw.effective AS expected, kept.effective AS found,
           (raw.allocated, raw.used, raw.effective, raw.observed_ms)
               IS NOT DISTINCT FROM (kept.allocated, kept.used, kept.effective, kept.observed_ms)
               AS holds
    FROM raw FULL JOIN kept ON kept.meter_id = raw.meter_id AND kept.hour = raw.hour
)
SELECT counts.checked, counts.failed, 0::bigint AS unknown, first.*
FROM (SELECT count(*) AS checked, count(*) FILTER (WHERE NOT holds) AS failed FROM line) AS counts
LEFT JOIN LATERAL (
    SELECT line.hour, coalesce(class.type, account.type) AS type, node.name AS node,
           coalesce(run.job_id, account.account) AS subject, 'effective' AS quantity,
           line.expected, line.found
    FROM line
    LEFT JOIN meter ON meter.meter_id = line.meter_id
    LEFT JOIN run ON run.run_id = meter.run_id
    LEFT JOIN price_class AS class ON class.price_class_id = meter.price_class_id
    LEFT JOIN node_meter AS account ON account.meter_id = line.meter_id
    LEFT JOIN node ON node.node_id = coalesce(run.node_id, account.node_id)
    WHERE NOT line.holds
    ORDER BY line.hour, line.meter_id
    LIMIT %(limit)s
) AS first ON true;

-- name: reconcile_bills
-- Each item with something booked in the range: its totals are the sum of all its bookings.
WITH item AS (
    SELECT DISTINCT bill_id FROM booking
    WHERE hour >= %(starts_at)s::timestamptz AND hour < %(ends_at)s::timestamptz
),
line AS MATERIALIZED (
    SELECT item.bill_id, booked.amount AS expected, bill.amount AS found, bill.type, bill.job_id,
           bill.node, bill.started_at,
           (bill.allocated, bill.used, bill.effective, bill.billed, bill.length_ms,
            bill.observed_ms, bill.amount)
               IS NOT DISTINCT FROM
           (booked.allocated, booked.used, booked.effective, booked.billed, booked.length_ms,
            booked.observed_ms, booked.amount) AS holds
    FROM item
    LEFT JOIN bill USING (bill_id)
    CROSS JOIN LATERAL (
        SELECT sum(allocated) AS allocated, sum(used) AS used, sum(effective) AS effective,
               sum(billed) AS billed, sum(length_ms) AS length_ms,
               sum(observed_ms) AS observed_ms, sum(amount) AS amount
        FROM meter JOIN booking USING (meter_id)
        WHERE meter.bill_id = item.bill_id
    ) AS booked
)
SELECT counts.checked, counts.failed, 0::bigint AS unknown, first.*
FROM (SELECT count(*) AS checked, count(*) FILTER (WHERE NOT holds) AS failed FROM line) AS counts
LEFT JOIN LATERAL (
    SELECT date_trunc('hour', line.started_at, 'UTC') AS hour, line.type, line.node,
           line.bill_id::text AS subject, 'amount' AS quantity, line.expected, line.found
    FROM line
    WHERE NOT line.holds
    ORDER BY line.started_at, line.bill_id
    LIMIT %(limit)s
) AS first ON true;

-- fragment: first_day
date_trunc('day', %(starts_at)s::timestamptz, 'UTC')

-- fragment: after_day
date_trunc('day', %(ends_at)s::timestamptz + INTERVAL '1 day' - INTERVAL '1 microsecond', 'UTC')

-- name: reconcile_days
-- Each day that the range touches, by item and by class of items: both rollups are the sums of
-- what counts on it. They are moved with it, so that of a day that is not over that holds, too.
WITH booked AS MATERIALIZED (
    SELECT date_trunc('day', hour, 'UTC') AS day, bill_id, sum(allocated) AS allocated,
           sum(used) AS used, sum(effective) AS effective, sum(billed) AS billed,
           coalesce(sum(billed) FILTER (WHERE ratio_id = 0), 0) AS unpriced,
           sum(length_ms) AS length_ms, sum(amount) AS amount
    FROM booking
    WHERE %(starts_at)s::timestamptz < %(ends_at)s::timestamptz
        AND hour >= <<first_day>> AND hour < <<after_day>>
    GROUP BY 1, 2
),
expected AS (
    SELECT day, bill_id::text AS subject, bill_id, NULL::bigint AS item_class_id, amount,
           ROW(allocated, used, effective, billed, unpriced, length_ms, amount) AS sums
    FROM booked
    UNION ALL
    SELECT day, 'class ' || bill.item_class_id, NULL, bill.item_class_id, sum(booked.amount),
           ROW(sum(booked.allocated), sum(booked.used), sum(booked.effective),
               sum(booked.billed), sum(booked.unpriced), sum(booked.length_ms),
               sum(booked.amount))
    FROM booked JOIN bill USING (bill_id)
    GROUP BY day, bill.item_class_id
),
found AS (
    SELECT day, bill_id::text AS subject, bill_id, NULL::bigint AS item_class_id, amount,
           ROW(allocated, used, effective, billed, unpriced, length_ms, amount) AS sums
    FROM daily
    WHERE %(starts_at)s::timestamptz < %(ends_at)s::timestamptz
        AND day >= <<first_day>> AND day < <<after_day>>
    UNION ALL
    SELECT day, 'class ' || item_class_id, NULL, item_class_id, amount,
           ROW(allocated, used, effective, billed, unpriced, length_ms, amount)
    FROM daily_class
    WHERE %(starts_at)s::timestamptz < %(ends_at)s::timestamptz
        AND day >= <<first_day>> AND day < <<after_day>>
),
line AS MATERIALIZED (
    SELECT day, subject, coalesce(expected.bill_id, found.bill_id) AS bill_id,
           coalesce(expected.item_class_id, found.item_class_id) AS item_class_id,
           expected.amount AS expected, found.amount AS found,
           expected.sums IS NOT DISTINCT FROM found.sums AS holds
    FROM expected FULL JOIN found USING (day, subject)
)
SELECT counts.checked, counts.failed, 0::bigint AS unknown, first.*
FROM (SELECT count(*) AS checked, count(*) FILTER (WHERE NOT holds) AS failed FROM line) AS counts
LEFT JOIN LATERAL (
    SELECT line.day AS hour, coalesce(bill.type, class.type) AS type, bill.node, line.subject,
           'amount' AS quantity, line.expected, line.found
    FROM line
    LEFT JOIN bill ON bill.bill_id = line.bill_id
    LEFT JOIN item_class AS class ON class.item_class_id = line.item_class_id
    WHERE NOT line.holds
    ORDER BY line.day, line.subject
    LIMIT %(limit)s
) AS first ON true;

-- name: get_settled_hour
-- Nodes account for their time some minutes late, so that hours are settled until then.
SELECT date_trunc('hour', clock_timestamp() - INTERVAL '10 minutes', 'UTC');

-- name: get_beginning
-- When the first node spoke, or the first job began that one told of; null: none ever did.
SELECT least((SELECT min(first_seen_at) FROM node), (SELECT min(started_at) FROM bill));
