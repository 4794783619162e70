-- What the Cost API shows: sums over days, weeks (from Monday) or months, in UTC, clipped to
-- the range. Both queries give a page and how many rows there are on all; a page with nothing
-- on it is one row that has the total alone.

-- fragment: ranged
-- The sums as they are shown.
item AS MATERIALIZED (
    SELECT cluster, project, namespace,
           greatest(step, %(first)s::date) AS first,
           least((step + ('1 ' || %(step)s::text)::interval)::date - 1, %(last)s::date) AS last,
           sum(quantity) AS quantity
    FROM summed
    GROUP BY step, cluster, project, namespace
    HAVING sum(quantity) <> 0 OR sum(length_ms) <> 0
)
SELECT counted.total, page.*
FROM (SELECT count(*) AS total FROM item) AS counted
LEFT JOIN (
    SELECT *
    FROM item
    ORDER BY first, cluster COLLATE "C", project COLLATE "C", namespace COLLATE "C"
    LIMIT %(limit)s::bigint OFFSET %(offset)s::bigint
) AS page ON true
ORDER BY page.first, page.cluster COLLATE "C", page.project COLLATE "C",
         page.namespace COLLATE "C"

-- name: list_cost_usage
-- Of the daily rollup. Days are summed first: there are few then, of which to tell the step.
WITH by_day AS (
    SELECT daily.day,
           CASE WHEN %(by_cluster)s::boolean THEN bill.cluster ELSE '' END AS cluster,
           CASE WHEN %(by_project)s::boolean THEN bill.project ELSE '' END AS project,
           CASE WHEN %(by_namespace)s::boolean THEN bill.namespace ELSE '' END AS namespace,
           sum(CASE %(quantity)s::text
                   WHEN 'allocated' THEN daily.allocated
                   WHEN 'used' THEN daily.used
                   ELSE daily.effective
               END) AS quantity,
           sum(daily.length_ms) AS length_ms
    FROM daily JOIN bill USING (bill_id)
    WHERE daily.day >= %(first)s::date::timestamp AT TIME ZONE 'UTC'
        AND daily.day < (%(last)s::date + 1)::timestamp AT TIME ZONE 'UTC'
        AND bill.type = %(type)s
        AND (%(within)s::text IS NULL OR bill.project = %(within)s)
        AND (%(cluster)s::text IS NULL OR bill.cluster = %(cluster)s)
        AND (%(project)s::text IS NULL OR bill.project = %(project)s)
        AND (%(namespace)s::text IS NULL OR bill.namespace = %(namespace)s)
        AND in_scope(bill.user_id, bill.vc, bill.project,
                     %(scope_user_id)s, %(scope_vc)s, %(scope_project)s)
    GROUP BY 1, 2, 3, 4
),
summed AS (
    SELECT date_trunc(%(step)s, day AT TIME ZONE 'UTC')::date AS step,
           cluster, project, namespace, quantity, length_ms
    FROM by_day
),
<<ranged>>;

-- name: list_cost_quotas
-- Quota x time within each step, in base unit x ms. It is a project's, of no cluster and no
-- namespace, of no user and no virtual cluster.
WITH summed AS (
    SELECT span.step, '' AS cluster, project, '' AS namespace,
           quantity * length_ms AS quantity, length_ms
    FROM (
        SELECT step::date, greatest(step, %(first)s::date) AT TIME ZONE 'UTC' AS starts_at,
               least(step + ('1 ' || %(step)s::text)::interval,
                     (%(last)s::date + 1)::timestamp) AT TIME ZONE 'UTC' AS ends_at
        FROM generate_series(date_trunc(%(step)s, %(first)s::date::timestamp),
                             %(last)s::date::timestamp,
                             ('1 ' || %(step)s::text)::interval) AS step
    ) AS span
    JOIN project_quota AS held ON held.validity && tstzrange(span.starts_at, span.ends_at, '[)')
    CROSS JOIN LATERAL (
        SELECT extract(epoch FROM least(coalesce(held.ends_at, 'infinity'), span.ends_at)
                                  - greatest(held.starts_at, span.starts_at)) * 1000 AS length_ms
    ) AS overlap
    CROSS JOIN (SELECT NULL::uuid AS user_id, NULL::text AS vc) AS nobody
    WHERE held.type = %(type)s
        AND (%(within)s::text IS NULL OR project = %(within)s)
        AND (%(project)s::text IS NULL OR project = %(project)s)
        AND in_scope(user_id, vc, project,
                     %(scope_user_id)s, %(scope_vc)s, %(scope_project)s)
),
<<ranged>>;
