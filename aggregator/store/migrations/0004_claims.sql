-- Who tells what: a run, and the accounts of a node, belong to one stream at a time, so that a
-- spool that was deleted, rolled back or copied cannot tell again what another one told.

-- The order of Hellos, of all streams: of two that name one run the later one has it.
CREATE SEQUENCE stream_hello_seq;
ALTER TABLE stream
    ADD COLUMN hello bigint NOT NULL DEFAULT nextval('stream_hello_seq'),
    ADD COLUMN seizures bigint NOT NULL DEFAULT 0,  -- how often something was taken from it
    ADD COLUMN forgotten_through bigint NOT NULL DEFAULT 0;  -- digests up to here are deleted
ALTER SEQUENCE stream_hello_seq OWNED BY stream.hello;

CREATE TABLE claim (
    subject bigint CONSTRAINT claim_pkey PRIMARY KEY,  -- a run; below zero: a node's accounts
    stream_id uuid NOT NULL CONSTRAINT claim_stream_id_fkey REFERENCES stream,
    moved_at timestamptz                    -- null: it was never another stream's
);

-- What was durable when a claim moved: nothing from before is taken from who has it now.
CREATE TABLE claim_floor (
    subject bigint NOT NULL CONSTRAINT claim_floor_subject_fkey REFERENCES claim,
    type text NOT NULL,
    device text,                            -- null: what is of the whole node
    floor_at timestamptz NOT NULL,
    CONSTRAINT claim_floor_subject_type_device_key UNIQUE NULLS NOT DISTINCT (subject, type, device)
);

-- What was told before this is held to be the newest stream's.
INSERT INTO claim (subject, stream_id)
SELECT run.run_id, newest.stream_id
FROM run
JOIN (SELECT DISTINCT ON (node_id) node_id, stream_id
      FROM stream ORDER BY node_id, connected_at DESC) AS newest USING (node_id);
INSERT INTO claim (subject, stream_id)
SELECT DISTINCT ON (node_id) -node_id, stream_id
FROM stream ORDER BY node_id, connected_at DESC;

-- As in charge: through when the hour is told. Null: it was told before this.
ALTER TABLE node_account ADD COLUMN ended_at timestamptz;

-- Digests are deleted by their age; they come in its order.
CREATE INDEX batch_received_at_idx ON batch USING brin (received_at);
