-- What is declared beside ratios: methods, quotas of projects, rates of currencies.

-- name: list_live_methods
-- Those in force at some instant from `since` on. The first of each type began before all time.
SELECT method_id, type, method, greatest(starts_at, '0001-01-02 00:00:00+00') AS starts_at, ends_at
FROM method
WHERE (%(type)s::text IS NULL OR type = %(type)s)
    AND NOT isempty(validity) AND (ends_at IS NULL OR ends_at > %(since)s)
ORDER BY type, starts_at;

-- name: list_method_history
-- Every version ever, the newest declaration first within its type.
SELECT type, method, nullif(starts_at, '-infinity') AS starts_at, ends_at,
       created_at, created_by, reason, closed_at, closed_by
FROM method
WHERE %(type)s::text IS NULL OR type = %(type)s
ORDER BY type, created_at DESC, method_id DESC;

-- name: close_method
UPDATE method
SET ends_at = %(ends_at)s, closed_at = clock_timestamp(), closed_by = %(actor)s
WHERE method_id = %(version_id)s;

-- name: insert_method
INSERT INTO method (type, method, starts_at, ends_at, created_at, created_by, reason)
VALUES (%(type)s, %(method)s, %(starts_at)s, %(ends_at)s, clock_timestamp(), %(actor)s,
        %(reason)s);

-- name: lock_declarations
-- One change of quotas or currencies at a time.
SELECT pg_advisory_xact_lock(%(lock)s);

-- name: list_live_quotas
SELECT project_quota_id, project, type, quantity, starts_at, ends_at
FROM project_quota
WHERE (%(project)s::text IS NULL OR project = %(project)s)
    AND (%(type)s::text IS NULL OR type = %(type)s)
    AND NOT isempty(validity) AND (ends_at IS NULL OR ends_at > %(since)s)
ORDER BY project COLLATE "C", type, starts_at;

-- name: list_quota_history
-- Every version ever, the newest declaration first within its project and type.
SELECT project, type, quantity, starts_at, ends_at,
       created_at, created_by, reason, closed_at, closed_by
FROM project_quota
WHERE (%(project)s::text IS NULL OR project = %(project)s)
ORDER BY project COLLATE "C", type, created_at DESC, project_quota_id DESC;

-- name: close_quota
UPDATE project_quota
SET ends_at = %(ends_at)s, closed_at = clock_timestamp(), closed_by = %(actor)s
WHERE project_quota_id = %(version_id)s;

-- name: insert_quota
INSERT INTO project_quota
    (project, type, quantity, starts_at, ends_at, created_at, created_by, reason)
VALUES
    (%(project)s, %(type)s, %(quantity)s, %(starts_at)s, %(ends_at)s, clock_timestamp(),
     %(actor)s, %(reason)s);

-- name: is_known_project
-- Whether a job or a quota ever named it.
SELECT EXISTS (SELECT FROM run WHERE project = %(project)s)
    OR EXISTS (SELECT FROM project_quota WHERE project = %(project)s);

-- name: list_projects
-- The first ones by name, each found by a look into the index.
WITH RECURSIVE known AS (
    (SELECT project, 1 AS number FROM run WHERE project > '' ORDER BY project LIMIT 1)
    UNION ALL
    SELECT (SELECT run.project FROM run WHERE run.project > known.project
            ORDER BY run.project LIMIT 1), known.number + 1
    FROM known
    WHERE known.project IS NOT NULL AND known.number < %(limit)s
)
SELECT project FROM known WHERE project IS NOT NULL;

-- name: list_reserved
-- Quota x time within a range, in base unit x ms, whether it was used or not.
SELECT project, type,
       sum(quantity * (extract(epoch FROM least(coalesce(ends_at, 'infinity'), %(ends_at)s)
                                          - greatest(starts_at, %(starts_at)s)) * 1000))::numeric
           AS reserved
FROM project_quota
WHERE (%(project)s::text IS NULL OR project = %(project)s)
    AND validity && tstzrange(%(starts_at)s::timestamptz, %(ends_at)s::timestamptz, '[)')
GROUP BY project, type
ORDER BY project COLLATE "C", type;

-- name: list_currency_rates
-- From one base currency, the newest day first.
SELECT currency_rate_id, base, currency, rate, starts_on, ends_on,
       created_at, created_by, reason, closed_at, closed_by
FROM currency_rate
WHERE base = %(base)s AND (%(currency)s::text IS NULL OR currency = %(currency)s)
ORDER BY currency, starts_on DESC, currency_rate_id DESC;

-- name: close_currency_rate
UPDATE currency_rate
SET ends_on = %(ends_on)s, closed_at = clock_timestamp(), closed_by = %(actor)s
WHERE currency_rate_id = %(currency_rate_id)s;

-- name: insert_currency_rate
INSERT INTO currency_rate
    (base, currency, rate, starts_on, ends_on, created_at, created_by, reason)
VALUES
    (%(base)s, %(currency)s, %(rate)s, %(starts_on)s, %(ends_on)s, clock_timestamp(),
     %(actor)s, %(reason)s);
