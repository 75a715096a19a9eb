-- Window functions, over the key and over everything.

-- name: row_number_all
SELECT order_id, row_number() OVER (ORDER BY order_id) FROM orders;
-- name: row_number_per_key
SELECT customer_id, order_id, row_number() OVER (PARTITION BY customer_id ORDER BY order_id) FROM orders;
-- name: row_number_per_other
SELECT order_id, row_number() OVER (PARTITION BY status ORDER BY order_id) FROM orders;
-- name: rank_dense
SELECT emp_id, rank() OVER (ORDER BY dept), dense_rank() OVER (ORDER BY dept) FROM employees;
-- name: percent_cume
SELECT emp_id, percent_rank() OVER (ORDER BY emp_id), cume_dist() OVER (ORDER BY emp_id) FROM employees;
-- name: ntile
SELECT customer_id, ntile(7) OVER (ORDER BY customer_id) FROM customers;
-- name: lag_lead
SELECT event_id, lag(amount) OVER w, lead(amount, 2, -1) OVER w FROM events WINDOW w AS (ORDER BY event_id);
-- name: lag_per_key
SELECT customer_id, order_id, total - lag(total) OVER (PARTITION BY customer_id ORDER BY order_id) AS d FROM orders;
-- name: first_last_nth
SELECT order_id, first_value(order_id) OVER w, last_value(order_id) OVER w, nth_value(order_id, 2) OVER w FROM orders
WINDOW w AS (PARTITION BY status ORDER BY order_id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING);
-- name: running_sum
SELECT customer_id, order_id, sum(total) OVER (PARTITION BY customer_id ORDER BY order_id) FROM orders;
-- name: running_sum_all
SELECT order_id, sum(total) OVER (ORDER BY order_id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM orders;
-- name: range_frame
SELECT sensor, day, sum(value) OVER (PARTITION BY sensor ORDER BY day RANGE BETWEEN INTERVAL '2 days' PRECEDING AND CURRENT ROW) FROM readings;
-- name: groups_frame
SELECT emp_id, count(*) OVER (ORDER BY dept GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM employees;
-- name: frame_exclude
SELECT emp_id, sum(salary) OVER (ORDER BY emp_id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE CURRENT ROW) FROM employees;
-- name: over_empty
SELECT customer_id, count(*) OVER (), sum(credit) OVER () FROM customers;
-- name: share_of_total
SELECT status, sum(total), round(100 * sum(total) / sum(sum(total)) OVER (), 2) FROM orders GROUP BY status;
-- name: over_group_by
SELECT customer_id, count(*), rank() OVER (ORDER BY count(*) DESC, customer_id) FROM orders GROUP BY customer_id;
-- name: window_filter
SELECT order_id, count(*) FILTER (WHERE status = 'paid') OVER (ORDER BY order_id) FROM orders;
-- name: top_per_group
SELECT * FROM (SELECT product_id, order_id, line_no, row_number() OVER (PARTITION BY product_id ORDER BY quantity DESC, order_id, line_no) AS n FROM order_lines) x WHERE n <= 2;
-- name: top_per_key
SELECT * FROM (SELECT customer_id, order_id, row_number() OVER (PARTITION BY customer_id ORDER BY total DESC NULLS LAST, order_id) AS n FROM orders) x WHERE n = 1;
-- name: window_ordered_limit
-- ordered
SELECT order_id, sum(total) OVER (ORDER BY order_id) AS s FROM orders ORDER BY order_id LIMIT 10;
-- name: window_two
SELECT event_id, row_number() OVER (PARTITION BY kind ORDER BY event_id), row_number() OVER (ORDER BY event_id DESC) FROM events;
-- name: window_inherits
SELECT order_id, sum(total) OVER w2 FROM orders WINDOW w1 AS (PARTITION BY status), w2 AS (w1 ORDER BY order_id);
-- name: window_with_join
SELECT c.customer_id, o.order_id, avg(o.total) OVER (PARTITION BY c.country) FROM customers c JOIN orders o USING (customer_id);
-- name: window_in_order_by
-- ordered
SELECT customer_id FROM customers ORDER BY row_number() OVER (ORDER BY credit DESC, customer_id) LIMIT 8;
-- name: window_distinct
SELECT DISTINCT status, count(*) OVER (PARTITION BY status) FROM orders;
-- name: gaps_and_islands
SELECT min(event_id), max(event_id), count(*) FROM (SELECT event_id, event_id - row_number() OVER (ORDER BY event_id) AS island FROM events WHERE amount > 40) x GROUP BY island;
