-- What PostgreSQL refuses is refused with the same SQLSTATE.

-- name: syntax
-- error: 42601
SELEC 1;
-- name: syntax_middle
-- error: 42601
SELECT name FROM customers WHERE WHERE customer_id = 1;
-- name: syntax_end
-- error: 42601
SELECT name FROM customers WHERE customer_id =;
-- name: unterminated_string
-- error: 42601
SELECT 'abc;
-- name: unterminated_comment
-- error: 42601
SELECT 1 /* abc;
-- name: unknown_table
-- error: 42P01
SELECT * FROM no_such_table;
-- name: unknown_schema
-- error: 42P01
SELECT * FROM no_such_schema.customers;
-- name: unknown_column
-- error: 42703
SELECT no_such_column FROM customers;
-- name: unknown_column_where
-- error: 42703
SELECT name FROM customers WHERE no_such_column = 1 AND customer_id = 7;
-- name: unknown_column_insert
-- error: 42703
INSERT INTO customers (customer_id, no_such_column) VALUES (600, 1);
-- name: unknown_column_update
-- error: 42703
UPDATE customers SET no_such_column = 1 WHERE customer_id = 7;
-- name: unknown_alias
-- error: 42P01
SELECT x.name FROM customers c;
-- name: ambiguous_column
-- error: 42702
SELECT customer_id FROM customers c JOIN orders o ON c.customer_id = o.customer_id;
-- name: duplicate_alias
-- error: 42712
SELECT 1 FROM customers c JOIN orders c ON true;
-- name: unknown_function
-- error: 42883
SELECT no_such_function(1);
-- name: unknown_function_on_rows
-- error: 42883
SELECT no_such_function(name) FROM customers WHERE customer_id = 7;
-- name: unknown_operator
-- error: 42883
SELECT name + 1 FROM customers WHERE customer_id = 7;
-- name: unknown_type
-- error: 42704
SELECT 1::no_such_type;
-- name: type_mismatch
-- error: 42883
SELECT name FROM customers WHERE customer_id = 'a'::text;
-- name: type_mismatch_where
-- error: 42804
SELECT name FROM customers WHERE name;
-- name: type_mismatch_insert
-- error: 42804
INSERT INTO customers (customer_id, name, active) VALUES (600, 'x', 5);
-- name: type_mismatch_case
-- error: 22P02
SELECT CASE WHEN true THEN 1 ELSE 'x' END;
-- name: type_mismatch_union
-- error: 42804
SELECT customer_id FROM customers UNION SELECT happened FROM events;
-- name: union_column_count
-- error: 42601
SELECT customer_id, name FROM customers UNION SELECT 1;
-- name: bad_integer
-- error: 22P02
SELECT name FROM customers WHERE customer_id = 'seven';
-- name: bad_integer_many
-- error: 22P02
SELECT name::int FROM customers;
-- name: bad_date
-- error: 22008
SELECT * FROM events WHERE happened = '2025-02-30';
-- name: bad_date_text
-- error: 22007
SELECT * FROM events WHERE happened = 'yesterdayish';
-- name: bad_uuid
-- error: 22P02
SELECT * FROM devices WHERE device_id = 'not-a-uuid';
-- name: bad_enum
-- error: 22P02
SELECT * FROM customers WHERE feeling = 'furious';
-- name: bad_json
-- error: 22P02
SELECT '{"a": }'::jsonb;
-- name: bad_array
-- error: 22P02
SELECT * FROM customers WHERE tags = '{a';
-- name: bad_regex
-- error: 2201B
SELECT * FROM customers WHERE name ~ '(';
-- name: integer_overflow
-- error: 22003
SELECT customer_id FROM customers WHERE customer_id = 99999999999999999999::bigint;
-- name: integer_overflow_arithmetic
-- error: 22003
SELECT 2147483647 + 1;
-- name: integer_overflow_rows
-- error: 22003
SELECT (salary * 1000000)::int FROM employees;
-- name: sum_overflow
-- error: 22003
SELECT sum(balance * 900000000000000)::bigint FROM accounts;
-- name: numeric_overflow
-- error: 22003
UPDATE customers SET credit = 1e12 WHERE customer_id = 7;
-- name: division_by_zero
-- error: 22012
SELECT 1 / 0;
-- name: division_by_zero_one_row
-- error: 22012
SELECT 10 / (customer_id - 7) FROM customers WHERE customer_id = 7;
-- name: division_by_zero_some_shard
-- error: 22012
SELECT 10 / (customer_id - 7) FROM customers;
-- name: division_by_zero_aggregate
-- error: 22012
SELECT sum(1 / (order_id - 1005)) FROM orders;
-- name: negative_square_root
-- error: 2201F
SELECT sqrt(credit - 10000) FROM customers;
-- name: string_too_long
-- error: 22001
INSERT INTO customers (customer_id, name) VALUES (600, repeat('x', 41));
-- name: char_too_long
-- error: 22001
INSERT INTO countries VALUES ('ABC', 'x');
-- name: not_null
-- error: 23502
INSERT INTO customers (customer_id, name) VALUES (600, NULL);
-- name: not_null_key
-- error: 23502
INSERT INTO customers (name) VALUES ('x');
-- name: not_null_key_explicit
-- error: 23502
INSERT INTO customers (customer_id, name) VALUES (NULL, 'x');
-- name: not_null_update
-- error: 23502
UPDATE customers SET name = NULL WHERE customer_id = 7;
-- name: not_null_update_all
-- error: 23502
UPDATE orders SET status = NULL;
-- name: not_null_reference
-- error: 23502
INSERT INTO products (product_id, name) VALUES (99, 'x');
-- name: unique_key
-- error: 23505
INSERT INTO customers (customer_id, name) VALUES (7, 'dup');
-- name: unique_key_in_batch
-- error: 23505
INSERT INTO customers (customer_id, name) VALUES (600, 'a'), (601, 'b'), (600, 'c');
-- name: unique_key_some_row
-- error: 23505
INSERT INTO accounts (code, balance) VALUES ('q1', 1), ('q2', 2), ('acc-001', 3), ('q3', 4);
-- name: unique_key_nothing_written
SELECT count(*) FROM accounts WHERE code LIKE 'q_';
-- name: unique_reference
-- error: 23505
INSERT INTO products (product_id, name, price) VALUES (90, 'product 1', 1);
-- name: unique_single
-- error: 23505
INSERT INTO settings VALUES ('theme', 'x');
-- name: unique_update
-- error: 23505
UPDATE orders SET order_id = 1 WHERE customer_id = 8;
-- name: unique_insert_select
-- error: 23505
INSERT INTO customers (customer_id, name) SELECT customer_id, name FROM customers WHERE customer_id = 3;
-- name: conflict_twice
-- error: 21000
INSERT INTO accounts (code, balance) VALUES ('w', 1), ('w', 2) ON CONFLICT (code) DO UPDATE SET balance = 0;
-- name: conflict_no_constraint
-- error: 42P10
INSERT INTO accounts (code, balance) VALUES ('w', 1) ON CONFLICT (owner) DO NOTHING;
-- name: foreign_key_reference
-- error: 23503
INSERT INTO customers (customer_id, name, country) VALUES (600, 'x', 'QQ');
-- name: foreign_key_colocated
-- error: 23503
INSERT INTO orders (customer_id, order_id) VALUES (777, 1);
-- name: foreign_key_delete
-- error: 23503
DELETE FROM customers WHERE customer_id = 8;
-- name: foreign_key_delete_reference
-- error: 23503
DELETE FROM countries WHERE code = 'DE';
-- name: foreign_key_update
-- error: 23503
UPDATE order_lines SET product_id = 999 WHERE customer_id = 8;
-- name: check_constraint
-- error: 23514
INSERT INTO orders (customer_id, order_id, status) VALUES (3, 9999, 'odd');
-- name: check_constraint_update
-- error: 23514
UPDATE orders SET status = 'odd';
-- name: domain_check
-- error: 23514
INSERT INTO tickets (subject, priority) VALUES ('x', 0);
-- name: domain_check_cast
-- error: 23514
SELECT (-1)::positive_int;
-- name: no_partition
-- error: 23514
INSERT INTO events (event_id, happened, kind) VALUES (999, '2050-01-01', 'x');
-- name: no_partition_list
-- error: 23514
INSERT INTO stores (store_id, region) VALUES (99, 'centre');
-- name: no_partition_update
-- error: 23514
UPDATE events SET happened = '2050-01-01' WHERE event_id = 5 AND happened = '2024-07-01';
-- name: generated_column_insert
-- error: 428C9
INSERT INTO documents (doc_id, title, words) VALUES (99, 't', 'x');
-- name: generated_column_update
-- error: 428C9
UPDATE documents SET words = 'x' WHERE doc_id = 1;
-- name: insert_too_many_values
-- error: 42601
INSERT INTO nothing VALUES (1, 'a', 'b');
-- name: insert_too_few_values
-- error: 42601
INSERT INTO nothing (id, v) VALUES (1);
-- name: insert_column_twice
-- error: 42701
INSERT INTO nothing (id, id) VALUES (1, 2);
-- name: values_lengths
-- error: 42601
VALUES (1, 2), (3);
-- name: group_by_missing
-- error: 42803
SELECT status, order_id, count(*) FROM orders GROUP BY status;
-- name: aggregate_in_where
-- error: 42803
SELECT status FROM orders WHERE count(*) > 1;
-- name: nested_aggregate
-- error: 42803
SELECT sum(count(*)) FROM orders GROUP BY status;
-- name: window_in_where
-- error: 42P20
SELECT order_id FROM orders WHERE row_number() OVER () = 1;
-- name: order_by_position
-- error: 42P10
SELECT name FROM customers ORDER BY 3;
-- name: distinct_order_by
-- error: 42P10
SELECT DISTINCT status FROM orders ORDER BY order_id;
-- name: distinct_on_order_by
-- error: 42P10
SELECT DISTINCT ON (status) status, order_id FROM orders ORDER BY order_id;
-- name: subquery_columns
-- error: 42601
SELECT name FROM customers WHERE customer_id IN (SELECT customer_id, order_id FROM orders);
-- name: subquery_rows
-- error: 21000
SELECT name FROM customers WHERE customer_id = (SELECT customer_id FROM orders);
-- name: lateral_missing
-- error: 42P01
SELECT * FROM customers c, (SELECT * FROM orders o WHERE o.customer_id = c.customer_id) x;
-- name: cte_not_recursive
-- error: 42P01
WITH t AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT * FROM t;
-- name: raise_exception
-- error: P0001
SELECT fail_with('P0001');
-- name: raise_custom
-- error: HN001
SELECT fail_with('HN001');
-- name: raise_on_rows
-- error: 22023
SELECT fail_with('22023') FROM customers WHERE customer_id = 7;
-- name: function_argument_count
-- error: 42883
SELECT initials('a', 'b');
-- name: enum_range_type
-- error: 42883
SELECT feeling + 1 FROM customers;
-- name: update_from_unknown
-- error: 42P01
UPDATE customers SET credit = x.a FROM no_such_table x WHERE x.id = customer_id;
-- name: delete_unknown
-- error: 42P01
DELETE FROM no_such_table;
-- name: truncate_unknown
-- error: 42P01
TRUNCATE no_such_table;
-- name: drop_unknown
-- error: 42P01
DROP TABLE no_such_table;
-- name: create_existing
-- error: 42P07
CREATE TABLE customers (a int);
-- name: create_unknown_type
-- error: 42704
CREATE TABLE corpus_bad (a no_such_type);
-- name: create_twice_column
-- error: 42701
CREATE TABLE corpus_bad (a int, a int);
-- name: alter_unknown_column
-- error: 42703
ALTER TABLE customers DROP COLUMN no_such_column;
-- name: alter_existing_column
-- error: 42701
ALTER TABLE customers ADD COLUMN name text;
-- name: index_existing
-- error: 42P07
CREATE INDEX customers_country ON customers (country);
-- name: view_unknown
-- error: 42P01
CREATE VIEW corpus_bad AS SELECT * FROM no_such_table;
-- name: drop_needed
-- error: 2BP01
DROP TABLE customers;
-- name: drop_column_needed
-- error: 2BP01
ALTER TABLE customers DROP COLUMN credit;
-- name: wrong_kind
-- error: 42809
DROP VIEW customers;
-- name: set_unknown
-- error: 42704
SET no_such_setting = 1;
-- name: set_bad_value
-- error: 22023
SET work_mem = 'lots';
-- name: show_unknown
-- error: 42704
SHOW no_such_setting;
-- name: savepoint_outside
-- error: 25P01
SAVEPOINT a;
-- name: rollback_to_unknown
BEGIN;
-- error: 3B001
ROLLBACK TO SAVEPOINT nowhere;
ROLLBACK;
-- name: aborted_transaction
BEGIN;
-- error: 22012
SELECT 1 / 0;
-- error: 25P02
SELECT 1;
-- error: 25P02
SELECT * FROM customers WHERE customer_id = 7;
ROLLBACK;
-- name: aborted_transaction_commit
BEGIN;
-- error: 42P01
SELECT * FROM no_such_table;
COMMIT;
SELECT 1;
-- name: aborted_on_many_shards
BEGIN;
UPDATE customers SET credit = 0;
-- error: 22012
SELECT 10 / (customer_id - 7) FROM customers;
-- error: 25P02
UPDATE customers SET credit = 1;
ROLLBACK;
SELECT count(*) FROM customers WHERE credit = 0;
-- name: read_only_transaction
BEGIN READ ONLY;
-- error: 25006
UPDATE customers SET credit = 0 WHERE customer_id = 7;
ROLLBACK;
-- name: read_only_transaction_many
BEGIN READ ONLY;
-- error: 25006
UPDATE customers SET credit = 0;
ROLLBACK;
-- name: cursor_unknown
BEGIN;
-- error: 34000
FETCH nowhere;
ROLLBACK;
-- name: cursor_outside
-- error: 25P01
DECLARE c CURSOR FOR SELECT 1;
-- name: execute_unknown
-- error: 26000
EXECUTE nowhere;
-- name: deallocate_unknown
-- error: 26000
DEALLOCATE nowhere;
-- name: prepare_twice
PREPARE twice AS SELECT 1;
-- error: 42P05
PREPARE twice AS SELECT 2;
-- name: execute_argument_count
PREPARE one_argument (int) AS SELECT $1;
-- error: 42601
EXECUTE one_argument;
-- name: copy_unknown
-- error: 42P01
COPY no_such_table TO STDOUT;
-- name: copy_bad_option
-- error: 42601
COPY countries TO STDOUT (FORMAT text, NO_SUCH_OPTION 1);
-- name: two_commands_extended
-- modes: extended
-- error: 42601
SELECT 1; SELECT 2;
-- name: insert_volatile_error
-- error: 22012
INSERT INTO nothing VALUES (1, 'a'), (2, 'b'), (1 / 0, 'c');
-- name: insert_error_leaves_nothing
SELECT count(*) FROM nothing;
-- name: lock_timeout_syntax
-- error: 22023
SELECT set_config('lock_timeout', 'x', false);
-- name: role_unknown
-- error: 22023
SET ROLE no_such_role;
-- name: grant_unknown_role
-- error: 42704
GRANT SELECT ON customers TO no_such_role;
-- name: comment_unknown
-- error: 42P01
COMMENT ON TABLE no_such_table IS 'x';
-- name: json_path_error
-- error: 42601
SELECT jsonb_path_query('{}', '@@@');
-- name: interval_error
-- error: 22007
SELECT '5 moons'::interval;
-- name: collate_unknown
-- error: 42704
SELECT name COLLATE "no_such" FROM customers;
-- name: window_unknown
-- error: 42704
SELECT sum(total) OVER w FROM orders;
-- name: for_update_group
-- error: 0A000
SELECT status FROM orders GROUP BY status FOR UPDATE;
-- name: insert_with_no_value_for_default_key
-- error: 23502
INSERT INTO nothing DEFAULT VALUES;
