-- What ingest writes, in the order in which one transaction does it. Statements that
-- lock rows which other streams may want, too, do so in the order of a key, so that
-- transactions of several aggregators do not wait for each other in a circle.

-- name: get_incarnation
-- A restore or a failover changes the timeline, another cluster the identifier.
SELECT system_identifier::text || '-' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
FROM pg_control_system();

-- name: upsert_nodes
-- Of names that are new only so many as there is room for; those without it get no row.
INSERT INTO node (name, cluster, address, boot_id, machine_id, agent_version,
                  cpu_m, mem_kib, cpu_model, devices, first_seen_at, last_seen_at)
SELECT name, cluster, address, boot_id, machine_id, agent_version,
       cpu_m, mem_kib, cpu_model, devices::jsonb, now(), now()
FROM (
    SELECT said.*, known.name IS NOT NULL AS is_known,
           count(*) FILTER (WHERE known.name IS NULL) OVER (ORDER BY said.name) AS newcomers
    FROM unnest(%(names)s::text[], %(clusters)s::text[], %(addresses)s::text[],
                %(boot_ids)s::text[], %(machine_ids)s::text[], %(agent_versions)s::text[],
                %(cpu_ms)s::bigint[], %(mem_kibs)s::bigint[], %(cpu_models)s::text[],
                %(devices)s::text[])
        AS said (name, cluster, address, boot_id, machine_id, agent_version,
                 cpu_m, mem_kib, cpu_model, devices)
    LEFT JOIN node AS known ON known.name = said.name
) AS counted
WHERE is_known OR newcomers <= %(max_nodes)s::bigint - (SELECT count(*) FROM node)
ORDER BY name
ON CONFLICT (name) DO UPDATE
SET cluster = excluded.cluster, address = excluded.address, boot_id = excluded.boot_id,
    machine_id = excluded.machine_id, agent_version = excluded.agent_version,
    cpu_m = excluded.cpu_m, mem_kib = excluded.mem_kib, cpu_model = excluded.cpu_model,
    devices = excluded.devices, last_seen_at = excluded.last_seen_at
RETURNING name, node_id, first_seen_at < now();

-- name: open_streams
-- The epoch fences older connections. No epoch: the stream is another node's or machine's,
-- or it is new and its node had so many new ones within a day that there is no room.
-- The digest of the mark shows an agent whether its spool went on as another one did.
WITH said AS MATERIALIZED (
    SELECT stream_id, node_id, machine_id,
           CASE WHEN EXISTS (SELECT FROM stream WHERE stream.stream_id = told.stream_id) THEN true
                ELSE %(max_streams)s::bigint > (
                    SELECT count(*) FROM stream
                    WHERE stream.node_id = told.node_id
                      AND stream.created_at > now() - INTERVAL '1 day')
           END AS has_room
    FROM unnest(%(stream_ids)s::uuid[], %(node_ids)s::bigint[], %(machine_ids)s::text[])
        AS told (stream_id, node_id, machine_id)
),
opened AS (
    INSERT INTO stream (stream_id, node_id, machine_id, epoch, acked_through, hello,
                        created_at, connected_at)
    SELECT stream_id, node_id, machine_id, 1, 0, nextval('stream_hello_seq'), now(), now()
    FROM said
    WHERE has_room
    ORDER BY stream_id
    ON CONFLICT (stream_id) DO UPDATE
    SET epoch = stream.epoch + 1, connected_at = excluded.connected_at, hello = excluded.hello,
        machine_id = CASE stream.machine_id WHEN '' THEN excluded.machine_id
                                            ELSE stream.machine_id END
    WHERE stream.node_id = excluded.node_id
      AND (stream.machine_id = excluded.machine_id
           OR '' IN (stream.machine_id, excluded.machine_id))
    RETURNING stream_id, epoch, acked_through, hello, seizures
)
SELECT said.stream_id, said.has_room, opened.epoch, opened.acked_through, opened.hello,
       opened.seizures, batch.digest
FROM said
LEFT JOIN opened USING (stream_id)
LEFT JOIN batch ON batch.stream_id = opened.stream_id AND batch.sequence = opened.acked_through;

-- name: lock_streams
SELECT stream_id, epoch, acked_through, hello, seizures, forgotten_through
FROM stream
WHERE stream_id = ANY (%(stream_ids)s::uuid[])
ORDER BY stream_id
FOR NO KEY UPDATE;

-- name: list_digests
SELECT batch.stream_id, batch.sequence, batch.digest
FROM unnest(%(stream_ids)s::uuid[], %(sequences)s::bigint[]) AS asked (stream_id, sequence)
JOIN batch USING (stream_id, sequence);

-- name: insert_ingest_group
INSERT INTO ingest_group (created_at, record_count, min_started_at, max_ended_at)
VALUES (now(), %(record_count)s, %(min_started_at)s::timestamptz, %(max_ended_at)s::timestamptz)
RETURNING ingest_group_id;

-- name: upsert_users
-- A name that was unknown is filled in; a known one stays.
INSERT INTO billing_user (user_id, username, cluster, first_seen_at)
SELECT user_id, username, cluster, now()
FROM unnest(%(user_ids)s::uuid[], %(usernames)s::text[], %(clusters)s::text[])
    AS said (user_id, username, cluster)
ORDER BY user_id
ON CONFLICT (user_id) DO UPDATE SET username = excluded.username
WHERE billing_user.username IS NULL AND excluded.username IS NOT NULL;

-- name: list_price_classes
SELECT price_class.type, price_class.model, price_class.vc, price_class.price_class_id
FROM unnest(%(types)s::text[], %(models)s::text[], %(vcs)s::text[]) AS asked (type, model, vc)
JOIN price_class
    ON price_class.type = asked.type AND price_class.vc = asked.vc
   AND price_class.model IS NOT DISTINCT FROM asked.model;

-- name: insert_price_classes
INSERT INTO price_class (type, model, vc)
SELECT type, model, vc
FROM unnest(%(types)s::text[], %(models)s::text[], %(vcs)s::text[]) AS said (type, model, vc)
ORDER BY type, model, vc
ON CONFLICT DO NOTHING;

-- name: list_runs
SELECT run.node_id, run.run_key, run.run_id
FROM unnest(%(node_ids)s::bigint[], %(run_keys)s::text[]) AS asked (node_id, run_key)
JOIN run USING (node_id, run_key);

-- name: insert_runs
INSERT INTO run (node_id, run_key, provider, cluster, job_id, job_name, user_id, username,
                 vc, project, namespace, kind, started_at)
SELECT node_id, run_key, provider, cluster, job_id, job_name, user_id, username,
       vc, project, namespace, kind, started_at
FROM unnest(%(node_ids)s::bigint[], %(run_keys)s::text[], %(providers)s::text[],
            %(clusters)s::text[], %(job_ids)s::text[], %(job_names)s::text[],
            %(user_ids)s::uuid[], %(usernames)s::text[], %(vcs)s::text[],
            %(projects)s::text[], %(namespaces)s::text[], %(kinds)s::text[],
            %(started_ats)s::timestamptz[])
    AS said (node_id, run_key, provider, cluster, job_id, job_name, user_id, username,
             vc, project, namespace, kind, started_at)
ORDER BY node_id, run_key
ON CONFLICT (node_id, run_key) DO NOTHING;

-- name: list_meters
SELECT meter_uid, meter_id FROM meter WHERE meter_uid = ANY (%(meter_uids)s::uuid[]);

-- name: insert_meters
INSERT INTO meter (meter_uid, bill_id, run_id, price_class_id, node_address, device,
                   physical, quota, group_quota, started_at, ingest_group_id)
SELECT meter_uid, bill_id, run_id, price_class_id, node_address, device,
       physical, quota, group_quota, started_at, %(ingest_group_id)s
FROM unnest(%(meter_uids)s::uuid[], %(bill_ids)s::uuid[], %(run_ids)s::bigint[],
            %(price_class_ids)s::bigint[], %(node_addresses)s::text[], %(devices)s::text[],
            %(physicals)s::text[], %(quotas)s::bigint[], %(group_quotas)s::bigint[],
            %(started_ats)s::timestamptz[])
    AS said (meter_uid, bill_id, run_id, price_class_id, node_address, device,
             physical, quota, group_quota, started_at)
ORDER BY meter_uid
ON CONFLICT (meter_uid) DO NOTHING;

-- name: list_node_meters
SELECT meter.node_id, meter.account, meter.type, meter.device, meter.model, meter.meter_id
FROM unnest(%(node_ids)s::bigint[], %(accounts)s::text[], %(types)s::text[],
            %(devices)s::text[], %(models)s::text[])
    AS asked (node_id, account, type, device, model)
JOIN node_meter AS meter
    ON meter.node_id = asked.node_id AND meter.account = asked.account
   AND meter.type = asked.type AND meter.device IS NOT DISTINCT FROM asked.device
   AND meter.model IS NOT DISTINCT FROM asked.model;

-- name: insert_node_meters
INSERT INTO node_meter (node_id, account, type, device, model)
SELECT node_id, account, type, device, model
FROM unnest(%(node_ids)s::bigint[], %(accounts)s::text[], %(types)s::text[],
            %(devices)s::text[], %(models)s::text[])
    AS said (node_id, account, type, device, model)
ORDER BY node_id, account, type, device, model
ON CONFLICT (node_id, account, type, device, model) DO NOTHING;

-- name: insert_batches
INSERT INTO batch (stream_id, sequence, digest, record_count, ingest_group_id, received_at)
SELECT stream_id, sequence, digest, record_count, ingest_group_id, now()
FROM unnest(%(stream_ids)s::uuid[], %(sequences)s::bigint[], %(digests)s::bytea[],
            %(record_counts)s::bigint[], %(ingest_group_ids)s::bigint[])
    AS said (stream_id, sequence, digest, record_count, ingest_group_id);

-- name: insert_quarantine
-- A conflicting batch may be sent again and again; it is kept once.
INSERT INTO quarantine (stream_id, sequence, reason, record_count, payload, received_at)
SELECT stream_id, sequence, reason, record_count, payload, now()
FROM unnest(%(stream_ids)s::uuid[], %(sequences)s::bigint[], %(reasons)s::text[],
            %(record_counts)s::bigint[], %(payloads)s::bytea[])
    AS said (stream_id, sequence, reason, record_count, payload)
WHERE NOT EXISTS (
    SELECT FROM quarantine AS kept
    WHERE kept.stream_id = said.stream_id AND kept.sequence = said.sequence
      AND kept.reason = said.reason AND kept.payload = said.payload
);

-- name: insert_gaps
INSERT INTO stream_gap (stream_id, first_sequence, last_sequence, reason, reported_at)
SELECT stream_id, first_sequence, last_sequence, reason, now()
FROM unnest(%(stream_ids)s::uuid[], %(firsts)s::bigint[], %(lasts)s::bigint[],
            %(reasons)s::text[])
    AS said (stream_id, first_sequence, last_sequence, reason)
ON CONFLICT (stream_id, first_sequence) DO NOTHING;

-- name: copy_usage
COPY usage (meter_id, started_at, ended_at, allocated, used, effective, observed_ms,
            ingest_group_id)
FROM STDIN (FORMAT BINARY);

-- name: end_runs
-- The first end that was said stays, unless the run goes on in another stream.
UPDATE run
SET ended_at = greatest(said.ended_at, run.started_at), ended_group_id = said.group_id
FROM unnest(%(run_ids)s::bigint[], %(ended_ats)s::timestamptz[], %(ingest_group_ids)s::bigint[])
    AS said (run_id, ended_at, group_id)
WHERE run.run_id = said.run_id AND run.ended_at IS NULL;

-- name: move_marks
UPDATE stream
SET acked_through = said.acked_through
FROM unnest(%(stream_ids)s::uuid[], %(acked_throughs)s::bigint[])
    AS said (stream_id, acked_through)
WHERE stream.stream_id = said.stream_id;

-- name: touch_nodes
WITH live AS (
    SELECT node_id FROM node
    WHERE node_id = ANY (%(node_ids)s::bigint[]) AND last_seen_at < now() - INTERVAL '5 seconds'
    ORDER BY node_id
    FOR NO KEY UPDATE
)
UPDATE node SET last_seen_at = now() FROM live WHERE node.node_id = live.node_id;
