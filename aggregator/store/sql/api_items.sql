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
