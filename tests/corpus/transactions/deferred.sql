-- Deferred constraints: what one group refuses at COMMIT is done in none.

-- name: foreign_key_kept_at_the_end
BEGIN;
INSERT INTO children VALUES (1, 1, 101), (2, 1, 102);
INSERT INTO parents VALUES (1, 101), (2, 102);
COMMIT;
-- name: foreign_key_broken_in_the_first
BEGIN;
INSERT INTO children VALUES (1, 1, 101), (2, 1, 102);
INSERT INTO parents VALUES (2, 102);
UPDATE accounts SET balance = 1 WHERE id = 1;
-- error: 23503
COMMIT;
-- name: foreign_key_broken_in_the_last
BEGIN;
INSERT INTO children VALUES (1, 1, 101), (2, 1, 102);
INSERT INTO parents VALUES (1, 101);
UPDATE accounts SET balance = 1 WHERE id = 1;
-- error: 23503
COMMIT;
-- name: foreign_key_broken_in_both
BEGIN;
INSERT INTO children VALUES (1, 1, 101), (2, 1, 102);
-- error: 23503
COMMIT;
-- name: foreign_key_broken_in_one_group_only
BEGIN;
INSERT INTO children VALUES (2, 1, 102);
-- error: 23503
COMMIT;
-- name: broken_where_another_wrote
BEGIN;
UPDATE accounts SET balance = 1 WHERE side = 1 AND id = 1;
INSERT INTO children VALUES (2, 1, 102);
-- error: 23503
COMMIT;
-- name: parent_deleted
BEGIN;
DELETE FROM parents WHERE id = 1;
-- error: 23503
COMMIT;
-- name: parent_replaced
BEGIN;
DELETE FROM parents WHERE id = 1;
INSERT INTO parents VALUES (1, 1, 10), (2, 1, 10);
COMMIT;
-- name: ranks_exchanged
BEGIN;
UPDATE parents SET rank = 2 WHERE id = 1;
UPDATE parents SET rank = 1 WHERE id = 2;
COMMIT;
-- name: ranks_clash
BEGIN;
UPDATE parents SET rank = 2 WHERE side = 2 AND id = 1;
UPDATE parents SET rank = 9 WHERE side = 1 AND id = 1;
-- error: 23505
COMMIT;
-- name: a_statement_of_its_own
-- modes: simple
-- error: 23505
UPDATE parents SET rank = 2 WHERE id = 1;
UPDATE parents SET rank = 3 - rank;
-- name: immediate_by_default
UPDATE children SET place = 3 - place WHERE place < 3;
-- error: 23505
UPDATE children SET place = 2 WHERE place = 1;
BEGIN;
-- error: 23505
UPDATE children SET place = 2 WHERE place = 1;
ROLLBACK;
-- name: made_deferred
BEGIN;
SET CONSTRAINTS children_place DEFERRED;
UPDATE children SET place = 2 WHERE place = 1;
UPDATE children SET place = 1 WHERE id = 72;
COMMIT;
-- name: made_deferred_and_broken
BEGIN;
UPDATE accounts SET balance = 1 WHERE side = 1 AND id = 1;
SET CONSTRAINTS children_place DEFERRED;
UPDATE children SET place = 2 WHERE place = 1 AND side = 2;
-- error: 23505
COMMIT;
-- name: all_immediate
BEGIN;
SET CONSTRAINTS ALL IMMEDIATE;
-- error: 23503
INSERT INTO children VALUES (1, 1, 101), (2, 1, 102);
ROLLBACK;
-- name: all_immediate_late_group
BEGIN;
INSERT INTO parents VALUES (1, 101);
SET CONSTRAINTS ALL IMMEDIATE;
INSERT INTO children VALUES (1, 1, 101);
-- error: 23503
INSERT INTO children VALUES (2, 1, 102);
COMMIT;
-- name: checked_on_demand
BEGIN;
INSERT INTO children VALUES (1, 1, 101), (2, 1, 102);
SAVEPOINT a;
-- error: 23503
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK TO a;
INSERT INTO parents VALUES (1, 101), (2, 102);
SET CONSTRAINTS children_parent IMMEDIATE;
COMMIT;
-- name: immediate_undone_with_its_savepoint
BEGIN;
SAVEPOINT a;
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK TO a;
INSERT INTO children VALUES (1, 1, 101), (2, 1, 102);
INSERT INTO parents VALUES (1, 101), (2, 102);
COMMIT;
-- name: broken_and_undone
BEGIN;
UPDATE accounts SET balance = 3 WHERE id = 1;
SAVEPOINT a;
INSERT INTO children VALUES (1, 1, 101), (2, 1, 102);
ROLLBACK TO a;
COMMIT;
-- name: immediate_then_deferred
BEGIN;
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS children_parent DEFERRED;
INSERT INTO children VALUES (1, 1, 101), (2, 1, 102);
INSERT INTO parents VALUES (1, 101), (2, 102);
COMMIT;
-- name: no_such_constraint
BEGIN;
-- error: 42704
SET CONSTRAINTS nothing_like_it DEFERRED;
ROLLBACK;
-- name: not_deferrable
BEGIN;
-- error: 42809
SET CONSTRAINTS accounts_balance_check, parents_pkey DEFERRED;
ROLLBACK;
-- name: outside_of_a_transaction
SET CONSTRAINTS ALL DEFERRED;
-- name: chained_after_a_failure
BEGIN ISOLATION LEVEL REPEATABLE READ;
INSERT INTO children VALUES (1, 1, 101), (2, 1, 102);
-- error: 23503
COMMIT AND CHAIN;
SHOW transaction_isolation;
-- name: prepared_by_the_user
BEGIN;
INSERT INTO children VALUES (1, 1, 101);
-- error: 23503
PREPARE TRANSACTION 'corpus_deferred_{schema}';
ROLLBACK;
-- name: read_committed_serializable_alike
BEGIN ISOLATION LEVEL SERIALIZABLE;
INSERT INTO children VALUES (1, 1, 101), (2, 1, 102);
-- error: 23503
COMMIT;
SELECT count(*) FROM children;
