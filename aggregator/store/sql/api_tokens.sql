-- Tokens, and what a scope may see.

-- name: use_token
-- The token of a digest while it is valid; that it was used is noted once a minute.
WITH found AS (
    SELECT token_id, name, role, user_id, vc, project, last_used_at
    FROM token
    WHERE digest = %(digest)s AND revoked_at IS NULL AND expires_at > now()
),
noted AS (
    UPDATE token SET last_used_at = now()
    FROM found
    WHERE token.token_id = found.token_id
        AND (found.last_used_at IS NULL OR found.last_used_at < now() - INTERVAL '1 minute')
)
SELECT token_id, name, role, user_id, vc, project FROM found;

-- name: insert_token
INSERT INTO token
    (token_id, name, digest, role, user_id, vc, project, created_at, created_by, reason,
     expires_at)
VALUES
    (%(token_id)s, %(name)s, %(digest)s, %(role)s, %(user_id)s, %(vc)s, %(project)s, now(),
     %(actor)s, %(reason)s, coalesce(%(expires_at)s, now() + %(lifetime)s::interval))
ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING
RETURNING token_id, name, role, user_id, vc, project, created_at, created_by, reason,
    expires_at, revoked_at, revoked_by, last_used_at, expires_at <= now() AS is_expired;

-- name: revoke_token
UPDATE token SET revoked_at = now(), revoked_by = %(actor)s
WHERE name = %(name)s AND revoked_at IS NULL
RETURNING token_id, name, role, user_id, vc, project, created_at, created_by, reason,
    expires_at, revoked_at, revoked_by, last_used_at, expires_at <= now() AS is_expired;

-- name: list_tokens
-- Those that can be used first, then those that could.
SELECT token_id, name, role, user_id, vc, project, created_at, created_by, reason,
    expires_at, revoked_at, revoked_by, last_used_at, expires_at <= now() AS is_expired
FROM token
ORDER BY revoked_at IS NOT NULL OR expires_at <= now(), name, created_at;

-- name: list_seen_vcs
-- The virtual clusters in which anything of a scope ever ran.
SELECT DISTINCT vc
FROM run
WHERE in_scope(user_id, vc, project, %(scope_user_id)s, %(scope_vc)s, %(scope_project)s);
