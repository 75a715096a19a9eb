-- INSERT, UPDATE, DELETE, MERGE, TRUNCATE; each in a transaction that is rolled back.
-- all: rollback

-- name: insert_one
INSERT INTO customers (customer_id, name) VALUES (501, 'new');
SELECT * FROM customers WHERE customer_id = 501;
-- name: insert_many_rows
INSERT INTO customers (customer_id, name, country) VALUES (501, 'a', 'DE'), (502, 'b', 'DK'), (503, 'c', NULL), (504, 'd', 'SE'), (505, 'e', 'EE');
SELECT customer_id, name, country, credit, active FROM customers WHERE customer_id > 500;
-- name: insert_without_column_list
INSERT INTO accounts VALUES ('zzz', 'me', 5, NULL), ('zzy', 'you', 6, '2026-01-01 10:00+02');
SELECT * FROM accounts WHERE code LIKE 'zz%';
-- name: insert_fewer_columns
INSERT INTO nothing VALUES (1), (2), (3);
SELECT * FROM nothing;
-- name: insert_default_keyword
INSERT INTO customers (customer_id, name, credit, active) VALUES (501, 'a', DEFAULT, DEFAULT), (502, 'b', 7, false);
SELECT customer_id, credit, active FROM customers WHERE customer_id > 500;
-- name: insert_expressions
INSERT INTO readings (sensor, day, value) VALUES (1 + 100, DATE '2026-05-01' + 3, 2.5 * 2), (102, '2026-05-02', (SELECT max(value) FROM readings));
SELECT * FROM readings WHERE sensor > 100;
-- name: insert_returning
INSERT INTO orders (customer_id, order_id, total) VALUES (3, 9001, 10), (4, 9002, 20), (5, 9003, 30) RETURNING order_id, customer_id, status, total * 2 AS twice;
-- name: insert_returning_star
INSERT INTO stores VALUES (91, 'north', 'n', '2026-01-01', 1), (92, NULL, 'x', NULL, NULL), (93, 'west', 'w', NULL, 2) RETURNING *;
-- name: insert_uuid
INSERT INTO devices (device_id, label) VALUES ('00000000-0000-0000-0000-000000000001', 'one'), ('FFFFFFFF-0000-0000-0000-000000000001', 'two') RETURNING device_id;
-- name: insert_generated_column
INSERT INTO documents (doc_id, title, body) VALUES (90, 't', 'ships sailing') RETURNING words;
-- name: insert_serial_returning
INSERT INTO tickets (subject) VALUES ('x'), ('y') RETURNING subject, ticket_id > 0 AS positive;
SELECT count(DISTINCT ticket_id), count(*) FROM tickets WHERE subject IN ('x', 'y');
-- name: insert_default_values
-- error: 23502
INSERT INTO settings DEFAULT VALUES;
-- name: insert_conflict_nothing
INSERT INTO customers (customer_id, name) VALUES (7, 'dup'), (501, 'new') ON CONFLICT DO NOTHING;
SELECT customer_id, name FROM customers WHERE customer_id IN (7, 501);
-- name: insert_conflict_target_nothing
INSERT INTO accounts (code, balance) VALUES ('acc-007', 0), ('acc-777', 1) ON CONFLICT (code) DO NOTHING RETURNING code;
-- name: insert_conflict_update
INSERT INTO accounts (code, balance) VALUES ('acc-007', 1), ('acc-008', 2), ('acc-777', 3) ON CONFLICT (code) DO UPDATE SET balance = accounts.balance + excluded.balance RETURNING code, balance;
-- name: insert_conflict_update_where
INSERT INTO orders AS o (customer_id, order_id, total) VALUES (8, 1001, 5), (9, 9100, 6) ON CONFLICT (customer_id, order_id) DO UPDATE SET total = excluded.total WHERE o.status <> 'void' RETURNING o.order_id, o.total;
-- name: insert_conflict_update_row
INSERT INTO readings VALUES (3, '2026-01-04', 1, 2), (3, '2026-09-09', 3, 4) ON CONFLICT (sensor, day) DO UPDATE SET (value, level) = (excluded.value, excluded.level);
SELECT * FROM readings WHERE sensor = 3;
-- name: insert_select_same_key
INSERT INTO orders (customer_id, order_id, total) SELECT customer_id, order_id + 5000, total FROM orders WHERE customer_id < 6;
SELECT count(*), sum(order_id) FROM orders WHERE order_id > 5000;
-- name: insert_select_other_key
INSERT INTO nothing (id, v) SELECT event_id::int, kind FROM events WHERE event_id < 30;
SELECT count(*), min(id), max(id), count(DISTINCT v) FROM nothing;
-- name: insert_select_aggregate
INSERT INTO nothing SELECT customer_id, count(*)::text FROM orders GROUP BY customer_id;
SELECT * FROM nothing;
-- name: insert_select_reference
INSERT INTO nothing SELECT product_id, name FROM products WHERE category = 'salt';
SELECT * FROM nothing;
-- name: insert_select_into_reference
INSERT INTO countries SELECT 'Y' || (customer_id % 10), min(name) FROM customers WHERE customer_id < 4 GROUP BY 1;
SELECT * FROM countries;
-- name: insert_select_generate_series
INSERT INTO nothing SELECT g, 'v' || g FROM generate_series(1, 250) g;
SELECT count(*), sum(id), count(DISTINCT v) FROM nothing;
-- name: insert_select_returning
INSERT INTO nothing SELECT emp_id, name FROM employees WHERE dept = 'ship' RETURNING id, upper(v);
-- name: insert_select_limit_order
INSERT INTO nothing SELECT emp_id, name FROM employees ORDER BY salary DESC NULLS LAST LIMIT 3;
SELECT id FROM nothing;
-- name: insert_select_empty
INSERT INTO nothing SELECT * FROM nothing;
-- name: insert_select_union
INSERT INTO nothing SELECT emp_id, 'e' FROM employees WHERE emp_id < 3 UNION ALL SELECT doc_id + 100, 'd' FROM documents WHERE doc_id < 3;
SELECT * FROM nothing;
-- name: insert_select_conflict
INSERT INTO accounts (code, balance) SELECT code, 1 FROM accounts WHERE balance > 10000 ON CONFLICT (code) DO UPDATE SET balance = excluded.balance;
SELECT count(*), sum(balance) FROM accounts;
-- name: insert_select_from_cte
WITH x AS (SELECT customer_id, max(total) AS m FROM orders GROUP BY customer_id) INSERT INTO nothing SELECT customer_id, m::text FROM x WHERE m > 300;
SELECT * FROM nothing;
-- name: insert_reference
INSERT INTO countries VALUES ('PL', 'Poland'), ('LV', 'Latvia') RETURNING code;
SELECT code FROM countries WHERE code IN ('PL', 'LV');
-- name: insert_reference_then_use
INSERT INTO countries VALUES ('PL', 'Poland');
INSERT INTO customers (customer_id, name, country) VALUES (501, 'a', 'PL'), (502, 'b', 'PL'), (503, 'c', 'PL');
SELECT c.customer_id, n.name FROM customers c JOIN countries n ON n.code = c.country WHERE n.code = 'PL';
-- name: insert_reference_conflict
INSERT INTO products (product_id, name, price) VALUES (4, 'again', 9) ON CONFLICT (product_id) DO UPDATE SET name = excluded.name, price = products.price + 1 RETURNING name, price;
-- name: insert_single
INSERT INTO notes VALUES (90, 1, 'x'), (91, NULL, 'y') RETURNING *;
-- name: insert_range_partitions
INSERT INTO events (event_id, happened, kind) VALUES (900, '2024-01-01', 'a'), (901, '2025-07-07', 'b'), (902, '2026-07-07', 'c');
SELECT event_id, kind FROM events WHERE event_id >= 900;
-- name: insert_large_text
INSERT INTO nothing VALUES (1, repeat('äöü', 20000));
SELECT length(v), md5(v) FROM nothing;
-- name: insert_special_strings
INSERT INTO accounts (code, balance) VALUES ('it''s', 1), (E'new\nline', 2), ('', 3), ('back\slash', 4), ('$1', 5), ('%s', 6), ('"q"', 7) RETURNING code;
SELECT code FROM accounts WHERE code = E'new\nline' OR code = '' OR code = 'back\slash';
-- name: insert_overriding
INSERT INTO tickets (ticket_id, subject) OVERRIDING SYSTEM VALUE VALUES (-77, 's') RETURNING ticket_id;
-- name: update_by_key
UPDATE customers SET credit = credit + 5 WHERE customer_id = 7;
SELECT credit FROM customers WHERE customer_id = 7;
-- name: update_by_key_no_row
UPDATE customers SET credit = 0 WHERE customer_id = 7777;
-- name: update_by_key_returning
UPDATE customers SET name = upper(name), active = NOT active WHERE customer_id = 7 RETURNING customer_id, name, active;
-- name: update_many
UPDATE orders SET note = 'void ' || order_id WHERE status = 'void';
SELECT order_id, note FROM orders WHERE status = 'void';
-- name: update_many_returning
UPDATE orders SET total = 0 WHERE total IS NULL RETURNING order_id, customer_id, total;
-- name: update_all
UPDATE customers SET credit = credit * 2;
SELECT sum(credit) FROM customers;
-- name: update_in_list
UPDATE customers SET rating = 9 WHERE customer_id IN (1, 2, 3, 99);
SELECT customer_id, rating FROM customers WHERE rating = 9;
-- name: update_alias
UPDATE customers AS c SET credit = c.credit + 1 WHERE c.customer_id = 9 RETURNING c.credit;
-- name: update_row_assignment
UPDATE customers SET (credit, rating) = (1, 2) WHERE customer_id = 3 RETURNING credit, rating;
-- name: update_subquery_assignment
UPDATE customers c SET credit = (SELECT coalesce(sum(total), 0) FROM orders o WHERE o.customer_id = c.customer_id) WHERE customer_id < 10;
SELECT customer_id, credit FROM customers WHERE customer_id < 10;
-- name: update_row_subquery
UPDATE customers SET (credit, name) = (SELECT price, name FROM products WHERE product_id = 4) WHERE customer_id = 5 RETURNING credit, name;
-- name: update_from_colocated
UPDATE customers c SET credit = x.s FROM (SELECT customer_id, sum(total) AS s FROM orders GROUP BY customer_id) x WHERE x.customer_id = c.customer_id AND x.s > 500;
SELECT customer_id, credit FROM customers;
-- name: update_from_reference
UPDATE order_lines l SET price = p.price FROM products p WHERE p.product_id = l.product_id AND p.category = 'amber';
SELECT sum(price) FROM order_lines;
-- name: update_from_off_key
UPDATE customers c SET active = false FROM events e WHERE e.customer_id = c.customer_id AND e.kind = 'buy' AND e.amount > 80;
SELECT customer_id FROM customers WHERE NOT active;
-- name: update_where_subquery
UPDATE customers SET tags = '{top}' WHERE customer_id IN (SELECT customer_id FROM orders WHERE total > 380);
SELECT customer_id FROM customers WHERE tags = '{top}';
-- name: update_where_off_key_exists
UPDATE employees e SET salary = salary + 1 WHERE EXISTS (SELECT 1 FROM documents d WHERE d.doc_id = e.emp_id AND d.title LIKE '%1%') RETURNING emp_id, salary;
-- name: update_from_returning_both
UPDATE orders o SET note = c.name FROM customers c WHERE c.customer_id = o.customer_id AND o.order_id < 1006 RETURNING o.order_id, o.note, c.customer_id;
-- name: update_default
UPDATE tickets SET priority = DEFAULT WHERE ticket_id = -2 RETURNING priority;
-- name: update_array_element
UPDATE customers SET tags[1] = 'first', profile['age'] = '99' WHERE customer_id = 3 RETURNING tags, profile->'age';
-- name: update_composite_field
UPDATE employees SET home.city = 'Riga' WHERE emp_id = 3 RETURNING home;
-- name: update_enum_null
UPDATE customers SET feeling = NULL WHERE feeling = 'sad';
SELECT feeling, count(*) FROM customers GROUP BY feeling;
-- name: update_reference
UPDATE products SET price = price + 1 WHERE category = 'salt' RETURNING product_id, price;
-- name: update_reference_from_sharded
UPDATE products p SET price = s.sold FROM (SELECT product_id, sum(quantity) AS sold FROM order_lines GROUP BY product_id) s WHERE s.product_id = p.product_id;
SELECT product_id, price FROM products;
-- name: update_single
UPDATE settings SET value = 'dark' WHERE name = 'theme' RETURNING *;
-- name: update_single_from_sharded
UPDATE notes n SET body = c.name FROM customers c WHERE c.customer_id = n.customer_id;
SELECT * FROM notes;
-- name: update_same_value
UPDATE customers SET customer_id = customer_id WHERE customer_id = 7;
-- name: update_partition_key_same_shard
UPDATE stores SET region = 'west' WHERE store_id = 1 AND region = 'south' RETURNING store_id, region;
SELECT count(*) FROM stores WHERE region = 'west';
-- name: update_partition_key_other_group
UPDATE stores SET region = 'north' WHERE store_id = 1 AND region = 'south';
SELECT store_id FROM stores WHERE region = 'north';
-- name: update_hash_key_other_shard
UPDATE accounts SET code = 'renamed-' || code WHERE code IN ('acc-001', 'acc-002', 'acc-003', 'acc-004');
SELECT code, balance FROM accounts WHERE code LIKE 'renamed%';
-- name: update_range_key_other_partition
UPDATE events SET happened = '2026-06-06' WHERE event_id = 10 RETURNING event_id, happened;
SELECT event_id FROM events WHERE happened = '2026-06-06';
-- name: update_current_of
DECLARE c CURSOR FOR SELECT * FROM settings WHERE name = 'theme' FOR UPDATE;
FETCH c;
UPDATE settings SET value = 'cursor' WHERE CURRENT OF c;
SELECT value FROM settings WHERE name = 'theme';
-- name: delete_by_key
DELETE FROM employees WHERE emp_id = 7;
SELECT count(*) FROM employees;
-- name: delete_by_key_returning
DELETE FROM accounts WHERE code = 'acc-007' RETURNING code, balance;
-- name: delete_many
DELETE FROM readings WHERE level IS NULL;
SELECT count(*) FROM readings;
-- name: delete_many_returning
DELETE FROM order_lines WHERE quantity > 7 RETURNING order_id, line_no, quantity;
-- name: delete_all
DELETE FROM documents;
SELECT count(*) FROM documents;
-- name: delete_using_colocated
DELETE FROM order_lines l USING orders o WHERE o.customer_id = l.customer_id AND o.order_id = l.order_id AND o.status = 'void';
SELECT count(*) FROM order_lines;
-- name: delete_using_reference
DELETE FROM order_lines l USING products p WHERE p.product_id = l.product_id AND p.category = 'wood' RETURNING l.order_id, p.name;
-- name: delete_using_off_key
DELETE FROM tickets t USING employees e WHERE e.emp_id = -t.ticket_id AND e.dept = 'shop' RETURNING t.ticket_id, e.name;
-- name: delete_subquery
DELETE FROM events WHERE customer_id IN (SELECT customer_id FROM customers WHERE country = 'SE');
SELECT count(*) FROM events;
-- name: delete_subquery_limit
DELETE FROM readings WHERE (sensor, day) IN (SELECT sensor, day FROM readings ORDER BY value DESC NULLS LAST, sensor, day LIMIT 5) RETURNING sensor, day;
-- name: delete_cascade
DELETE FROM orders WHERE customer_id = 8;
SELECT count(*) FROM order_lines WHERE customer_id = 8;
-- name: delete_reference
DELETE FROM countries WHERE code = 'XX' RETURNING name;
SELECT count(*) FROM countries;
-- name: delete_single
DELETE FROM notes WHERE note_id > 3;
SELECT count(*) FROM notes;
-- name: delete_none
DELETE FROM customers WHERE false;
-- name: truncate_sharded
TRUNCATE documents;
SELECT count(*) FROM documents;
-- name: truncate_many
TRUNCATE readings, bookings, notes;
SELECT (SELECT count(*) FROM readings) + (SELECT count(*) FROM bookings) + (SELECT count(*) FROM notes);
-- name: truncate_cascade
TRUNCATE customers CASCADE;
SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM order_lines);
-- name: truncate_referenced
-- error: 0A000
TRUNCATE customers;
-- name: merge_same_key
MERGE INTO accounts a USING (VALUES ('acc-001', 5), ('acc-901', 6)) v (code, n) ON a.code = v.code
WHEN MATCHED THEN UPDATE SET balance = a.balance + v.n WHEN NOT MATCHED THEN INSERT (code, balance) VALUES (v.code, v.n);
SELECT code, balance FROM accounts WHERE code IN ('acc-001', 'acc-901');
-- name: merge_from_sharded
MERGE INTO nothing n USING employees e ON n.id = e.emp_id WHEN NOT MATCHED AND e.dept = 'ship' THEN INSERT VALUES (e.emp_id, e.name) WHEN MATCHED THEN DELETE;
SELECT * FROM nothing;
-- name: merge_reference
MERGE INTO products p USING (VALUES (25, 5.0), (2, 6.0), (99, 7.0)) v (id, price) ON p.product_id = v.id
WHEN MATCHED AND v.id = 25 THEN DELETE WHEN MATCHED THEN UPDATE SET price = v.price WHEN NOT MATCHED THEN INSERT (product_id, name, price) VALUES (v.id, 'merged', v.price);
SELECT product_id, name, price FROM products WHERE product_id IN (25, 2, 99);
-- name: cte_delete_insert
WITH gone AS (DELETE FROM notes WHERE note_id < 4 RETURNING note_id, body) INSERT INTO nothing SELECT note_id, body FROM gone;
SELECT * FROM nothing;
-- name: cte_update_select
WITH up AS (UPDATE customers SET credit = 0 WHERE country = 'DE' RETURNING customer_id) SELECT count(*), min(customer_id) FROM up;
-- name: cte_two_writes
WITH a AS (INSERT INTO nothing VALUES (1, 'a') RETURNING id), b AS (DELETE FROM settings WHERE name = 'limit' RETURNING name) SELECT a.id, b.name FROM a, b;
-- name: write_then_aggregate
INSERT INTO orders (customer_id, order_id, total) VALUES (1, 9001, 1000), (2, 9002, 1000), (3, 9003, 1000);
SELECT status, count(*), sum(total) FROM orders GROUP BY status;
UPDATE orders SET status = 'void' WHERE order_id > 9000;
SELECT status, count(*), sum(total) FROM orders GROUP BY status;
DELETE FROM orders WHERE order_id > 9000;
SELECT count(*) FROM orders;
-- name: write_then_off_key_join
INSERT INTO events (event_id, happened, kind, customer_id) VALUES (950, '2025-05-05', 'fresh', 33), (951, '2026-05-05', 'fresh', 34);
SELECT e.event_id, c.name FROM events e JOIN customers c USING (customer_id) WHERE e.kind = 'fresh';
-- name: write_through_view
UPDATE active_customers SET credit = 0 WHERE customer_id = 7;
SELECT credit FROM customers WHERE customer_id = 7;
-- name: insert_through_view
INSERT INTO active_customers (customer_id, name) VALUES (501, 'via view');
SELECT name FROM active_customers WHERE customer_id = 501;
-- name: delete_through_view
DELETE FROM active_customers WHERE country = 'EE' AND customer_id > 30;
SELECT count(*) FROM customers;
