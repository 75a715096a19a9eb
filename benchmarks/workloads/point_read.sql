-- One row by its key.
\set aid random(1, :accounts)
SELECT balance FROM accounts WHERE aid = :aid;
