-- PREPARE and EXECUTE of SQL, parameters of the protocol, inside transactions over both groups.

-- name: survives_everything
BEGIN;
PREPARE u (int, int, int) AS UPDATE accounts SET balance = $3 WHERE side = $1 AND id = $2 RETURNING side, id, balance;
EXECUTE u (1, 1, 11);
SAVEPOINT a;
EXECUTE u (2, 1, 12);
-- error: 23514
EXECUTE u (2, 1, -12);
-- error: 25P02
EXECUTE u (2, 1, 13);
ROLLBACK TO a;
EXECUTE u (2, 1, 14);
COMMIT;
EXECUTE u (2, 1, 15);
DEALLOCATE u;
-- error: 26000
EXECUTE u (2, 1, 15);
-- name: prepared_in_an_undone_savepoint
BEGIN;
SAVEPOINT a;
PREPARE u AS UPDATE accounts SET balance = balance + $1;
ROLLBACK TO a;
EXECUTE u (1);
ROLLBACK;
EXECUTE u (2);
-- name: prepared_in_a_failed_transaction
BEGIN;
-- error: 22012
SELECT 1 / 0;
-- error: 25P02
PREPARE u AS UPDATE accounts SET balance = balance + $1;
-- error: 25P02
DEALLOCATE ALL;
ROLLBACK;
-- name: same_name_twice
BEGIN;
PREPARE u AS SELECT 1;
-- error: 42P05
PREPARE u AS SELECT 2;
ROLLBACK;
EXECUTE u;
-- name: wrong_arguments
BEGIN;
PREPARE u (int) AS SELECT balance FROM accounts WHERE side = $1 AND id = 1;
SAVEPOINT a;
-- error: 42601
EXECUTE u (1, 2);
ROLLBACK TO a;
-- error: 22P02
EXECUTE u ('one');
ROLLBACK TO a;
EXECUTE u ('2');
COMMIT;
-- name: insert_over_both
BEGIN;
PREPARE i (int, int) AS INSERT INTO accounts SELECT s, $1, $2 FROM generate_series(1, 2) s;
EXECUTE i (31, 1);
EXECUTE i (32, 2);
SAVEPOINT a;
-- error: 23505
EXECUTE i (31, 3);
ROLLBACK TO a;
COMMIT;
-- name: parameters
-- modes: extended prepared
BEGIN;
-- params: ["1", "5"]
-- types: [23, 23]
UPDATE accounts SET balance = balance + $2 WHERE id = $1;
SAVEPOINT a;
-- params: ["2", "1", "500"]
-- types: [23, 23, 23]
UPDATE accounts SET balance = balance - $3 WHERE side = $1 AND id = $2 AND balance >= 500;
-- params: ["1"]
-- types: [23]
SELECT side, balance FROM accounts WHERE id = $1;
ROLLBACK TO a;
COMMIT;
-- name: parameters_that_fail
-- modes: extended binary
BEGIN;
-- params: ["1", "5"]
-- types: [23, 23]
UPDATE accounts SET balance = balance + $2 WHERE id = $1;
SAVEPOINT a;
-- error: 23514
-- params: ["2", "-5"]
-- types: [23, 23]
UPDATE accounts SET balance = $2 WHERE id = $1;
ROLLBACK TO a;
-- error: 22P02
-- params: ["two"]
-- types: [23]
SELECT balance FROM accounts WHERE id = $1;
ROLLBACK TO a;
COMMIT;
-- name: execute_in_a_cursor_like_way
BEGIN;
PREPARE s AS SELECT side, id, balance FROM accounts WHERE balance >= $1 ORDER BY side, id;
-- ordered
EXECUTE s (100);
CREATE TEMP TABLE kept ON COMMIT DROP AS EXECUTE s (100);
SELECT count(*) FROM kept;
COMMIT;
