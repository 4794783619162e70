-- What the dialects show of bills: totals of items, never raw usage.

-- name: begin_snapshot
-- The first statement of a transaction: all that follows sees one state and changes nothing.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;

-- name: set_request_limits
-- For this transaction alone: no request may occupy the database for longer.
SELECT
    set_config('statement_timeout', %(statement_ms)s::text, true),
    set_config('lock_timeout', %(lock_ms)s::text, true),
    set_config('idle_in_transaction_session_timeout', %(idle_ms)s::text, true);

-- fragment: item_names
-- Ids and instants as text, as they are shown: see `Item`.
bill.bill_id::text AS bill_id, bill.node, bill.job_id, bill.job_name,
    bill.user_id::text AS user_id, bill.username, bill.vc, bill.type, bill.model, bill.quota

-- fragment: items_owned
-- What is the same for all items of a job, within what the caller may see.
(%(user_id)s::uuid IS NULL OR bill.user_id = %(user_id)s)
    AND (%(job_id)s::text IS NULL OR bill.job_id = %(job_id)s)
    AND (%(vc)s::text IS NULL OR bill.vc = %(vc)s)
    AND in_scope(bill.user_id, bill.vc, bill.project,
                 %(scope_user_id)s, %(scope_vc)s, %(scope_project)s)

-- fragment: items_asked
<<items_owned>>
    AND (%(type)s::text IS NULL OR bill.type = %(type)s)
    AND (%(job)s::text IS NULL OR bill.job_id = %(job)s OR bill.job_name = %(job)s)
    AND (%(node)s::text IS NULL OR bill.node = %(node)s)

-- fragment: live_runs
-- Those of the item's job, on nodes that are not lost. Another user's or virtual cluster's of
-- that id is another job.
FROM run
        WHERE run.cluster = bill.cluster AND run.job_id = bill.job_id AND run.settled_at IS NULL
            AND run.user_id = bill.user_id AND run.vc = bill.vc
            AND (SELECT node.last_seen_at FROM node WHERE node.node_id = run.node_id)
                > now() - %(lost_after)s::interval

-- fragment: live_job
LEFT JOIN LATERAL (SELECT true AS is_running <<live_runs>> LIMIT 1) AS live ON true

-- fragment: item_columns
<<item_names>>,
    bill.started_at::text AS started_at, bill.ended_at::text AS ended_at,
    NULL::timestamptz AS hour,
    bill.billed, bill.amount, bill.price, bill.is_mixed,
    coalesce(live.is_running, false) AS is_running

-- fragment: owner_names
bill.cluster, bill.project, bill.namespace, bill.kind

-- fragment: order
bill.started_at DESC, bill.job_id, bill.type, bill.bill_id

-- fragment: page
-- Items as a page shows them, and of each whether its job runs: while any of its runs lives on a
-- node that is not lost. That is looked up for what is shown alone, and once for each job.
FROM (
    SELECT bill.*, ratio.value AS price
    FROM bill LEFT JOIN ratio USING (ratio_id)
    WHERE <<items_asked>>
        AND (%(is_running)s::boolean IS NULL OR %(is_running)s = EXISTS (SELECT <<live_runs>>))
        AND (%(after_at)s::timestamptz IS NULL
             OR bill.started_at <= %(after_at)s AND (
                 bill.started_at < %(after_at)s
                 OR (bill.job_id, bill.type, bill.bill_id)
                     > (%(after_job)s::text, %(after_type)s::text, %(after_bill)s::uuid)))
    ORDER BY <<order>>
    LIMIT %(limit)s::bigint OFFSET %(offset)s::bigint
) AS bill
<<live_job>>

-- fragment: quantity
-- What is billed by the method that is asked for; else what was, by that in force.
CASE %(method)s::text WHEN 'request' THEN allocated WHEN 'usage' THEN used
                             WHEN 'effective' THEN effective ELSE billed END

-- fragment: bounds
-- The whole hours that a range touches.
bounds AS MATERIALIZED (
    SELECT
        coalesce(date_trunc('hour', %(starts_at)s::timestamptz, 'UTC'), '-infinity') AS starts_at,
        coalesce(date_trunc('hour', %(ends_at)s::timestamptz + INTERVAL '1 hour'
                            - INTERVAL '1 microsecond', 'UTC'), 'infinity') AS ends_at
)

-- fragment: part
-- What counts in the range, of the meters that can be asked for; by hours, if so asked.
part AS MATERIALIZED (
    SELECT bill_id, CASE WHEN %(is_hourly)s::boolean THEN hour END AS hour, ratio_id,
           min(started_at) AS started_at, max(ended_at) AS ended_at,
           sum(allocated) AS allocated, sum(used) AS used, sum(effective) AS effective,
           sum(<<quantity>>) AS billed, sum(length_ms) AS length_ms,
           sum(observed_ms) AS observed_ms,
           CASE WHEN %(method)s::text IS NULL THEN sum(amount)
                ELSE sum(<<quantity>>) * coalesce(
                    (SELECT value FROM ratio WHERE ratio.ratio_id = booking.ratio_id), 0)
           END AS amount
    FROM booking
    WHERE hour >= (SELECT starts_at FROM bounds) AND hour < (SELECT ends_at FROM bounds)
        AND (num_nulls(%(user_id)s::uuid, %(job_id)s::text, %(vc)s::text,
                       %(scope_user_id)s::uuid, %(scope_vc)s::text, %(scope_project)s::text) = 6
             OR meter_id IN (
                 SELECT meter.meter_id FROM meter JOIN bill USING (bill_id)
                 WHERE <<items_owned>>))
    GROUP BY 1, 2, 3
)

-- fragment: running
-- A job runs as of an hour that is over if some usage of it reaches the end of that hour.
running AS MATERIALIZED (
    SELECT DISTINCT bill.cluster, bill.job_id, bill.user_id, bill.vc
    FROM part JOIN bill USING (bill_id)
    WHERE part.ended_at = (SELECT ends_at FROM bounds)
)

-- fragment: live
LATERAL (
    SELECT CASE
        WHEN (SELECT ends_at FROM bounds) <= now() THEN EXISTS (
            SELECT FROM running
            WHERE running.cluster = bill.cluster AND running.job_id = bill.job_id
                AND running.user_id = bill.user_id AND running.vc = bill.vc
        )
        ELSE EXISTS (SELECT <<live_runs>>) END AS is_running
) AS live

-- name: list_items
-- In the order of the Bill API. price is that of the only version so far.
SELECT <<item_columns>>
<<page>>
ORDER BY <<order>>;

-- name: get_item
-- One of them, with all that was measured.
SELECT
    <<item_columns>>,
    <<owner_names>>,
    bill.allocated, bill.used, bill.effective, bill.unpriced, bill.length_ms, bill.observed_ms
FROM (
    SELECT bill.*, ratio.value AS price
    FROM bill LEFT JOIN ratio USING (ratio_id)
    WHERE bill.bill_id = %(bill_id)s
        AND in_scope(bill.user_id, bill.vc, bill.project,
                     %(scope_user_id)s, %(scope_vc)s, %(scope_project)s)
) AS bill
<<live_job>>;

-- fragment: columns_by_method
<<item_names>>,
    bill.started_at::text AS started_at, bill.ended_at::text AS ended_at,
    NULL::timestamptz AS hour,
    <<quantity>> AS billed,
    CASE WHEN %(method)s::text IS NULL THEN bill.amount WHEN bill.is_mixed THEN mixed.amount
         ELSE <<quantity>> * coalesce(bill.price, 0) END AS amount,
    bill.price, bill.is_mixed,
    coalesce(live.is_running, false) AS is_running

-- fragment: page_by_method
-- The same by another method than that in force: at the prices of their time. Only of items with
-- several of them is each charge looked at.
<<page>>
LEFT JOIN LATERAL (    SELECT coalesce(sum(part.quantity) FILTER (WHERE part.ratio_id = 0), 0) AS unpriced,
           sum(part.quantity * coalesce(ratio.value, 0)) AS amount
    FROM (
        SELECT booking.ratio_id, <<quantity>> AS quantity
        FROM meter JOIN booking USING (meter_id)
        WHERE meter.bill_id = bill.bill_id
    ) AS part
    LEFT JOIN ratio USING (ratio_id)
) AS mixed ON bill.is_mixed AND %(method)s::text IS NOT NULL

-- name: list_items_by_method
SELECT <<columns_by_method>>
<<page_by_method>>
ORDER BY <<order>>;

-- name: list_measured_items
-- With all that was measured, by whatever method.
SELECT
    <<columns_by_method>>,
    <<owner_names>>,
    bill.allocated, bill.used, bill.effective,
    CASE WHEN %(method)s::text IS NULL THEN bill.unpriced WHEN bill.is_mixed THEN mixed.unpriced
         WHEN bill.ratio_id = 0 THEN <<quantity>> ELSE 0 END AS unpriced,
    bill.length_ms, bill.observed_ms
<<page_by_method>>
ORDER BY <<order>>;

-- name: count_unpriced_items
-- Of what list_items gives for the same parameters, on all its pages.
SELECT count(*)
FROM bill
WHERE bill.is_unpriced AND <<items_asked>>
    AND (%(is_running)s::boolean IS NULL OR %(is_running)s = EXISTS (SELECT <<live_runs>>));

-- name: count_unpriced_items_by_method
-- Of what list_items_by_method gives for the same parameters, on all its pages.
SELECT count(*)
FROM bill
WHERE CASE WHEN bill.is_mixed THEN (
          SELECT sum(part.quantity) > 0
          FROM (
              SELECT <<quantity>> AS quantity
              FROM meter JOIN booking USING (meter_id)
              WHERE meter.bill_id = bill.bill_id AND booking.ratio_id = 0
          ) AS part)
      ELSE bill.ratio_id = 0 AND <<quantity>> > 0 END
    AND <<items_asked>>
    AND (%(is_running)s::boolean IS NULL OR %(is_running)s = EXISTS (SELECT <<live_runs>>));

-- fragment: within
-- What items come to in the hours that a range touches, as of its end: of an item that counts
-- there, what counts there. A version of which nothing is left (it was taken back) is none.
WITH <<bounds>>,
<<part>>,
item AS MATERIALIZED (
    SELECT bill_id, hour, min(started_at) AS started_at, max(ended_at) AS ended_at,
           sum(allocated) AS allocated, sum(used) AS used, sum(effective) AS effective,
           sum(billed) AS billed,
           coalesce(sum(billed) FILTER (WHERE ratio_id = 0), 0) AS unpriced,
           sum(length_ms) AS length_ms, sum(observed_ms) AS observed_ms,
           sum(amount) AS amount,
           min(ratio_id) FILTER (WHERE length_ms <> 0) AS ratio_id,
           count(*) FILTER (WHERE length_ms <> 0) > 1 AS is_mixed
    FROM part
    GROUP BY bill_id, hour
),
<<running>>

-- fragment: columns_within
<<item_names>>,
    item.started_at::text AS started_at, item.ended_at::text AS ended_at, item.hour,
    item.billed, item.amount,
    CASE WHEN NOT item.is_mixed THEN ratio.value END AS price, item.is_mixed,
    live.is_running

-- fragment: page_within
FROM item
JOIN bill USING (bill_id)
LEFT JOIN ratio ON ratio.ratio_id = item.ratio_id
CROSS JOIN <<live>>
WHERE <<items_asked>>
    AND (%(is_running)s::boolean IS NULL OR live.is_running = %(is_running)s)
    AND (%(after_at)s::timestamptz IS NULL
         OR item.started_at < %(after_at)s
         OR item.started_at = %(after_at)s AND (bill.job_id, bill.type, bill.bill_id)
             > (%(after_job)s::text, %(after_type)s::text, %(after_bill)s::uuid))
ORDER BY item.started_at DESC, bill.job_id, bill.type, bill.bill_id
LIMIT %(limit)s::bigint OFFSET %(offset)s::bigint

-- name: list_items_within
<<within>>
SELECT <<columns_within>>
<<page_within>>;

-- name: list_measured_items_within
<<within>>
SELECT
    <<columns_within>>,
    <<owner_names>>,
    item.allocated, item.used, item.effective, item.unpriced, item.length_ms, item.observed_ms
<<page_within>>;

-- name: count_unpriced_items_within
-- Of what list_items_within gives for the same parameters, on all its pages.
WITH <<bounds>>,
<<part>>,
<<running>>
SELECT count(*)
FROM part
JOIN bill USING (bill_id)
CROSS JOIN <<live>>
WHERE part.ratio_id = 0 AND part.billed > 0
    AND <<items_asked>>
    AND (%(is_running)s::boolean IS NULL OR live.is_running = %(is_running)s);

-- name: list_users
-- Those whom anything within the scope belongs to.
SELECT user_id, username
FROM billing_user
WHERE num_nulls(%(scope_user_id)s::uuid, %(scope_vc)s::text, %(scope_project)s::text) = 3
    OR user_id IN (
        SELECT run.user_id FROM run
        WHERE in_scope(run.user_id, run.vc, run.project,
                       %(scope_user_id)s, %(scope_vc)s, %(scope_project)s))
ORDER BY username, user_id;

-- name: list_nodes
-- Those on which anything within the scope ever ran, with its live jobs.
SELECT
    node.name, node.cluster, node.address, node.agent_version,
    node.cpu_m, node.mem_kib, node.cpu_model, node.devices,
    node.first_seen_at, node.last_seen_at,
    node.last_seen_at > now() - %(lost_after)s::interval AS is_alive,
    count(DISTINCT (run.cluster, run.job_id)) FILTER (WHERE run.run_id IS NOT NULL) AS live_jobs
FROM node
LEFT JOIN run ON run.node_id = node.node_id AND run.settled_at IS NULL
    AND in_scope(run.user_id, run.vc, run.project,
                 %(scope_user_id)s, %(scope_vc)s, %(scope_project)s)
WHERE num_nulls(%(scope_user_id)s::uuid, %(scope_vc)s::text, %(scope_project)s::text) = 3
    OR EXISTS (
        SELECT FROM run AS own
        WHERE own.node_id = node.node_id
            AND in_scope(own.user_id, own.vc, own.project,
                         %(scope_user_id)s, %(scope_vc)s, %(scope_project)s))
GROUP BY node.node_id
ORDER BY node.name;

-- name: get_schema_version
SELECT max(version) FROM schema_migration;
