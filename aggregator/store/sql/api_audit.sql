-- Who changed what is declared; appended only.

-- name: insert_audit
INSERT INTO audit
    (actor, subject, key, action, old_value, new_value, effective_at, effective_until, reason)
VALUES
    (%(actor)s, %(subject)s, %(key)s, %(action)s, %(old_value)s, %(new_value)s,
     %(effective_at)s, %(effective_until)s, %(reason)s);

-- name: list_audit
-- The newest first.
SELECT changed_at, actor, subject, key, action, old_value, new_value,
       effective_at, effective_until, reason
FROM audit
WHERE (%(subject)s::text IS NULL OR subject = %(subject)s)
    AND (%(key)s::text IS NULL OR key = %(key)s)
    AND (%(actor)s::text IS NULL OR actor = %(actor)s)
ORDER BY audit_id DESC
LIMIT %(limit)s;
