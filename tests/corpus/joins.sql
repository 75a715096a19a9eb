-- Joins: on the key, off the key, with reference and single tables, outer, semi, anti, lateral, many.

-- name: colocated_two
SELECT c.name, o.order_id, o.total FROM customers c JOIN orders o ON o.customer_id = c.customer_id;
-- name: colocated_using
SELECT customer_id, name, order_id FROM customers JOIN orders USING (customer_id) WHERE status = 'paid';
-- name: colocated_natural
SELECT customer_id, order_id, line_no FROM orders NATURAL JOIN order_lines WHERE quantity > 6;
-- name: colocated_three
SELECT c.name, o.order_id, l.line_no, l.quantity * l.price AS amount
FROM customers c JOIN orders o USING (customer_id) JOIN order_lines l USING (customer_id, order_id);
-- name: colocated_one_customer
SELECT c.name, o.order_id, l.line_no FROM customers c
JOIN orders o ON o.customer_id = c.customer_id
JOIN order_lines l ON l.customer_id = o.customer_id AND l.order_id = o.order_id
WHERE c.customer_id = 8;
-- name: colocated_implied_key
SELECT count(*) FROM customers c, orders o WHERE c.customer_id = o.customer_id AND o.customer_id = 15;
-- name: colocated_left
SELECT c.customer_id, o.order_id FROM customers c LEFT JOIN orders o ON o.customer_id = c.customer_id AND o.status = 'void';
-- name: colocated_left_anti
SELECT c.customer_id FROM customers c LEFT JOIN orders o USING (customer_id) WHERE o.order_id IS NULL;
-- name: colocated_right
SELECT c.name, o.order_id FROM orders o RIGHT JOIN customers c USING (customer_id) WHERE c.customer_id > 25;
-- name: colocated_full
SELECT c.customer_id, o.customer_id, o.order_id FROM (SELECT * FROM customers WHERE customer_id > 20) c
FULL JOIN (SELECT * FROM orders WHERE customer_id < 25) o ON o.customer_id = c.customer_id;
-- name: colocated_non_equi
SELECT count(*) FROM customers c JOIN orders o ON o.customer_id = c.customer_id AND o.total > c.credit;
-- name: colocated_self
SELECT a.order_id, b.order_id FROM orders a JOIN orders b ON a.customer_id = b.customer_id AND a.order_id < b.order_id WHERE a.status = 'void';
-- name: colocated_left_missing_key
SELECT count(*), count(o.order_id), count(l.order_id) FROM orders o LEFT JOIN order_lines l ON l.order_id = o.order_id;
-- name: off_key_two
SELECT c.name, n.body FROM customers c JOIN notes n ON n.customer_id = c.customer_id;
-- name: off_key_events
SELECT e.event_id, c.name FROM events e JOIN customers c ON c.customer_id = e.customer_id WHERE e.kind = 'buy';
-- name: off_key_left
SELECT e.event_id, c.customer_id FROM events e LEFT JOIN customers c ON c.customer_id = e.customer_id WHERE e.happened < '2024-09-01';
-- name: off_key_right
SELECT e.event_id, c.customer_id FROM events e RIGHT JOIN customers c ON c.customer_id = e.customer_id AND e.kind = 'view';
-- name: off_key_full
SELECT e.event_id, c.customer_id FROM (SELECT * FROM events WHERE event_id <= 50) e FULL JOIN customers c USING (customer_id);
-- name: off_key_different_types
SELECT e.name, d.title FROM employees e JOIN documents d ON d.doc_id = e.emp_id;
-- name: off_key_int_to_bigint
SELECT e.name, c.name FROM employees e JOIN customers c ON c.customer_id = e.emp_id;
-- name: off_key_expression
SELECT a.code, e.name FROM accounts a JOIN employees e ON a.balance = e.emp_id * 1000 - 5000;
-- name: off_key_text
SELECT s.name, p.name FROM stores s JOIN products p ON replace(s.name, 'store', 'product') = p.name;
-- name: off_key_inequality
SELECT count(*) FROM employees e JOIN readings r ON e.emp_id < r.sensor;
-- name: off_key_self
SELECT e.name, m.name AS manager FROM employees e JOIN employees m ON e.manager_id = m.emp_id;
-- name: off_key_self_left
SELECT e.name, m.name AS manager FROM employees e LEFT JOIN employees m ON e.manager_id = m.emp_id;
-- name: off_key_date
SELECT r.sensor, e.event_id FROM readings r JOIN events e ON e.happened = r.day;
-- name: off_key_aggregate
SELECT o.status, e.kind, count(*) FROM orders o JOIN events e ON e.customer_id = o.customer_id GROUP BY o.status, e.kind;
-- name: cross_join
SELECT n.code, s.name FROM countries n CROSS JOIN settings s;
-- name: cross_join_sharded
SELECT count(*) FROM customers, employees;
-- name: cross_join_three
SELECT count(*), sum(t.ticket_id) FROM tickets t, countries n, stores s WHERE s.store_id < 4;
-- name: reference_inner
SELECT c.name, n.name FROM customers c JOIN countries n ON n.code = c.country;
-- name: reference_left
SELECT c.customer_id, n.name FROM customers c LEFT JOIN countries n ON n.code = c.country;
-- name: reference_preserved_side
SELECT n.code, c.customer_id FROM countries n LEFT JOIN customers c ON c.country = n.code;
-- name: reference_preserved_side_one_key
SELECT n.code, c.customer_id FROM countries n LEFT JOIN customers c ON c.country = n.code AND c.customer_id = 3;
-- name: reference_full
SELECT n.code, c.customer_id FROM countries n FULL JOIN customers c ON c.country = n.code;
-- name: reference_both
SELECT c.name, n.name, p.name FROM customers c JOIN countries n ON n.code = c.country
JOIN orders o USING (customer_id) JOIN order_lines l USING (customer_id, order_id) JOIN products p USING (product_id)
WHERE p.category = 'salt';
-- name: reference_group
SELECT p.category, count(*), sum(l.quantity), sum(l.quantity * l.price) FROM order_lines l JOIN products p USING (product_id) GROUP BY p.category;
-- name: reference_only_join
SELECT a.code, b.code FROM countries a JOIN countries b ON a.code < b.code;
-- name: reference_and_single
SELECT n.name, s.value FROM countries n, settings s WHERE s.name = 'theme';
-- name: singles_of_two_groups
SELECT s.name, n.body FROM settings s JOIN notes n ON n.note_id = length(s.name);
-- name: single_and_sharded
SELECT n.body, c.name FROM notes n LEFT JOIN customers c USING (customer_id);
-- name: range_and_hash
SELECT count(*), sum(e.amount) FROM events e JOIN orders o ON o.customer_id = e.customer_id AND o.placed::date > e.happened;
-- name: list_and_range
SELECT s.region, count(e.event_id) FROM stores s LEFT JOIN events e ON date_trunc('month', e.happened) = date_trunc('month', s.opened + 1600) GROUP BY s.region;
-- name: semi_exists
SELECT customer_id FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.customer_id AND o.status = 'sent');
-- name: anti_not_exists
SELECT customer_id FROM customers c WHERE NOT EXISTS (SELECT FROM orders o WHERE o.customer_id = c.customer_id);
-- name: semi_off_key
SELECT customer_id FROM customers c WHERE EXISTS (SELECT 1 FROM events e WHERE e.customer_id = c.customer_id AND e.amount > 90);
-- name: semi_in
SELECT name FROM customers WHERE customer_id IN (SELECT customer_id FROM orders WHERE total > 350);
-- name: anti_not_in
SELECT name FROM customers WHERE customer_id NOT IN (SELECT customer_id FROM events WHERE customer_id IS NOT NULL);
-- name: anti_not_in_nulls
SELECT name FROM customers WHERE customer_id NOT IN (SELECT customer_id FROM events);
-- name: lateral_top_one
SELECT c.customer_id, x.order_id, x.total FROM customers c
CROSS JOIN LATERAL (SELECT order_id, total FROM orders o WHERE o.customer_id = c.customer_id ORDER BY total DESC NULLS LAST, order_id LIMIT 1) x;
-- name: lateral_left
SELECT c.customer_id, x.n FROM customers c LEFT JOIN LATERAL (SELECT count(*) AS n FROM orders o WHERE o.customer_id = c.customer_id) x ON x.n > 2;
-- name: lateral_function
SELECT c.customer_id, t.tag FROM customers c, unnest(c.tags) AS t (tag);
-- name: lateral_ordinality
SELECT c.customer_id, t.tag, t.nr FROM customers c, unnest(c.tags) WITH ORDINALITY AS t (tag, nr) WHERE c.customer_id < 10;
-- name: lateral_off_key
SELECT e.emp_id, x.title FROM employees e, LATERAL (SELECT title FROM documents d WHERE d.doc_id > e.emp_id ORDER BY d.doc_id LIMIT 2) x;
-- name: lateral_generate_series
SELECT e.emp_id, g FROM employees e, generate_series(1, e.emp_id % 3) g;
-- name: join_values
SELECT c.name, v.label FROM customers c JOIN (VALUES (1, 'one'), (2, 'two'), (99, 'none')) v (id, label) ON v.id = c.customer_id;
-- name: join_subquery_aggregate
SELECT c.name, t.n, t.s FROM customers c JOIN (SELECT customer_id, count(*) n, sum(total) s FROM orders GROUP BY customer_id) t USING (customer_id);
-- name: join_subquery_off_key_aggregate
SELECT p.name, t.n FROM products p LEFT JOIN (SELECT product_id, count(DISTINCT customer_id) n FROM order_lines GROUP BY product_id) t USING (product_id);
-- name: join_generate_series
SELECT g, c.name FROM generate_series(1, 5) g LEFT JOIN customers c ON c.customer_id = g * 10;
-- name: join_using_alias
SELECT j.customer_id, o.order_id FROM customers c JOIN orders o USING (customer_id) AS j WHERE j.customer_id = 3;
-- name: join_parenthesised
SELECT c.customer_id, l.line_no FROM customers c LEFT JOIN (orders o JOIN order_lines l USING (customer_id, order_id)) ON o.customer_id = c.customer_id WHERE c.customer_id > 28;
-- name: join_four_kinds
SELECT n.name, count(DISTINCT c.customer_id), count(e.event_id), sum(e.amount)
FROM countries n LEFT JOIN customers c ON c.country = n.code LEFT JOIN events e ON e.customer_id = c.customer_id LEFT JOIN settings s ON s.name = e.kind
GROUP BY n.name;
-- name: join_ordered_limit
-- ordered
SELECT c.name, o.order_id FROM customers c JOIN orders o USING (customer_id) ORDER BY o.order_id DESC LIMIT 7;
-- name: join_ordered_off_key
-- ordered
SELECT e.event_id, c.name FROM events e JOIN customers c USING (customer_id) ORDER BY e.event_id LIMIT 10 OFFSET 5;
-- name: join_distinct
SELECT DISTINCT c.country, p.category FROM customers c JOIN order_lines l USING (customer_id) JOIN products p USING (product_id);
-- name: join_array_contains
SELECT c.customer_id, s.name FROM customers c JOIN settings s ON 'vip' = ANY (c.tags) AND s.name = 'theme';
-- name: join_range_overlap
SELECT a.room, a.number, b.number FROM bookings a JOIN bookings b ON a.room = b.room AND a.number < b.number AND a.span && b.span;
-- name: join_range_overlap_off_key
SELECT count(*) FROM bookings a JOIN bookings b ON a.span && b.span AND a.room <> b.room;
-- name: join_empty
SELECT c.customer_id, n.v FROM customers c LEFT JOIN nothing n ON n.id = c.customer_id WHERE c.customer_id < 5;
-- name: join_empty_inner
SELECT * FROM customers c JOIN nothing n ON n.id = c.customer_id;
-- name: join_whole_rows
SELECT o, l.line_no FROM (SELECT customer_id, order_id FROM orders WHERE order_id < 1005) o JOIN order_lines l USING (order_id);
-- name: update_lock_join
-- rollback
SELECT o.order_id FROM orders o JOIN customers c USING (customer_id) WHERE c.customer_id = 8 FOR UPDATE OF o;
