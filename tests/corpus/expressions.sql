-- Types, operators and functions over sharded rows.

-- name: case_searched
SELECT order_id, CASE WHEN total IS NULL THEN 'none' WHEN total > 200 THEN 'high' ELSE 'low' END FROM orders;
-- name: case_simple
SELECT customer_id, CASE country WHEN 'DE' THEN 1 WHEN 'SE' THEN 2 END FROM customers;
-- name: case_protects
SELECT customer_id, CASE WHEN customer_id % 2 = 0 THEN 0 ELSE 10 / (customer_id % 2) END FROM customers;
-- name: coalesce_nullif
SELECT coalesce(note, status), nullif(status, 'new'), greatest(total, 100), least(total, NULL, 5) FROM orders;
-- name: null_logic
SELECT customer_id, rating > 1 AND active, rating > 1 OR active, NOT (rating > 1), rating IS DISTINCT FROM 1 FROM customers;
-- name: null_arithmetic
SELECT order_id, total + 1, total || note, total = NULL FROM orders WHERE total IS NULL OR note IS NULL;
-- name: numeric_arithmetic
SELECT total / 3, total % 7, -total, total ^ 2, round(total), trunc(total, 1), ceil(total), floor(total), sign(total - 100), mod(order_id, 7) FROM orders;
-- name: integer_arithmetic
SELECT quantity / 2, quantity % 4, quantity & 3, quantity | 8, quantity # 5, ~quantity, quantity << 2, gcd(quantity, 6), factorial(quantity) FROM order_lines WHERE quantity < 10;
-- name: double_functions
SELECT sqrt(rating), power(rating, 2), rating::numeric, floor(rating), (rating * 4)::int FROM customers WHERE rating IS NOT NULL;
-- name: special_doubles
SELECT 'NaN'::float8, 'Infinity'::float8, '-Infinity'::numeric, 'NaN'::numeric > 1e300, 0.1::float4, 0.1::float8 + 0.2;
-- name: text_functions
SELECT upper(name), lower(name), length(name), octet_length(name), left(name, 3), right(name, 2), reverse(name), initcap(lower(name)), position('a' in name), substr(name, 2, 3) FROM customers;
-- name: text_functions_more
SELECT lpad(status, 6, '*'), rpad(status, 6), trim(both 'n' from status), replace(status, 'e', 'E'), repeat(status, 2), split_part(note, ' ', 2), translate(status, 'new', 'NEW'), md5(status) FROM orders WHERE order_id < 1020;
-- name: text_regex
SELECT regexp_replace(name, '[aeiou]', '_', 'g'), regexp_match(name, '(\w+) (\w+)'), substring(name from '^.'), name ~* '^a', regexp_count(name, 'a') FROM customers;
-- name: text_regex_split
SELECT customer_id, regexp_split_to_table(name, '\s') FROM customers WHERE customer_id < 5;
-- name: text_format
SELECT format('%s-%I-%L-%5s', order_id, status, note, total) FROM orders WHERE order_id < 1010;
-- name: text_like_escape
SELECT order_id FROM orders WHERE note LIKE '%\\ slash' OR note LIKE '%!''quotes%' ESCAPE '!';
-- name: text_quotes
SELECT name FROM customers WHERE name LIKE '%O''Neil%';
-- name: text_concat
SELECT concat(name, NULL, country), concat_ws('-', name, NULL, country), name || '/' || coalesce(country, '?') FROM customers;
-- name: text_ascii_escape
SELECT E'tab\there', E'\x41', 'back\slash', U&'\0041', chr(228), ascii('ä'), 'ß' || 'é' AS u;
-- name: char_padding
SELECT country, length(country), country || 'x', country = 'DE ' FROM customers WHERE customer_id < 6;
-- name: casts
SELECT total::int, total::text, order_id::numeric(10, 1), placed::date, placed::time, customer_id::float8, status::varchar(2), (total > 100)::int FROM orders;
-- name: casts_functional
SELECT CAST(credit AS integer), CAST('7' AS bigint), int4(credit), text(active), date('2026-02-03') FROM customers WHERE customer_id < 5;
-- name: array_operators
SELECT customer_id, tags[1], tags[1:2], cardinality(tags), array_length(tags, 1), tags || 'z'::text, 'vip' = ANY (tags), tags @> ARRAY['vip'], tags && ARRAY['late', 'x y'] FROM customers;
-- name: array_functions
SELECT array_position(tags, 'vip'), array_remove(tags, 'new'), array_append(tags, 'q'), array_to_string(tags, ',', '?'), array_dims(tags), tags = ARRAY['new'] FROM customers;
-- name: array_filter
SELECT customer_id FROM customers WHERE tags @> '{vip,late}';
-- name: array_literals
SELECT ARRAY[1, 2, NULL], '{1,2}'::int[], ARRAY[[1, 2], [3, 4]], '{}'::text[], ARRAY['a b', 'c,d', '"q"'], (ARRAY[1, 2, 3])[2:];
-- name: array_unnest_count
SELECT tag, count(*) FROM customers, unnest(tags) tag GROUP BY tag;
-- name: array_all
SELECT customer_id FROM customers WHERE 'new' = ALL (tags);
-- name: jsonb_operators
SELECT profile->'age', profile->>'age', profile->'langs'->>0, profile #> '{langs,1}', profile #>> '{langs,1}', profile ? 'age', profile ?| ARRAY['x', 'ok'], profile @> '{"ok": true}' FROM customers;
-- name: jsonb_filter
SELECT customer_id FROM customers WHERE (profile->>'age')::int BETWEEN 30 AND 35;
-- name: jsonb_contains_filter
SELECT customer_id FROM customers WHERE profile @> '{"langs": ["de"]}';
-- name: jsonb_modify
SELECT profile || '{"new": 1}', profile - 'langs', profile #- '{langs,0}', jsonb_set(profile, '{age}', '1'), jsonb_strip_nulls(profile), jsonb_pretty(profile) FROM customers WHERE customer_id < 8;
-- name: jsonb_functions
SELECT jsonb_typeof(profile->'langs'), jsonb_array_length(profile->'langs'), to_jsonb(name), jsonb_build_array(customer_id, name, NULL), jsonb_object_keys(profile) FROM customers WHERE customer_id = 3;
-- name: jsonb_path
SELECT event_id, jsonb_path_query_first(payload, '$.path[0]'), payload @? '$.n ? (@ > 100)', jsonb_path_exists(payload, '$.path[*] ? (@ == 2)') FROM events;
-- name: jsonb_each
SELECT event_id, key, value FROM events, jsonb_each_text(payload) WHERE event_id < 6;
-- name: jsonb_elements
SELECT event_id, e FROM events, jsonb_array_elements(payload->'path') e WHERE event_id BETWEEN 3 AND 9;
-- name: jsonb_recordset
SELECT * FROM jsonb_to_recordset('[{"a": 1, "b": "x"}, {"a": 2}]') AS t (a int, b text);
-- name: jsonb_populate
SELECT event_id, (jsonb_populate_record(NULL::address, '{"city": "Riga"}')).city FROM events WHERE event_id = 3;
-- name: jsonb_subscript
SELECT attrs['origin']['port'], attrs['colours'][0] FROM products;
-- name: json_text_kept
SELECT '{"b": 1,  "a": 2, "a": 3}'::json, '{"b": 1,  "a": 2, "a": 3}'::jsonb, row_to_json(c) FROM countries c WHERE code = 'DE';
-- name: row_to_json_sharded
SELECT row_to_json(x) FROM (SELECT customer_id, name, tags, created FROM customers WHERE customer_id < 4) x;
-- name: json_constructor
SELECT JSON_OBJECT('a': 1, 'b': name), JSON_ARRAY(1, name), name IS JSON FROM customers WHERE customer_id = 2;
-- name: range_operators
SELECT number, lower(span), upper(span), span @> 10, span && int4range(5, 12), isempty(span), span * int4range(0, 20), lower_inc(span), upper_inf(period) FROM bookings;
-- name: range_filter
SELECT room, number FROM bookings WHERE period && tsrange('2026-02-05', '2026-02-08');
-- name: range_adjacent
SELECT count(*) FROM bookings WHERE span -|- int4range(0, 5) OR span << int4range(10, 20);
-- name: multirange
SELECT int4multirange(span, int4range(50, 60)), span::int4multirange FROM bookings WHERE room = 2;
-- name: date_arithmetic
SELECT created + 10, created - DATE '2024-01-01', created + INTERVAL '1 month 2 days', age(created, DATE '2023-06-15'), created + TIME '04:05' FROM customers;
-- name: date_extract
SELECT extract(year FROM placed), extract(dow FROM placed), extract(epoch FROM placed), date_part('hour', placed), extract(isoyear FROM placed) FROM orders;
-- name: date_trunc_bin
SELECT date_trunc('week', placed), date_trunc('quarter', placed), date_bin('15 minutes', placed, '2025-01-01') FROM orders;
-- name: date_format
SELECT to_char(placed, 'YYYY-MM-DD HH24:MI:SS Day Mon'), to_char(total, '9999.99'), to_char(order_id, 'FM00000') FROM orders;
-- name: date_parse
SELECT to_date('05 Dec 2025', 'DD Mon YYYY'), to_timestamp('2025-12-05 10', 'YYYY-MM-DD HH24'), make_date(2026, 2, 28), '2026-02-30'::text;
-- name: date_overlaps
SELECT event_id FROM events WHERE (happened, INTERVAL '3 days') OVERLAPS (DATE '2025-03-01', DATE '2025-03-20');
-- name: timestamptz_zone
SELECT code, opened AT TIME ZONE 'UTC', opened AT TIME ZONE 'America/New_York', opened::date FROM accounts;
-- name: interval_values
SELECT INTERVAL '1 year 2 months 3 days 04:05:06', justify_days(INTERVAL '40 days'), INTERVAL '1 day' * 2.5, INTERVAL '90 minutes' > INTERVAL '1 hour', extract(day FROM INTERVAL '3 days');
-- name: date_infinity
SELECT 'infinity'::date, '-infinity'::timestamp, isfinite(DATE 'infinity'), count(*) FROM customers WHERE created < 'infinity';
-- name: text_search_match
SELECT doc_id FROM documents WHERE words @@ to_tsquery('english', 'ship & storm');
-- name: text_search_rank
-- ordered
SELECT doc_id, round(ts_rank(words, q)::numeric, 4) FROM documents, plainto_tsquery('english', 'merchant') q WHERE words @@ q ORDER BY ts_rank(words, q) DESC, doc_id;
-- name: text_search_headline
SELECT doc_id, ts_headline('english', body, websearch_to_tsquery('english', 'cargo -storm')) FROM documents WHERE words @@ websearch_to_tsquery('english', 'cargo -storm');
-- name: text_search_values
SELECT words, length(words), strip(words) FROM documents WHERE doc_id IN (3, 4, 20);
-- name: text_search_phrase
SELECT count(*) FROM documents WHERE words @@ phraseto_tsquery('english', 'other ships');
-- name: bytea_functions
SELECT label, encode(payload, 'hex'), encode(payload, 'base64'), length(payload), get_byte(payload, 0), payload || '\xff' FROM devices;
-- name: network_functions
SELECT host(ip), masklen(ip), network(ip), ip << '10.1.0.0/16', mac, broadcast(ip) FROM devices;
-- name: uuid_text
SELECT device_id::text, left(device_id::text, 8) FROM devices;
-- name: enum_functions
-- modes: simple extended
SELECT customer_id, feeling, feeling > 'sad', feeling::text, enum_range(NULL::mood) FROM customers WHERE feeling >= 'ok';
-- name: enum_filter
SELECT customer_id FROM customers WHERE feeling = 'happy';
-- name: enum_in
SELECT count(*) FROM customers WHERE feeling IN ('sad', 'ok');
-- name: composite_field
SELECT emp_id, (home).city, (home).street FROM employees WHERE home IS NOT NULL;
-- name: composite_value
SELECT emp_id, home FROM employees WHERE (home).city = 'Bergen';
-- name: composite_constructor
SELECT ROW(emp_id, name), ROW('a', 'b')::address, (ROW('x', 'y')::address).street FROM employees WHERE emp_id < 3;
-- name: domain_value
-- modes: simple extended
SELECT priority, pg_typeof(priority), priority + 1 FROM tickets WHERE ticket_id = -2;
-- name: row_comparison
SELECT order_id FROM orders WHERE (customer_id, order_id) > (25, 1060);
-- name: row_is_null
SELECT emp_id, (manager_id, home) IS NULL, ROW(manager_id, dept) IS NOT NULL FROM employees;
-- name: between_symmetric
SELECT emp_id FROM employees WHERE emp_id BETWEEN SYMMETRIC 9 AND 5;
-- name: similar_to
SELECT status, count(*) FROM orders WHERE status SIMILAR TO '(n|p)%' GROUP BY status;
-- name: operator_syntax
SELECT customer_id OPERATOR(pg_catalog.+) 1 FROM customers WHERE customer_id OPERATOR(pg_catalog.=) 7;
-- name: typeof
-- modes: simple extended
SELECT pg_typeof(customer_id), pg_typeof(name), pg_typeof(credit), pg_typeof(tags), pg_typeof(feeling), pg_typeof(1), pg_typeof('x'), pg_typeof(NULL), pg_typeof(1.5) FROM customers WHERE customer_id = 1;
-- name: sign_and_bitstring
SELECT B'1010', X'1F'::bit(8), B'101' | B'010', bit_count(B'1101'), 5::bit(4);
-- name: xml_free_money
SELECT 12.5::money + 1::money, '1 day'::interval = '24 hours', 'a'::"char", 1::oid, '(1,2)'::point <-> '(4,6)'::point;
-- name: geometric
SELECT box '(0,0),(2,2)' @> point '(1,1)', circle '((0,0),2)', length(path '[(0,0),(3,4)]');
-- name: width_bucket
SELECT order_id, width_bucket(total, 0, 400, 4) FROM orders WHERE total IS NOT NULL;
-- name: num_nonnulls
SELECT order_id, num_nonnulls(total, note, placed), num_nulls(total, note) FROM orders;
-- name: string_to_table
SELECT customer_id, string_to_table(array_to_string(tags, ','), ',') FROM customers WHERE customer_id < 7;
-- name: hash_functions
SELECT hashtext(name), hashint8(customer_id), sha256(name::bytea) FROM customers WHERE customer_id < 4;
-- name: user_sql_function
SELECT product_id, net_price(price), net_price(price, 0.07), net_price(rate => 0, gross => price) FROM products;
-- name: user_sql_function_sharded
SELECT order_id, net_price(total) FROM orders WHERE net_price(total) > 250;
-- name: user_plpgsql_function
SELECT customer_id, initials(name) FROM customers;
-- name: user_function_group
SELECT initials(name), count(*) FROM customers GROUP BY initials(name);
-- name: user_function_set
SELECT emp_id, h FROM employees, halves(emp_id) h WHERE emp_id < 6;
-- name: user_function_in_key
SELECT name FROM customers WHERE customer_id = net_price(8, 0)::int;
-- name: user_function_alone
SELECT net_price(119), initials('ada lovelace'), (SELECT sum(h) FROM halves(9) h);
-- name: view_simple
SELECT * FROM active_customers;
-- name: view_key
SELECT name FROM active_customers WHERE customer_id = 7;
-- name: view_aggregate
SELECT * FROM order_totals WHERE customer_id = 8;
-- name: view_aggregate_all
SELECT status, sum(amount), sum(lines) FROM order_totals GROUP BY status;
-- name: view_join
SELECT v.name, t.amount FROM active_customers v JOIN order_totals t USING (customer_id) WHERE t.amount > 300;
-- name: view_off_key
-- ordered
SELECT * FROM product_sales ORDER BY sold DESC, product_id LIMIT 5;
-- name: view_reference_join
SELECT * FROM country_credit;
-- name: view_in_subquery
SELECT name FROM products WHERE product_id IN (SELECT product_id FROM product_sales WHERE sold > 40);
-- name: view_count
SELECT (SELECT count(*) FROM active_customers) AS a, (SELECT count(*) FROM order_totals) AS t, (SELECT count(*) FROM product_sales) AS p;
-- name: catalog_names
SELECT relname, relkind FROM pg_class WHERE relname IN ('settings', 'countries', 'active_customers') AND relnamespace = '{schema}'::regnamespace;
-- name: catalog_columns
-- ordered
SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_schema = '{schema}' AND table_name = 'customers' ORDER BY ordinal_position;
-- name: catalog_views
SELECT table_name FROM information_schema.views WHERE table_schema = '{schema}';
-- name: catalog_regclass
-- modes: simple extended
SELECT 'customers'::regclass::text, to_regclass('no_such_table'), 'int4'::regtype, 'net_price'::regproc;
-- name: catalog_functions
SELECT proname, pronargs, provolatile FROM pg_proc WHERE pronamespace = '{schema}'::regnamespace;
-- name: catalog_types
SELECT typname, typtype FROM pg_type WHERE typnamespace = '{schema}'::regnamespace AND typname IN ('mood', 'positive_int', 'address');
-- name: catalog_enum
-- ordered
SELECT enumlabel FROM pg_enum WHERE enumtypid = '{schema}.mood'::regtype ORDER BY enumsortorder;
-- name: current_things
SELECT current_database() IS NOT NULL, current_user = session_user, version() LIKE 'PostgreSQL 16%';
-- name: now_is_stable
SELECT now() = now(), now() = transaction_timestamp(), clock_timestamp() >= now(), count(*) FROM customers WHERE created < now();
-- name: random_is_volatile
SELECT count(DISTINCT r) > 1 FROM (SELECT random() AS r FROM customers) x;
-- name: setseed_range
SELECT bool_and(random() BETWEEN 0 AND 1) FROM customers;
