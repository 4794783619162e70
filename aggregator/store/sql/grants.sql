-- Roles and grants: what is to be done so that the database is as `aggregator.store.grants`
-- declares. The statements are made here, since names cannot be parameters; `roles` runs them
-- or shows them to whoever may.

-- name: list_role_statements
-- `login`: who the services log in as; null: who asks. A superuser is every role already.
SELECT statement
FROM (
    SELECT 1 AS stage, role, format('CREATE ROLE %%I NOLOGIN', role) AS statement
    FROM unnest(%(service_roles)s::text[]) AS role
    WHERE to_regrole(quote_ident(role)) IS NULL
    UNION ALL
    SELECT 2, role, format('GRANT %%I TO %%I', role, login.rolname)
        || CASE WHEN version.has_options THEN ' WITH INHERIT FALSE, SET TRUE' ELSE '' END
    FROM unnest(%(service_roles)s::text[]) AS role
    CROSS JOIN (SELECT current_setting('server_version_num')::int >= 160000 AS has_options)
        AS version
    JOIN pg_roles AS login ON login.rolname = coalesce(%(login)s::text, session_user)
    WHERE NOT login.rolsuper
      AND NOT coalesce(
          pg_has_role(login.oid, to_regrole(quote_ident(role)),
                      CASE WHEN version.has_options THEN 'SET' ELSE 'MEMBER' END),
          false)
) AS missing
ORDER BY stage, role;

-- name: list_grant_statements
-- Beside what is declared, PUBLIC keeps what is of no use alone: to connect, and to look up
-- names. Of TimescaleDB's own functions those are shut that change a chunk without asking
-- whose it is (drop_chunk). is_needed: without it a service cannot work.
WITH object AS (
    SELECT CASE class.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
           class.oid, class.relname AS name, class.relowner AS owner, class.relacl AS acl,
           format('%%I.%%I', space.nspname, class.relname) AS place
    FROM pg_class AS class JOIN pg_namespace AS space ON space.oid = class.relnamespace
    WHERE space.nspname = current_schema() AND class.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
      AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass
                      AND objid = class.oid AND deptype = 'e')
    UNION ALL
    SELECT CASE routine.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END,
           routine.oid, routine.proname, routine.proowner,
           coalesce(routine.proacl, acldefault('f', routine.proowner)),
           format('%%I.%%I(%%s)', space.nspname, routine.proname,
                  oidvectortypes(routine.proargtypes))
    FROM pg_proc AS routine JOIN pg_namespace AS space ON space.oid = routine.pronamespace
    WHERE space.nspname = current_schema()
          AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass
                          AND objid = routine.oid AND deptype = 'e')
       OR space.nspname = '_timescaledb_functions'
          AND routine.proname IN (
              'drop_chunk', 'freeze_chunk', 'unfreeze_chunk', 'remove_dropped_chunk_metadata',
              'attach_osm_table_chunk', 'drop_osm_chunk', 'hypertable_osm_range_update')
    UNION ALL
    SELECT 'SCHEMA', oid, nspname, nspowner, coalesce(nspacl, acldefault('n', nspowner)),
           quote_ident(nspname)
    FROM pg_namespace
    WHERE nspname = current_schema()
       OR oid = (SELECT extnamespace FROM pg_extension WHERE extname = 'timescaledb')
    UNION ALL
    SELECT 'DATABASE', oid, datname, datdba, coalesce(datacl, acldefault('d', datdba)),
           quote_ident(datname)
    FROM pg_database WHERE datname = current_database()
),
granted AS (
    SELECT object.kind, object.place, NULL::text AS column_name, acl.grantee,
           acl.privilege_type AS privilege, acl.is_grantable
    FROM object CROSS JOIN LATERAL aclexplode(object.acl) AS acl
    WHERE acl.grantee <> object.owner
    UNION ALL
    SELECT object.kind, object.place, attribute.attname, acl.grantee, acl.privilege_type,
           acl.is_grantable
    FROM object
    JOIN pg_attribute AS attribute ON attribute.attrelid = object.oid
    CROSS JOIN LATERAL aclexplode(attribute.attacl) AS acl
    WHERE object.kind = 'TABLE' AND acl.grantee <> object.owner
),
present AS (
    SELECT granted.kind, granted.place, granted.column_name,
           CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(role.rolname) END AS role,
           granted.privilege, granted.is_grantable
    FROM granted LEFT JOIN pg_roles AS role ON role.oid = granted.grantee
    WHERE (granted.grantee = 0 OR role.rolname = ANY (%(service_roles)s::text[]))
      AND (granted.kind, granted.privilege)
          NOT IN (('SCHEMA', 'USAGE'), ('DATABASE', 'CONNECT'))
),
declared AS (
    SELECT object.kind, object.place, said.column_name, quote_ident(said.role) AS role,
           said.privilege, false AS is_grantable
    FROM unnest(%(kinds)s::text[], %(names)s::text[], %(columns)s::text[], %(roles)s::text[],
                %(privileges)s::text[])
        AS said (kind, name, column_name, role, privilege)
    JOIN object ON object.kind = said.kind AND object.name = said.name
    WHERE to_regrole(quote_ident(said.role)) IS NOT NULL
    UNION ALL
    SELECT object.kind, object.place, NULL, quote_ident(role), 'USAGE', false
    FROM object CROSS JOIN unnest(%(service_roles)s::text[]) AS role
    WHERE object.kind = 'SCHEMA' AND to_regrole(quote_ident(role)) IS NOT NULL
      AND NOT has_schema_privilege(to_regrole(quote_ident(role)), object.oid, 'USAGE')
),
difference AS (
    SELECT false AS is_needed, * FROM (TABLE present EXCEPT TABLE declared) AS surplus
    UNION ALL
    SELECT true, * FROM (TABLE declared EXCEPT TABLE present) AS missing
),
phrase AS (
    SELECT is_needed, kind, place, role,
           privilege || coalesce(
               ' (' || string_agg(quote_ident(column_name), ', ' ORDER BY column_name) || ')',
               '') AS words
    FROM difference
    GROUP BY is_needed, kind, place, role, privilege, column_name IS NULL
)
SELECT
    format(CASE WHEN is_needed THEN 'GRANT %%s ON %%s %%s TO %%s'
                ELSE 'REVOKE %%s ON %%s %%s FROM %%s' END,
           string_agg(words, ', ' ORDER BY words), kind, place, role) AS statement,
    is_needed
FROM phrase
GROUP BY is_needed, kind, place, role
ORDER BY is_needed, place, role;

-- name: list_missing_objects
-- Tables and functions of the schema that are not there: somebody dropped them.
SELECT DISTINCT format('%%s %%s', lower(said.kind), said.name)
FROM unnest(%(kinds)s::text[], %(names)s::text[]) AS said (kind, name)
WHERE CASE said.kind
    WHEN 'FUNCTION' THEN NOT EXISTS (
        SELECT FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace AND proname = said.name)
    ELSE NOT EXISTS (
        SELECT FROM pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relname = said.name)
    END
ORDER BY 1;

-- name: get_schema_ownership
-- Whether who asks owns the schema, or is the owner's heir; no row: there is no schema yet.
SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('schema_migration');
