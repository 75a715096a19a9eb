-- Transactions, savepoints, settings, cursors, prepared statements, several statements in one message.

-- name: begin_commit
BEGIN;
INSERT INTO nothing VALUES (1, 'kept'), (2, 'kept'), (3, 'kept');
COMMIT;
SELECT count(*) FROM nothing;
DELETE FROM nothing;
-- name: begin_rollback
BEGIN;
INSERT INTO nothing VALUES (1, 'lost'), (2, 'lost');
SELECT count(*) FROM nothing;
ROLLBACK;
SELECT count(*) FROM nothing;
-- name: start_transaction_end
START TRANSACTION ISOLATION LEVEL REPEATABLE READ;
SHOW transaction_isolation;
SELECT count(*) FROM customers;
END;
-- name: serializable_commit
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT sum(credit) FROM customers;
UPDATE customers SET credit = credit WHERE customer_id IN (1, 2, 3, 4);
COMMIT;
-- name: transaction_modes
BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE;
SHOW transaction_read_only;
SHOW transaction_isolation;
SELECT name FROM customers WHERE customer_id = 7;
COMMIT;
SHOW transaction_read_only;
-- name: set_transaction
BEGIN;
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only');
COMMIT;
-- name: set_transaction_late
BEGIN;
SELECT name FROM customers WHERE customer_id = 7;
-- error: 25001
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;
ROLLBACK;
-- name: begin_twice
BEGIN;
BEGIN;
COMMIT;
-- name: commit_outside
COMMIT;
-- name: rollback_outside
ROLLBACK;
-- name: commit_and_chain
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT 1;
COMMIT AND CHAIN;
SHOW transaction_isolation;
ROLLBACK AND NO CHAIN;
-- name: savepoint_release
BEGIN;
INSERT INTO nothing VALUES (1, 'a');
SAVEPOINT s;
INSERT INTO nothing VALUES (2, 'b'), (3, 'c');
RELEASE SAVEPOINT s;
-- ordered
SELECT id FROM nothing ORDER BY id;
ROLLBACK;
-- name: savepoint_rollback
BEGIN;
INSERT INTO nothing VALUES (1, 'a'), (2, 'b');
SAVEPOINT s;
DELETE FROM nothing;
SELECT count(*) FROM nothing;
ROLLBACK TO s;
SELECT count(*) FROM nothing;
INSERT INTO nothing VALUES (5, 'e');
ROLLBACK TO SAVEPOINT s;
SELECT count(*) FROM nothing;
ROLLBACK;
-- name: savepoint_after_error
BEGIN;
INSERT INTO nothing VALUES (1, 'a'), (2, 'b'), (3, 'c');
SAVEPOINT s;
-- error: 23505
INSERT INTO nothing VALUES (4, 'd'), (2, 'dup');
-- error: 25P02
SELECT 1;
ROLLBACK TO s;
SELECT count(*) FROM nothing;
ROLLBACK;
-- name: savepoint_new_group_after
BEGIN;
UPDATE customers SET credit = 1 WHERE customer_id = 7;
SAVEPOINT a;
UPDATE customers SET credit = 2;
ROLLBACK TO a;
SELECT count(*) FROM customers WHERE credit = 1;
SELECT count(*) FROM customers WHERE credit = 2;
ROLLBACK;
-- name: savepoint_nested
BEGIN;
SAVEPOINT a;
INSERT INTO nothing VALUES (1, 'a');
SAVEPOINT b;
INSERT INTO nothing VALUES (2, 'b');
SAVEPOINT b;
INSERT INTO nothing VALUES (3, 'c');
ROLLBACK TO b;
-- ordered
SELECT id FROM nothing ORDER BY id;
RELEASE b;
ROLLBACK TO b;
-- ordered
SELECT id FROM nothing ORDER BY id;
ROLLBACK TO a;
SELECT count(*) FROM nothing;
-- error: 3B001
ROLLBACK TO b;
ROLLBACK;
-- name: reads_own_writes_everywhere
BEGIN;
UPDATE customers SET country = 'XX' WHERE customer_id IN (1, 2, 3, 4, 5, 6);
SELECT count(*) FROM customers WHERE country = 'XX';
SELECT n.name, count(*) FROM customers c JOIN countries n ON n.code = c.country GROUP BY n.name;
SELECT count(*) FROM events e JOIN customers c USING (customer_id) WHERE c.country = 'XX';
WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 3) SELECT n, (SELECT count(*) FROM customers WHERE country = 'XX') FROM t;
ROLLBACK;
-- name: ddl_rolled_back
BEGIN;
CREATE TABLE corpus_rolled (id int PRIMARY KEY, v text) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO corpus_rolled VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd');
SELECT count(*) FROM corpus_rolled;
ROLLBACK;
-- error: 42P01
SELECT count(*) FROM corpus_rolled;
-- name: deferred_constraint
BEGIN;
CREATE TABLE corpus_deferred (id int PRIMARY KEY, other int REFERENCES corpus_deferred DEFERRABLE INITIALLY DEFERRED);
INSERT INTO corpus_deferred VALUES (1, 2);
-- error: 23503
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK;
-- name: set_show
SET statement_timeout = '123s';
SHOW statement_timeout;
SELECT current_setting('statement_timeout');
RESET statement_timeout;
SELECT current_setting('statement_timeout') <> '123s';
-- name: set_local
BEGIN;
SET LOCAL work_mem = '7MB';
SHOW work_mem;
COMMIT;
SELECT current_setting('work_mem') <> '7MB';
-- name: set_rolled_back
BEGIN;
SET work_mem = '7MB';
ROLLBACK;
SELECT current_setting('work_mem') <> '7MB';
-- name: set_committed
BEGIN;
SET work_mem = '7MB';
COMMIT;
SHOW work_mem;
-- name: set_affects_shards
SET extra_float_digits = -5;
SELECT customer_id, rating / 3 FROM customers WHERE customer_id IN (1, 2, 3, 4, 5);
-- name: set_datestyle
SET datestyle = 'German, DMY';
SELECT customer_id, created FROM customers WHERE customer_id < 5;
SELECT happened FROM events WHERE event_id < 4;
SELECT count(*) FROM events WHERE happened = '10.03.2025';
-- name: set_timezone
SET timezone = 'Asia/Tokyo';
SELECT code, opened FROM accounts WHERE code IN ('acc-001', 'acc-002', 'acc-003');
SELECT max(opened) FROM accounts;
SHOW timezone;
-- name: set_time_zone_words
SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE;
SELECT max(opened) FROM accounts;
-- name: set_bytea_output
SET bytea_output = 'escape';
SELECT label, payload FROM devices WHERE label IN ('device 1', 'device 2');
-- name: set_interval_style
SET intervalstyle = 'iso_8601';
SELECT order_id, placed - TIMESTAMP '2025-01-01' FROM orders WHERE order_id < 1010;
-- name: set_client_encoding
-- modes: simple
SET client_encoding = 'LATIN1';
SELECT DISTINCT name FROM customers WHERE name LIKE '%l %';
SHOW client_encoding;
-- name: set_search_path
SET search_path = pg_catalog;
-- error: 42P01
SELECT count(*) FROM customers;
SELECT count(*) FROM {schema}.customers;
SET search_path = {schema};
SELECT count(*) FROM customers;
-- unchecked
SHOW search_path;
-- unchecked
SELECT current_schemas(false);
-- name: set_custom
SET corpus.tenant = 'forty-two';
SHOW corpus.tenant;
SELECT customer_id, current_setting('corpus.tenant') FROM customers WHERE customer_id IN (1, 2, 3);
SELECT current_setting('corpus.nothing', true);
-- error: 42704
SELECT current_setting('corpus.nothing');
-- name: set_config_function
SELECT set_config('corpus.x', 'y', false);
SELECT current_setting('corpus.x'), name FROM customers WHERE customer_id = 7;
SELECT current_setting('corpus.x') FROM customers WHERE customer_id < 4;
-- name: set_config_local
BEGIN;
SELECT set_config('corpus.l', 'inside', true);
SELECT current_setting('corpus.l') FROM customers WHERE customer_id = 7;
COMMIT;
SELECT current_setting('corpus.l', true);
-- name: custom_setting_stays_known
BEGIN;
SET LOCAL corpus.m = 'inside';
COMMIT;
BEGIN;
SET corpus.n = 'inside';
ROLLBACK;
SET corpus.o = 'inside';
RESET corpus.o;
SET corpus.q = 'inside';
RESET ALL;
SELECT current_setting('corpus.m'), current_setting('corpus.n'), current_setting('corpus.o'), current_setting('corpus.q'), name
FROM customers WHERE customer_id = 7;
SELECT current_setting('corpus.m'), current_setting('corpus.n'), current_setting('corpus.o'), current_setting('corpus.q'), name
FROM customers WHERE customer_id < 4;
SELECT current_setting('corpus.m');
-- name: set_local_in_the_workspace
BEGIN;
SET LOCAL timezone = 'Asia/Tokyo';
SET LOCAL datestyle = 'German';
SELECT set_config('corpus.r', 'inside', true);
SELECT current_setting('timezone'), current_setting('corpus.r'), count(*) FROM customers;
SELECT current_setting('timezone'), timestamptz '2026-01-01 00:00+00', a.customer_id FROM customers a JOIN customers b ON a.customer_id = b.customer_id + 1 WHERE a.customer_id < 4 ORDER BY 3;
ROLLBACK;
SELECT current_setting('timezone'), count(*) FROM customers;
-- name: reset_all
SET work_mem = '7MB';
SET timezone = 'Asia/Tokyo';
RESET ALL;
SELECT current_setting('work_mem') <> '7MB', current_setting('timezone') <> 'Asia/Tokyo';
-- name: discard_all
SET work_mem = '7MB';
PREPARE d AS SELECT 1;
DISCARD ALL;
SELECT current_setting('work_mem') <> '7MB';
SELECT count(*) FROM pg_prepared_statements WHERE name = 'd';
-- name: discard_parts
DISCARD PLANS;
DISCARD SEQUENCES;
DISCARD TEMP;
-- name: set_session_characteristics
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY;
-- error: 25006
DELETE FROM nothing WHERE id = 1;
SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE;
DELETE FROM nothing WHERE id = 1;
-- name: show_settings
SHOW server_version;
SHOW server_encoding;
SHOW standard_conforming_strings;
SHOW integer_datetimes;
-- name: cursor_one_shard
BEGIN;
DECLARE c CURSOR FOR SELECT order_id FROM orders WHERE customer_id = 8 ORDER BY order_id;
-- ordered
FETCH 2 FROM c;
-- ordered
FETCH NEXT FROM c;
-- ordered
FETCH ALL FROM c;
CLOSE c;
COMMIT;
-- name: cursor_all_shards
BEGIN;
DECLARE c CURSOR FOR SELECT customer_id, name FROM customers ORDER BY customer_id;
-- ordered
FETCH 5 FROM c;
MOVE 10 FROM c;
-- ordered
FETCH FORWARD 5 FROM c;
-- ordered
FETCH ALL FROM c;
FETCH c;
CLOSE c;
COMMIT;
-- name: cursor_off_key
BEGIN;
DECLARE c NO SCROLL CURSOR FOR SELECT e.event_id, c.name FROM events e JOIN customers c USING (customer_id) ORDER BY 1;
-- ordered
FETCH 3 FROM c;
MOVE FORWARD ALL IN c;
COMMIT;
-- name: cursor_scroll
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT customer_id FROM customers ORDER BY customer_id;
-- ordered
FETCH LAST FROM c;
-- ordered
FETCH FIRST FROM c;
-- ordered
FETCH ABSOLUTE 10 FROM c;
-- ordered
FETCH RELATIVE -3 FROM c;
-- ordered
FETCH PRIOR FROM c;
-- ordered
FETCH BACKWARD 3 FROM c;
CLOSE ALL;
COMMIT;
-- name: cursor_no_scroll_backward
BEGIN;
DECLARE c NO SCROLL CURSOR FOR SELECT customer_id FROM customers ORDER BY customer_id;
FETCH 2 FROM c;
-- error: 55000
FETCH BACKWARD 1 FROM c;
ROLLBACK;
-- name: cursor_with_hold
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT customer_id FROM customers ORDER BY customer_id;
-- ordered
FETCH 2 FROM held;
COMMIT;
-- ordered
FETCH 3 FROM held;
CLOSE held;
-- name: cursor_sees_snapshot
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM nothing;
INSERT INTO nothing VALUES (1, 'later'), (2, 'later');
FETCH ALL FROM c;
ROLLBACK;
-- name: cursor_in_savepoint
BEGIN;
SAVEPOINT s;
DECLARE c CURSOR FOR SELECT customer_id FROM customers ORDER BY 1;
FETCH 1 FROM c;
ROLLBACK TO s;
-- error: 34000
FETCH 1 FROM c;
ROLLBACK;
-- name: two_cursors
BEGIN;
DECLARE a CURSOR FOR SELECT customer_id FROM customers ORDER BY customer_id;
DECLARE b CURSOR FOR SELECT order_id FROM orders ORDER BY order_id;
-- ordered
FETCH 2 FROM a;
-- ordered
FETCH 2 FROM b;
-- ordered
FETCH 2 FROM a;
UPDATE customers SET credit = 0 WHERE customer_id = 7;
-- ordered
FETCH 2 FROM b;
ROLLBACK;
-- name: prepare_execute
PREPARE p (bigint) AS SELECT name, credit FROM customers WHERE customer_id = $1;
EXECUTE p (7);
EXECUTE p (8);
EXECUTE p (NULL);
EXECUTE p (4 + 5);
DEALLOCATE p;
-- name: prepare_untyped
PREPARE p AS SELECT order_id FROM orders WHERE customer_id = $1 AND total > $2;
EXECUTE p (8, 10);
EXECUTE p ('15', '20.5');
-- name: prepare_many_shards
PREPARE p (text) AS SELECT status, count(*) FROM orders WHERE status <> $1 GROUP BY status;
EXECUTE p ('void');
EXECUTE p ('new');
DEALLOCATE ALL;
-- error: 26000
EXECUTE p ('new');
-- name: prepare_off_key
PREPARE p (int) AS SELECT c.name, e.event_id FROM events e JOIN customers c USING (customer_id) WHERE e.amount > $1;
EXECUTE p (95);
EXECUTE p (90);
-- name: prepare_insert
BEGIN;
PREPARE p (int, text) AS INSERT INTO nothing VALUES ($1, $2) RETURNING id;
EXECUTE p (1, 'a');
EXECUTE p (2, 'b');
EXECUTE p (3, 'c');
SELECT * FROM nothing;
ROLLBACK;
-- name: prepare_update_delete
BEGIN;
PREPARE u (int) AS UPDATE customers SET credit = $1 WHERE country = 'DE';
EXECUTE u (1);
PREPARE d AS DELETE FROM employees WHERE emp_id = $1 RETURNING emp_id;
EXECUTE d (3);
EXECUTE d (3);
ROLLBACK;
-- name: prepare_survives_rollback
BEGIN;
PREPARE p AS SELECT count(*) FROM customers;
ROLLBACK;
EXECUTE p;
-- name: prepare_after_alter
CREATE TABLE corpus_prepared (id int PRIMARY KEY, a int) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO corpus_prepared VALUES (1, 10), (2, 20), (3, 30);
PREPARE p AS SELECT a FROM corpus_prepared WHERE id = $1;
EXECUTE p (1);
ALTER TABLE corpus_prepared ADD COLUMN b text DEFAULT 'b';
EXECUTE p (2);
DROP TABLE corpus_prepared;
-- error: 42P01
EXECUTE p (2);
-- name: create_table_as_execute
PREPARE p AS SELECT emp_id, name FROM employees WHERE emp_id < 4;
CREATE TEMP TABLE from_prepared AS EXECUTE p;
SELECT * FROM from_prepared;
-- name: temp_table
CREATE TEMP TABLE mine (id int, v text);
INSERT INTO mine VALUES (1, 'a'), (2, 'b'), (99, 'c');
SELECT * FROM mine;
SELECT m.v, c.name FROM mine m JOIN customers c ON c.customer_id = m.id;
UPDATE mine SET v = 'z' WHERE id = 2;
SELECT count(*), max(v) FROM mine;
DROP TABLE mine;
-- name: temp_table_from_sharded
CREATE TEMP TABLE big AS SELECT customer_id, sum(total) AS s FROM orders GROUP BY customer_id;
SELECT count(*), sum(s) FROM big;
INSERT INTO nothing SELECT customer_id, s::text FROM big WHERE customer_id < 4;
SELECT * FROM nothing;
DELETE FROM nothing;
-- name: temp_table_shadows
CREATE TEMP TABLE settings (name text, value int);
INSERT INTO settings VALUES ('mine', 1);
SELECT * FROM settings;
SELECT count(*) FROM {schema}.settings;
DROP TABLE settings;
SELECT count(*) FROM settings;
-- name: temp_table_on_commit_drop
BEGIN;
CREATE TEMP TABLE short ON COMMIT DROP AS SELECT 1 AS a;
SELECT * FROM short;
COMMIT;
-- error: 42P01
SELECT * FROM short;
-- name: message_two_selects
-- message
SELECT 1 AS a; SELECT name FROM customers WHERE customer_id = 7;
-- name: message_many_kinds
-- message
BEGIN; INSERT INTO nothing VALUES (1, 'a'), (2, 'b'); SELECT count(*) FROM nothing; ROLLBACK; SELECT count(*) FROM nothing;
-- name: message_implicit_transaction
-- message
-- error: 22012
INSERT INTO nothing VALUES (1, 'a'), (2, 'b'), (3, 'c'); SELECT 1 / 0; INSERT INTO nothing VALUES (4, 'd');
-- name: message_implicit_transaction_undone
SELECT count(*) FROM nothing;
-- name: message_implicit_commit_inside
-- message
BEGIN; INSERT INTO nothing VALUES (1, 'a'); COMMIT; DELETE FROM nothing; SELECT count(*) FROM nothing;
-- name: message_syntax_error_runs_nothing
-- message
-- error: 42601
INSERT INTO nothing VALUES (1, 'a'); SELEC 1;
-- name: message_empty_statements
-- message
;; SELECT 1;;
-- name: message_only_comment
-- message
/* nothing at all */
-- name: message_set_then_read
-- message
SET datestyle = 'SQL, DMY'; SELECT created FROM customers WHERE customer_id = 7; RESET datestyle;
-- name: message_two_groups_write
-- message
INSERT INTO customers (customer_id, name) VALUES (901, 'a'); INSERT INTO customers (customer_id, name) VALUES (902, 'b'); INSERT INTO customers (customer_id, name) VALUES (903, 'c'); DELETE FROM customers WHERE customer_id > 900;
-- name: sequence_functions
CREATE SEQUENCE corpus_seq START 10 INCREMENT 1;
SELECT nextval('corpus_seq') IS NOT NULL AS drawn;
SELECT currval('corpus_seq') = lastval() AS same;
SELECT currval('corpus_seq'), pg_catalog.lastval(), lastval() AS named, 1 + lastval();
SELECT lastval() FROM (SELECT currval('corpus_seq')) AS x;
DROP SEQUENCE corpus_seq;
-- error: 42P01
SELECT nextval('corpus_seq');
-- name: currval_without_nextval
CREATE SEQUENCE corpus_seq2;
-- error: 55000
SELECT currval('corpus_seq2');
DROP SEQUENCE corpus_seq2;
-- name: currval_after_serial
BEGIN;
INSERT INTO tickets (subject) VALUES ('for currval');
SELECT count(*) FROM tickets WHERE ticket_id = currval('tickets_ticket_id_seq');
SELECT count(*) FROM tickets WHERE ticket_id = lastval();
ROLLBACK;
-- name: advisory_locks
SELECT pg_advisory_lock(4711);
SELECT pg_try_advisory_lock(4711);
SELECT pg_advisory_unlock(4711), pg_advisory_unlock(4711);
SELECT pg_advisory_unlock_all();
-- name: listen_notify
LISTEN corpus_channel;
NOTIFY corpus_channel, 'x';
SELECT pg_notify('corpus_channel', 'y');
SELECT pg_listening_channels();
UNLISTEN corpus_channel;
SELECT count(*) FROM pg_listening_channels();
-- name: lock_table
-- error: 25P01
LOCK TABLE customers IN SHARE MODE;
BEGIN;
LOCK TABLE customers IN SHARE MODE;
SELECT count(*) FROM customers;
LOCK countries, settings;
ROLLBACK;
-- name: do_block
DO $$ BEGIN PERFORM 1; END $$;
-- error: P0001
DO $$ BEGIN RAISE 'no'; END $$;
-- error: 42601
DO $$ BEGIN nonsense END $$;
-- name: do_block_with_language
DO LANGUAGE plpgsql $$ DECLARE x int := 0; BEGIN FOR i IN 1..10 LOOP x := x + i; END LOOP; ASSERT x = 55; END $$;
-- name: checkpoint_like_commands
VACUUM nothing;
ANALYZE nothing;
ANALYZE customers;
VACUUM (ANALYZE) countries;
REINDEX TABLE nothing;
-- name: vacuum_in_transaction
BEGIN;
-- error: 25001
VACUUM nothing;
ROLLBACK;
