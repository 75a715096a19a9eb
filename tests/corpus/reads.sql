-- Point, range and list reads of every key type; what routing sees, and what it must not be fooled by.

-- name: point_bigint
SELECT name, credit FROM customers WHERE customer_id = 7;
-- name: point_bigint_no_row
SELECT name FROM customers WHERE customer_id = 7000;
-- name: point_bigint_reversed
SELECT name FROM customers WHERE 9 = customer_id;
-- name: point_bigint_numeric_literal
SELECT name FROM customers WHERE customer_id = 7.0;
-- name: point_bigint_numeric_fraction
SELECT name FROM customers WHERE customer_id = 7.5;
-- name: point_bigint_string_literal
SELECT name FROM customers WHERE customer_id = '7';
-- name: point_bigint_string_with_spaces
SELECT name FROM customers WHERE customer_id = ' 8 ';
-- name: point_bigint_hex
SELECT name FROM customers WHERE customer_id = 0x0B;
-- name: point_bigint_underscore
SELECT name FROM customers WHERE customer_id = 1_1;
-- name: point_bigint_negative
SELECT count(*) FROM customers WHERE customer_id = -7;
-- name: point_bigint_arithmetic
SELECT name FROM customers WHERE customer_id = 3 * 4 + 1;
-- name: point_bigint_smallint_cast
SELECT name FROM customers WHERE customer_id = 12::smallint;
-- name: point_bigint_int8_literal
SELECT name FROM customers WHERE customer_id = 5000000000;
-- name: point_cast_of_the_key
SELECT name FROM customers WHERE customer_id::text = '7';
-- name: point_null
SELECT name FROM customers WHERE customer_id = NULL;
-- name: point_is_null
SELECT name FROM customers WHERE customer_id IS NULL;
-- name: point_contradiction
SELECT name FROM customers WHERE customer_id = 7 AND customer_id = 8;
-- name: point_twice_the_same
SELECT name FROM customers WHERE customer_id = 7 AND customer_id = 7;
-- name: point_or
SELECT customer_id, name FROM customers WHERE customer_id = 7 OR customer_id = 8;
-- name: point_or_other_column
SELECT customer_id, name FROM customers WHERE customer_id = 7 OR country = 'DK';
-- name: point_not
SELECT count(*) FROM customers WHERE NOT customer_id = 7;
-- name: point_not_distinct
SELECT name FROM customers WHERE customer_id IS NOT DISTINCT FROM 7;
-- name: point_alias
SELECT c.name FROM customers AS c WHERE c.customer_id = 7;
-- name: point_qualified_columns
SELECT customers.name, customers.* FROM customers WHERE customers.customer_id = 7;
-- name: point_schema_qualified
SELECT {schema}.customers.name FROM {schema}.customers WHERE customer_id = 7;
-- name: point_column_aliases
SELECT b FROM customers AS c (a, b) WHERE a = 7;
-- name: point_whole_row
SELECT c FROM (SELECT customer_id, name FROM customers WHERE customer_id = 7) c;
-- name: point_quoted_names
SELECT "name" AS "The Name" FROM "customers" WHERE "customer_id" = 7;
-- name: point_with_comments
SELECT /* inner ' comment */ name -- customer_id = 3
FROM customers WHERE customer_id /* nested /* twice */ */ = 7;
-- name: point_key_only_in_string
SELECT 'customer_id = 3' AS s, name FROM customers WHERE customer_id = 7;
-- name: point_case_and_space
SeLeCt   name
FROM	customers   wHeRe customer_id=7;
-- name: in_list
SELECT customer_id, name FROM customers WHERE customer_id IN (1, 2, 3, 40, 41);
-- name: in_list_with_null
SELECT customer_id FROM customers WHERE customer_id IN (1, NULL, 3);
-- name: not_in_list
SELECT count(*) FROM customers WHERE customer_id NOT IN (1, 2, 3);
-- name: not_in_list_with_null
SELECT count(*) FROM customers WHERE customer_id NOT IN (1, NULL, 3);
-- name: any_array
SELECT customer_id FROM customers WHERE customer_id = ANY (ARRAY[4, 5, 6]);
-- name: any_array_text_form
SELECT customer_id FROM customers WHERE customer_id = ANY ('{4,5,6}');
-- name: in_mixed_types
SELECT customer_id FROM customers WHERE customer_id IN (4, 5.0, 6.5);
-- name: range_on_hash_key
SELECT customer_id FROM customers WHERE customer_id BETWEEN 10 AND 15;
-- name: range_on_hash_key_ordered
-- ordered
SELECT customer_id, name FROM customers WHERE customer_id > 35 ORDER BY customer_id;
-- name: full_scan
SELECT * FROM customers;
-- name: full_scan_orders
SELECT * FROM orders;
-- name: table_command
TABLE countries;
-- name: table_command_sharded
-- ordered
TABLE customers ORDER BY customer_id LIMIT 3;
-- name: filter_other_column
SELECT customer_id FROM customers WHERE country = 'SE' AND credit > 100;
-- name: point_text_key
SELECT owner, balance FROM accounts WHERE code = 'acc-007';
-- name: point_text_key_umlaut
SELECT owner, balance FROM accounts WHERE code = 'Konto Ü5';
-- name: point_text_key_e_string
SELECT balance FROM accounts WHERE code = E'Konto \u00DC10';
-- name: point_text_key_u_string
SELECT balance FROM accounts WHERE code = U&'Konto \00DC10';
-- name: point_text_key_dollar_quote
SELECT balance FROM accounts WHERE code = $tag$acc-008$tag$;
-- name: point_text_key_concatenated
SELECT balance FROM accounts WHERE code = 'acc-' || '009';
-- name: point_text_key_function
SELECT balance FROM accounts WHERE code = lower('ACC-011');
-- name: point_text_key_string_continued
SELECT balance FROM accounts WHERE code = 'acc-'
  '012';
-- name: point_text_key_varchar_cast
SELECT balance FROM accounts WHERE code = 'acc-013'::varchar(20);
-- name: point_text_key_case_sensitive
SELECT balance FROM accounts WHERE code = 'ACC-013';
-- name: like_text_key
SELECT code FROM accounts WHERE code LIKE 'acc-01%';
-- name: ilike_text_key
SELECT code FROM accounts WHERE code ILIKE 'KONTO%';
-- name: regex_text_key
SELECT code FROM accounts WHERE code ~ '^acc-0[12]\d$';
-- name: point_uuid_key
SELECT label FROM devices WHERE device_id = '01234567-890a-bcde-f123-4567890abcde';
-- name: point_uuid_key_other_form
SELECT label FROM devices WHERE device_id = '{01234567890ABCDEF1234567890ABCDE}'::uuid;
-- name: in_uuid_keys
SELECT label FROM devices WHERE device_id IN ('02468ace-1215-79bd-e246-8acf121579bc', '01234567-890a-bcde-f123-4567890abcde');
-- name: multi_column_key_both
SELECT value, level FROM readings WHERE sensor = 3 AND day = '2026-01-04';
-- name: multi_column_key_date_literal
SELECT value FROM readings WHERE day = DATE '2026-01-05' AND sensor = 4;
-- name: multi_column_key_row_comparison
SELECT value FROM readings WHERE (sensor, day) = (3, '2026-01-04');
-- name: multi_column_key_row_in
SELECT sensor, day FROM readings WHERE (sensor, day) IN ((3, '2026-01-04'), (4, '2026-01-05'), (99, '2026-01-05'));
-- name: multi_column_key_one_only
SELECT day, value FROM readings WHERE sensor = 3;
-- name: multi_column_key_other_date_style
SELECT value FROM readings WHERE sensor = 3 AND day = '4 January 2026';
-- name: multi_column_key_timestamp
SELECT value FROM readings WHERE sensor = 3 AND day = TIMESTAMP '2026-01-04 00:00';
-- name: range_partition_point
SELECT event_id, kind FROM events WHERE happened = '2025-03-10';
-- name: range_partition_between
SELECT event_id FROM events WHERE happened BETWEEN '2025-02-01' AND '2025-04-30';
-- name: range_partition_across
SELECT count(*), min(happened), max(happened) FROM events WHERE happened >= '2024-12-01' AND happened < '2025-02-01';
-- name: range_partition_boundary
SELECT event_id, happened FROM events WHERE happened >= '2025-12-25' AND happened <= '2026-01-10';
-- name: range_partition_outside
SELECT count(*) FROM events WHERE happened > '2030-01-01';
-- name: range_partition_by_name
SELECT count(*) FROM events_2025;
-- name: range_partition_function
SELECT count(*) FROM events WHERE extract(year FROM happened) = 2025;
-- name: range_partition_interval
SELECT count(*) FROM events WHERE happened > DATE '2025-01-01' - INTERVAL '1 month';
-- name: list_partition_point
SELECT store_id, name FROM stores WHERE region = 'south';
-- name: list_partition_in
SELECT store_id FROM stores WHERE region IN ('north', 'west');
-- name: list_partition_null
SELECT store_id FROM stores WHERE region IS NULL;
-- name: list_partition_unknown
SELECT store_id FROM stores WHERE region = 'centre';
-- name: list_partition_not_equal
SELECT store_id FROM stores WHERE region <> 'north';
-- name: reference_point
SELECT name, price FROM products WHERE product_id = 4;
-- name: reference_scan
SELECT product_id, name, category FROM products WHERE category IS NULL;
-- name: single_point
SELECT value FROM settings WHERE name = 'theme';
-- name: single_scan
SELECT * FROM settings;
-- name: single_other_group
SELECT * FROM notes WHERE note_id < 5;
-- name: empty_table
SELECT * FROM nothing;
-- name: empty_table_aggregate
SELECT count(*), sum(id), max(v) FROM nothing;
-- name: empty_table_group
SELECT v, count(*) FROM nothing GROUP BY v;
-- name: no_table
SELECT 1 AS one, 'x' AS x, NULL AS n, 1.50 AS d;
-- name: no_columns
SELECT FROM customers WHERE customer_id < 4;
-- name: constant_false
SELECT * FROM customers WHERE false;
-- name: constant_per_row
SELECT 1 FROM customers WHERE customer_id < 4;
-- name: duplicate_column_names
SELECT customer_id, customer_id, name AS customer_id FROM customers WHERE customer_id < 3;
-- name: unnamed_columns
SELECT 1, 'a', count(*), customer_id + 1, upper(name), name || 'x', (SELECT 2), ARRAY[1], CASE WHEN true THEN 1 END
FROM customers WHERE customer_id = 1 GROUP BY customer_id, name;
-- name: star_and_more
SELECT *, credit * 2 AS twice FROM customers WHERE customer_id = 3;
-- name: inherited_star
SELECT count(*) FROM customers *;
-- name: tablesample_all
SELECT count(*) FROM customers TABLESAMPLE SYSTEM (100);
-- name: for_update
-- rollback
SELECT name FROM customers WHERE customer_id = 7 FOR UPDATE;
-- name: for_share_many
-- rollback
SELECT customer_id FROM customers WHERE customer_id IN (1, 2, 3) FOR SHARE;
-- name: for_update_skip_locked_all
-- rollback
SELECT count(*) FROM (SELECT 1 FROM customers FOR UPDATE SKIP LOCKED) x;
-- name: hash_key_in_having
SELECT customer_id, count(*) FROM orders GROUP BY customer_id HAVING customer_id = 8;
-- name: long_in_list
SELECT count(*) FROM orders WHERE order_id IN (1001,1002,1003,1004,1005,1006,1007,1008,1009,1010,1011,1012,1013,1014,1015,1016,1017,1018,1019,1020);
-- name: deep_parentheses
SELECT name FROM customers WHERE ((((customer_id)) = ((7))));
-- name: boolean_column
SELECT customer_id FROM customers WHERE active AND NOT (credit < 0);
-- name: boolean_is_not_true
SELECT customer_id FROM customers WHERE (rating > 1) IS NOT TRUE;
