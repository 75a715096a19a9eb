-- UNION, INTERSECT, EXCEPT; ORDER BY, LIMIT, OFFSET, FETCH; VALUES.

-- name: union_all_shards
SELECT customer_id FROM customers WHERE customer_id < 5 UNION ALL SELECT customer_id FROM customers WHERE customer_id < 3;
-- name: union_distinct
SELECT country FROM customers UNION SELECT code FROM countries;
-- name: union_different_tables
SELECT name FROM employees WHERE emp_id < 4 UNION ALL SELECT title FROM documents WHERE doc_id < 4 UNION ALL SELECT name FROM settings;
-- name: union_types_resolved
SELECT emp_id, name FROM employees WHERE emp_id = 1 UNION ALL SELECT 2.5, 'x' UNION ALL SELECT NULL, NULL;
-- name: union_ordered_limit
-- ordered
SELECT order_id AS id, 'o' AS src FROM orders UNION ALL SELECT event_id, 'e' FROM events ORDER BY id, src LIMIT 10;
-- name: union_parenthesised
(SELECT customer_id FROM customers ORDER BY customer_id LIMIT 2) UNION ALL (SELECT customer_id FROM customers ORDER BY customer_id DESC LIMIT 2);
-- name: union_with_constant
SELECT 'total' AS what, count(*) FROM orders UNION ALL SELECT status, count(*) FROM orders GROUP BY status;
-- name: union_in_from
SELECT kind, sum(n) FROM (SELECT status AS kind, count(*) AS n FROM orders GROUP BY status UNION ALL SELECT kind, count(*) FROM events GROUP BY kind) x GROUP BY kind;
-- name: union_same_key
SELECT name FROM customers WHERE customer_id = 7 UNION SELECT note FROM orders WHERE customer_id = 7;
-- name: intersect
SELECT customer_id FROM orders INTERSECT SELECT customer_id FROM events;
-- name: intersect_all
SELECT customer_id FROM orders INTERSECT ALL SELECT customer_id FROM order_lines;
-- name: except
SELECT customer_id FROM customers EXCEPT SELECT customer_id FROM orders;
-- name: except_all
SELECT status FROM orders EXCEPT ALL SELECT status FROM orders WHERE total > 100;
-- name: set_precedence
SELECT 1 AS a UNION SELECT 2 INTERSECT SELECT 2 EXCEPT SELECT 3;
-- name: nested_sets
SELECT customer_id FROM customers EXCEPT (SELECT customer_id FROM orders UNION SELECT customer_id FROM notes WHERE customer_id IS NOT NULL);
-- name: order_by_key
-- ordered
SELECT customer_id FROM customers ORDER BY customer_id;
-- name: order_by_desc_nulls
-- ordered
SELECT order_id, total FROM orders ORDER BY total DESC, order_id;
-- name: order_by_nulls_first
-- ordered
SELECT order_id, total FROM orders ORDER BY total NULLS FIRST, order_id;
-- name: order_by_nulls_last_desc
-- ordered
SELECT event_id, amount FROM events ORDER BY amount DESC NULLS LAST, event_id;
-- name: order_by_two_directions
-- ordered
SELECT country, customer_id FROM customers ORDER BY country DESC, customer_id ASC;
-- name: order_by_text
-- ordered
SELECT code FROM accounts ORDER BY code;
-- name: order_by_text_desc
-- ordered
SELECT name, customer_id FROM customers ORDER BY name DESC, customer_id DESC;
-- name: order_by_collate
-- ordered
SELECT code FROM accounts ORDER BY code COLLATE "C" DESC LIMIT 5;
-- name: order_by_varchar_umlaut
-- ordered
SELECT DISTINCT name FROM customers ORDER BY name;
-- name: order_by_expression
-- ordered
SELECT customer_id, credit FROM customers ORDER BY credit * -1, customer_id LIMIT 9;
-- name: order_by_ordinal
-- ordered
SELECT status, order_id FROM orders ORDER BY 1, 2 DESC LIMIT 20;
-- name: order_by_alias
-- ordered
SELECT customer_id AS id, length(name) AS len FROM customers ORDER BY len DESC, id;
-- name: order_by_not_selected
-- ordered
SELECT name FROM customers ORDER BY created DESC LIMIT 5;
-- name: order_by_date
-- ordered
SELECT customer_id, created FROM customers ORDER BY created DESC;
-- name: order_by_timestamp
-- ordered
SELECT order_id, placed FROM orders ORDER BY placed DESC NULLS LAST, order_id LIMIT 15;
-- name: order_by_timestamptz
-- ordered
SELECT code, opened FROM accounts ORDER BY opened NULLS FIRST, code;
-- name: order_by_uuid
-- ordered
SELECT device_id FROM devices ORDER BY device_id;
-- name: order_by_inet
-- ordered
SELECT ip FROM devices ORDER BY ip DESC, device_id LIMIT 10;
-- name: order_by_bytea
-- ordered
SELECT label, payload FROM devices WHERE payload IS NOT NULL ORDER BY payload;
-- name: order_by_numeric
-- ordered
SELECT sensor, day, value FROM readings ORDER BY value, sensor, day;
-- name: order_by_double
-- ordered
SELECT customer_id, rating FROM customers ORDER BY rating DESC, customer_id;
-- name: order_by_boolean
-- ordered
SELECT customer_id, active FROM customers ORDER BY active, customer_id;
-- name: order_by_enum
-- ordered
SELECT customer_id, feeling FROM customers ORDER BY feeling DESC, customer_id;
-- name: order_by_array
-- ordered
SELECT customer_id, tags FROM customers ORDER BY tags, customer_id;
-- name: order_by_row
-- ordered
SELECT sensor, day FROM readings ORDER BY (sensor, day) DESC LIMIT 5;
-- name: order_by_jsonb
-- ordered
SELECT customer_id, profile FROM customers ORDER BY profile DESC, customer_id LIMIT 10;
-- name: order_by_range
-- ordered
SELECT number, span FROM bookings ORDER BY span, number;
-- name: order_by_smallint
-- ordered
SELECT level, sensor, day FROM readings ORDER BY level DESC NULLS LAST, sensor, day LIMIT 30;
-- name: order_by_using
-- ordered
SELECT customer_id FROM customers ORDER BY customer_id USING > LIMIT 4;
-- name: order_by_case
-- ordered
SELECT order_id, status FROM orders ORDER BY CASE status WHEN 'paid' THEN 0 WHEN 'new' THEN 1 ELSE 2 END, order_id LIMIT 40;
-- name: limit_only
SELECT count(*) FROM (SELECT 1 FROM orders LIMIT 17) x;
-- name: limit_zero
SELECT customer_id FROM customers ORDER BY customer_id LIMIT 0;
-- name: limit_null
SELECT customer_id FROM customers LIMIT NULL;
-- name: limit_all
SELECT customer_id FROM customers LIMIT ALL;
-- name: limit_offset
-- ordered
SELECT customer_id FROM customers ORDER BY customer_id LIMIT 5 OFFSET 10;
-- name: offset_only
-- ordered
SELECT customer_id FROM customers ORDER BY customer_id OFFSET 35;
-- name: offset_beyond
SELECT customer_id FROM customers ORDER BY customer_id OFFSET 1000;
-- name: limit_expression
-- ordered
SELECT customer_id FROM customers ORDER BY customer_id LIMIT 2 + 3;
-- name: limit_negative
-- error: 2201W
SELECT customer_id FROM customers LIMIT -1;
-- name: fetch_first
-- ordered
SELECT customer_id FROM customers ORDER BY customer_id FETCH FIRST 3 ROWS ONLY;
-- name: fetch_with_ties
-- ordered
SELECT count(*) FROM customers WHERE customer_id < 38 GROUP BY country ORDER BY count(*) DESC FETCH FIRST 1 ROWS WITH TIES;
-- name: fetch_with_ties_plain
SELECT status FROM orders ORDER BY status FETCH FIRST 2 ROWS WITH TIES;
-- name: fetch_offset_ties
SELECT level FROM readings ORDER BY level OFFSET 1 ROW FETCH NEXT 5 ROWS WITH TIES;
-- name: values_alone
VALUES (1, 'one'), (2, 'two'), (3, NULL);
-- name: values_ordered
-- ordered
VALUES (3), (1), (2) ORDER BY 1 DESC LIMIT 2;
-- name: values_in_where
SELECT customer_id FROM customers WHERE (customer_id, country) IN (VALUES (1::bigint, 'DK'::char(2)), (2, 'XX'));
-- name: generate_series_alone
-- ordered
SELECT g, g * g FROM generate_series(1, 10, 3) g ORDER BY g;
-- name: generate_series_dates
SELECT d::date, count(e.event_id) FROM generate_series('2025-01-01'::timestamp, '2025-06-01', '1 month') d LEFT JOIN events e ON date_trunc('month', e.happened) = d GROUP BY d;
-- name: select_list_srf
SELECT customer_id, unnest(tags) FROM customers WHERE customer_id IN (2, 3, 4);
-- name: rows_from
SELECT * FROM ROWS FROM (generate_series(1, 3), unnest(ARRAY['a', 'b'])) AS t (n, letter);
