-- What administrators declare beside ratios, and who changed what.

-- Every change of what is declared, in the transaction that makes it. Appended only.
CREATE TABLE audit (
    audit_id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT audit_pkey PRIMARY KEY,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    subject text NOT NULL,                  -- ratio, method, quota, currency, ...
    key text NOT NULL,
    action text NOT NULL,
    old_value text,                         -- null: nothing was declared
    new_value text,                         -- null: nothing is any more
    effective_at timestamptz,
    effective_until timestamptz,            -- null: until something changes it
    reason text
);
CREATE INDEX audit_subject_key_idx ON audit (subject, key, audit_id DESC);

-- Methods have the story that ratios have, and change where prices do.
ALTER TABLE method
    ADD COLUMN reason text,
    ADD COLUMN closed_at timestamptz,
    ADD COLUMN closed_by text,
    ADD CONSTRAINT method_starts_at_check
        CHECK (starts_at = '-infinity' OR starts_at = date_trunc('minute', starts_at, 'UTC')),
    ADD CONSTRAINT method_ends_at_check CHECK (ends_at = date_trunc('minute', ends_at, 'UTC'));

-- What is reserved for a project, whether it is used or not; versioned like a ratio.
CREATE TABLE project_quota (
    project_quota_id bigint GENERATED ALWAYS AS IDENTITY
        CONSTRAINT project_quota_pkey PRIMARY KEY,
    project text NOT NULL CONSTRAINT project_quota_project_check CHECK (project <> ''),
    type text NOT NULL
        CONSTRAINT project_quota_type_check
            CHECK (type IN ('cpu', 'mem', 'gpu', 'npu', 'storage')),
    quantity bigint NOT NULL                -- base units
        CONSTRAINT project_quota_quantity_check CHECK (quantity >= 0),
    starts_at timestamptz NOT NULL
        CONSTRAINT project_quota_starts_at_check
            CHECK (starts_at = date_trunc('minute', starts_at, 'UTC')),
    ends_at timestamptz
        CONSTRAINT project_quota_ends_at_check
            CHECK (ends_at = date_trunc('minute', ends_at, 'UTC')),
    validity tstzrange NOT NULL GENERATED ALWAYS AS (tstzrange(starts_at, ends_at, '[)')) STORED,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    reason text,
    closed_at timestamptz,
    closed_by text,
    CONSTRAINT project_quota_project_type_validity_excl
        EXCLUDE USING gist (project WITH =, type WITH =, validity WITH &&)
);

-- A project is known by the jobs that named it.
CREATE INDEX run_project_idx ON run (project);

-- How much of another currency one unit of the base currency is, by whole UTC days.
CREATE TABLE currency_rate (
    currency_rate_id bigint GENERATED ALWAYS AS IDENTITY
        CONSTRAINT currency_rate_pkey PRIMARY KEY,
    base text NOT NULL CONSTRAINT currency_rate_base_check CHECK (base ~ '^[A-Z]{3}$'),
    currency text NOT NULL
        CONSTRAINT currency_rate_currency_check
            CHECK (currency ~ '^[A-Z]{3}$' AND currency <> base),
    rate numeric NOT NULL
        CONSTRAINT currency_rate_rate_check CHECK (rate > 0 AND rate < 'Infinity'),
    starts_on date NOT NULL,
    ends_on date,                           -- null: until a later rate
    validity daterange NOT NULL GENERATED ALWAYS AS (daterange(starts_on, ends_on, '[)')) STORED,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    reason text,
    closed_at timestamptz,
    closed_by text,
    CONSTRAINT currency_rate_base_currency_validity_excl
        EXCLUDE USING gist (base WITH =, currency WITH =, validity WITH &&)
);
