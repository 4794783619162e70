-- Who may ask over HTTP, and what of all usage they may see.

-- The token itself is kept nowhere: 256 random bits need no salt, so SHA-256 finds it again.
CREATE TABLE token (
    token_id uuid CONSTRAINT token_pkey PRIMARY KEY,
    name text NOT NULL CONSTRAINT token_name_check CHECK (name <> ''),
    digest bytea NOT NULL CONSTRAINT token_digest_key UNIQUE,
    role text NOT NULL CONSTRAINT token_role_check CHECK (role IN ('admin', 'viewer')),
    user_id uuid,                           -- a viewer of these alone; null: of any
    vc text,
    project text,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    reason text,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    revoked_by text,
    last_used_at timestamptz,               -- to the minute
    CONSTRAINT token_scope_check
        CHECK (num_nonnulls(user_id, vc, project) <= CASE role WHEN 'viewer' THEN 1 ELSE 0 END)
);
-- A name is who acted, in every history: one token has it at a time.
CREATE UNIQUE INDEX token_name_key ON token (name) WHERE revoked_at IS NULL;

-- Whether something of somebody is within a scope, of which null is any. The one condition
-- of every query for things that belong to somebody; it is inlined, so indexes serve it.
CREATE FUNCTION in_scope(
    user_id uuid, vc text, project text,
    scope_user_id uuid, scope_vc text, scope_project text
) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (scope_user_id IS NULL OR user_id = scope_user_id)
    AND (scope_vc IS NULL OR vc = scope_vc)
    AND (scope_project IS NULL OR project = scope_project);

-- What a virtual cluster's or a project's viewer asks for, newest first.
CREATE INDEX bill_vc_idx ON bill (vc, started_at DESC, job_id, type, bill_id);
CREATE INDEX bill_project_idx ON bill (project, started_at DESC, job_id, type, bill_id);
