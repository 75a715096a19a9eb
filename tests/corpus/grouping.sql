-- Aggregates, GROUP BY, grouping sets, DISTINCT.

-- name: count_star
SELECT count(*) FROM orders;
-- name: count_column
SELECT count(total), count(note), count(*) FROM orders;
-- name: sum_types
SELECT sum(customer_id), sum(credit), sum(rating) FROM customers;
-- name: sum_smallint_int
SELECT sum(level), sum(sensor), sum(value), sum(level::int) FROM readings;
-- name: avg_types
SELECT avg(level), avg(sensor), avg(value), avg(sensor::bigint) FROM readings;
-- name: avg_double
SELECT avg(rating) FROM customers WHERE rating IN (0.25, 0.5, 1);
-- name: avg_interval
SELECT avg(placed - TIMESTAMP '2025-01-01'), sum(placed - TIMESTAMP '2025-01-01') FROM orders WHERE order_id % 3 = 0;
-- name: min_max_types
SELECT min(name), max(name), min(created), max(created), min(credit), max(rating), min(feeling), max(feeling) FROM customers;
-- name: min_max_other
SELECT min(ip), max(ip), max(opened) FROM devices, accounts WHERE code = 'acc-001';
-- name: min_max_text_collation
SELECT min(code), max(code) FROM accounts;
-- name: aggregates_empty
SELECT count(*), sum(total), avg(total), min(note), bool_and(total > 0), array_agg(order_id) FROM orders WHERE customer_id = 999;
-- name: aggregates_all_null
SELECT count(note), max(note), string_agg(note, ',') FROM orders WHERE note IS NULL;
-- name: group_by_key
SELECT customer_id, count(*), sum(total) FROM orders GROUP BY customer_id;
-- name: group_by_other
SELECT status, count(*), sum(total), avg(total), min(total), max(total) FROM orders GROUP BY status;
-- name: group_by_two
SELECT country, active, count(*), avg(credit) FROM customers GROUP BY country, active;
-- name: group_by_null_group
SELECT region, count(*), sum(revenue) FROM stores GROUP BY region;
-- name: group_by_expression
SELECT date_trunc('month', placed) AS month, count(*) FROM orders GROUP BY 1;
-- name: group_by_ordinal_alias
SELECT left(name, 1) AS letter, count(*) FROM customers GROUP BY letter;
-- name: group_by_expression_of_aggregate
SELECT status, sum(total) / count(*) AS mean, round(avg(total), 1) FROM orders GROUP BY status;
-- name: group_by_functional_dependency
SELECT c.customer_id, c.name, c.credit, count(o.order_id) FROM customers c LEFT JOIN orders o USING (customer_id) GROUP BY c.customer_id;
-- name: group_by_having
SELECT customer_id, count(*) FROM orders GROUP BY customer_id HAVING count(*) > 3 AND sum(total) > 500;
-- name: group_by_having_without_group
SELECT max(total) FROM orders HAVING count(*) > 100;
-- name: group_by_having_false
SELECT max(total) FROM orders HAVING count(*) > 100000;
-- name: group_by_ordered
-- ordered
SELECT status, count(*) AS n FROM orders GROUP BY status ORDER BY n DESC, status;
-- name: group_by_ordered_limit
-- ordered
SELECT customer_id, sum(total) AS s FROM orders GROUP BY customer_id ORDER BY s DESC NULLS LAST, customer_id LIMIT 5;
-- name: group_by_ordered_offset
-- ordered
SELECT product_id, sum(quantity) AS q FROM order_lines GROUP BY product_id ORDER BY q DESC, product_id OFFSET 3 LIMIT 4;
-- name: group_by_order_by_other_aggregate
-- ordered
SELECT status FROM orders GROUP BY status ORDER BY sum(total) DESC;
-- name: group_by_empty_set
SELECT count(*) FROM orders GROUP BY ();
-- name: group_by_distinct_keyword
SELECT country, count(*) FROM customers GROUP BY DISTINCT country;
-- name: group_by_boolean
SELECT total > 200 AS high, count(*) FROM orders GROUP BY total > 200;
-- name: group_by_json
SELECT profile->>'ok' AS ok, count(*) FROM customers GROUP BY profile->>'ok';
-- name: group_by_array
SELECT tags, count(*) FROM customers GROUP BY tags;
-- name: group_by_enum
-- ordered
SELECT feeling, count(*) FROM customers GROUP BY feeling ORDER BY feeling;
-- name: count_distinct
SELECT count(DISTINCT customer_id), count(DISTINCT status), count(DISTINCT total) FROM orders;
-- name: count_distinct_group
SELECT status, count(DISTINCT customer_id) FROM orders GROUP BY status;
-- name: sum_distinct
SELECT sum(DISTINCT level), avg(DISTINCT level) FROM readings;
-- name: filter_clause
SELECT count(*) FILTER (WHERE status = 'paid') AS paid, sum(total) FILTER (WHERE status <> 'void') AS s FROM orders;
-- name: filter_clause_group
SELECT customer_id % 3 AS k, count(*) FILTER (WHERE total > 100), avg(total) FILTER (WHERE total > 100) FROM orders GROUP BY 1;
-- name: bool_aggregates
SELECT bool_and(active), bool_or(active), every(credit > -100) FROM customers;
-- name: bit_aggregates
SELECT bit_and(quantity), bit_or(quantity), bit_xor(quantity) FROM order_lines;
-- name: string_agg_ordered
SELECT string_agg(name, ', ' ORDER BY name DESC, customer_id) FROM customers WHERE customer_id < 12;
-- name: string_agg_group
SELECT country, string_agg(customer_id::text, '-' ORDER BY customer_id) FROM customers GROUP BY country;
-- name: string_agg_distinct
SELECT string_agg(DISTINCT status, '|' ORDER BY status) FROM orders;
-- name: array_agg_ordered
SELECT status, array_agg(order_id ORDER BY order_id DESC) FROM orders GROUP BY status;
-- name: array_agg_arrays
SELECT array_agg(ARRAY[sensor, level::int] ORDER BY sensor, day) FROM readings WHERE day = '2026-01-03';
-- name: json_agg_ordered
SELECT json_agg(json_build_object('id', order_id, 't', total) ORDER BY order_id) FROM orders WHERE customer_id = 8;
-- name: jsonb_agg_group
SELECT status, jsonb_agg(order_id ORDER BY order_id) FROM orders WHERE order_id < 1020 GROUP BY status;
-- name: jsonb_object_agg
SELECT jsonb_object_agg(code, name) FROM countries;
-- name: json_object_agg_ordered
SELECT json_object_agg(name, value ORDER BY name) FROM settings WHERE name IS NOT NULL;
-- name: range_agg
SELECT room, range_agg(span) FROM bookings GROUP BY room;
-- name: range_intersect_agg
SELECT range_intersect_agg(span) FROM bookings WHERE number IN (1, 9, 17);
-- name: statistics_numeric
SELECT stddev(total), variance(total), stddev_pop(total), var_samp(total) FROM orders;
-- name: statistics_integer
SELECT stddev(quantity), var_pop(quantity) FROM order_lines;
-- name: regression
SELECT regr_count(y, x), regr_avgx(y, x) FROM (SELECT quantity::float8 AS y, line_no::float8 AS x FROM order_lines WHERE line_no IN (1, 3)) t;
-- name: percentile_disc
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY total) FROM orders;
-- name: percentile_cont
SELECT percentile_cont(0.25) WITHIN GROUP (ORDER BY quantity), percentile_cont(ARRAY[0.1, 0.9]) WITHIN GROUP (ORDER BY quantity) FROM order_lines;
-- name: percentile_group
SELECT status, percentile_disc(0.9) WITHIN GROUP (ORDER BY total DESC) FROM orders GROUP BY status;
-- name: mode_aggregate
SELECT mode() WITHIN GROUP (ORDER BY status) FROM orders WHERE customer_id IN (8, 15) OR status = 'sent';
-- name: hypothetical_rank
SELECT rank(100) WITHIN GROUP (ORDER BY total), dense_rank(100) WITHIN GROUP (ORDER BY total) FROM orders;
-- name: any_value
SELECT status, any_value(status) FROM orders GROUP BY status;
-- name: xor_and_count_mixture
SELECT count(*), sum(quantity), min(price), max(price), avg(price), sum(quantity * price) FROM order_lines;
-- name: aggregate_of_expression
SELECT sum(CASE WHEN status = 'paid' THEN total ELSE 0 END), sum(total * 1.19), max(length(note)) FROM orders;
-- name: aggregate_same_twice
SELECT sum(total), sum(total) + 1, avg(total), avg(total) * 2 FROM orders;
-- name: aggregate_key_equality
SELECT count(*), sum(total) FROM orders WHERE customer_id = 8;
-- name: rollup
SELECT country, active, count(*), sum(credit) FROM customers GROUP BY ROLLUP (country, active);
-- name: cube
SELECT status, customer_id % 2 AS odd, count(*) FROM orders GROUP BY CUBE (status, customer_id % 2);
-- name: grouping_sets
SELECT country, active, grouping(country, active) AS g, count(*) FROM customers GROUP BY GROUPING SETS ((country), (active), ());
-- name: grouping_sets_mixed
SELECT region, store_id % 2 AS odd, sum(revenue) FROM stores GROUP BY region, ROLLUP (store_id % 2);
-- name: grouping_having
SELECT country, grouping(country) AS g, count(*) FROM customers GROUP BY ROLLUP (country) HAVING count(*) > 5;
-- name: distinct
SELECT DISTINCT country FROM customers;
-- name: distinct_two
SELECT DISTINCT status, total > 100 FROM orders;
-- name: distinct_ordered
-- ordered
SELECT DISTINCT status FROM orders ORDER BY status DESC;
-- name: distinct_ordered_limit
-- ordered
SELECT DISTINCT product_id FROM order_lines ORDER BY product_id LIMIT 6 OFFSET 2;
-- name: distinct_key
SELECT DISTINCT customer_id FROM orders;
-- name: distinct_expression
SELECT DISTINCT upper(left(name, 1)), length(name) FROM customers;
-- name: distinct_nulls
SELECT DISTINCT category FROM products;
-- name: distinct_on
-- ordered
SELECT DISTINCT ON (status) status, order_id, total FROM orders ORDER BY status, total DESC NULLS LAST, order_id;
-- name: distinct_on_key
-- ordered
SELECT DISTINCT ON (customer_id) customer_id, order_id FROM orders ORDER BY customer_id, order_id DESC;
-- name: distinct_on_limit
-- ordered
SELECT DISTINCT ON (country) country, name, customer_id FROM customers ORDER BY country NULLS FIRST, customer_id LIMIT 4;
-- name: distinct_aggregate
SELECT DISTINCT count(*) FROM orders GROUP BY customer_id;
-- name: aggregate_over_reference
SELECT category, count(*), avg(price), max(name) FROM products GROUP BY category;
-- name: aggregate_over_single
SELECT count(*), max(since) FROM settings;
-- name: aggregate_range_partition
SELECT date_trunc('year', happened)::date AS year, kind, count(*), sum(amount) FROM events GROUP BY 1, 2;
-- name: aggregate_large_bigint
SELECT sum(balance), sum(balance * 1000000000), avg(balance) FROM accounts;
-- name: aggregate_numeric_scale
SELECT sum(value), avg(value), sum(value) / 3, min(value), max(value) FROM readings;
-- name: aggregate_null_key_group
SELECT level, count(*), count(level) FROM readings GROUP BY level;
-- name: aggregate_nested_expression
SELECT coalesce(sum(total), 0)::int + count(*)::int AS x FROM orders WHERE status = 'nope';
-- name: user_aggregate_input
SELECT sum(net_price(total)), max(initials(note)) FROM orders WHERE customer_id < 10;
-- name: average_of_not_null_column
SELECT order_id % 4, avg(quantity), count(quantity), count(*), avg(price) FILTER (WHERE quantity > 2) FROM order_lines GROUP BY 1;
-- name: average_of_not_null_column_extended_by_nulls
SELECT o.status, count(*), avg(l.quantity), avg(l.price) FROM orders o LEFT JOIN order_lines l ON l.customer_id = o.customer_id AND l.order_id = o.order_id AND l.quantity > 3 GROUP BY 1;
-- name: average_of_not_null_column_joined
SELECT o.status, count(*), avg(l.quantity), avg(o.total) FROM orders o JOIN order_lines l USING (customer_id, order_id) GROUP BY 1;
-- name: average_of_nullable_column_that_has_a_not_null_ones_name
SELECT count(*), avg(quantity) FROM orders AS x(customer_id, order_id, status, placed, quantity, note);
