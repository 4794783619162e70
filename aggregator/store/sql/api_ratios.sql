-- Versions of ratios. Nothing is edited in place but ends_at.

-- name: lock_prices
-- Exclusive against the rater's shared hold: until this transaction ends no record is
-- rated, so none can be rated at a price that the change replaces.
SELECT pg_advisory_xact_lock(%(lock)s);

-- name: get_clock
-- Asked after lock_prices, so that it is later than whatever was rated before.
SELECT clock_timestamp();

-- name: list_live_ratios
-- The versions that are in force at some instant from `since` on, of one key or of all.
-- An empty one was replaced before it took effect.
SELECT ratio_id, key, value, starts_at, ends_at
FROM ratio
WHERE (%(key)s::text IS NULL OR key = %(key)s)
    AND NOT isempty(validity) AND (ends_at IS NULL OR ends_at > %(since)s)
ORDER BY key COLLATE "C", starts_at;

-- name: list_ratio_history
-- Every version ever, the newest declaration first within its key.
SELECT key, value, starts_at, ends_at, created_at, created_by, reason, closed_at, closed_by
FROM ratio
WHERE %(key)s::text IS NULL OR key = %(key)s
ORDER BY key COLLATE "C", created_at DESC, ratio_id DESC;

-- name: close_ratio
UPDATE ratio
SET ends_at = %(ends_at)s, closed_at = clock_timestamp(), closed_by = %(actor)s
WHERE ratio_id = %(ratio_id)s;

-- name: insert_ratio
INSERT INTO ratio
    (key, type, model, vc, value, starts_at, ends_at, created_at, created_by, reason)
VALUES
    (%(key)s, %(type)s, %(model)s, %(vc)s, %(value)s, %(starts_at)s, %(ends_at)s,
     clock_timestamp(), %(actor)s, %(reason)s);

-- name: list_class_findings
-- Every class of usage ever metered, with what of it has no price.
SELECT
    price_class.type, price_class.model, price_class.vc,
    count(bill.bill_id) AS items,
    coalesce(sum(bill.unpriced), 0) AS unpriced,
    min(bill.started_at) AS first_at,
    max(bill.ended_at) AS last_at
FROM price_class
LEFT JOIN bill ON bill.is_unpriced
    AND bill.type = price_class.type AND bill.vc = price_class.vc
    AND bill.model IS NOT DISTINCT FROM price_class.model
GROUP BY price_class.price_class_id
ORDER BY price_class.type, price_class.model, price_class.vc;
