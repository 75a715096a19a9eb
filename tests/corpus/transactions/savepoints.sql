-- SAVEPOINT, ROLLBACK TO and RELEASE over two groups, and errors within them.

-- name: nested_over_both
BEGIN;
UPDATE accounts SET balance = 1 WHERE side = 1 AND id = 1;
SAVEPOINT a;
UPDATE accounts SET balance = 2 WHERE side = 2 AND id = 1;
SAVEPOINT b;
UPDATE accounts SET balance = 3 WHERE side = 1 AND id = 1;
UPDATE accounts SET balance = 3 WHERE side = 2 AND id = 1;
ROLLBACK TO b;
SELECT side, balance FROM accounts WHERE id = 1;
RELEASE b;
ROLLBACK TO SAVEPOINT a;
SELECT side, balance FROM accounts WHERE id = 1;
UPDATE accounts SET balance = 4 WHERE side = 2 AND id = 2;
COMMIT;
-- name: second_group_first_met_within
BEGIN;
UPDATE accounts SET balance = 1 WHERE side = 1 AND id = 1;
SAVEPOINT a;
SAVEPOINT b;
UPDATE accounts SET balance = 2 WHERE side = 2 AND id = 1;
RELEASE a;
-- error: 3B001
RELEASE b;
COMMIT;
-- name: second_group_met_and_undone
BEGIN;
UPDATE accounts SET balance = 1 WHERE side = 1 AND id = 1;
SAVEPOINT a;
UPDATE accounts SET balance = 2 WHERE side = 2 AND id = 1;
ROLLBACK TO a;
COMMIT;
-- name: everything_undone
BEGIN;
SAVEPOINT a;
UPDATE accounts SET balance = balance + 7;
ROLLBACK TO a;
RELEASE a;
COMMIT;
-- name: same_name_shadows
BEGIN;
SAVEPOINT a;
UPDATE accounts SET balance = 1 WHERE id = 1;
SAVEPOINT a;
UPDATE accounts SET balance = 2 WHERE id = 1;
ROLLBACK TO a;
SELECT side, balance FROM accounts WHERE id = 1;
RELEASE a;
ROLLBACK TO a;
SELECT side, balance FROM accounts WHERE id = 1;
RELEASE a;
-- error: 3B001
ROLLBACK TO a;
ROLLBACK;
-- name: names_are_identifiers
BEGIN;
SAVEPOINT "Two Words";
UPDATE accounts SET balance = 5;
SAVEPOINT TWO;
-- error: 3B001
ROLLBACK TO "two words";
ROLLBACK TO "Two Words";
-- error: 3B001
RELEASE two;
ROLLBACK;
-- name: error_in_one_group
BEGIN;
UPDATE accounts SET balance = balance + 1 WHERE side = 2 AND id = 1;
SAVEPOINT a;
UPDATE accounts SET balance = 1 WHERE side = 1 AND id = 1;
-- error: 23514
UPDATE accounts SET balance = -1 WHERE side = 2 AND id = 1;
-- error: 25P02
SELECT 1;
-- error: 25P02
SAVEPOINT b;
-- error: 25P02
RELEASE a;
ROLLBACK TO a;
SELECT side, balance FROM accounts WHERE id = 1;
UPDATE accounts SET balance = balance + 1 WHERE side = 1 AND id = 1;
COMMIT;
-- name: error_of_a_statement_over_both
BEGIN;
UPDATE accounts SET balance = 9 WHERE id = 2;
SAVEPOINT a;
-- error: 23514
UPDATE accounts SET balance = balance - 10 WHERE id < 3;
ROLLBACK TO a;
SELECT side, id, balance FROM accounts;
-- error: 23505
INSERT INTO accounts VALUES (1, 11, 0), (2, 11, 0), (2, 2, 0);
ROLLBACK TO a;
INSERT INTO accounts VALUES (1, 11, 0), (2, 11, 0);
RELEASE a;
COMMIT;
-- name: error_without_savepoint
BEGIN;
UPDATE accounts SET balance = 9 WHERE id = 2;
-- error: 22012
SELECT 1 / (balance - 9) FROM accounts WHERE side = 2 AND id = 2;
-- error: 25P02
UPDATE accounts SET balance = 8 WHERE id = 2;
COMMIT;
-- name: error_before_the_savepoint
BEGIN;
SAVEPOINT a;
RELEASE a;
-- error: 42703
SELECT nothing FROM accounts;
-- error: 3B001
ROLLBACK TO a;
COMMIT;
-- name: syntax_error_within
BEGIN;
INSERT INTO accounts VALUES (1, 12, 1), (2, 12, 1);
SAVEPOINT a;
-- error: 42601
SELEC 1;
-- error: 25P02
BEGIN;
ROLLBACK TO a;
COMMIT;
-- name: again_and_again
BEGIN;
SAVEPOINT a;
-- error: 23505
INSERT INTO accounts VALUES (1, 1, 1);
ROLLBACK TO a;
-- error: 23505
INSERT INTO accounts VALUES (2, 1, 1);
ROLLBACK TO a;
-- error: 23505
INSERT INTO accounts VALUES (1, 1, 1), (2, 1, 1);
ROLLBACK TO a;
INSERT INTO accounts VALUES (1, 13, 1), (2, 13, 1);
COMMIT;
-- name: outside
-- modes: simple extended
-- error: 25P01
SAVEPOINT a;
-- error: 25P01
RELEASE a;
-- error: 25P01
ROLLBACK TO a;
-- name: settings_follow
BEGIN;
SET LOCAL work_mem = '5MB';
SAVEPOINT a;
SET LOCAL work_mem = '6MB';
SET statement_timeout = '60s';
SELECT current_setting('work_mem'), balance FROM accounts WHERE side = 1 AND id = 1;
ROLLBACK TO a;
SELECT current_setting('work_mem'), current_setting('statement_timeout'), balance FROM accounts WHERE side = 2 AND id = 1;
SELECT current_setting('work_mem'), current_setting('statement_timeout'), balance FROM accounts WHERE side = 1 AND id = 1;
COMMIT;
SELECT current_setting('work_mem') <> '5MB', current_setting('statement_timeout');
-- name: setting_released
BEGIN;
SAVEPOINT a;
SET LOCAL work_mem = '6MB';
RELEASE a;
SELECT current_setting('work_mem'), balance FROM accounts WHERE side = 2 AND id = 1;
SELECT current_setting('work_mem'), balance FROM accounts WHERE side = 1 AND id = 1;
COMMIT;
-- name: message_with_savepoints
-- message
BEGIN; SAVEPOINT a; INSERT INTO accounts VALUES (1, 14, 1), (2, 14, 1); SAVEPOINT b; DELETE FROM accounts; ROLLBACK TO b; COMMIT
-- name: message_with_an_error
-- message
-- error: 23514
INSERT INTO accounts VALUES (1, 15, 1), (2, 15, 1); UPDATE accounts SET balance = -1; SELECT 1
-- name: locks_within
BEGIN;
SAVEPOINT a;
SELECT balance FROM accounts WHERE id = 1 FOR UPDATE;
ROLLBACK TO a;
SELECT balance FROM accounts WHERE side = 2 FOR NO KEY UPDATE;
COMMIT;
-- name: rolled_back_to_and_rolled_back
BEGIN;
INSERT INTO accounts VALUES (1, 16, 1);
SAVEPOINT a;
INSERT INTO accounts VALUES (2, 16, 1);
ROLLBACK TO a;
ROLLBACK;
