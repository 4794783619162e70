-- Closed periods, what is booked for them in open ones, and re-rating (RATING 7, 8 and 9).

-- A calendar month in UTC that is closed; an open one has no row. They are closed in order,
-- so what is closed is all that lies before one instant: the last `ends_at`.
CREATE TABLE period (
    starts_at timestamptz CONSTRAINT period_pkey PRIMARY KEY
        CONSTRAINT period_starts_at_check CHECK (starts_at = date_trunc('month', starts_at, 'UTC')),
    ends_at timestamptz NOT NULL CONSTRAINT period_ends_at_key UNIQUE
        CONSTRAINT period_ends_at_check CHECK (ends_at = date_trunc('month', ends_at, 'UTC')),
    closed_at timestamptz NOT NULL,
    closed_by text NOT NULL,
    reason text,
    digest text NOT NULL,                   -- see aggregator.rating.digest
    charge_count bigint NOT NULL,
    adjustment_count bigint NOT NULL,
    item_count bigint NOT NULL
);

-- What changes charges that may not be edited: appended, never touched again. `late`: usage
-- that came after its period was closed. `reversal` and `rerated`: a charge taken back, and
-- the same at another price. Quantities and amounts are signed, as in charge.
CREATE TABLE adjustment (
    adjustment_id bigint GENERATED ALWAYS AS IDENTITY,
    hour timestamptz NOT NULL,              -- where it counts: in a period open when it was booked
    used_hour timestamptz NOT NULL,         -- the hour of the usage; another one if that is closed
    meter_id bigint NOT NULL,
    ratio_id bigint NOT NULL,
    bill_id uuid NOT NULL,
    kind text NOT NULL
        CONSTRAINT adjustment_kind_check CHECK (kind IN ('late', 'reversal', 'rerated')),
    rerate_id bigint
        CONSTRAINT adjustment_rerate_id_check CHECK ((rerate_id IS NULL) = (kind = 'late')),
    booked_at timestamptz NOT NULL,
    started_at timestamptz NOT NULL,        -- of the usage
    ended_at timestamptz NOT NULL,
    allocated numeric NOT NULL,
    used numeric NOT NULL,
    effective numeric NOT NULL,
    billed numeric NOT NULL,
    length_ms bigint NOT NULL,
    observed_ms bigint NOT NULL,
    amount numeric NOT NULL
);
SELECT create_hypertable('adjustment', by_range('hour', INTERVAL '7 days'),
                         create_default_indexes => false);
CREATE INDEX adjustment_meter_id_used_hour_idx ON adjustment (meter_id, used_hour);

-- All that counts, by the hour in which it does: what every sum over time is made of.
CREATE VIEW booking AS
SELECT hour, hour AS used_hour, meter_id, ratio_id, bill_id, 'charge' AS kind,
       started_at, ended_at, allocated, used, effective, billed, length_ms, observed_ms, amount
FROM charge
UNION ALL
SELECT hour, used_hour, meter_id, ratio_id, bill_id, kind,
       CASE hour WHEN used_hour THEN started_at ELSE hour END,
       CASE hour WHEN used_hour THEN ended_at ELSE hour END,
       allocated, used, effective, billed, length_ms, observed_ms, amount
FROM adjustment;

-- What nodes accounted for in hours of a closed period after the close: kept, not shown.
CREATE TABLE late_account (
    hour timestamptz NOT NULL,
    meter_id bigint NOT NULL,
    booked_at timestamptz NOT NULL,
    allocated numeric NOT NULL,
    used numeric NOT NULL,
    effective numeric NOT NULL,
    length_ms bigint NOT NULL,
    observed_ms bigint NOT NULL
);

-- An order to rate hours anew by the ratios as they stand. Charges know hours, so its range
-- is of whole ones.
CREATE TABLE rerate (
    rerate_id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT rerate_pkey PRIMARY KEY,
    starts_at timestamptz NOT NULL
        CONSTRAINT rerate_starts_at_check CHECK (starts_at = date_trunc('hour', starts_at, 'UTC')),
    ends_at timestamptz NOT NULL
        CONSTRAINT rerate_ends_at_check
            CHECK (ends_at = date_trunc('hour', ends_at, 'UTC') AND ends_at > starts_at),
    key text,                               -- only what it can price; null: everything
    reason text NOT NULL CONSTRAINT rerate_reason_check CHECK (reason <> ''),
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    last_meter_id bigint NOT NULL           -- later meters were rated at the new prices
);

-- How far each order is: moved in the transactions that append its lines.
CREATE TABLE rerate_progress (
    rerate_id bigint CONSTRAINT rerate_progress_pkey PRIMARY KEY
        CONSTRAINT rerate_progress_rerate_id_fkey REFERENCES rerate,
    through_meter_id bigint NOT NULL,
    charge_count bigint NOT NULL,           -- looked at
    line_count bigint NOT NULL,             -- appended
    updated_at timestamptz NOT NULL,
    finished_at timestamptz
);
CREATE INDEX rerate_progress_unfinished_idx ON rerate_progress (rerate_id)
    WHERE finished_at IS NULL;
