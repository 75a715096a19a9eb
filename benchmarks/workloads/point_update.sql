-- One row changed by its key.
\set aid random(1, :accounts)
\set delta random(-500, 500)
UPDATE accounts SET balance = balance + :delta WHERE aid = :aid;
