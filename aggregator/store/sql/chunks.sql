-- Chunks of the hypertables: made before they are needed, dropped when they are not, by
-- functions of the owner (migration 0006). Only what the Apache edition of TimescaleDB has.

-- name: add_chunks
SELECT add_chunks(%(days)s);

-- name: drop_usage_chunks
SELECT drop_usage_chunks(%(days)s);
