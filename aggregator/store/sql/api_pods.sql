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

-- fragment: sums
-- What the items of a group have in common is multiplied after they are summed: rows are many.
sum(booked.allocated) FILTER (WHERE owned.is_device OR owned.is_timed) AS allocated,
           sum(booked.length_ms) FILTER (WHERE owned.is_disk OR owned.quota = 0) AS length_ms,
           max(booked.peak) AS peak

-- fragment: wall
-- For how long items were held, in ms: the meters of each run side by side.
CASE WHEN quota > 0 THEN allocated / quota ELSE length_ms END

-- fragment: kib
-- What a disk held at most; the items of a run on a node follow each other.
CASE WHEN is_disk AND length_ms > 0 THEN greatest(quota, peak) END

-- fragment: items
-- What may count in the range, by the days between which it does.
-- `pod` is one column, since of several the planner would guess how many pods there are. Jobs of
-- one id that are different people's are not each other's pod.
item AS MATERIALIZED (
    SELECT bill_id, cluster, namespace, vc, user_id, job_id, run_id,
           jsonb_build_array(cluster, namespace, vc, user_id, job_id)::text AS pod,
           jsonb_build_array(node, model)::text AS disk, type, quota, factor.factor,
           type IN ('gpu', 'npu') AS is_device, type = 'storage' AS is_disk,
           coalesce(model, type) AS gpu, item_class_id, first_day
    FROM bill JOIN factor USING (type)
    WHERE first_day < %(ends_at)s::timestamptz
        AND last_day >= date_trunc('day', %(starts_at)s::timestamptz, 'UTC')
        AND <<asked>>
),
-- The device items of those pods, each from the day on which something of it was booked first.
-- What was booked later changes nothing before.
attached AS MATERIALIZED (
    SELECT asked.pod, bill.bill_id, coalesce(bill.model, bill.type) AS gpu, bill.first_day AS day
    FROM (SELECT DISTINCT cluster, namespace, vc, user_id, job_id, pod FROM item) AS asked
    JOIN bill USING (cluster, namespace, vc, user_id, job_id)
    WHERE bill.type IN ('gpu', 'npu') AND bill.first_day IS NOT NULL AND <<asked>>
)

-- fragment: by_pod
-- The time of a run is that of its cpu, or of the first type that it has instead.
chosen AS (
    SELECT pod, min(day) AS day
    FROM attached
    WHERE %(gpu)s::text IS NOT NULL AND gpu = %(gpu)s
    GROUP BY pod
),
owned AS MATERIALIZED (
    SELECT item.bill_id, item.job_id, item.run_id, item.factor, item.quota, item.is_device,
           item.is_disk, true AS is_timed, coalesce(chosen.day, '-infinity') AS day,
           array_position(ARRAY['cpu', 'mem', 'gpu', 'npu', 'storage'], item.type) AS place,
           CASE WHEN is_disk THEN pod || disk END AS disk,
           dense_rank() OVER (ORDER BY pod, run_id, type, quota, is_disk, disk) AS group_id
    FROM item LEFT JOIN chosen USING (pod)
    WHERE %(gpu)s::text IS NULL OR chosen.pod IS NOT NULL
),
kin AS MATERIALIZED (SELECT DISTINCT ON (group_id) * FROM owned),
summed AS MATERIALIZED (
    SELECT slot.bucket, owned.group_id, sum(booked.amount * slot.rate) AS amount,
           min(slot.at) FILTER (WHERE booked.amount <> 0 AND slot.rate IS NULL) AS unrated_at,
           <<sums>>
    FROM booked JOIN slot USING (at) JOIN owned USING (bill_id)
    WHERE booked.at >= owned.day
    GROUP BY 1, 2
),
part AS MATERIALIZED (
    SELECT bucket, job_id, run_id, place, disk, sum(amount * factor) AS amount,
           min(unrated_at) AS unrated_at, sum(<<wall>>) AS wall_ms, max(<<kib>>) AS kib
    FROM summed JOIN kin USING (group_id)
    GROUP BY 1, 2, 3, 4, 5
),
run_part AS (
    SELECT bucket, job_id, sum(amount) AS amount, min(unrated_at) AS unrated_at,
           coalesce((min(ARRAY[place, wall_ms]) FILTER (WHERE wall_ms <> 0))[2], 0) AS wall_ms
    FROM (
        SELECT bucket, job_id, run_id, place, sum(amount) AS amount,
               min(unrated_at) AS unrated_at, sum(wall_ms) AS wall_ms
        FROM part
        GROUP BY 1, 2, 3, 4
    ) AS of_type
    GROUP BY bucket, job_id, run_id
),
total AS MATERIALIZED (
    SELECT bucket, job_id AS id, sum(amount) AS amount, min(unrated_at) AS unrated_at,
           sum(wall_ms) AS wall_ms
    FROM run_part
    GROUP BY 1, 2
),
held AS (
    SELECT bucket, job_id AS id, max(kib) AS kib
    FROM part
    WHERE kib IS NOT NULL
    GROUP BY bucket, job_id, disk
)

-- fragment: attached_pods
-- A pod with one model gives it all that it is charged; of such pods, nearly all, nothing is
-- told apart but their disks.
pod AS (
    SELECT pod, min(day) AS day, min(gpu) AS gpu, min(gpu) <> max(gpu) AS is_mixed,
           array_agg(gpu) AS gpus, array_agg(day) AS days, array_agg(bill_id) AS bills
    FROM attached
    GROUP BY pod
    HAVING %(gpu)s::text IS NULL OR bool_or(gpu = %(gpu)s)
)

-- fragment: known
-- `quota`: of what is timed, or is a disk.
SELECT item.bill_id, pod.day, item.factor, item.is_device, item.is_disk, false AS is_timed,
           CASE WHEN item.is_device OR is_disk THEN item.quota END AS quota,
           CASE WHEN NOT is_mixed THEN pod.gpu WHEN item.is_device THEN item.gpu END AS gpu,
           CASE WHEN is_mixed OR is_disk THEN pod END AS pod,
           CASE WHEN is_disk THEN item.disk END AS disk,
           CASE WHEN is_mixed THEN gpus END AS gpus,
           CASE WHEN is_mixed THEN days END AS days,
           CASE WHEN is_mixed THEN bills END AS bills

-- fragment: group_id
dense_rank() OVER (ORDER BY gpu, pod, disk, factor, quota, is_device) AS group_id

-- fragment: summed_items
owned AS MATERIALIZED (
    SELECT *, <<group_id>>
    FROM (<<known>> FROM item JOIN pod USING (pod)) AS known
),
kin AS MATERIALIZED (SELECT DISTINCT ON (group_id) * FROM owned),
summed AS MATERIALIZED (
    SELECT booked.at, owned.group_id, sum(booked.amount) AS amount, <<sums>>
    FROM booked JOIN owned USING (bill_id)
    WHERE booked.at >= owned.day
    GROUP BY 1, 2
)

-- fragment: summed_classes
-- Most items are what their class says: of a pod with the one model that it was known by when
-- they began, and that it had from then on. They are summed by their classes, and need not be
-- looked at day by day; all others are taken off those sums and summed by themselves.
class AS MATERIALIZED (
    SELECT kind.item_class_id, kind.gpu, factor.factor,
           kind.type IN ('gpu', 'npu') AS is_device, kind.quota
    FROM item_class AS kind
    JOIN factor USING (type)
    CROSS JOIN (SELECT NULL::uuid AS user_id) AS nobody
    WHERE %(by_class)s::boolean AND kind.gpu IS NOT NULL
        AND (%(gpu)s::text IS NULL OR kind.gpu = %(gpu)s)
        AND (%(kind)s::text IS NULL OR kind.kind = %(kind)s)
        AND in_scope(nobody.user_id, kind.vc, kind.project,
                     %(scope_user_id)s, %(scope_vc)s, %(scope_project)s)
),
known AS MATERIALIZED (
    SELECT *, 1 AS sign, NULL::bigint AS item_class_id
    FROM (
        <<known>>
        FROM item JOIN pod USING (pod) LEFT JOIN class USING (item_class_id)
        WHERE class.gpu IS NULL OR is_mixed OR class.gpu <> pod.gpu OR item.first_day < pod.day
    ) AS followed
    UNION ALL
    SELECT item.bill_id, '-infinity', item.factor, item.is_device, false, false,
           CASE WHEN item.is_device THEN item.quota END, class.gpu, NULL, NULL, NULL, NULL, NULL,
           -1, NULL
    FROM item JOIN class USING (item_class_id) LEFT JOIN pod USING (pod)
    WHERE pod.gpu IS NULL OR is_mixed OR class.gpu <> pod.gpu OR item.first_day < pod.day
),
owned AS MATERIALIZED (
    SELECT *, <<group_id>>
    FROM (
        SELECT * FROM known
        UNION ALL
        SELECT NULL, '-infinity', factor, is_device, false, false,
               CASE WHEN is_device THEN quota END, gpu, NULL, NULL, NULL, NULL, NULL,
               1, item_class_id
        FROM class
    ) AS every
),
kin AS MATERIALIZED (SELECT DISTINCT ON (group_id) * FROM owned),
-- Where all was taken off that there was, nothing is left to be shown.
summed AS MATERIALIZED (
    SELECT at, group_id, sum(sign * amount) AS amount, sum(sign * allocated) AS allocated,
           sum(sign * length_ms) AS length_ms, max(peak) AS peak
    FROM (
        SELECT booked.at, owned.group_id, owned.sign, sum(booked.amount) AS amount,
               sum(booked.allocated) FILTER (WHERE owned.is_device) AS allocated,
               sum(booked.length_ms) AS length_ms, max(booked.peak) AS peak
        FROM booked JOIN owned USING (bill_id)
        WHERE booked.bill_id = ANY (ARRAY(SELECT bill_id FROM known))
            AND booked.at >= owned.day
        GROUP BY 1, 2, 3
        UNION ALL
        SELECT booked.day, owned.group_id, 1, sum(booked.amount),
               sum(booked.allocated) FILTER (WHERE owned.is_device),
               sum(booked.length_ms), 0
        FROM daily_class AS booked JOIN owned USING (item_class_id)
        WHERE booked.day >= %(starts_at)s AND booked.day < %(ends_at)s
        GROUP BY 1, 2, 3
    ) AS piece
    GROUP BY 1, 2
    HAVING min(sign) > 0 OR sum(sign * amount) <> 0 OR sum(sign * length_ms) <> 0
)

-- fragment: by_model
part AS MATERIALIZED (
    SELECT at, gpu, pod, disk, gpus, days, bills, sum(amount * factor) AS amount,
           sum(allocated) FILTER (WHERE is_device) AS device_ms,
           sum(<<wall>>) FILTER (WHERE is_device) AS wall_ms, max(<<kib>>) AS kib
    FROM summed JOIN kin USING (group_id)
    GROUP BY 1, 2, 3, 4, 5, 6, 7
),
-- The charges of a pod with several models are split by what it held of each, device x ms, in
-- the hour or on the day; where it held none, by what it held until then, else evenly.
mixed AS (
    SELECT *, sum(amount) OVER pods AS whole_amount,
           coalesce(sum(greatest(device_ms, 0)) OVER pods, 0) AS held_ms
    FROM part
    WHERE gpus IS NOT NULL
    WINDOW pods AS (PARTITION BY at, pod)
),
share AS (
    SELECT at, pod, gpu, whole_amount AS amount, greatest(device_ms, 0) AS weight
    FROM mixed
    WHERE held_ms > 0 AND gpu IS NOT NULL
    UNION ALL
    SELECT idle.at, idle.pod, device.gpu, idle.whole_amount, sum(past.device_ms)
    FROM (SELECT DISTINCT at, pod, gpus, days, bills, whole_amount FROM mixed WHERE held_ms = 0)
        AS idle
    CROSS JOIN LATERAL unnest(gpus, days, bills) AS device (gpu, day, bill_id)
    CROSS JOIN LATERAL (
        SELECT coalesce(greatest(sum(allocated), 0), 0) AS device_ms
        FROM daily
        WHERE daily.bill_id = device.bill_id AND daily.day <= idle.at
    ) AS past
    WHERE device.day <= idle.at
    GROUP BY 1, 2, 3, 4
),
weighed AS (
    SELECT at, pod, gpu, sign(amount) AS sign,
           CASE WHEN sum(weight) OVER pods > 0 THEN weight ELSE 1 END AS weight,
           CASE WHEN sum(weight) OVER pods > 0 THEN sum(weight) OVER pods
                ELSE count(*) OVER pods END AS whole,
           -- In units of its own last digit, at most of a base unit x ms at a price of 1.
           abs(amount) * ('1e' || min_scale(amount))::numeric AS units,
           ('1e-' || min_scale(amount))::numeric AS unit
    FROM share
    WINDOW pods AS (PARTITION BY at, pod)
),
-- By largest remainder, of equal ones the first by name: as `money.split` does.
cut AS (
    SELECT at, gpu, sign, unit, div(units * weight, whole) AS units,
           units - sum(div(units * weight, whole)) OVER pods AS left_over,
           row_number() OVER (pods ORDER BY mod(units * weight, whole) DESC, gpu COLLATE "C")
               AS place
    FROM weighed
    WINDOW pods AS (PARTITION BY at, pod)
),
total AS MATERIALIZED (
    SELECT slot.bucket, shown.gpu AS id, sum(shown.amount * slot.rate) AS amount,
           min(slot.at) FILTER (WHERE shown.amount <> 0 AND slot.rate IS NULL) AS unrated_at,
           coalesce(sum(shown.wall_ms), 0) AS wall_ms
    FROM (
        SELECT at, gpu, CASE WHEN gpus IS NULL THEN amount ELSE 0 END AS amount, wall_ms
        FROM part
        WHERE gpu IS NOT NULL
        UNION ALL
        SELECT at, gpu, sign * (units + (place <= left_over)::integer) * unit, NULL FROM cut
    ) AS shown JOIN slot USING (at)
    WHERE %(gpu)s::text IS NULL OR shown.gpu = %(gpu)s
    GROUP BY 1, 2
),
held AS (
    SELECT slot.bucket, device.gpu AS id, max(part.kib) AS kib
    FROM part JOIN slot USING (at)
    CROSS JOIN LATERAL unnest(coalesce(gpus, ARRAY[part.gpu]), coalesce(days, ARRAY[at]))
        AS device (gpu, day)
    WHERE part.kib IS NOT NULL AND device.day <= part.at
    GROUP BY slot.bucket, device.gpu, part.pod, part.disk
)

-- fragment: storage
owned AS MATERIALIZED (
    SELECT bill_id, pod || disk AS disk, factor, quota, is_device, is_disk, true AS is_timed,
           dense_rank() OVER (ORDER BY pod, disk, quota) AS group_id
    FROM item
    WHERE is_disk
),
kin AS MATERIALIZED (SELECT DISTINCT ON (group_id) * FROM owned),
summed AS MATERIALIZED (
    SELECT slot.bucket, owned.group_id, sum(booked.amount * slot.rate) AS amount,
           min(slot.at) FILTER (WHERE booked.amount <> 0 AND slot.rate IS NULL) AS unrated_at,
           <<sums>>
    FROM booked JOIN slot USING (at) JOIN owned USING (bill_id)
    GROUP BY 1, 2
),
part AS MATERIALIZED (
    SELECT bucket, disk, sum(amount * factor) AS amount, min(unrated_at) AS unrated_at,
           sum(<<wall>>) AS wall_ms, max(<<kib>>) AS kib
    FROM summed JOIN kin USING (group_id)
    GROUP BY 1, 2
),
total AS MATERIALIZED (
    SELECT bucket, ''::text AS id, sum(amount) AS amount, min(unrated_at) AS unrated_at,
           sum(wall_ms) AS wall_ms
    FROM part
    GROUP BY 1
),
held AS (SELECT bucket, ''::text AS id, kib FROM part)

-- fragment: records
-- A day without a rate, if there is any, is told on each record: no part of the sum is shown.
disk AS (SELECT bucket, id, sum(kib) AS kib FROM held GROUP BY 1, 2)
SELECT bucket AS starts_at, id, coalesce(amount, 0) AS amount, round(wall_ms) AS billed_ms,
       coalesce(disk.kib, 0) AS disk_kib,
       (SELECT min(unrated_at) FROM total) AS unrated_at
FROM total LEFT JOIN disk USING (bucket, id)
ORDER BY bucket, id COLLATE "C"

-- name: list_daily_pods
WITH <<slots>>, <<booked_days>>, <<items>>, <<by_pod>>, <<records>>;

-- name: list_hourly_pods
WITH <<slots>>, <<booked_hours>>, <<items>>, <<by_pod>>, <<records>>;

-- name: list_daily_models
WITH <<slots>>, <<booked_days>>, <<items>>, <<attached_pods>>, <<summed_classes>>, <<by_model>>,
<<records>>;

-- name: list_hourly_models
WITH <<slots>>, <<booked_hours>>, <<items>>, <<attached_pods>>, <<summed_items>>, <<by_model>>,
<<records>>;

-- name: list_daily_storage
WITH <<slots>>, <<booked_days>>, <<items>>, <<storage>>, <<records>>;

-- name: list_hourly_storage
WITH <<slots>>, <<booked_hours>>, <<items>>, <<storage>>, <<records>>;
