-- The ledger: what was charged, line by line, of hours that are sealed.

-- name: get_sealed_until
-- The charges of all hours before it stay as they are; null: of none. A closed period is
-- sealed in any case.
SELECT greatest((SELECT max(until) FROM seal), (SELECT max(ends_at) FROM period));

-- fragment: meters
-- Those whose usage can be asked for, and is within what the caller may see.
(num_nulls(%(user_id)s::uuid,
           %(scope_user_id)s::uuid, %(scope_vc)s::text, %(scope_project)s::text) = 4
    OR meter_id IN (
        SELECT meter.meter_id FROM meter JOIN bill USING (bill_id)
        WHERE (%(user_id)s::uuid IS NULL OR bill.user_id = %(user_id)s)
            AND in_scope(bill.user_id, bill.vc, bill.project,
                         %(scope_user_id)s, %(scope_vc)s, %(scope_project)s)))

-- fragment: hours
-- Sealed ones, which lie before ends_before, that may hold what is asked for; bounds that the
-- planner knows leave out all other chunks.
hour >= coalesce(%(first_hour)s::timestamptz, '-infinity')
            AND hour < %(ends_before)s::timestamptz

-- fragment: line
-- One for the charges of an item, an hour and a price, and one for each adjustment: both are
-- never touched again. What has no price is no line.
line AS (
    SELECT 'charge' AS kind, 0::bigint AS adjustment_id, bill_id, ratio_id, hour,
           hour AS used_hour, min(started_at) AS started_at, sum(billed) AS billed
    FROM charge
    WHERE <<hours>>
        AND ratio_id <> 0 AND <<meters>>
    GROUP BY bill_id, hour, ratio_id
    UNION ALL
    SELECT kind, adjustment_id, bill_id, ratio_id, hour,
           used_hour, CASE hour WHEN used_hour THEN started_at ELSE hour END, billed
    FROM adjustment
    WHERE <<hours>>
        AND ratio_id <> 0 AND <<meters>>
)

-- fragment: asked
(%(starts_at)s::timestamptz IS NULL OR started_at >= %(starts_at)s)
        AND started_at < %(ends_before)s::timestamptz

-- fragment: columns
line.kind, line.adjustment_id, line.bill_id, line.ratio_id, line.hour, line.used_hour,
    line.started_at, line.billed, bill.type, bill.model, bill.job_id, ratio.value AS price

-- name: count_ledger_lines
WITH <<line>>
SELECT count(*) FROM line WHERE <<asked>>;

-- name: count_unpriced_ledger_items
-- How many items have usage without a price in the same hours.
SELECT count(*)
FROM (
    SELECT bill_id FROM booking
    WHERE <<hours>>
        AND ratio_id = 0 AND <<meters>>
    GROUP BY bill_id
    HAVING sum(billed) <> 0
) AS item;

-- name: list_newest_ledger_lines
-- A page of them, the newest first.
WITH <<line>>
SELECT <<columns>>
FROM (
    SELECT * FROM line
    WHERE <<asked>>
    ORDER BY started_at DESC, adjustment_id, bill_id, ratio_id
    LIMIT %(limit)s OFFSET %(offset)s
) AS line
JOIN bill USING (bill_id)
JOIN ratio ON ratio.ratio_id = line.ratio_id
ORDER BY line.started_at DESC, line.adjustment_id, line.bill_id, line.ratio_id;

-- name: list_oldest_ledger_lines
-- A page of them, the oldest first: by its number, or after the place of a line.
WITH <<line>>
SELECT <<columns>>
FROM (
    SELECT * FROM line
    WHERE <<asked>>
        AND (%(after_at)s::timestamptz IS NULL
             OR (started_at, adjustment_id, bill_id, ratio_id)
                 > (%(after_at)s, %(after_adjustment)s::bigint, %(after_bill)s::uuid,
                    %(after_ratio)s::bigint))
    ORDER BY started_at, adjustment_id, bill_id, ratio_id
    LIMIT %(limit)s OFFSET %(offset)s
) AS line
JOIN bill USING (bill_id)
JOIN ratio ON ratio.ratio_id = line.ratio_id
ORDER BY line.started_at, line.adjustment_id, line.bill_id, line.ratio_id;

-- name: list_ledger_days
-- What was charged on whole days, by what was used and by project; without what has no price.
SELECT daily.day, bill.type, bill.model, bill.project,
       sum(daily.billed - daily.unpriced) AS billed, sum(daily.amount) AS amount
FROM daily JOIN bill USING (bill_id)
WHERE daily.day >= %(starts_at)s::timestamptz AND daily.day < %(ends_at)s::timestamptz
    AND (%(user_id)s::uuid IS NULL OR bill.user_id = %(user_id)s)
    AND in_scope(bill.user_id, bill.vc, bill.project,
                 %(scope_user_id)s, %(scope_vc)s, %(scope_project)s)
GROUP BY daily.day, bill.type, bill.model, bill.project
HAVING sum(daily.billed - daily.unpriced) <> 0 OR sum(daily.amount) <> 0;
