-- The nodes' own accounts: what became of all that a node has (conservation, RATING 10).
-- They are no jobs: no run, no meter, no charge and no bill is made of them.

-- Numbers below zero: usage tells an account from a job by the sign of its meter, so the
-- rater looks nothing up for the one and joins nothing more for the other.
CREATE TABLE node_meter (
    meter_id bigint GENERATED ALWAYS AS IDENTITY (INCREMENT BY -1)
        CONSTRAINT node_meter_pkey PRIMARY KEY
        CONSTRAINT node_meter_meter_id_check CHECK (meter_id < 0),
    node_id bigint NOT NULL CONSTRAINT node_meter_node_id_fkey REFERENCES node,
    account text NOT NULL
        CONSTRAINT node_meter_account_check
            CHECK (account IN ('capacity', 'idle', 'unattributed', 'down', 'excess')),
    type text NOT NULL
        CONSTRAINT node_meter_type_check CHECK (type IN ('cpu', 'mem', 'gpu', 'npu')),
    device text                             -- a physical one's uuid; null: cpu and mem
        CONSTRAINT node_meter_device_check CHECK ((device IS NULL) = (type IN ('cpu', 'mem'))),
    model text,
    CONSTRAINT node_meter_node_id_account_type_device_model_key
        UNIQUE NULLS NOT DISTINCT (node_id, account, type, device, model)
);

-- One account of one device, one hour: what charge is to jobs, kept as long.
CREATE TABLE node_account (
    hour timestamptz NOT NULL,
    meter_id bigint NOT NULL,
    allocated numeric NOT NULL,             -- base unit x ms
    used numeric NOT NULL,
    effective numeric NOT NULL,
    length_ms bigint NOT NULL,
    observed_ms bigint NOT NULL,
    CONSTRAINT node_account_meter_id_hour_key UNIQUE (meter_id, hour)
) WITH (fillfactor = 50);
SELECT create_hypertable('node_account', by_range('hour', INTERVAL '7 days'),
                         create_default_indexes => false);

-- A job's slice counts for the physical device that it is cut from.
ALTER TABLE meter ADD COLUMN physical text; -- vendor's uuid; null: `device` itself

-- What jobs had on a node is found by its runs and their meters.
CREATE INDEX meter_run_id_idx ON meter (run_id);
