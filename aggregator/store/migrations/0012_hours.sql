-- One hour of charges is found without reading its week: they come in the order of hours, so
-- that a summary of every few pages tells where it is, and costs the rater next to nothing.
CREATE INDEX charge_hour_idx ON charge USING brin (hour)
    WITH (pages_per_range = 16, autosummarize = on);
