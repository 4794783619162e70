-- Bookkeeping of migrations.

-- name: lock_migrations
SELECT pg_advisory_lock(%(lock)s);

-- name: get_timescale_version
-- The installed version, else the one that would be installed, else null.
SELECT coalesce(
    (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),
    (SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb')
);

-- name: get_timescale_installed
SELECT extversion FROM pg_extension WHERE extname = 'timescaledb';

-- name: get_current_schema
-- Null: none of the search path exists.
SELECT current_schema();

-- name: create_public_schema
CREATE SCHEMA public;

-- name: create_timescale
CREATE EXTENSION timescaledb;

-- name: create_schema_migration
CREATE TABLE IF NOT EXISTS schema_migration (
    version integer CONSTRAINT schema_migration_pkey PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- name: list_schema_migrations
SELECT version, checksum FROM schema_migration ORDER BY version;

-- name: insert_schema_migration
INSERT INTO schema_migration (version, name, checksum)
VALUES (%(version)s, %(name)s, %(checksum)s);
