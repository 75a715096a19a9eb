-- $n of the extended protocol: declared and inferred types, every key type, NULL.

-- name: key_inferred
-- params: ["7"]
SELECT name, credit FROM customers WHERE customer_id = $1;
-- name: key_declared_int8
-- params: ["7"]
-- types: [20]
SELECT name FROM customers WHERE customer_id = $1;
-- name: key_declared_int4
-- params: ["7"]
-- types: [23]
SELECT name FROM customers WHERE customer_id = $1;
-- name: key_declared_int2
-- params: ["7"]
-- types: [21]
SELECT name FROM customers WHERE customer_id = $1;
-- name: key_declared_numeric
-- params: ["7.0"]
-- types: [1700]
SELECT name FROM customers WHERE customer_id = $1;
-- name: key_declared_text_fails
-- params: ["7"]
-- types: [25]
-- error: 42883
SELECT name FROM customers WHERE customer_id = $1;
-- name: key_null
-- params: [null]
SELECT name FROM customers WHERE customer_id = $1;
-- name: key_cast
-- params: ["7"]
SELECT name FROM customers WHERE customer_id = $1::int;
-- name: key_bad_text
-- params: ["seven"]
-- error: 22P02
SELECT name FROM customers WHERE customer_id = $1;
-- name: key_out_of_range
-- params: ["99999999999999999999"]
-- error: 22003
SELECT name FROM customers WHERE customer_id = $1;
-- name: key_twice
-- params: ["7"]
SELECT name FROM customers WHERE customer_id = $1 AND $1 < 100;
-- name: key_text
-- params: ["acc-007"]
SELECT owner, balance FROM accounts WHERE code = $1;
-- name: key_text_declared
-- params: ["Konto Ü5"]
-- types: [25]
SELECT owner, balance FROM accounts WHERE code = $1;
-- name: key_varchar_declared
-- params: ["acc-008"]
-- types: [1043]
SELECT balance FROM accounts WHERE code = $1;
-- name: key_uuid
-- params: ["01234567-890a-bcde-f123-4567890abcde"]
SELECT label FROM devices WHERE device_id = $1;
-- name: key_uuid_braces
-- params: ["{01234567890ABCDEF1234567890ABCDE}"]
SELECT label FROM devices WHERE device_id = $1;
-- name: key_multi
-- params: ["3", "2026-01-04"]
SELECT value FROM readings WHERE sensor = $1 AND day = $2;
-- name: key_multi_odd_date
-- params: ["3", "Jan 4, 2026"]
SELECT value FROM readings WHERE sensor = $1 AND day = $2;
-- name: key_range_date
-- params: ["2025-03-10"]
SELECT event_id FROM events WHERE happened = $1;
-- name: key_range_between
-- params: ["2024-12-01", "2025-02-01"]
SELECT event_id FROM events WHERE happened BETWEEN $1 AND $2;
-- name: key_list
-- params: ["west"]
SELECT store_id FROM stores WHERE region = $1;
-- name: in_params
-- params: ["1", "2", "40"]
SELECT customer_id FROM customers WHERE customer_id IN ($1, $2, $3);
-- name: any_param
-- params: ["{1,2,40}"]
SELECT customer_id FROM customers WHERE customer_id = ANY ($1);
-- name: any_param_cast
-- params: ["{1,2,40}"]
SELECT customer_id FROM customers WHERE customer_id = ANY ($1::int[]);
-- name: select_param
-- params: ["5", "x"]
SELECT $1::int + 1, $2::text || 'y', $1;
-- name: param_types_untyped
-- params: ["5"]
SELECT $1;
-- name: limit_param
-- params: ["4", "2"]
-- ordered
SELECT customer_id FROM customers ORDER BY customer_id LIMIT $1 OFFSET $2;
-- name: join_param
-- params: ["8"]
SELECT c.name, o.order_id FROM customers c JOIN orders o USING (customer_id) WHERE c.customer_id = $1;
-- name: off_key_param
-- params: ["buy"]
SELECT count(*) FROM events e JOIN customers c USING (customer_id) WHERE e.kind = $1;
-- name: aggregate_param
-- params: ["100"]
SELECT status, count(*) FILTER (WHERE total > $1) FROM orders GROUP BY status;
-- name: subquery_param
-- params: ["paid", "2"]
SELECT customer_id FROM customers c WHERE (SELECT count(*) FROM orders o WHERE o.customer_id = c.customer_id AND status = $1) >= $2;
-- name: cte_param
-- params: ["300"]
WITH big AS (SELECT * FROM orders WHERE total > $1) SELECT count(*) FROM big;
-- name: window_param
-- params: ["2"]
SELECT * FROM (SELECT order_id, status, row_number() OVER (PARTITION BY status ORDER BY order_id) n FROM orders) x WHERE n <= $1;
-- name: union_param
-- params: ["7", "8"]
SELECT name FROM customers WHERE customer_id = $1 UNION ALL SELECT name FROM customers WHERE customer_id = $2;
-- name: reference_param
-- params: ["salt"]
SELECT product_id FROM products WHERE category = $1;
-- name: single_param
-- params: ["theme"]
SELECT value FROM settings WHERE name = $1;
-- name: date_interval_param
-- params: ["2025-06-01", "30 days"]
SELECT count(*) FROM events WHERE happened > $1::date - $2::interval;
-- name: jsonb_param
-- params: ["{\"ok\": true}"]
SELECT customer_id FROM customers WHERE profile @> $1;
-- name: array_param
-- params: ["{vip,late}"]
SELECT customer_id FROM customers WHERE tags && $1;
-- name: enum_param
-- params: ["happy"]
SELECT count(*) FROM customers WHERE feeling = $1;
-- name: like_param
-- params: ["%Brandt"]
SELECT customer_id FROM customers WHERE name LIKE $1;
-- name: bool_param
-- params: ["t"]
SELECT count(*) FROM customers WHERE active = $1;
-- name: missing_param
-- modes: extended
-- error: 08P01
SELECT name FROM customers WHERE customer_id = $1;
-- name: param_not_used_in_order
-- params: ["a", "7"]
SELECT $1::text, name FROM customers WHERE customer_id = $2;
-- name: insert_params
-- rollback
-- modes: extended binary
-- params: ["501", "five", "DE", "12.50"]
INSERT INTO customers (customer_id, name, country, credit) VALUES ($1, $2, $3, $4) RETURNING customer_id, name, credit;
-- name: insert_params_rows
-- rollback
-- modes: extended binary
-- params: ["501", "five", "502", "six"]
INSERT INTO customers (customer_id, name) VALUES ($1, $2), ($3, $4) RETURNING *;
-- name: insert_param_default_key
-- rollback
-- modes: extended binary
-- params: ["with serial"]
INSERT INTO tickets (subject) VALUES ($1) RETURNING subject, priority, opened;
-- name: update_params
-- rollback
-- modes: extended binary
-- params: ["10", "7"]
UPDATE customers SET credit = credit + $1 WHERE customer_id = $2 RETURNING credit;
-- name: update_all_params
-- rollback
-- modes: extended
-- params: ["1.5"]
UPDATE orders SET total = total + $1;
-- name: delete_params
-- rollback
-- modes: extended
-- params: ["8", "1001"]
DELETE FROM order_lines WHERE customer_id = $1 AND order_id = $2;
