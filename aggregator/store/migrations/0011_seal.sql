-- Hours whose charges do not change any more.

-- All hours before the last `until` are sealed: what is told of them later is an adjustment,
-- so what was shown of them once stays as it was. Moved on by the rater, appended only.
CREATE TABLE seal (
    until timestamptz CONSTRAINT seal_pkey PRIMARY KEY
        CONSTRAINT seal_until_check CHECK (until = date_trunc('hour', until, 'UTC')),
    sealed_at timestamptz NOT NULL
);

-- What comes after the seal is a line in `adjustment`, since it is appended; where it counts in
-- its own hour it is a charge like any other.
CREATE OR REPLACE VIEW booking AS
SELECT hour, hour AS used_hour, meter_id, ratio_id, bill_id, 'charge' AS kind,
       started_at, ended_at, allocated, used, effective, billed, length_ms, observed_ms, amount,
       peak
FROM charge
UNION ALL
SELECT hour, used_hour, meter_id, ratio_id, bill_id,
       CASE WHEN kind = 'late' AND hour = used_hour THEN 'charge' ELSE kind END,
       CASE hour WHEN used_hour THEN started_at ELSE hour END,
       CASE hour WHEN used_hour THEN ended_at ELSE hour END,
       allocated, used, effective, billed, length_ms, observed_ms, amount, peak
FROM adjustment;
