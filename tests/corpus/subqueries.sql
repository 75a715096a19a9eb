-- Subqueries in every clause, common table expressions.

-- name: scalar_in_list
SELECT name, (SELECT count(*) FROM orders o WHERE o.customer_id = c.customer_id) AS n FROM customers c;
-- name: scalar_off_key
SELECT name, (SELECT max(e.amount) FROM events e WHERE e.customer_id = c.customer_id) AS m FROM customers c;
-- name: scalar_uncorrelated
SELECT customer_id FROM customers WHERE credit > (SELECT avg(credit) FROM customers);
-- name: scalar_empty_is_null
SELECT (SELECT name FROM customers WHERE customer_id = -1) IS NULL AS missing;
-- name: scalar_two_tables
SELECT (SELECT count(*) FROM customers) AS c, (SELECT count(*) FROM events) AS e, (SELECT count(*) FROM products) AS p;
-- name: scalar_many_rows
-- error: 21000
SELECT (SELECT customer_id FROM customers WHERE customer_id < 5);
-- name: scalar_in_where_key
SELECT name FROM customers WHERE customer_id = (SELECT max(customer_id) FROM orders);
-- name: scalar_in_where_single
SELECT name FROM customers WHERE customer_id = (SELECT min(customer_id) FROM notes);
-- name: scalar_in_limit
-- ordered
SELECT customer_id FROM customers ORDER BY customer_id LIMIT (SELECT count(*) FROM countries);
-- name: scalar_in_case
SELECT order_id, CASE WHEN total > (SELECT avg(total) FROM orders) THEN 'high' ELSE 'low' END FROM orders WHERE customer_id = 8;
-- name: in_subquery_reference
SELECT customer_id FROM customers WHERE country IN (SELECT code FROM countries WHERE name LIKE '%en%');
-- name: in_subquery_rows
SELECT customer_id, order_id FROM orders WHERE (customer_id, order_id) IN (SELECT customer_id, order_id FROM order_lines WHERE quantity > 7);
-- name: any_subquery
SELECT product_id FROM products WHERE price > ANY (SELECT price FROM order_lines WHERE price > 20);
-- name: all_subquery
SELECT product_id FROM products WHERE price >= ALL (SELECT price FROM products);
-- name: all_subquery_empty
SELECT count(*) FROM customers WHERE credit > ALL (SELECT id FROM nothing);
-- name: exists_uncorrelated
SELECT count(*) FROM customers WHERE EXISTS (SELECT 1 FROM nothing);
-- name: correlated_two_levels
SELECT c.customer_id FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.customer_id
  AND EXISTS (SELECT 1 FROM order_lines l WHERE l.customer_id = o.customer_id AND l.order_id = o.order_id AND l.price > c.credit));
-- name: correlated_skipping_a_level
SELECT c.customer_id FROM customers c WHERE 2 < (SELECT count(*) FROM orders o WHERE o.customer_id = c.customer_id AND o.total > (SELECT min(credit) FROM customers d WHERE d.country = c.country));
-- name: derived_table
SELECT x.country, max(x.n) FROM (SELECT country, active, count(*) AS n FROM customers GROUP BY country, active) x GROUP BY x.country;
-- name: derived_nested
SELECT avg(m) FROM (SELECT max(total) AS m FROM (SELECT customer_id, total FROM orders WHERE status <> 'void') o GROUP BY customer_id) t;
-- name: derived_limit_inside
SELECT count(*), sum(order_id) FROM (SELECT order_id FROM orders ORDER BY order_id LIMIT 10) x;
-- name: derived_limit_then_filter
SELECT * FROM (SELECT customer_id, name FROM customers ORDER BY customer_id LIMIT 10) x WHERE customer_id % 2 = 0;
-- name: derived_distinct_then_count
SELECT count(*) FROM (SELECT DISTINCT country FROM customers) x;
-- name: derived_no_alias_columns
SELECT count, country FROM (SELECT count(*), country FROM customers GROUP BY country) x;
-- name: subquery_in_from_key
SELECT * FROM (SELECT customer_id AS id, name FROM customers) x WHERE id = 7;
-- name: subquery_in_order_by
-- ordered
SELECT customer_id FROM customers c ORDER BY (SELECT count(*) FROM orders o WHERE o.customer_id = c.customer_id) DESC, customer_id LIMIT 12;
-- name: subquery_in_having
SELECT status, count(*) FROM orders GROUP BY status HAVING count(*) >= (SELECT count(*) / 4 FROM orders);
-- name: subquery_in_array
SELECT ARRAY(SELECT order_id FROM orders WHERE customer_id = 8 ORDER BY order_id) AS ids;
-- name: subquery_in_array_correlated
SELECT c.customer_id, ARRAY(SELECT order_id FROM orders o WHERE o.customer_id = c.customer_id ORDER BY order_id) FROM customers c WHERE c.customer_id < 6;
-- name: subquery_in_function_argument
SELECT upper((SELECT name FROM customers WHERE customer_id = 7));
-- name: subquery_row_value
SELECT (SELECT (customer_id, name) FROM customers WHERE customer_id = 7) IS NOT NULL;
-- name: subquery_in_join_condition
SELECT c.customer_id, o.order_id FROM customers c JOIN orders o ON o.customer_id = c.customer_id AND o.total = (SELECT max(total) FROM orders x WHERE x.customer_id = c.customer_id);
-- name: cte_simple
WITH big AS (SELECT * FROM orders WHERE total > 300) SELECT customer_id, count(*) FROM big GROUP BY customer_id;
-- name: cte_twice
WITH t AS (SELECT customer_id, sum(total) s FROM orders GROUP BY customer_id) SELECT a.customer_id FROM t a WHERE a.s > (SELECT avg(s) FROM t);
-- name: cte_chain
WITH a AS (SELECT customer_id, country FROM customers), b AS (SELECT a.country, o.total FROM a JOIN orders o USING (customer_id)) SELECT country, sum(total), count(*) FROM b GROUP BY country;
-- name: cte_materialized
WITH m AS MATERIALIZED (SELECT * FROM customers) SELECT name FROM m WHERE customer_id = 7;
-- name: cte_not_materialized
WITH m AS NOT MATERIALIZED (SELECT * FROM customers) SELECT name FROM m WHERE customer_id = 7;
-- name: cte_shadows_table
WITH customers AS (SELECT 1 AS customer_id, 'shadow' AS name) SELECT name FROM customers WHERE customer_id = 1;
-- name: cte_shadows_table_qualified
WITH customers AS (SELECT 1 AS customer_id) SELECT c.name FROM {schema}.customers c JOIN customers s USING (customer_id);
-- name: cte_column_names
WITH x (id, label) AS (SELECT customer_id, name FROM customers WHERE customer_id < 4) SELECT label, id FROM x;
-- name: cte_unused
WITH unused AS (SELECT 1 / 0 FROM customers) SELECT 1;
-- name: cte_values
WITH v (a, b) AS (VALUES (1, 'x'), (2, 'y')) SELECT v.b, c.name FROM v JOIN customers c ON c.customer_id = v.a;
-- name: cte_in_subquery
SELECT name FROM customers WHERE customer_id IN (WITH x AS (SELECT customer_id FROM orders WHERE status = 'void') SELECT customer_id FROM x);
-- name: cte_nested
WITH outer_part AS (WITH inner_part AS (SELECT country FROM customers WHERE active) SELECT country, count(*) n FROM inner_part GROUP BY country) SELECT * FROM outer_part WHERE n > 3;
-- name: cte_recursive_numbers
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20) SELECT count(*), sum(i) FROM n;
-- name: cte_recursive_tree_down
WITH RECURSIVE tree AS (
  SELECT emp_id, name, 0 AS depth, name::text AS path FROM employees WHERE manager_id IS NULL
  UNION ALL SELECT e.emp_id, e.name, t.depth + 1, t.path || ' / ' || e.name FROM employees e JOIN tree t ON e.manager_id = t.emp_id)
SELECT emp_id, depth, path FROM tree;
-- name: cte_recursive_tree_up
WITH RECURSIVE up AS (SELECT emp_id, manager_id FROM employees WHERE emp_id = 25 UNION SELECT e.emp_id, e.manager_id FROM employees e JOIN up ON e.emp_id = up.manager_id) SELECT * FROM up;
-- name: cte_recursive_search
-- ordered
WITH RECURSIVE t (emp_id, manager_id) AS (SELECT emp_id, manager_id FROM employees WHERE emp_id = 1 UNION ALL SELECT e.emp_id, e.manager_id FROM employees e JOIN t ON e.manager_id = t.emp_id)
SEARCH DEPTH FIRST BY emp_id SET seq SELECT emp_id FROM t ORDER BY seq;
-- name: cte_recursive_cycle
WITH RECURSIVE g (a, b) AS (VALUES (1, 2), (2, 3), (3, 1)), w (at) AS (SELECT 1 UNION ALL SELECT g.b FROM g JOIN w ON g.a = w.at) CYCLE at SET again USING trail SELECT at, again FROM w;
-- name: cte_recursive_aggregate
WITH RECURSIVE sub AS (SELECT emp_id AS boss, emp_id FROM employees UNION ALL SELECT s.boss, e.emp_id FROM sub s JOIN employees e ON e.manager_id = s.emp_id)
SELECT boss, count(*) - 1 AS reports, sum(salary) FROM sub JOIN employees USING (emp_id) GROUP BY boss;
-- name: cte_recursive_joined_reference
WITH RECURSIVE d (n) AS (SELECT 1 UNION ALL SELECT n * 2 FROM d WHERE n < 100) SELECT d.n, p.name FROM d LEFT JOIN products p ON p.product_id = d.n;
-- name: cte_writing_returning
-- rollback
WITH gone AS (DELETE FROM tickets WHERE ticket_id = -3 RETURNING *) SELECT subject FROM gone;
-- name: cte_writing_insert
-- rollback
WITH moved AS (INSERT INTO tickets (ticket_id, subject) VALUES (-900, 'moved') RETURNING ticket_id) SELECT ticket_id FROM moved;
-- name: cte_feeding_insert
-- rollback
WITH src AS (SELECT emp_id, name FROM employees WHERE emp_id < 4) INSERT INTO nothing SELECT emp_id, name FROM src;
SELECT * FROM nothing;
-- name: exists_in_select_list
SELECT customer_id, EXISTS (SELECT 1 FROM notes n WHERE n.customer_id = c.customer_id) AS noted FROM customers c;
-- name: in_select_list
SELECT customer_id, customer_id IN (SELECT customer_id FROM notes) AS noted FROM customers;
