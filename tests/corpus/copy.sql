-- COPY in and out, all formats, over shards, reference and single tables.

-- name: out_text
COPY customers TO STDOUT;
-- name: out_text_columns
COPY customers (name, customer_id, tags) TO STDOUT;
-- name: out_text_options
COPY orders TO STDOUT WITH (DELIMITER '|', NULL '<null>');
-- name: out_csv
COPY orders TO STDOUT (FORMAT csv);
-- name: out_csv_header
COPY orders (order_id, note) TO STDOUT (FORMAT csv, HEADER, QUOTE '"', FORCE_QUOTE (note));
-- name: out_old_syntax
COPY employees TO STDOUT DELIMITER ';' CSV HEADER;
-- name: out_query_one_shard
-- ordered
COPY (SELECT order_id, total FROM orders WHERE customer_id = 8 ORDER BY order_id) TO STDOUT;
-- name: out_query_all
-- ordered
COPY (SELECT customer_id, name FROM customers ORDER BY customer_id) TO STDOUT (FORMAT csv);
-- name: out_query_aggregate
COPY (SELECT status, count(*) FROM orders GROUP BY status) TO STDOUT;
-- name: out_query_off_key
-- ordered
COPY (SELECT e.event_id, c.name FROM events e JOIN customers c USING (customer_id) ORDER BY 1) TO STDOUT;
-- name: out_query_binary
-- ordered
COPY (SELECT customer_id, name, credit, created FROM customers ORDER BY customer_id) TO STDOUT (FORMAT binary);
-- name: out_binary_one_row
COPY (SELECT * FROM accounts WHERE code = 'acc-007') TO STDOUT (FORMAT binary);
-- name: out_reference
COPY products TO STDOUT (FORMAT csv);
-- name: out_reference_binary
-- ordered
COPY (SELECT * FROM countries ORDER BY code) TO STDOUT WITH BINARY;
-- name: out_single
COPY notes TO STDOUT;
-- name: out_range
COPY (SELECT event_id, happened, kind FROM events WHERE happened < '2025-02-01') TO STDOUT;
-- name: out_empty
COPY nothing TO STDOUT (FORMAT csv, HEADER);
-- name: out_unknown_column
-- error: 42703
COPY customers (no_such_column) TO STDOUT;
-- name: out_returning
-- rollback
COPY (UPDATE customers SET credit = 0 WHERE customer_id IN (1, 2, 3) RETURNING customer_id) TO STDOUT;
-- name: in_text
-- rollback
--| 1\tone
--| 2\ttwo
--| 3\t\N
--| 4\tback\\slash
--| 5\t
COPY nothing FROM STDIN;
SELECT * FROM nothing;
-- name: in_text_end_marker
-- rollback
--| 1\tone
--| 2\ttwo
--| \.
COPY nothing FROM STDIN;
SELECT * FROM nothing;
-- name: in_columns
-- rollback
--| new 1\t901
--| new 2\t902
--| new 3\t903
COPY customers (name, customer_id) FROM STDIN;
SELECT customer_id, name, credit, active FROM customers WHERE customer_id > 900;
-- name: in_csv
-- rollback
--| id,v
--| 1,"a, ""quoted"""
--| 2,
--| 3,""
--| 4,"two
--| lines"
COPY nothing FROM STDIN (FORMAT csv, HEADER);
SELECT id, v, v IS NULL FROM nothing;
-- name: in_csv_semicolons
-- rollback
--| 901;2026-05-01;1.5
--| 902;2026-05-02;NONE
COPY readings (sensor, day, value) FROM STDIN (FORMAT csv, DELIMITER ';', NULL 'NONE');
SELECT sensor, day, value FROM readings WHERE sensor > 900;
-- name: in_text_key
-- rollback
--| k1\tme\t5\t2026-01-01 00:00:00+00
--| Ümlaut\t\N\t6\t\N
--| tab\\tkey\tyou\t7\t\N
COPY accounts FROM STDIN;
SELECT code, owner, balance FROM accounts WHERE code IN ('k1', 'Ümlaut') OR balance = 7;
-- name: in_uuid_key
-- rollback
--| 00000000-0000-0000-0000-000000000001,first
--| {FFFFFFFF-0000-0000-0000-000000000002},second
COPY devices (device_id, label) FROM STDIN CSV;
SELECT device_id, label FROM devices WHERE label IN ('first', 'second');
-- name: in_range
-- rollback
--| 901\t2024-02-02\ta
--| 902\t2025-02-02\tb
--| 903\t2026-02-02\tc
COPY events (event_id, happened, kind) FROM STDIN;
SELECT event_id, kind FROM events WHERE event_id > 900;
-- name: in_list
-- rollback
--| 91\tnorth
--| 92\twest
--| 93\t\N
COPY stores (store_id, region) FROM STDIN;
SELECT store_id, region FROM stores WHERE store_id > 90;
-- name: in_reference
-- rollback
--| PL\tPoland
--| LV\tLatvia
COPY countries FROM STDIN;
SELECT * FROM countries;
-- name: in_reference_joined
-- rollback
--| PL\tPoland
COPY countries FROM STDIN;
UPDATE customers SET country = 'PL' WHERE customer_id < 9;
SELECT c.customer_id, n.name FROM customers c JOIN countries n ON n.code = c.country WHERE n.code = 'PL';
-- name: in_single
-- rollback
--| 91\t\N\tx
COPY notes FROM STDIN;
SELECT * FROM notes WHERE note_id = 91;
-- name: in_serial_key
-- rollback
--| copied 1
--| copied 2
--| copied 3
COPY tickets (subject) FROM STDIN;
SELECT count(*), count(DISTINCT ticket_id), min(priority) FROM tickets WHERE subject LIKE 'copied%';
-- name: in_generated
-- rollback
--| 91\tt\tships sail
COPY documents (doc_id, title, body) FROM STDIN;
SELECT words FROM documents WHERE doc_id = 91;
-- name: in_then_out
-- rollback
--| 1\ta
--| 2\tb
--| 3\tc
COPY nothing FROM STDIN;
COPY nothing TO STDOUT;
-- name: in_nothing
-- rollback
COPY nothing FROM STDIN;
SELECT count(*) FROM nothing;
-- name: in_where
-- rollback
--| 1\ta
--| 2\tb
--| 3\tc
--| 4\td
COPY nothing FROM STDIN WHERE id % 2 = 0;
SELECT * FROM nothing;
-- name: in_bad_value
--| 1\ta
--| two\tb
-- error: 22P02
COPY nothing FROM STDIN;
SELECT count(*) FROM nothing;
-- name: in_missing_column
--| 1\ta
--| 2
-- error: 22P04
COPY nothing FROM STDIN;
-- name: in_extra_column
--| 1\ta\tb
-- error: 22P04
COPY nothing FROM STDIN;
-- name: in_duplicate
--| 1\ta
--| 2\tb
--| 1\tc
-- error: 23505
COPY nothing FROM STDIN;
SELECT count(*) FROM nothing;
-- name: in_duplicate_existing
--| 901\tx
--| 7\ty
-- error: 23505
COPY customers (customer_id, name) FROM STDIN;
SELECT count(*) FROM customers;
-- name: in_foreign_key
--| 901\tx\tQQ
-- error: 23503
COPY customers (customer_id, name, country) FROM STDIN;
-- name: in_check
--| 3\t9901\todd
-- error: 23514
COPY orders (customer_id, order_id, status) FROM STDIN;
-- name: in_not_null_key
--| \N\tx
-- error: 23502
COPY customers (customer_id, name) FROM STDIN;
-- name: in_no_partition
--| 991\t2050-01-01\tx
-- error: 23514
COPY events (event_id, happened, kind) FROM STDIN;
-- name: in_unquoted_end
--| 1,"open
-- error: 22P04
COPY nothing FROM STDIN (FORMAT csv);
-- name: in_error_keeps_session
BEGIN;
--| x\ty
-- error: 22P02
COPY nothing FROM STDIN;
-- error: 25P02
SELECT 1;
ROLLBACK;
SELECT count(*) FROM nothing;
