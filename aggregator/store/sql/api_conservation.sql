-- What became of all that a node has: its own accounts beside what jobs had.

-- name: get_accounting_node
-- Nodes account for their time some minutes late, so that hours are settled until then.
SELECT node_id, date_trunc('hour', now() - INTERVAL '10 minutes', 'UTC') AS settled_until
FROM node
WHERE name = %(name)s;

-- name: list_conservation
-- Of `used` for cpu and memory, of `allocated` for devices; a slice counts for its device.
-- Each type's first line of an hour is of all the node. A run's usage cannot lie a day
-- outside of it, which spares the meters of all the others.
SELECT
    hour, type, device,
    CASE WHEN min(model) = max(model) THEN max(model) END AS model,
    sum(quantity) FILTER (WHERE account = 'capacity') AS capacity,
    coalesce(sum(quantity) FILTER (WHERE account = 'jobs'), 0) AS jobs,
    coalesce(sum(quantity) FILTER (WHERE account = 'idle'), 0) AS idle,
    coalesce(sum(quantity) FILTER (WHERE account = 'unattributed'), 0) AS unattributed,
    coalesce(sum(quantity) FILTER (WHERE account = 'down'), 0) AS down,
    coalesce(sum(quantity) FILTER (WHERE account = 'excess'), 0) AS excess
FROM (
    SELECT kept.hour, meter.type, meter.device, meter.model, meter.account,
           CASE WHEN meter.type IN ('gpu', 'npu') THEN kept.allocated ELSE kept.used END
               AS quantity
    FROM node_meter AS meter JOIN node_account AS kept USING (meter_id)
    WHERE meter.node_id = %(node_id)s
      AND kept.hour >= %(starts_at)s::timestamptz AND kept.hour < %(ends_at)s::timestamptz
    UNION ALL
    SELECT charge.hour, class.type, coalesce(meter.physical, meter.device), NULL, 'jobs',
           CASE WHEN class.type IN ('gpu', 'npu') THEN charge.allocated ELSE charge.used END
    FROM run
    JOIN meter USING (run_id)
    JOIN price_class AS class USING (price_class_id)
    JOIN booking AS charge USING (meter_id)
    WHERE run.node_id = %(node_id)s AND class.type <> 'storage'
      AND run.started_at < %(ends_at)s::timestamptz + INTERVAL '1 day'
      AND (run.ended_at IS NULL
           OR run.ended_at >= %(starts_at)s::timestamptz - INTERVAL '1 day')
      AND charge.hour >= %(starts_at)s::timestamptz AND charge.hour < %(ends_at)s::timestamptz
      AND charge.hour = charge.used_hour
) AS part
GROUP BY GROUPING SETS ((hour, type), (hour, type, device))
HAVING GROUPING(device) = 1 OR device IS NOT NULL
ORDER BY hour, type, GROUPING(device) DESC, device;
