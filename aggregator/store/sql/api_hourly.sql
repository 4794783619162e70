-- What hours cost: one hour by virtual cluster, project, kind and job, or hour by hour.

-- fragment: amounts
-- Undivided, by type, since each has a unit of its own; null where there was none of it.
sum(booked.amount) FILTER (WHERE type = 'cpu') AS cpu,
    sum(booked.amount) FILTER (WHERE type = 'mem') AS mem,
    sum(booked.amount) FILTER (WHERE type = 'storage') AS storage,
    sum(booked.amount) FILTER (WHERE type = 'gpu') AS gpu,
    sum(booked.amount) FILTER (WHERE type = 'npu') AS npu

-- fragment: within
hour >= %(starts_at)s::timestamptz AND hour < %(ends_at)s::timestamptz

-- fragment: booked
-- The view `booking` by its tables, each planned by itself (OFFSET 0): where the view is
-- joined, the planner takes their chunks for empty.
(
    (SELECT hour, bill_id, amount FROM charge WHERE <<within>> OFFSET 0)
    UNION ALL
    (SELECT hour, bill_id, amount FROM adjustment WHERE <<within>> OFFSET 0)
) AS booked

-- fragment: visible
(%(vc)s::text IS NULL OR bill.vc = %(vc)s)
    AND in_scope(bill.user_id, bill.vc, bill.project,
                 %(scope_user_id)s, %(scope_vc)s, %(scope_project)s)

-- fragment: asked
(%(project)s::text IS NULL OR bill.project = %(project)s)
    AND (%(kind)s::text IS NULL OR bill.kind = %(kind)s)
    AND <<visible>>

-- name: list_hour_projects
SELECT vc, project, <<amounts>>
FROM <<booked>> JOIN bill USING (bill_id)
WHERE <<asked>>
GROUP BY vc, project
ORDER BY vc, project;

-- name: list_hour_resources
-- A job on several nodes, or with several types of usage, is one resource.
SELECT vc, project, kind, job_id, max(job_name) AS job_name, <<amounts>>
FROM <<booked>> JOIN bill USING (bill_id)
WHERE <<asked>>
GROUP BY vc, project, kind, job_id
ORDER BY vc, project, kind, job_id;

-- name: list_hours
-- The last hours of a range in which anything counts.
SELECT hour, <<amounts>>
FROM <<booked>> JOIN bill USING (bill_id)
WHERE <<visible>>
GROUP BY hour
ORDER BY hour DESC
LIMIT %(limit)s;

-- name: list_hours_of_meters
-- The same of a part of all usage, by its meters: what is small costs little.
WITH own AS MATERIALIZED (
    SELECT meter.meter_id, bill.type
    FROM bill JOIN meter USING (bill_id)
    WHERE <<visible>>
)
SELECT hour, <<amounts>>
FROM (
    SELECT hour, type, amount FROM own JOIN charge USING (meter_id) WHERE <<within>>
    UNION ALL
    SELECT hour, type, amount FROM own JOIN adjustment USING (meter_id) WHERE <<within>>
) AS booked
GROUP BY hour
ORDER BY hour DESC
LIMIT %(limit)s;

-- name: is_seen_vc
SELECT EXISTS (SELECT FROM bill WHERE <<visible>>);
