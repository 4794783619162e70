-- How a fee came about, and what one would be.

-- name: list_segments
-- All that an item is the sum of, by hour and ratio version: charges and adjustments. An
-- hour in which the method changed names both.
SELECT
    part.*, ratio.key, ratio.value AS price, ratio.starts_at AS price_starts_at,
    ratio.ends_at AS price_ends_at, ratio.created_at AS price_set_at,
    ratio.created_by AS price_set_by, ratio.reason AS price_reason,
    (SELECT coalesce(string_agg(method.method, ', ' ORDER BY method.starts_at), '')
     FROM method
     WHERE method.type = %(type)s
       AND method.validity && tstzrange(
           part.started_at, greatest(part.ended_at, part.started_at + INTERVAL '1 ms'), '[)')
    ) AS method
FROM (
    SELECT
        booking.hour, booking.used_hour, booking.kind, booking.ratio_id,
        min(booking.started_at) AS started_at, max(booking.ended_at) AS ended_at,
        sum(booking.allocated) AS allocated, sum(booking.used) AS used,
        sum(booking.effective) AS effective, sum(booking.billed) AS billed,
        sum(booking.length_ms) AS length_ms, sum(booking.observed_ms) AS observed_ms,
        sum(booking.amount) AS amount
    FROM meter JOIN booking USING (meter_id)
    WHERE meter.bill_id = %(bill_id)s
    GROUP BY booking.hour, booking.used_hour, booking.kind, booking.ratio_id
) AS part
LEFT JOIN ratio USING (ratio_id)
ORDER BY part.hour, part.used_hour, part.started_at, part.ratio_id, part.kind;

-- name: list_ratios_within
-- The versions that are in force at some instant of a range.
SELECT ratio_id, key, value, starts_at, ends_at
FROM ratio
WHERE type = ANY (%(types)s::text[])
    AND validity && tstzrange(%(starts_at)s::timestamptz, %(ends_at)s::timestamptz, '[)')
ORDER BY ratio_id;

-- name: list_methods_within
SELECT type, method, nullif(starts_at, '-infinity') AS starts_at, ends_at
FROM method
WHERE type = ANY (%(types)s::text[])
    AND validity && tstzrange(%(starts_at)s::timestamptz, %(ends_at)s::timestamptz, '[)')
ORDER BY type, method.starts_at;

-- name: list_known_models
-- Of devices that a node has, or had metered.
SELECT each ->> 'type' AS type, each ->> 'model' AS model
FROM node CROSS JOIN LATERAL jsonb_array_elements(node.devices) AS each
UNION
SELECT type, model FROM price_class WHERE model IS NOT NULL
ORDER BY type, model;
