-- The schema of DESIGN: what nodes said (node, stream, batch, run, meter, usage),
-- what it costs (ratio, method), and what follows from both (charge, bill).
-- timescaledb is created before the migrations run, since it may need a superuser.

CREATE EXTENSION IF NOT EXISTS btree_gist;

-- Who streams ---------------------------------------------------------------

CREATE TABLE node (
    node_id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT node_pkey PRIMARY KEY,
    name text NOT NULL CONSTRAINT node_name_key UNIQUE,
    cluster text NOT NULL,
    address text NOT NULL,
    boot_id text NOT NULL,
    machine_id text NOT NULL,
    agent_version text NOT NULL,
    cpu_m bigint NOT NULL,
    mem_kib bigint NOT NULL,
    cpu_model text NOT NULL,
    devices jsonb NOT NULL,                 -- [{type, id, model}]
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL
);

-- The mark: moved in the transaction that stores the batch, acked after commit.
CREATE TABLE stream (
    stream_id uuid CONSTRAINT stream_pkey PRIMARY KEY,
    node_id bigint NOT NULL CONSTRAINT stream_node_id_fkey REFERENCES node,
    machine_id text NOT NULL,               -- '': unknown; another one's spool is a clone
    epoch bigint NOT NULL,
    acked_through bigint NOT NULL,
    created_at timestamptz NOT NULL,
    connected_at timestamptz NOT NULL
);

-- One row per transaction of ingest: the rater's work list.
CREATE TABLE ingest_group (
    ingest_group_id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT ingest_group_pkey PRIMARY KEY,
    created_at timestamptz NOT NULL,
    record_count bigint NOT NULL,
    min_started_at timestamptz,             -- null: the group brought definitions only
    max_ended_at timestamptz,
    rated_at timestamptz
);
CREATE INDEX ingest_group_unrated_idx ON ingest_group (ingest_group_id) WHERE rated_at IS NULL;

-- What a sequence held, so that a replay is told from a conflict.
CREATE TABLE batch (
    stream_id uuid NOT NULL CONSTRAINT batch_stream_id_fkey REFERENCES stream,
    sequence bigint NOT NULL,
    digest bytea NOT NULL,
    record_count bigint NOT NULL,
    ingest_group_id bigint NOT NULL,
    received_at timestamptz NOT NULL,
    CONSTRAINT batch_pkey PRIMARY KEY (stream_id, sequence)
);

-- Sequences that a node declared destroyed.
CREATE TABLE stream_gap (
    stream_id uuid NOT NULL CONSTRAINT stream_gap_stream_id_fkey REFERENCES stream,
    first_sequence bigint NOT NULL,
    last_sequence bigint NOT NULL,
    reason text NOT NULL,
    reported_at timestamptz NOT NULL,
    CONSTRAINT stream_gap_pkey PRIMARY KEY (stream_id, first_sequence)
);

-- What could not be taken as it came: kept whole, counted, never billed by itself.
CREATE TABLE quarantine (
    quarantine_id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT quarantine_pkey PRIMARY KEY,
    stream_id uuid NOT NULL CONSTRAINT quarantine_stream_id_fkey REFERENCES stream,
    sequence bigint NOT NULL,
    reason text NOT NULL,
    record_count bigint NOT NULL,
    payload bytea NOT NULL,                 -- a serialized Batch, self-contained
    received_at timestamptz NOT NULL
);
CREATE INDEX quarantine_stream_id_sequence_idx ON quarantine (stream_id, sequence);

-- What is metered -----------------------------------------------------------

CREATE TABLE billing_user (
    user_id uuid CONSTRAINT billing_user_pkey PRIMARY KEY,
    username text,
    cluster text NOT NULL,
    first_seen_at timestamptz NOT NULL
);

CREATE TABLE run (
    run_id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT run_pkey PRIMARY KEY,
    node_id bigint NOT NULL CONSTRAINT run_node_id_fkey REFERENCES node,
    run_key text NOT NULL,
    provider text NOT NULL,
    cluster text NOT NULL,
    job_id text NOT NULL,
    job_name text NOT NULL,
    user_id uuid NOT NULL,                  -- all zero: no user known
    username text,
    vc text NOT NULL,
    project text NOT NULL,
    namespace text NOT NULL,
    kind text NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    ended_group_id bigint,                  -- the group that brought the end
    settled_at timestamptz,                 -- that group is rated: only now is the run shown as
                                            -- stopped, so who waits for it sees the whole bill
    CONSTRAINT run_node_id_run_key_key UNIQUE (node_id, run_key)
);
CREATE INDEX run_live_idx ON run (cluster, job_id) WHERE settled_at IS NULL;
CREATE INDEX run_ended_group_id_idx ON run (ended_group_id) WHERE settled_at IS NULL;

-- What decides the price of a meter: a price is looked up once per class, not per record.
CREATE TABLE price_class (
    price_class_id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT price_class_pkey PRIMARY KEY,
    type text NOT NULL,
    model text,
    vc text NOT NULL,
    CONSTRAINT price_class_type_model_vc_key UNIQUE NULLS NOT DISTINCT (type, model, vc),
    CONSTRAINT price_class_type_check CHECK (type IN ('cpu', 'mem', 'gpu', 'npu', 'storage'))
);

CREATE TABLE meter (
    meter_id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT meter_pkey PRIMARY KEY,
    meter_uid uuid NOT NULL CONSTRAINT meter_meter_uid_key UNIQUE,  -- UUIDv5, see aggregator.model
    bill_id uuid NOT NULL,                  -- UUIDv5 of the item's key and start
    run_id bigint NOT NULL CONSTRAINT meter_run_id_fkey REFERENCES run,
    price_class_id bigint NOT NULL CONSTRAINT meter_price_class_id_fkey REFERENCES price_class,
    node_address text NOT NULL,             -- frozen when the meter began
    device text,                            -- vendor's uuid
    quota bigint NOT NULL,                  -- base units of this meter
    group_quota bigint NOT NULL,            -- base units of the item
    started_at timestamptz NOT NULL,
    ingest_group_id bigint NOT NULL         -- the group that brought the definition
);
CREATE INDEX meter_bill_id_idx ON meter (bill_id);
CREATE INDEX meter_ingest_group_id_idx ON meter (ingest_group_id);

-- Raw usage. No btree: one halves the rate of COPY; BRIN and chunk exclusion serve.
CREATE TABLE usage (
    meter_id bigint NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    allocated bigint NOT NULL,              -- base unit x ms
    used bigint NOT NULL,
    effective bigint NOT NULL,
    observed_ms integer NOT NULL,
    ingest_group_id bigint NOT NULL
);
SELECT create_hypertable('usage', by_range('started_at', INTERVAL '1 day'),
                         create_default_indexes => false);
CREATE INDEX usage_ingest_group_id_idx ON usage USING brin (ingest_group_id)
    WITH (pages_per_range = 32, autosummarize = on);

-- What it costs -------------------------------------------------------------

-- Versions: nothing is edited but `ends_at`, once. starts_at = ends_at: superseded
-- before it took effect.
CREATE TABLE ratio (
    ratio_id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT ratio_pkey PRIMARY KEY,
    key text NOT NULL CONSTRAINT ratio_key_check CHECK (key <> ''),
    type text,                              -- null: the key matches no usage type
    model text,
    vc text,
    value numeric NOT NULL
        CONSTRAINT ratio_value_check CHECK (value >= 0 AND value < 'Infinity'),
    starts_at timestamptz NOT NULL
        CONSTRAINT ratio_starts_at_check CHECK (starts_at = date_trunc('minute', starts_at, 'UTC')),
    ends_at timestamptz
        CONSTRAINT ratio_ends_at_check CHECK (ends_at = date_trunc('minute', ends_at, 'UTC')),
    validity tstzrange NOT NULL GENERATED ALWAYS AS (tstzrange(starts_at, ends_at, '[)')) STORED,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    reason text,
    closed_at timestamptz,
    closed_by text,
    CONSTRAINT ratio_key_validity_excl EXCLUDE USING gist (key WITH =, validity WITH &&)
);

-- A price class is matched by four of these at most.
CREATE INDEX ratio_match_idx ON ratio (type, coalesce(model, ''), coalesce(vc, ''));

-- Which of allocated, used and effective is billed, per type; versioned like a ratio.
CREATE TABLE method (
    method_id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT method_pkey PRIMARY KEY,
    type text NOT NULL
        CONSTRAINT method_type_check CHECK (type IN ('cpu', 'mem', 'gpu', 'npu', 'storage')),
    method text NOT NULL
        CONSTRAINT method_method_check CHECK (method IN ('effective', 'request', 'usage')),
    starts_at timestamptz NOT NULL,
    ends_at timestamptz,
    validity tstzrange NOT NULL GENERATED ALWAYS AS (tstzrange(starts_at, ends_at, '[)')) STORED,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    CONSTRAINT method_type_validity_excl EXCLUDE USING gist (type WITH =, validity WITH &&)
);
INSERT INTO method (type, method, starts_at, created_at, created_by)
SELECT type, 'effective', '-infinity', now(), 'migration'
FROM unnest(ARRAY['cpu', 'mem', 'gpu', 'npu', 'storage']) AS type;

-- What follows --------------------------------------------------------------

-- One meter, one hour, one ratio version. amount = billed x ratio, undivided:
-- base unit x ms x price per unit-hour. ratio_id 0: no ratio was in force (unpriced).
CREATE TABLE charge (
    hour timestamptz NOT NULL,
    meter_id bigint NOT NULL,
    ratio_id bigint NOT NULL,
    bill_id uuid NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    allocated numeric NOT NULL,             -- numeric: no sum of records can overflow
    used numeric NOT NULL,
    effective numeric NOT NULL,
    billed numeric NOT NULL,                -- by the method in force, per record
    length_ms bigint NOT NULL,
    observed_ms bigint NOT NULL,
    amount numeric NOT NULL,
    CONSTRAINT charge_meter_id_hour_ratio_id_key UNIQUE (meter_id, hour, ratio_id)
) WITH (fillfactor = 50);
SELECT create_hypertable('charge', by_range('hour', INTERVAL '7 days'),
                         create_default_indexes => false);

-- One bill item: all meters of one (run, type, node, device model, quota).
CREATE TABLE bill (
    bill_id uuid CONSTRAINT bill_pkey PRIMARY KEY,
    run_id bigint NOT NULL,
    cluster text NOT NULL,
    node text NOT NULL,                     -- address
    job_id text NOT NULL,
    job_name text NOT NULL,
    user_id uuid NOT NULL,
    username text,
    vc text NOT NULL,
    project text NOT NULL,
    namespace text NOT NULL,
    kind text NOT NULL,
    type text NOT NULL,
    model text,
    quota bigint NOT NULL,                  -- base units
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,          -- end of the last rated window
    allocated numeric NOT NULL,
    used numeric NOT NULL,
    effective numeric NOT NULL,
    billed numeric NOT NULL,
    unpriced numeric NOT NULL,              -- the part of billed without a ratio
    length_ms numeric NOT NULL,
    observed_ms numeric NOT NULL,
    amount numeric NOT NULL,
    ratio_id bigint,                        -- the only version so far; null: none, or mixed
    is_mixed boolean NOT NULL,              -- more than one version (unpriced counts as one)
    is_unpriced boolean NOT NULL GENERATED ALWAYS AS (unpriced > 0) STORED
) WITH (fillfactor = 70);
CREATE INDEX bill_started_at_idx ON bill (started_at DESC, job_id, type, bill_id);
CREATE INDEX bill_user_id_idx ON bill (user_id, started_at DESC, job_id, type, bill_id);
-- By a column that changes once: an index that names `unpriced` would make every update
-- of an unpriced item write to all indexes.
CREATE INDEX bill_is_unpriced_idx ON bill (bill_id) WHERE is_unpriced;
