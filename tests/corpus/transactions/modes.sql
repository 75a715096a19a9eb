-- Transaction modes, and chained transactions.

-- name: set_before_the_first_statement
BEGIN;
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE;
UPDATE accounts SET balance = balance + 1 WHERE id = 1;
SHOW transaction_isolation;
COMMIT;
-- name: set_in_lower_case
BEGIN;
set transaction  isolation   level repeatable read;
SELECT sum(balance) FROM accounts;
show transaction_isolation;
SELECT current_setting('transaction_isolation'), balance FROM accounts WHERE side = 2 AND id = 1;
COMMIT;
-- name: set_after_settings
BEGIN;
SET work_mem = '5MB';
SET corpus.tenant = 'forty-two';
SET LOCAL search_path = {schema}, public;
SET LOCAL corpus.other = 'x';
SAVEPOINT a;
ROLLBACK TO a;
RELEASE a;
SET CONSTRAINTS ALL DEFERRED;
SHOW work_mem;
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;
SELECT sum(balance) FROM accounts;
SELECT current_setting('corpus.tenant'), current_setting('work_mem'), balance FROM accounts WHERE side = 2 AND id = 1;
SHOW transaction_isolation;
COMMIT;
SHOW corpus.tenant;
-- name: set_too_late_in_the_other_group
BEGIN;
SELECT balance FROM accounts WHERE side = 1 AND id = 1;
-- error: 25001
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;
ROLLBACK;
BEGIN;
SELECT balance FROM accounts WHERE side = 2 AND id = 1;
-- error: 25001
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
ROLLBACK;
-- name: same_level_late
BEGIN;
SELECT balance FROM accounts WHERE side = 2 AND id = 1;
SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
COMMIT;
-- name: level_in_a_subtransaction
BEGIN;
SAVEPOINT a;
-- error: 25001
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;
ROLLBACK;
-- name: read_only
BEGIN READ ONLY;
SELECT sum(balance) FROM accounts;
-- error: 25006
UPDATE accounts SET balance = 0;
COMMIT;
-- name: read_only_set_late
BEGIN;
UPDATE accounts SET balance = 5 WHERE side = 1 AND id = 1;
SET TRANSACTION READ ONLY;
-- error: 25006
UPDATE accounts SET balance = 5 WHERE side = 2 AND id = 1;
ROLLBACK;
BEGIN;
UPDATE accounts SET balance = 5 WHERE id = 1;
SET TRANSACTION READ ONLY;
SELECT sum(balance) FROM accounts;
COMMIT;
-- name: read_write_again
BEGIN READ ONLY;
SET TRANSACTION READ WRITE;
UPDATE accounts SET balance = 5 WHERE id = 1;
COMMIT;
-- name: read_write_too_late
BEGIN READ ONLY;
SELECT sum(balance) FROM accounts;
-- error: 25001
SET TRANSACTION READ WRITE;
ROLLBACK;
-- name: read_only_in_a_savepoint
BEGIN;
SAVEPOINT a;
SET TRANSACTION READ ONLY;
SAVEPOINT b;
-- error: 25006
UPDATE accounts SET balance = 5 WHERE side = 2 AND id = 1;
ROLLBACK TO b;
SHOW transaction_read_only;
ROLLBACK TO a;
SHOW transaction_read_only;
UPDATE accounts SET balance = 5 WHERE id = 1;
COMMIT;
-- name: deferrable
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SELECT sum(balance) FROM accounts;
COMMIT;
BEGIN;
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE;
SELECT balance FROM accounts WHERE side = 2 AND id = 1;
SELECT sum(balance) FROM accounts;
COMMIT;
SET default_transaction_deferrable = on;
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY;
SELECT sum(balance) FROM accounts;
COMMIT;
BEGIN;
SET LOCAL work_mem = '5MB';
SET transaction_deferrable = on;
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY;
SELECT sum(balance) FROM accounts;
COMMIT;
RESET default_transaction_deferrable;
BEGIN ISOLATION LEVEL SERIALIZABLE NOT DEFERRABLE;
SHOW transaction_deferrable;
SELECT sum(balance) FROM accounts;
COMMIT;
-- name: by_the_parameters_name
BEGIN;
SET LOCAL transaction_isolation = 'repeatable read';
SELECT sum(balance) FROM accounts;
SHOW transaction_isolation;
COMMIT;
BEGIN;
SET transaction_isolation TO 'serializable';
SELECT sum(balance) FROM accounts;
SHOW transaction_isolation;
COMMIT;
SHOW transaction_isolation;
BEGIN;
SET transaction_read_only = on;
-- error: 25006
UPDATE accounts SET balance = 5;
ROLLBACK;
-- name: of_the_session
SET default_transaction_isolation = 'serializable';
BEGIN;
SHOW transaction_isolation;
SELECT sum(balance) FROM accounts;
COMMIT;
SELECT current_setting('transaction_isolation'), sum(balance) FROM accounts;
UPDATE accounts SET balance = 5 WHERE id = 1;
RESET default_transaction_isolation;
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
BEGIN;
SHOW transaction_isolation;
-- error: 25006
UPDATE accounts SET balance = 5;
ROLLBACK;
SHOW default_transaction_isolation;
-- name: invalid
BEGIN;
-- error: 22023
SET default_transaction_isolation = 'chaos';
ROLLBACK;
-- error: 42601
BEGIN ISOLATION LEVEL CHAOS;
-- name: twice
BEGIN READ ONLY;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SHOW transaction_isolation;
COMMIT;
COMMIT;
-- name: start_and_end
START TRANSACTION READ WRITE, ISOLATION LEVEL READ COMMITTED;
UPDATE accounts SET balance = 6 WHERE id = 2;
END TRANSACTION;
ABORT;
BEGIN WORK;
UPDATE accounts SET balance = 7 WHERE id = 2;
ABORT WORK;
-- name: commit_and_chain
BEGIN ISOLATION LEVEL REPEATABLE READ;
UPDATE accounts SET balance = 1 WHERE id = 1;
COMMIT AND CHAIN;
SHOW transaction_isolation;
UPDATE accounts SET balance = 2 WHERE id = 1;
ROLLBACK AND CHAIN;
SHOW transaction_isolation;
SELECT side, balance FROM accounts WHERE id = 1;
UPDATE accounts SET balance = 3 WHERE side = 1 AND id = 1;
COMMIT AND NO CHAIN;
SHOW transaction_isolation;
-- name: chain_keeps_what_was_set
BEGIN;
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE;
SELECT sum(balance) FROM accounts;
COMMIT AND CHAIN;
SHOW transaction_isolation;
SHOW transaction_read_only;
-- error: 25006
UPDATE accounts SET balance = 2;
ROLLBACK AND CHAIN;
SHOW transaction_read_only;
SELECT sum(balance) FROM accounts;
COMMIT;
SHOW transaction_read_only;
-- name: chain_keeps_read_only_set_late
BEGIN ISOLATION LEVEL REPEATABLE READ;
UPDATE accounts SET balance = 2 WHERE id = 1;
SET TRANSACTION READ ONLY;
COMMIT AND CHAIN;
SHOW transaction_isolation;
SHOW transaction_read_only;
SELECT sum(balance) FROM accounts;
ROLLBACK;
-- name: chain_of_a_failed_one
BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;
-- error: 25006
DELETE FROM accounts;
COMMIT AND CHAIN;
SHOW transaction_isolation;
SHOW transaction_read_only;
SELECT sum(balance) FROM accounts;
ROLLBACK;
-- name: chain_of_one_that_failed_after_a_savepoint
BEGIN;
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
SAVEPOINT a;
SET TRANSACTION READ ONLY;
-- error: 22012
SELECT 1 / 0;
ROLLBACK AND CHAIN;
SHOW transaction_isolation;
SHOW transaction_read_only;
-- error: 22012
SELECT 1 / 0;
COMMIT AND CHAIN;
SHOW transaction_isolation;
ROLLBACK;
-- name: read_only_released
BEGIN;
SELECT balance FROM accounts WHERE side = 1 AND id = 1;
SAVEPOINT a;
SET TRANSACTION READ ONLY;
RELEASE a;
SHOW transaction_read_only;
UPDATE accounts SET balance = 4 WHERE side = 2 AND id = 1;
COMMIT;
-- name: chain_does_not_keep_local_settings
BEGIN;
SET LOCAL work_mem = '7MB';
SAVEPOINT a;
COMMIT AND CHAIN;
SELECT current_setting('work_mem') <> '7MB';
-- error: 3B001
ROLLBACK TO a;
ROLLBACK;
-- name: chain_and_the_default
SET default_transaction_isolation = 'serializable';
BEGIN;
SHOW transaction_isolation;
COMMIT AND CHAIN;
SET default_transaction_isolation = 'read committed';
SHOW transaction_isolation;
SELECT sum(balance) FROM accounts;
COMMIT AND CHAIN;
SHOW transaction_isolation;
ROLLBACK;
BEGIN;
SHOW transaction_isolation;
COMMIT;
-- name: chain_outside
-- error: 25P01
COMMIT AND CHAIN;
-- error: 25P01
ROLLBACK AND CHAIN;
-- name: message_with_chain
-- message
BEGIN ISOLATION LEVEL REPEATABLE READ; UPDATE accounts SET balance = 8 WHERE id = 1; COMMIT AND CHAIN; SHOW transaction_isolation; UPDATE accounts SET balance = 9 WHERE id = 1; ROLLBACK
-- name: message_begins_in_the_middle
-- message
INSERT INTO accounts VALUES (1, 21, 1), (2, 21, 1); BEGIN; INSERT INTO accounts VALUES (1, 22, 1); ROLLBACK; INSERT INTO accounts VALUES (1, 23, 1), (2, 23, 1)
-- name: message_ends_in_the_middle
-- message
-- error: 23505
INSERT INTO accounts VALUES (1, 24, 1), (2, 24, 1); COMMIT; INSERT INTO accounts VALUES (1, 25, 1); INSERT INTO accounts VALUES (2, 1, 1)
