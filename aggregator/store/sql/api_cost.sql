-- What the Cost API shows: sums over days, weeks (from Monday) or months, in UTC, clipped to
-- the range. All queries give a page and how many rows there are on all; a page with nothing
-- on it is one row that has the total alone.

-- fragment: page
-- Names are looked at no more than once each: `place` is where those of a sum stand. Items that
-- come before the page need not be there: so many are `skipped`.
SELECT whole.total, page.cluster, page.project, page.namespace, page.first, page.last,
       page.quantity
FROM whole
LEFT JOIN (
    SELECT place, name.cluster, name.project, name.namespace, quantity,
           greatest(begin::date, %(first)s::date) AS first,
           least((begin + ('1 ' || %(step)s::text)::interval)::date - 1, %(last)s::date) AS last
    FROM (
        SELECT * FROM item ORDER BY step, place
        LIMIT %(limit)s::bigint OFFSET %(offset)s::bigint - (SELECT skipped FROM whole)
    ) AS item
    CROSS JOIN LATERAL (SELECT item.step AT TIME ZONE 'UTC') AS local (begin)
    JOIN (SELECT DISTINCT place, cluster, project, namespace FROM kin) AS name USING (place)
) AS page ON true
ORDER BY page.first, page.place

-- fragment: quantity
CASE %(quantity)s::text
        WHEN 'allocated' THEN daily.allocated WHEN 'used' THEN daily.used ELSE daily.effective
    END

-- fragment: span
-- The steps, each with the part of it that is asked for.
SELECT step, greatest(step, %(first)s::date) AT TIME ZONE 'UTC' AS starts_at,
               least(step + ('1 ' || %(step)s::text)::interval,
                     (%(last)s::date + 1)::timestamp) AT TIME ZONE 'UTC' AS ends_at
        FROM generate_series(date_trunc(%(step)s, %(first)s::date::timestamp),
                             %(last)s::date::timestamp,
                             ('1 ' || %(step)s::text)::interval) AS step

-- fragment: whole
whole AS (SELECT count(*) AS total, 0::bigint AS skipped FROM item)

-- fragment: named
SELECT id, cluster, project, namespace,
           dense_rank() OVER (ORDER BY cluster COLLATE "C", project COLLATE "C",
                                       namespace COLLATE "C") AS place

-- fragment: shown
CASE WHEN %(by_cluster)s::boolean THEN kind.cluster ELSE '' END AS cluster,
               CASE WHEN %(by_project)s::boolean THEN kind.project ELSE '' END AS project,
               CASE WHEN %(by_namespace)s::boolean THEN kind.namespace ELSE '' END AS namespace

-- fragment: asked
kind.type = %(type)s
            AND (%(within)s::text IS NULL OR kind.project = %(within)s)
            AND (%(cluster)s::text IS NULL OR kind.cluster = %(cluster)s)
            AND (%(project)s::text IS NULL OR kind.project = %(project)s)
            AND (%(namespace)s::text IS NULL OR kind.namespace = %(namespace)s)

-- fragment: is_used
-- What has neither size nor length is money alone.
(<<quantity>> <> 0 OR daily.length_ms <> 0)

-- fragment: of_span
FROM daily_class AS daily JOIN kin ON kin.id = daily.item_class_id
        WHERE daily.day >= span.starts_at AND daily.day < span.ends_at AND <<is_used>>

-- name: list_cost_usage
-- By classes of items, which are of no user: a user sees none of them here. Step by step, since
-- there may be many; only those of the page are summed.
WITH kin AS MATERIALIZED (
    <<named>>
    FROM (
        SELECT kind.item_class_id AS id, <<shown>>
        FROM item_class AS kind CROSS JOIN (SELECT NULL::uuid AS user_id) AS nobody
        WHERE <<asked>>
            AND in_scope(nobody.user_id, kind.vc, kind.project,
                         %(scope_user_id)s, %(scope_vc)s, %(scope_project)s)
    ) AS seen
),
counted AS MATERIALIZED (
    SELECT span.*, found.items, sum(found.items) OVER (ORDER BY span.step) AS through
    FROM (
        <<span>>
    ) AS span
    CROSS JOIN LATERAL (
        SELECT count(*) AS items FROM (SELECT DISTINCT kin.place <<of_span>>) AS places
    ) AS found
),
shown AS MATERIALIZED (
    SELECT * FROM counted
    WHERE through > %(offset)s::bigint
        AND through - items < %(offset)s::bigint + %(limit)s::bigint
),
item AS MATERIALIZED (
    SELECT span.step AT TIME ZONE 'UTC' AS step, summed.place, summed.quantity
    FROM shown AS span
    CROSS JOIN LATERAL (
        SELECT kin.place, sum(<<quantity>>) AS quantity <<of_span>> GROUP BY kin.place
    ) AS summed
),
whole AS (
    SELECT coalesce((SELECT max(through) FROM counted), 0)::bigint AS total,
           coalesce((SELECT min(through - items) FROM shown), 0)::bigint AS skipped
)
<<page>>;

-- name: list_cost_usage_of_user
-- The same by items: the sums of everybody's, in parts that are of one user each.
WITH kin AS MATERIALIZED (
    <<named>>
    FROM (
        SELECT kind.bill_id AS id, <<shown>>
        FROM bill AS kind
        WHERE <<asked>>
            AND in_scope(kind.user_id, kind.vc, kind.project,
                         %(scope_user_id)s, %(scope_vc)s, %(scope_project)s)
    ) AS seen
),
item AS MATERIALIZED (
    SELECT CASE %(step)s::text
               WHEN 'day' THEN daily.day
               ELSE date_trunc(%(step)s::text, daily.day AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
           END AS step,
           kin.place, sum(<<quantity>>) AS quantity
    FROM daily JOIN kin ON kin.id = daily.bill_id
    WHERE daily.day >= %(first)s::date::timestamp AT TIME ZONE 'UTC'
        AND daily.day < (%(last)s::date + 1)::timestamp AT TIME ZONE 'UTC'
        AND <<is_used>>
    GROUP BY 1, 2
),
<<whole>>
<<page>>;

-- name: list_cost_quotas
-- Quota x time within each step, in base unit x ms. It is a project's, of no cluster and no
-- namespace, of no user and no virtual cluster.
WITH kin AS MATERIALIZED (
    SELECT '' AS cluster, project, '' AS namespace,
           row_number() OVER (ORDER BY project COLLATE "C") AS place
    FROM (SELECT DISTINCT project FROM project_quota) AS known
),
item AS MATERIALIZED (
    SELECT span.step AT TIME ZONE 'UTC' AS step, kin.place,
           sum(quantity * (extract(epoch FROM least(coalesce(held.ends_at, 'infinity'),
                                                    span.ends_at)
                                              - greatest(held.starts_at, span.starts_at))
                           * 1000)) AS quantity
    FROM (
        <<span>>
    ) AS span
    JOIN project_quota AS held ON held.validity && tstzrange(span.starts_at, span.ends_at, '[)')
    JOIN kin USING (project)
    CROSS JOIN (SELECT NULL::uuid AS user_id, NULL::text AS vc) AS nobody
    WHERE held.type = %(type)s
        AND (%(within)s::text IS NULL OR project = %(within)s)
        AND (%(project)s::text IS NULL OR project = %(project)s)
        AND in_scope(user_id, vc, project,
                     %(scope_user_id)s, %(scope_vc)s, %(scope_project)s)
    GROUP BY 1, 2
),
<<whole>>
<<page>>;
