-- Cursors inside transactions that write in both groups.

-- name: every_direction
BEGIN;
UPDATE accounts SET balance = balance + 1;
DECLARE c SCROLL CURSOR FOR SELECT side, id, balance FROM accounts ORDER BY side, id;
FETCH FROM c;
FETCH PRIOR FROM c;
FETCH PRIOR FROM c;
FETCH NEXT FROM c;
FETCH LAST FROM c;
FETCH NEXT FROM c;
FETCH RELATIVE 0 FROM c;
FETCH PRIOR FROM c;
FETCH FIRST FROM c;
FETCH RELATIVE 2 FROM c;
FETCH RELATIVE -1 FROM c;
FETCH RELATIVE 0 FROM c;
FETCH ABSOLUTE 3 FROM c;
FETCH ABSOLUTE -2 FROM c;
FETCH ABSOLUTE 0 FROM c;
FETCH ABSOLUTE 99 FROM c;
FETCH ABSOLUTE -99 FROM c;
-- ordered
FETCH 3 FROM c;
-- ordered
FETCH -2 FROM c;
FETCH 0 FROM c;
-- ordered
FETCH FORWARD 2 FROM c;
-- ordered
FETCH BACKWARD 9 FROM c;
FETCH 0 FROM c;
-- ordered
FETCH ALL FROM c;
FETCH 0 FROM c;
-- ordered
FETCH BACKWARD ALL FROM c;
-- ordered
FETCH FORWARD ALL FROM c;
FETCH BACKWARD FROM c;
FETCH FORWARD 0 FROM c;
FETCH BACKWARD 0 FROM c;
CLOSE c;
-- error: 34000
FETCH c;
COMMIT;
-- name: move
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT side, id FROM accounts ORDER BY side, id;
MOVE 2 FROM c;
FETCH FROM c;
MOVE -1 IN c;
FETCH FROM c;
MOVE LAST IN c;
MOVE NEXT IN c;
MOVE PRIOR IN c;
FETCH RELATIVE 0 FROM c;
MOVE FIRST IN c;
MOVE ABSOLUTE 3 IN c;
MOVE RELATIVE -2 IN c;
FETCH FROM c;
MOVE BACKWARD ALL IN c;
MOVE FORWARD ALL IN c;
MOVE 0 IN c;
FETCH PRIOR FROM c;
MOVE ABSOLUTE 99 IN c;
MOVE ABSOLUTE 0 IN c;
FETCH c;
COMMIT;
-- name: one_group
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT id FROM accounts WHERE side = 2 ORDER BY id;
FETCH LAST FROM c;
MOVE BACKWARD 2 IN c;
FETCH c;
-- ordered
FETCH BACKWARD ALL FROM c;
-- ordered
FETCH ALL FROM c;
FETCH ABSOLUTE -1 FROM c;
COMMIT;
-- name: one_value
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT sum(balance) FROM accounts;
UPDATE accounts SET balance = 0;
FETCH c;
FETCH c;
FETCH PRIOR FROM c;
FETCH PRIOR FROM c;
COMMIT;
-- name: no_scroll
BEGIN;
DECLARE c NO SCROLL CURSOR FOR SELECT id FROM accounts ORDER BY side, id;
FETCH c;
SAVEPOINT a;
-- error: 55000
FETCH PRIOR FROM c;
ROLLBACK TO a;
-- error: 55000
FETCH NEXT FROM c;
ROLLBACK TO a;
CLOSE c;
DECLARE c NO SCROLL CURSOR FOR SELECT id FROM accounts ORDER BY side, id;
MOVE ABSOLUTE 0 IN c;
MOVE ABSOLUTE 4 IN c;
MOVE 0 IN c;
SAVEPOINT a;
-- error: 55000
FETCH LAST FROM c;
ROLLBACK;
-- name: no_scroll_same_row_again
BEGIN;
DECLARE c NO SCROLL CURSOR FOR SELECT id FROM accounts ORDER BY side, id;
FETCH 0 FROM c;
FETCH 2 FROM c;
-- error: 55000
FETCH RELATIVE 0 FROM c;
ROLLBACK;
-- name: sees_its_moment
BEGIN;
UPDATE accounts SET balance = 1 WHERE side = 2;
DECLARE c CURSOR FOR SELECT side, id, balance FROM accounts ORDER BY side, id;
FETCH c;
UPDATE accounts SET balance = 2;
DELETE FROM accounts WHERE side = 2;
-- ordered
FETCH ALL FROM c;
COMMIT;
-- name: declared_and_undone
BEGIN;
DECLARE outer_one CURSOR FOR SELECT id FROM accounts ORDER BY side, id;
FETCH 1 FROM outer_one;
SAVEPOINT a;
FETCH 1 FROM outer_one;
DECLARE inner_one CURSOR FOR SELECT id FROM accounts ORDER BY side, id;
FETCH 1 FROM inner_one;
ROLLBACK TO a;
FETCH 1 FROM outer_one;
SAVEPOINT b;
-- error: 34000
FETCH 1 FROM inner_one;
ROLLBACK TO b;
DECLARE inner_one CURSOR FOR SELECT id FROM accounts ORDER BY side, id;
RELEASE b;
FETCH 1 FROM inner_one;
COMMIT;
-- name: declared_and_released
BEGIN;
SAVEPOINT a;
DECLARE c CURSOR FOR SELECT id FROM accounts ORDER BY side, id;
SAVEPOINT b;
RELEASE a;
FETCH 2 FROM c;
COMMIT;
-- error: 34000
FETCH c;
-- name: declared_in_released_and_undone
BEGIN;
SAVEPOINT a;
SAVEPOINT b;
DECLARE c CURSOR FOR SELECT id FROM accounts ORDER BY side, id;
RELEASE b;
ROLLBACK TO a;
-- error: 34000
FETCH 2 FROM c;
ROLLBACK;
-- name: closed_and_undone
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM accounts ORDER BY side, id;
SAVEPOINT a;
CLOSE c;
ROLLBACK TO a;
-- error: 34000
FETCH c;
ROLLBACK;
-- name: one_group_declared_and_undone
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM accounts WHERE side = 1 ORDER BY id;
SAVEPOINT a;
DECLARE d CURSOR FOR SELECT id FROM accounts WHERE side = 2 ORDER BY id;
FETCH 2 FROM d;
FETCH 2 FROM c;
ROLLBACK TO a;
FETCH 2 FROM c;
-- error: 34000
FETCH 2 FROM d;
COMMIT;
-- name: held_over_commit
BEGIN;
UPDATE accounts SET balance = 7;
DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT side, id, balance FROM accounts ORDER BY side, id;
FETCH 2 FROM c;
COMMIT;
UPDATE accounts SET balance = 8;
-- ordered
FETCH ALL FROM c;
FETCH FIRST FROM c;
BEGIN;
FETCH c;
ROLLBACK;
FETCH c;
CLOSE c;
-- error: 34000
CLOSE c;
-- name: held_and_rolled_back
BEGIN;
DECLARE c CURSOR WITH HOLD FOR SELECT side, id FROM accounts ORDER BY side, id;
FETCH c;
ROLLBACK;
-- error: 34000
FETCH c;
-- name: held_and_refused_at_commit
BEGIN;
DECLARE c CURSOR WITH HOLD FOR SELECT side, id FROM accounts ORDER BY side, id;
INSERT INTO children VALUES (1, 1, 101), (2, 1, 102);
-- error: 23503
COMMIT;
-- error: 34000
FETCH c;
-- name: held_without_a_transaction
DECLARE c CURSOR WITH HOLD FOR SELECT side, id FROM accounts ORDER BY side, id;
FETCH 3 FROM c;
SELECT name, is_holdable, is_scrollable FROM pg_cursors;
CLOSE ALL;
SELECT count(*) FROM pg_cursors;
-- name: held_and_chained
BEGIN;
DECLARE c CURSOR WITH HOLD FOR SELECT side, id FROM accounts ORDER BY side, id;
COMMIT AND CHAIN;
FETCH c;
ROLLBACK AND CHAIN;
FETCH c;
COMMIT;
FETCH c;
-- name: held_in_an_undone_savepoint
BEGIN;
SAVEPOINT a;
DECLARE c CURSOR WITH HOLD FOR SELECT side, id FROM accounts ORDER BY side, id;
ROLLBACK TO a;
COMMIT;
-- error: 34000
FETCH c;
-- name: without_a_transaction
-- modes: simple extended
-- error: 25P01
DECLARE c CURSOR FOR SELECT 1;
-- error: 34000
FETCH c;
-- name: same_name
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM accounts ORDER BY side, id;
-- error: 42P03
DECLARE c CURSOR FOR SELECT 1;
ROLLBACK;
-- name: declare_fails
BEGIN;
SET LOCAL enable_sort = off;
SAVEPOINT a;
-- error: 42P01
DECLARE c CURSOR FOR SELECT id FROM nothing_like_it;
ROLLBACK TO a;
DECLARE c CURSOR FOR SELECT 1 / (id - 3) FROM accounts WHERE side = 1 ORDER BY id;
-- ordered
FETCH 2 FROM c;
-- error: 22012
FETCH 2 FROM c;
-- error: 25P02
FETCH 1 FROM c;
ROLLBACK;
-- name: current_of
BEGIN;
DECLARE c CURSOR FOR SELECT id, balance FROM accounts WHERE side = 2 ORDER BY id FOR UPDATE;
-- ordered
FETCH 2 FROM c;
UPDATE accounts SET balance = 70 WHERE CURRENT OF c RETURNING side, id, balance;
FETCH 1 FROM c;
DELETE FROM accounts WHERE CURRENT OF c;
DELETE FROM accounts WHERE CURRENT OF c;
ROLLBACK;
-- name: current_of_committed
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM accounts WHERE side = 1 AND id > 1;
DECLARE d CURSOR FOR SELECT id FROM accounts WHERE side = 2 AND id = 1;
FETCH d;
FETCH c;
UPDATE accounts SET balance = 71 WHERE CURRENT OF d;
SAVEPOINT a;
DELETE FROM accounts WHERE CURRENT OF d;
ROLLBACK TO a;
COMMIT;
-- name: current_of_nothing
BEGIN;
SAVEPOINT a;
-- error: 34000
UPDATE accounts SET balance = 1 WHERE CURRENT OF c;
ROLLBACK TO a;
DECLARE c CURSOR FOR SELECT id FROM accounts WHERE side = 2 ORDER BY id FOR UPDATE;
-- error: 24000
UPDATE accounts SET balance = 1 WHERE CURRENT OF c;
ROLLBACK;
-- name: fetch_in_a_failed_transaction
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM accounts ORDER BY side, id;
-- error: 22012
SELECT 1 / 0;
-- error: 25P02
FETCH c;
-- error: 25P02
CLOSE c;
COMMIT;
-- name: repeatable_read
BEGIN ISOLATION LEVEL REPEATABLE READ;
DECLARE c CURSOR FOR SELECT side, id FROM accounts ORDER BY side, id;
UPDATE accounts SET id = id + 100;
FETCH 3 FROM c;
CLOSE ALL;
COMMIT;
-- name: binary
BEGIN;
DECLARE c BINARY CURSOR FOR SELECT side, id FROM accounts ORDER BY side, id;
FETCH 3 FROM c;
COMMIT;
-- name: opened_by_a_function
BEGIN;
UPDATE accounts SET balance = balance + 1;
SELECT opened('r');
FETCH 2 FROM r;
MOVE 1 IN r;
FETCH PRIOR FROM r;
SAVEPOINT a;
SELECT opened('s');
FETCH s;
ROLLBACK TO a;
FETCH ALL FROM r;
CLOSE r;
-- error: 34000
FETCH r;
ROLLBACK TO a;
SELECT opened('r');
COMMIT;
-- error: 34000
FETCH r;
