-- The unpriced items of one user are counted without looking through those of all others. Like the
-- index that it replaces it names no column that changes, but for the condition.
CREATE INDEX bill_user_id_is_unpriced_idx ON bill (user_id) WHERE is_unpriced;
DROP INDEX bill_is_unpriced_idx;
