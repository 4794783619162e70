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

-- name: list_items
-- In the order of the Bill API. A job runs while any of its runs lives on a node that is
-- not lost; that is looked up for each row that is given (LIMIT keeps the planner from
-- gathering all live runs first). price is that of the only version so far.
SELECT
    bill.bill_id, bill.started_at, bill.ended_at, bill.cluster, bill.node,
    bill.job_id, bill.job_name, bill.user_id, bill.username,
    bill.vc, bill.project, bill.namespace, bill.kind,
    bill.type, bill.model, bill.quota,
    bill.allocated, bill.used, bill.effective, bill.billed, bill.unpriced,
    bill.length_ms, bill.observed_ms, bill.amount,
    ratio.value AS price, bill.is_mixed,
    coalesce((
        SELECT true FROM run JOIN node USING (node_id)
        WHERE run.cluster = bill.cluster AND run.job_id = bill.job_id
            AND run.settled_at IS NULL AND node.last_seen_at > now() - %(lost_after)s::interval
        LIMIT 1
    ), false) AS is_running
FROM bill LEFT JOIN ratio USING (ratio_id)
WHERE (%(user_id)s::uuid IS NULL OR bill.user_id = %(user_id)s)
    AND (%(type)s::text IS NULL OR bill.type = %(type)s)
    AND (%(job_id)s::text IS NULL OR bill.job_id = %(job_id)s)
    AND (%(job)s::text IS NULL OR bill.job_id = %(job)s OR bill.job_name = %(job)s)
    AND (%(vc)s::text IS NULL OR bill.vc = %(vc)s)
    AND (%(node)s::text IS NULL OR bill.node = %(node)s)
    AND (%(is_running)s::boolean IS NULL OR %(is_running)s = EXISTS (
        SELECT FROM run JOIN node USING (node_id)
        WHERE run.cluster = bill.cluster AND run.job_id = bill.job_id
            AND run.settled_at IS NULL AND node.last_seen_at > now() - %(lost_after)s::interval
    ))
ORDER BY bill.started_at DESC, bill.job_id, bill.type, bill.bill_id;

-- name: count_unpriced_items
-- Of what list_items gives for the same parameters.
SELECT count(*)
FROM bill
WHERE bill.is_unpriced
    AND (%(user_id)s::uuid IS NULL OR bill.user_id = %(user_id)s)
    AND (%(type)s::text IS NULL OR bill.type = %(type)s)
    AND (%(job_id)s::text IS NULL OR bill.job_id = %(job_id)s)
    AND (%(job)s::text IS NULL OR bill.job_id = %(job)s OR bill.job_name = %(job)s)
    AND (%(vc)s::text IS NULL OR bill.vc = %(vc)s)
    AND (%(node)s::text IS NULL OR bill.node = %(node)s)
    AND (%(is_running)s::boolean IS NULL OR %(is_running)s = EXISTS (
        SELECT FROM run JOIN node USING (node_id)
        WHERE run.cluster = bill.cluster AND run.job_id = bill.job_id
            AND run.settled_at IS NULL AND node.last_seen_at > now() - %(lost_after)s::interval
    ));

-- name: list_items_within
-- What items come to in the hours that a range touches, as of its end: of an item that counts
-- there, what counts there. A version of which nothing is left (it was taken back) is none.
-- A job runs as of an hour that is over if some usage of it reaches the end of that hour.
WITH bounds AS MATERIALIZED (
    SELECT
        coalesce(date_trunc('hour', %(starts_at)s::timestamptz, 'UTC'), '-infinity') AS starts_at,
        coalesce(date_trunc('hour', %(ends_at)s::timestamptz + INTERVAL '1 hour'
                            - INTERVAL '1 microsecond', 'UTC'), 'infinity') AS ends_at
),
part AS MATERIALIZED (
    SELECT bill_id, ratio_id, min(started_at) AS started_at, max(ended_at) AS ended_at,
           sum(allocated) AS allocated, sum(used) AS used, sum(effective) AS effective,
           sum(billed) AS billed, sum(length_ms) AS length_ms,
           sum(observed_ms) AS observed_ms, sum(amount) AS amount
    FROM booking
    WHERE hour >= (SELECT starts_at FROM bounds) AND hour < (SELECT ends_at FROM bounds)
    GROUP BY bill_id, ratio_id
),
item AS MATERIALIZED (
    SELECT bill_id, min(started_at) AS started_at, max(ended_at) AS ended_at,
           sum(allocated) AS allocated, sum(used) AS used, sum(effective) AS effective,
           sum(billed) AS billed,
           coalesce(sum(billed) FILTER (WHERE ratio_id = 0), 0) AS unpriced,
           sum(length_ms) AS length_ms, sum(observed_ms) AS observed_ms,
           sum(amount) AS amount,
           min(ratio_id) FILTER (WHERE length_ms <> 0) AS ratio_id,
           count(*) FILTER (WHERE length_ms <> 0) > 1 AS is_mixed
    FROM part
    GROUP BY bill_id
),
running AS MATERIALIZED (
    SELECT DISTINCT bill.cluster, bill.job_id
    FROM item JOIN bill USING (bill_id)
    WHERE item.ended_at = (SELECT ends_at FROM bounds)
)
SELECT
    bill.bill_id, item.started_at, item.ended_at, bill.cluster, bill.node,
    bill.job_id, bill.job_name, bill.user_id, bill.username,
    bill.vc, bill.project, bill.namespace, bill.kind,
    bill.type, bill.model, bill.quota,
    item.allocated, item.used, item.effective, item.billed, item.unpriced,
    item.length_ms, item.observed_ms, item.amount,
    CASE WHEN NOT item.is_mixed THEN ratio.value END AS price, item.is_mixed,
    live.is_running
FROM item
JOIN bill USING (bill_id)
LEFT JOIN ratio ON ratio.ratio_id = item.ratio_id
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN (SELECT ends_at FROM bounds) <= now() THEN EXISTS (
            SELECT FROM running
            WHERE running.cluster = bill.cluster AND running.job_id = bill.job_id
        )
        ELSE EXISTS (
            SELECT FROM run JOIN node USING (node_id)
            WHERE run.cluster = bill.cluster AND run.job_id = bill.job_id
                AND run.settled_at IS NULL
                AND node.last_seen_at > now() - %(lost_after)s::interval
        ) END AS is_running
) AS live
WHERE (%(user_id)s::uuid IS NULL OR bill.user_id = %(user_id)s)
    AND (%(type)s::text IS NULL OR bill.type = %(type)s)
    AND (%(job_id)s::text IS NULL OR bill.job_id = %(job_id)s)
    AND (%(job)s::text IS NULL OR bill.job_id = %(job)s OR bill.job_name = %(job)s)
    AND (%(vc)s::text IS NULL OR bill.vc = %(vc)s)
    AND (%(node)s::text IS NULL OR bill.node = %(node)s)
    AND (%(is_running)s::boolean IS NULL OR live.is_running = %(is_running)s)
ORDER BY item.started_at DESC, bill.job_id, bill.type, bill.bill_id;

-- name: count_unpriced_items_within
-- Of what list_items_within gives for the same parameters.
WITH bounds AS MATERIALIZED (
    SELECT
        coalesce(date_trunc('hour', %(starts_at)s::timestamptz, 'UTC'), '-infinity') AS starts_at,
        coalesce(date_trunc('hour', %(ends_at)s::timestamptz + INTERVAL '1 hour'
                            - INTERVAL '1 microsecond', 'UTC'), 'infinity') AS ends_at
),
running AS MATERIALIZED (
    SELECT DISTINCT bill.cluster, bill.job_id
    FROM booking JOIN bill USING (bill_id)
    WHERE %(is_running)s::boolean IS NOT NULL
        AND booking.hour = (SELECT ends_at FROM bounds) - INTERVAL '1 hour'
        AND booking.ended_at = (SELECT ends_at FROM bounds)
)
SELECT count(*)
FROM (
    SELECT bill_id
    FROM booking
    WHERE ratio_id = 0
        AND hour >= (SELECT starts_at FROM bounds) AND hour < (SELECT ends_at FROM bounds)
    GROUP BY bill_id
    HAVING sum(billed) > 0
) AS item
JOIN bill USING (bill_id)
WHERE (%(user_id)s::uuid IS NULL OR bill.user_id = %(user_id)s)
    AND (%(type)s::text IS NULL OR bill.type = %(type)s)
    AND (%(job_id)s::text IS NULL OR bill.job_id = %(job_id)s)
    AND (%(job)s::text IS NULL OR bill.job_id = %(job)s OR bill.job_name = %(job)s)
    AND (%(vc)s::text IS NULL OR bill.vc = %(vc)s)
    AND (%(node)s::text IS NULL OR bill.node = %(node)s)
    AND (%(is_running)s::boolean IS NULL OR %(is_running)s = CASE
        WHEN (SELECT ends_at FROM bounds) <= now() THEN EXISTS (
            SELECT FROM running
            WHERE running.cluster = bill.cluster AND running.job_id = bill.job_id
        )
        ELSE EXISTS (
            SELECT FROM run JOIN node USING (node_id)
            WHERE run.cluster = bill.cluster AND run.job_id = bill.job_id
                AND run.settled_at IS NULL
                AND node.last_seen_at > now() - %(lost_after)s::interval
        ) END);

-- name: list_users
SELECT user_id, username FROM billing_user ORDER BY username, user_id;

-- name: list_nodes
SELECT
    node.name, node.cluster, node.address, node.agent_version,
    node.cpu_m, node.mem_kib, node.cpu_model, node.devices,
    node.first_seen_at, node.last_seen_at,
    node.last_seen_at > now() - %(lost_after)s::interval AS is_alive,
    count(DISTINCT (run.cluster, run.job_id)) FILTER (WHERE run.run_id IS NOT NULL) AS live_jobs
FROM node LEFT JOIN run ON run.node_id = node.node_id AND run.settled_at IS NULL
GROUP BY node.node_id
ORDER BY node.name;

-- name: get_schema_version
SELECT max(version) FROM schema_migration;
