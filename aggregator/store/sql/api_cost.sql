-- What the Cost API shows: sums over days, weeks (from Monday) or months, in UTC, clipped to
-- the range. Both queries give a page and how many rows there are on all; a page with nothing
-- on it is one row that has the total alone.

-- fragment: page
SELECT counted.total, page.cluster, page.project, page.namespace, page.first, page.last,
       page.quantity
FROM (SELECT count(*) AS total FROM item) AS counted
LEFT JOIN (
    SELECT cluster, project, namespace, quantity,
           greatest(begin::date, %(first)s::date) AS first,
           least((begin + ('1 ' || %(step)s::text)::interval)::date - 1, %(last)s::date) AS last
    FROM item CROSS JOIN LATERAL (SELECT item.step AT TIME ZONE 'UTC') AS local (begin)
    ORDER BY step, cluster COLLATE "C", project COLLATE "C", namespace COLLATE "C"
    LIMIT %(limit)s::bigint OFFSET %(offset)s::bigint
) AS page ON true
ORDER BY page.first, page.cluster COLLATE "C", page.project COLLATE "C",
         page.namespace COLLATE "C"

-- fragment: quantity
CASE %(quantity)s::text
        WHEN 'allocated' THEN daily.allocated WHEN 'used' THEN daily.used ELSE daily.effective
    END

-- name: list_cost_usage
-- Of the daily rollup. What has neither size nor length there is money alone; that is looked
-- at by row, since one more sum costs more, and of a day it is not reckoned what it is: a
-- year of 10,000 items is 3,650,000 rows.
WITH item AS MATERIALIZED (
    SELECT CASE %(step)s::text
               WHEN 'day' THEN daily.day
               ELSE date_trunc(%(step)s::text, daily.day AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
           END AS step,
           CASE WHEN %(by_cluster)s::boolean THEN bill.cluster ELSE '' END AS cluster,
           CASE WHEN %(by_project)s::boolean THEN bill.project ELSE '' END AS project,
           CASE WHEN %(by_namespace)s::boolean THEN bill.namespace ELSE '' END AS namespace,
           sum(<<quantity>>) AS quantity
    FROM daily JOIN bill USING (bill_id)
    WHERE daily.day >= %(first)s::date::timestamp AT TIME ZONE 'UTC'
        AND daily.day < (%(last)s::date + 1)::timestamp AT TIME ZONE 'UTC'
        AND (<<quantity>> <> 0 OR daily.length_ms <> 0)
        AND bill.type = %(type)s
        AND (%(within)s::text IS NULL OR bill.project = %(within)s)
        AND (%(cluster)s::text IS NULL OR bill.cluster = %(cluster)s)
        AND (%(project)s::text IS NULL OR bill.project = %(project)s)
        AND (%(namespace)s::text IS NULL OR bill.namespace = %(namespace)s)
        AND in_scope(bill.user_id, bill.vc, bill.project,
                     %(scope_user_id)s, %(scope_vc)s, %(scope_project)s)
    GROUP BY 1, 2, 3, 4
)
<<page>>;

-- name: list_cost_quotas
-- Quota x time within each step, in base unit x ms. It is a project's, of no cluster and no
-- namespace, of no user and no virtual cluster.
WITH item AS MATERIALIZED (
    SELECT span.step AT TIME ZONE 'UTC' AS step, '' AS cluster, project, '' AS namespace,
           sum(quantity * (extract(epoch FROM least(coalesce(held.ends_at, 'infinity'),
                                                    span.ends_at)
                                              - greatest(held.starts_at, span.starts_at))
                           * 1000)) AS quantity
    FROM (
        SELECT step, greatest(step, %(first)s::date) AT TIME ZONE 'UTC' AS starts_at,
               least(step + ('1 ' || %(step)s::text)::interval,
                     (%(last)s::date + 1)::timestamp) AT TIME ZONE 'UTC' AS ends_at
        FROM generate_series(date_trunc(%(step)s, %(first)s::date::timestamp),
                             %(last)s::date::timestamp,
                             ('1 ' || %(step)s::text)::interval) AS step
    ) AS span
    JOIN project_quota AS held ON held.validity && tstzrange(span.starts_at, span.ends_at, '[)')
    CROSS JOIN (SELECT NULL::uuid AS user_id, NULL::text AS vc) AS nobody
    WHERE held.type = %(type)s
        AND (%(within)s::text IS NULL OR project = %(within)s)
        AND (%(project)s::text IS NULL OR project = %(project)s)
        AND in_scope(user_id, vc, project,
                     %(scope_user_id)s, %(scope_vc)s, %(scope_project)s)
    GROUP BY 1, project
)
<<page>>;
