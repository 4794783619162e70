-- The new streams of a node are counted at each Hello with another one.
CREATE INDEX stream_node_id_created_at_idx ON stream (node_id, created_at);
