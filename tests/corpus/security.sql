-- Other roles: privileges and row level security are PostgreSQL's own.

-- name: reader_point
-- as: corpus_reader
SELECT name FROM customers WHERE customer_id = 7;
-- name: reader_all
-- as: corpus_reader
SELECT count(*), sum(credit) FROM customers;
-- name: reader_colocated
-- as: corpus_reader
SELECT c.name, o.order_id FROM customers c JOIN orders o USING (customer_id) WHERE o.total > 300;
-- name: reader_reference
-- as: corpus_reader
SELECT n.name, count(*) FROM customers c JOIN countries n ON n.code = c.country GROUP BY n.name;
-- name: reader_view
-- as: corpus_reader
SELECT count(*), sum(credit) FROM active_customers;
-- name: reader_view_without_right
-- as: corpus_reader
-- error: 42501
SELECT * FROM order_totals;
-- name: reader_without_right
-- as: corpus_reader
-- error: 42501
SELECT * FROM order_lines;
-- name: reader_without_right_point
-- as: corpus_reader
-- error: 42501
SELECT * FROM accounts WHERE code = 'acc-007';
-- name: reader_join_without_right
-- as: corpus_reader
-- error: 42501
SELECT * FROM customers c JOIN events e USING (customer_id);
-- name: reader_write
-- as: corpus_reader
-- error: 42501
UPDATE customers SET credit = 0 WHERE customer_id = 7;
-- name: reader_write_all
-- as: corpus_reader
-- error: 42501
DELETE FROM customers;
-- name: reader_insert
-- as: corpus_reader
-- error: 42501
INSERT INTO customers (customer_id, name) VALUES (900, 'x'), (901, 'y');
-- name: reader_reference_write
-- as: corpus_reader
-- error: 42501
INSERT INTO countries VALUES ('PL', 'Poland');
-- name: reader_truncate
-- as: corpus_reader
-- error: 42501
TRUNCATE customers;
-- name: reader_create
-- as: corpus_reader
-- error: 42501
CREATE TABLE corpus_forbidden (id int);
-- name: reader_drop
-- as: corpus_reader
-- error: 42501
DROP TABLE customers;
-- name: reader_alter
-- as: corpus_reader
-- error: 42501
ALTER TABLE customers ADD COLUMN x int;
-- name: reader_copy_without_right
-- as: corpus_reader
-- error: 42501
COPY order_lines TO STDOUT;
-- name: reader_copy_in_without_right
-- as: corpus_reader
--| 1	x
-- error: 42501
COPY nothing FROM STDIN;
-- name: reader_column_right
-- as: corpus_reader
SELECT emp_id, name FROM employees WHERE emp_id < 4;
-- name: reader_column_without_right
-- as: corpus_reader
-- error: 42501
SELECT salary FROM employees WHERE emp_id = 3;
-- name: reader_column_star
-- as: corpus_reader
-- error: 42501
SELECT * FROM employees;
-- name: reader_off_key_join
-- as: corpus_reader
SELECT e.name, c.name FROM employees e JOIN customers c ON c.customer_id = e.emp_id + 1;
-- name: reader_off_key_without_right
-- as: corpus_reader
-- error: 42501
SELECT e.salary FROM employees e JOIN customers c ON c.customer_id = e.emp_id + 1;
-- name: reader_is_itself
-- as: corpus_reader
SELECT current_user, session_user, current_setting('is_superuser');
-- name: reader_is_itself_on_shards
-- as: corpus_reader
SELECT DISTINCT current_user::text FROM customers;
-- name: reader_is_itself_in_joins
-- as: corpus_reader
SELECT DISTINCT current_user::text, c.active FROM customers c JOIN orders o ON o.total > c.credit;
-- name: reader_set_role
-- as: corpus_reader
-- error: 42501
SET ROLE corpus_tenant;
-- name: rows_of_tenant
-- as: corpus_tenant
SELECT * FROM messages;
-- name: rows_of_tenant_count
-- as: corpus_tenant
SELECT tenant, count(*) FROM messages GROUP BY tenant;
-- name: rows_of_tenant_by_key
-- as: corpus_tenant
SELECT id FROM messages WHERE tenant = 'corpus_tenant';
-- name: rows_of_other_by_key
-- as: corpus_tenant
SELECT id FROM messages WHERE tenant = 'somebody';
-- name: rows_of_other_by_full_key
-- as: corpus_tenant
SELECT body FROM messages WHERE tenant = 'somebody' AND id = 2;
-- name: rows_in_join
-- as: corpus_tenant
SELECT a.id, b.id FROM messages a JOIN messages b ON a.id = b.id + 3;
-- name: rows_in_subquery
-- as: corpus_tenant
SELECT (SELECT count(*) FROM messages), (SELECT max(id) FROM messages WHERE tenant = 'somebody');
-- name: rows_of_reader
-- as: corpus_reader
SELECT tenant, id FROM messages WHERE id < 12;
-- name: rows_update_other
-- as: corpus_tenant
-- rollback
UPDATE messages SET body = 'taken' WHERE tenant = 'somebody';
UPDATE messages SET body = 'mine';
SELECT count(*) FROM messages WHERE body = 'mine';
-- name: rows_delete_other
-- as: corpus_tenant
-- rollback
DELETE FROM messages WHERE tenant = 'somebody' AND id = 2;
DELETE FROM messages;
-- name: rows_insert_other
-- as: corpus_tenant
-- error: 42501
INSERT INTO messages VALUES ('somebody', 900, 'x');
-- name: rows_insert_own
-- as: corpus_tenant
-- rollback
INSERT INTO messages VALUES ('corpus_tenant', 900, 'x');
SELECT count(*) FROM messages;
-- name: rows_copy_out
-- as: corpus_tenant
COPY messages TO STDOUT;
-- name: rows_copy_in_refused
-- as: corpus_tenant
--| corpus_tenant	901	x
-- error: 0A000
COPY messages FROM STDIN;
-- name: rows_of_owner
SELECT tenant, count(*) FROM messages GROUP BY tenant;
-- name: rows_with_set_role
SET ROLE corpus_tenant;
SELECT count(*) FROM messages;
SELECT count(*) FROM messages WHERE tenant = 'somebody';
RESET ROLE;
SELECT count(*) FROM messages;
-- name: set_role_does_not_leak
SELECT current_user = session_user;
-- name: set_local_role
BEGIN;
SET LOCAL ROLE corpus_reader;
SELECT current_user::text;
SELECT DISTINCT current_user::text FROM customers;
-- error: 42501
SELECT * FROM order_lines;
ROLLBACK;
SELECT current_user = session_user;
-- name: set_session_authorization
SET SESSION AUTHORIZATION corpus_reader;
SELECT session_user::text, current_user::text;
SELECT count(*) FROM messages;
RESET SESSION AUTHORIZATION;
SELECT count(*) FROM messages;
-- name: grants_seen
-- as: corpus_reader
SELECT has_table_privilege('customers', 'SELECT'), has_table_privilege('customers', 'UPDATE'), has_column_privilege('employees', 'salary', 'SELECT');
-- name: row_security_off
-- as: corpus_tenant
SET row_security = off;
-- error: 42501
SELECT * FROM messages;
