-- Two rows in one transaction: in half of the cases, two groups of two.
\set giver random(1, :accounts)
\set taker random(1, :accounts)
\set delta random(1, 100)
BEGIN;
UPDATE accounts SET balance = balance - :delta WHERE aid = :giver;
UPDATE accounts SET balance = balance + :delta WHERE aid = :taker;
END;
