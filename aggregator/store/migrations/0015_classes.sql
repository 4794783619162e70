-- The rollup that long ranges are answered from: by day and by what items have in common.

-- What sums are asked for by: all of it that is no person's, no job's and no node's. Made by the
-- rater; two of the same do no harm, since their sums add up.
CREATE TABLE item_class (
    item_class_id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT item_class_pkey PRIMARY KEY,
    cluster text NOT NULL,
    vc text NOT NULL,
    project text NOT NULL,
    namespace text NOT NULL,
    kind text NOT NULL,
    type text NOT NULL,
    model text,
    quota bigint NOT NULL,                  -- base units of a device item; of any other 0
    gpu text                                -- the device model that the item's job was known by
                                            -- when the item began; null: none, several, or a disk
);
CREATE INDEX item_class_project_vc_idx ON item_class (project, vc);

-- Of the job of an item: a device is known by its model, or else by its type.
CREATE TEMPORARY TABLE classed ON COMMIT DROP AS
SELECT bill.bill_id, cluster, bill.vc, bill.project, bill.namespace, bill.kind, bill.type,
       bill.model, CASE WHEN bill.type IN ('gpu', 'npu') THEN bill.quota ELSE 0 END AS quota,
       CASE WHEN bill.type <> 'storage' THEN pod.gpu END AS gpu
FROM bill
LEFT JOIN (
    SELECT cluster, job_id,
           CASE WHEN min(coalesce(model, type)) = max(coalesce(model, type))
                THEN min(coalesce(model, type)) END AS gpu
    FROM bill
    WHERE type IN ('gpu', 'npu')
    GROUP BY cluster, job_id
) AS pod USING (cluster, job_id);
INSERT INTO item_class (cluster, vc, project, namespace, kind, type, model, quota, gpu)
SELECT DISTINCT cluster, vc, project, namespace, kind, type, model, quota, gpu FROM classed;

ALTER TABLE bill
    ADD COLUMN item_class_id bigint,        -- for good
    ADD COLUMN first_day timestamptz,       -- on which something of it counts: its first instant
    ADD COLUMN last_day timestamptz;
UPDATE bill SET item_class_id = class.item_class_id
FROM classed JOIN item_class AS class USING (cluster, vc, project, namespace, kind, type, quota)
WHERE bill.bill_id = classed.bill_id
    AND class.model IS NOT DISTINCT FROM classed.model
    AND class.gpu IS NOT DISTINCT FROM classed.gpu;
ALTER TABLE bill ALTER COLUMN item_class_id SET NOT NULL;
UPDATE bill SET first_day = counted.first_day, last_day = counted.last_day
FROM (SELECT bill_id, min(day) AS first_day, max(day) AS last_day FROM daily GROUP BY bill_id)
    AS counted
WHERE bill.bill_id = counted.bill_id;

-- What counts of a class on a UTC day: the sums of its items in `daily`, moved by the same
-- statement.
CREATE TABLE daily_class (
    day timestamptz NOT NULL,               -- its first instant
    item_class_id bigint NOT NULL,
    allocated numeric NOT NULL,
    used numeric NOT NULL,
    effective numeric NOT NULL,
    billed numeric NOT NULL,
    unpriced numeric NOT NULL,
    length_ms numeric NOT NULL,
    amount numeric NOT NULL,
    CONSTRAINT daily_class_day_item_class_id_key UNIQUE (day, item_class_id)
) WITH (fillfactor = 70);
SELECT create_hypertable('daily_class', by_range('day', INTERVAL '28 days'),
                         create_default_indexes => false);
INSERT INTO daily_class (day, item_class_id, allocated, used, effective, billed, unpriced,
                         length_ms, amount)
SELECT daily.day, bill.item_class_id, sum(daily.allocated), sum(daily.used), sum(daily.effective),
       sum(daily.billed), sum(daily.unpriced), sum(daily.length_ms), sum(daily.amount)
FROM daily JOIN bill USING (bill_id)
GROUP BY 1, 2
ORDER BY 1, 2;
