-- What the Pods API shows: money, time and disk by buckets, from the daily rollup or, for hours,
-- from the bookings. A pod is a job: all its runs and items.

-- fragment: slots
-- The days or hours of a range: the bucket of each, and how much of the currency that is shown
-- one unit of the base currency was then; null: no rate was declared.
rate AS MATERIALIZED (
    SELECT starts_at, ends_at, rate
    FROM unnest(%(rate_starts)s::timestamptz[], %(rate_ends)s::timestamptz[], %(rates)s::numeric[])
        AS declared (starts_at, ends_at, rate)
),
factor AS MATERIALIZED (
    SELECT type, factor
    FROM unnest(%(types)s::text[], %(factors)s::numeric[]) AS known (type, factor)
),
slot AS MATERIALIZED (
    SELECT at, date_trunc(%(bucket)s::text, at, 'UTC') AS bucket,
           (SELECT rate FROM rate WHERE rate.starts_at <= at AND at < rate.ends_at) AS rate
    FROM generate_series(%(starts_at)s::timestamptz,
                         %(ends_at)s::timestamptz - INTERVAL '1 microsecond',
                         %(step)s::interval) AS series (at)
)

-- fragment: asked
-- The items of the pods that are asked for, within what the caller may see.
(%(job_id)s::text IS NULL OR bill.job_id = %(job_id)s)
    AND (%(kind)s::text IS NULL OR bill.kind = %(kind)s)
    AND in_scope(bill.user_id, bill.vc, bill.project,
                 %(scope_user_id)s, %(scope_vc)s, %(scope_project)s)

-- fragment: booked_days
booked AS NOT MATERIALIZED (
    SELECT day AS at, bill_id, allocated, length_ms, amount, peak
    FROM daily
    WHERE day >= %(starts_at)s AND day < %(ends_at)s
)

-- fragment: booked_hours
-- Of a few pods by their meters: the bookings of all are many.
booked AS NOT MATERIALIZED (
    SELECT hour AS at, bill_id, allocated, length_ms, amount, peak
    FROM booking
    WHERE hour >= %(starts_at)s AND hour < %(ends_at)s
        AND (num_nulls(%(job_id)s::text, %(scope_user_id)s::uuid, %(scope_vc)s::text,
                       %(scope_project)s::text) = 4
             OR meter_id IN (
                 SELECT meter.meter_id FROM meter JOIN bill USING (bill_id) WHERE <<asked>>))
)

-- fragment: wall
-- For how long an item was held, in ms: its meters run side by side.
CASE WHEN quota > 0 THEN allocated / quota ELSE length_ms END

-- fragment: attached
-- The device items of the pods that are looked at, each from the day on which something of it
-- was booked first. What was booked later changes nothing before.
attached AS MATERIALIZED (
    SELECT bill.bill_id, bill.cluster, bill.job_id, coalesce(bill.model, bill.type) AS gpu,
           first.day
    FROM (SELECT DISTINCT cluster, job_id FROM item) AS pod
    JOIN bill USING (cluster, job_id)
    CROSS JOIN LATERAL (
        SELECT daily.day FROM daily WHERE daily.bill_id = bill.bill_id ORDER BY daily.day LIMIT 1
    ) AS first
    WHERE bill.type IN ('gpu', 'npu') AND <<asked>>
)

-- fragment: items
item AS MATERIALIZED (
    SELECT bill_id, cluster, job_id, run_id, node, model, quota, type, factor.factor
    FROM bill JOIN factor USING (type)
    WHERE bill_id IN (SELECT bill_id FROM booked) AND <<asked>>
)

-- fragment: by_pod
-- The time of a run is that of its cpu, or of the first type that it has instead.
part AS (
    SELECT slot.bucket, item.cluster, item.job_id, item.run_id,
           array_position(ARRAY['cpu', 'mem', 'gpu', 'npu', 'storage'], item.type) AS place,
           sum(booked.amount * item.factor * slot.rate) AS amount,
           min(slot.at) FILTER (WHERE booked.amount <> 0 AND slot.rate IS NULL) AS unrated_at,
           sum(<<wall>>) AS wall_ms
    FROM booked JOIN slot USING (at) JOIN item USING (bill_id)
    WHERE %(gpu)s::text IS NULL OR EXISTS (
        SELECT FROM attached
        WHERE attached.cluster = item.cluster AND attached.job_id = item.job_id
            AND attached.gpu = %(gpu)s AND attached.day <= booked.at)
    GROUP BY 1, 2, 3, 4, 5
),
run_part AS (
    SELECT bucket, job_id, sum(amount) AS amount, min(unrated_at) AS unrated_at,
           coalesce((min(ARRAY[place, wall_ms]) FILTER (WHERE wall_ms <> 0))[2], 0) AS wall_ms
    FROM part
    GROUP BY bucket, cluster, job_id, run_id
),
total AS MATERIALIZED (
    SELECT bucket, job_id AS id, sum(amount) AS amount, min(unrated_at) AS unrated_at,
           sum(wall_ms) AS wall_ms
    FROM run_part
    GROUP BY 1, 2
),
-- What a pod held on a node at most; one kind of storage is held at a time.
held AS (
    SELECT slot.bucket, item.job_id AS id,
           max(greatest(item.quota, booked.peak)) AS kib
    FROM booked JOIN slot USING (at) JOIN item USING (bill_id)
    WHERE item.type = 'storage' AND booked.length_ms > 0
    GROUP BY slot.bucket, item.cluster, item.job_id, item.node, item.model
)

-- fragment: by_model
-- A pod with one model gives it all that it is charged.
pod AS MATERIALIZED (
    SELECT cluster, job_id, min(gpu) AS gpu, min(gpu) <> max(gpu) AS is_mixed, min(day) AS day
    FROM attached
    GROUP BY 1, 2
    HAVING %(gpu)s::text IS NULL OR bool_or(gpu = %(gpu)s)
),
owned AS MATERIALIZED (
    SELECT item.*, item.type IN ('gpu', 'npu') AS is_device, pod.gpu, pod.is_mixed, pod.day
    FROM item JOIN pod USING (cluster, job_id)
),
plain AS (
    SELECT booked.at, owned.gpu, sum(booked.amount * owned.factor) AS amount,
           sum(<<wall>>) FILTER (WHERE owned.is_device) AS wall_ms
    FROM booked JOIN owned USING (bill_id)
    WHERE NOT owned.is_mixed AND booked.at >= owned.day
    GROUP BY 1, 2
),
-- The charges of a pod with several models are split by what it held of each, device x ms, in
-- the hour or on the day; where it held none, by what it held until then, else evenly.
mixed AS MATERIALIZED (
    SELECT booked.at, owned.cluster, owned.job_id,
           CASE WHEN is_device THEN coalesce(owned.model, owned.type) END AS gpu,
           sum(booked.amount * owned.factor) AS amount,
           sum(booked.allocated) AS device_ms, sum(<<wall>>) AS wall_ms
    FROM booked JOIN owned USING (bill_id)
    WHERE owned.is_mixed AND booked.at >= owned.day
    GROUP BY 1, 2, 3, 4
),
model AS MATERIALIZED (
    SELECT cluster, job_id, attached.gpu, min(attached.day) AS day
    FROM attached JOIN pod USING (cluster, job_id)
    GROUP BY 1, 2, 3
),
share AS (
    SELECT whole.at, whole.cluster, whole.job_id, model.gpu, whole.amount, mixed.wall_ms,
           greatest(mixed.device_ms, 0) AS now,
           sum(greatest(mixed.device_ms, 0)) OVER pods AS all_now
    FROM (SELECT at, cluster, job_id, sum(amount) AS amount FROM mixed GROUP BY 1, 2, 3) AS whole
    JOIN model ON model.cluster = whole.cluster AND model.job_id = whole.job_id
        AND model.day <= whole.at
    LEFT JOIN mixed ON mixed.at = whole.at AND mixed.cluster = whole.cluster
        AND mixed.job_id = whole.job_id AND mixed.gpu = model.gpu
    WINDOW pods AS (PARTITION BY whole.at, whole.cluster, whole.job_id)
),
weighed AS (
    SELECT at, cluster, job_id, gpu, wall_ms, sign(amount) AS sign,
           CASE WHEN all_now > 0 THEN coalesce(now, 0) ELSE (
               SELECT coalesce(greatest(sum(daily.allocated), 0), 0)
               FROM attached JOIN daily USING (bill_id)
               WHERE attached.cluster = share.cluster AND attached.job_id = share.job_id
                   AND attached.gpu = share.gpu AND daily.day <= share.at
           ) END AS weight,
           -- In units of its own last digit, at least of one base unit x ms at a price of 1.
           abs(amount) * ('1e' || min_scale(amount))::numeric AS units,
           ('1e-' || min_scale(amount))::numeric AS unit
    FROM share
),
evened AS (
    SELECT *, CASE WHEN sum(weight) OVER pods > 0 THEN weight ELSE 1 END AS part,
           CASE WHEN sum(weight) OVER pods > 0 THEN sum(weight) OVER pods
                ELSE count(*) OVER pods END AS whole
    FROM weighed
    WINDOW pods AS (PARTITION BY at, cluster, job_id)
),
-- By largest remainder, of equal ones the first by name: as `money.split` does.
cut AS (
    SELECT at, gpu, wall_ms, sign, unit, div(units * part, whole) AS units,
           units - sum(div(units * part, whole)) OVER pods AS left_over,
           row_number() OVER (pods ORDER BY mod(units * part, whole) DESC, gpu COLLATE "C") AS place
    FROM evened
    WINDOW pods AS (PARTITION BY at, cluster, job_id)
),
total AS MATERIALIZED (
    SELECT slot.bucket, part.gpu AS id, sum(part.amount * slot.rate) AS amount,
           min(slot.at) FILTER (WHERE part.amount <> 0 AND slot.rate IS NULL) AS unrated_at,
           coalesce(sum(part.wall_ms), 0) AS wall_ms
    FROM (
        SELECT * FROM plain
        UNION ALL
        SELECT at, gpu, sign * (units + (place <= left_over)::integer) * unit, wall_ms FROM cut
    ) AS part JOIN slot USING (at)
    WHERE %(gpu)s::text IS NULL OR part.gpu = %(gpu)s
    GROUP BY 1, 2
),
held AS (
    SELECT slot.bucket, model.gpu AS id, max(greatest(owned.quota, booked.peak)) AS kib
    FROM booked JOIN slot USING (at) JOIN owned USING (bill_id)
    JOIN model ON model.cluster = owned.cluster AND model.job_id = owned.job_id
        AND model.day <= booked.at
    WHERE owned.type = 'storage' AND booked.length_ms > 0
    GROUP BY slot.bucket, model.gpu, owned.cluster, owned.job_id, owned.node, owned.model
)

-- fragment: storage
total AS MATERIALIZED (
    SELECT slot.bucket, ''::text AS id, sum(booked.amount * item.factor * slot.rate) AS amount,
           min(slot.at) FILTER (WHERE booked.amount <> 0 AND slot.rate IS NULL) AS unrated_at,
           sum(<<wall>>) AS wall_ms
    FROM booked JOIN slot USING (at) JOIN item USING (bill_id)
    WHERE item.type = 'storage'
    GROUP BY 1
),
held AS (
    SELECT slot.bucket, ''::text AS id, max(greatest(item.quota, booked.peak)) AS kib
    FROM booked JOIN slot USING (at) JOIN item USING (bill_id)
    WHERE item.type = 'storage' AND booked.length_ms > 0
    GROUP BY slot.bucket, item.cluster, item.job_id, item.node, item.model
)

-- fragment: records
-- A day without a rate, if there is any, is told on each record: no part of the sum is shown.
disk AS (SELECT bucket, id, sum(kib) AS kib FROM held GROUP BY 1, 2)
SELECT bucket AS starts_at, id, coalesce(amount, 0) AS amount, round(wall_ms) AS billed_ms,
       coalesce(disk.kib, 0) AS disk_kib,
       (SELECT min(unrated_at) FROM total) AS unrated_at
FROM total LEFT JOIN disk USING (bucket, id)
ORDER BY bucket, id COLLATE "C"

-- name: list_daily_pods
WITH <<slots>>, <<booked_days>>, <<items>>, <<attached>>, <<by_pod>>, <<records>>;

-- name: list_hourly_pods
WITH <<slots>>, <<booked_hours>>, <<items>>, <<attached>>, <<by_pod>>, <<records>>;

-- name: list_daily_models
WITH <<slots>>, <<booked_days>>, <<items>>, <<attached>>, <<by_model>>, <<records>>;

-- name: list_hourly_models
WITH <<slots>>, <<booked_hours>>, <<items>>, <<attached>>, <<by_model>>, <<records>>;

-- name: list_daily_storage
WITH <<slots>>, <<booked_days>>, <<items>>, <<storage>>, <<records>>;

-- name: list_hourly_storage
WITH <<slots>>, <<booked_hours>>, <<items>>, <<storage>>, <<records>>;
