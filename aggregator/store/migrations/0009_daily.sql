-- The daily rollup, which month and year ranges are answered from, and the most that an item
-- held at a time.

-- In base units, the largest mean of a record; of storage it is what was held at most.
ALTER TABLE charge ADD COLUMN peak bigint NOT NULL DEFAULT 0;
ALTER TABLE adjustment ADD COLUMN peak bigint NOT NULL DEFAULT 0;
CREATE OR REPLACE VIEW booking AS
SELECT hour, hour AS used_hour, meter_id, ratio_id, bill_id, 'charge' AS kind,
       started_at, ended_at, allocated, used, effective, billed, length_ms, observed_ms, amount,
       peak
FROM charge
UNION ALL
SELECT hour, used_hour, meter_id, ratio_id, bill_id, kind,
       CASE hour WHEN used_hour THEN started_at ELSE hour END,
       CASE hour WHEN used_hour THEN ended_at ELSE hour END,
       allocated, used, effective, billed, length_ms, observed_ms, amount, peak
FROM adjustment;

-- What counts of an item on a UTC day: the sums of its bookings, moved by the statement that
-- books them. Of a closed period it cannot change, since nothing is booked there.
CREATE TABLE daily (
    day timestamptz NOT NULL,               -- its first instant
    bill_id uuid NOT NULL,
    allocated numeric NOT NULL,
    used numeric NOT NULL,
    effective numeric NOT NULL,
    billed numeric NOT NULL,
    unpriced numeric NOT NULL,
    length_ms numeric NOT NULL,
    amount numeric NOT NULL,
    peak bigint NOT NULL,                   -- of one meter
    CONSTRAINT daily_bill_id_day_key UNIQUE (bill_id, day)
) WITH (fillfactor = 70);
SELECT create_hypertable('daily', by_range('day', INTERVAL '28 days'),
                         create_default_indexes => false);
INSERT INTO daily (day, bill_id, allocated, used, effective, billed, unpriced, length_ms,
                   amount, peak)
SELECT date_trunc('day', hour, 'UTC'), bill_id, sum(allocated), sum(used), sum(effective),
       sum(billed), coalesce(sum(billed) FILTER (WHERE ratio_id = 0), 0), sum(length_ms),
       sum(amount), max(peak)
FROM booking
GROUP BY 1, 2;
