-- What `aggregator.store.digests` does, by a function of the owner (migration 0007).

-- name: forget_digests
SELECT forget_digests(%(days)s, %(at_once)s);
