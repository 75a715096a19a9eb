-- DDL: each block makes its own objects and drops them.

-- name: hash_table_life
CREATE TABLE d_hash (id bigint PRIMARY KEY, v text) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO d_hash SELECT g, 'v' || g FROM generate_series(1, 50) g;
SELECT count(*), sum(id) FROM d_hash;
ALTER TABLE d_hash ADD COLUMN n int DEFAULT 5;
SELECT sum(n) FROM d_hash;
UPDATE d_hash SET n = id WHERE id <= 10;
ALTER TABLE d_hash RENAME COLUMN n TO amount;
SELECT sum(amount) FROM d_hash WHERE id <= 11;
ALTER TABLE d_hash ALTER COLUMN amount TYPE bigint;
SELECT sum(amount) FROM d_hash;
ALTER TABLE d_hash DROP COLUMN v;
-- ordered
SELECT * FROM d_hash ORDER BY id LIMIT 3;
DROP TABLE d_hash;
-- error: 42P01
SELECT * FROM d_hash;
-- name: reference_table_life
CREATE TABLE d_ref (id int PRIMARY KEY, v text UNIQUE) /*hanse WITH (distribution = 'reference')*/;
INSERT INTO d_ref VALUES (1, 'a'), (2, 'b');
SELECT * FROM d_ref;
-- error: 23505
INSERT INTO d_ref VALUES (3, 'a');
ALTER TABLE d_ref ADD CONSTRAINT positive CHECK (id > 0);
-- error: 23514
INSERT INTO d_ref VALUES (0, 'z');
SELECT c.customer_id, r.v FROM customers c JOIN d_ref r ON r.id = c.customer_id;
DROP TABLE d_ref;
-- name: single_table_life
CREATE TABLE d_single (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text NOT NULL DEFAULT 'x', made timestamptz DEFAULT now());
INSERT INTO d_single (v) VALUES ('a'), ('b');
INSERT INTO d_single DEFAULT VALUES;
SELECT count(*), count(DISTINCT id), max(v) FROM d_single;
-- error: 428C9
INSERT INTO d_single (id, v) VALUES (5, 'c');
ALTER TABLE d_single ALTER COLUMN v DROP NOT NULL, ALTER COLUMN v DROP DEFAULT;
INSERT INTO d_single (v) VALUES (NULL);
SELECT count(*) FROM d_single WHERE v IS NULL;
DROP TABLE d_single;
-- name: range_partitions_life
CREATE TABLE d_range (day date NOT NULL, n int) PARTITION BY RANGE (day);
CREATE TABLE d_range_a PARTITION OF d_range FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') /*hanse TABLESPACE g1*/;
-- error: 23514
INSERT INTO d_range VALUES ('2026-05-05', 1);
CREATE TABLE d_range_b PARTITION OF d_range FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') /*hanse TABLESPACE g2*/;
INSERT INTO d_range VALUES ('2026-05-05', 1), ('2025-05-05', 2);
SELECT * FROM d_range;
-- error: 42P17
CREATE TABLE d_range_c PARTITION OF d_range FOR VALUES FROM ('2026-06-01') TO ('2028-01-01') /*hanse TABLESPACE g1*/;
SELECT count(*) FROM d_range_b;
DROP TABLE d_range_a;
SELECT * FROM d_range;
DROP TABLE d_range;
-- name: list_partitions_life
CREATE TABLE d_list (code text, n int) PARTITION BY LIST (code);
CREATE TABLE d_list_a PARTITION OF d_list FOR VALUES IN ('a', 'b') /*hanse TABLESPACE g2*/;
CREATE TABLE d_list_c PARTITION OF d_list FOR VALUES IN ('c') /*hanse TABLESPACE g1*/;
INSERT INTO d_list VALUES ('a', 1), ('b', 2), ('c', 3);
-- error: 42P17
CREATE TABLE d_list_x PARTITION OF d_list FOR VALUES IN ('b');
UPDATE d_list SET n = n * 10;
SELECT * FROM d_list;
DROP TABLE d_list;
-- name: explicit_hash_partitions
CREATE TABLE d_mod (id int, v text) PARTITION BY HASH (id);
CREATE TABLE d_mod_0 PARTITION OF d_mod FOR VALUES WITH (MODULUS 2, REMAINDER 0) /*hanse TABLESPACE g1*/;
CREATE TABLE d_mod_1 PARTITION OF d_mod FOR VALUES WITH (MODULUS 2, REMAINDER 1) /*hanse TABLESPACE g2*/;
INSERT INTO d_mod VALUES (1, 'a'), (2, 'b'), (3, 'c'), (NULL, 'n');
SELECT * FROM d_mod;
SELECT * FROM d_mod_0;
SELECT v FROM d_mod WHERE id IS NULL;
DROP TABLE d_mod;
-- name: attach_detach
CREATE TABLE d_att (id int NOT NULL, v text) PARTITION BY RANGE (id);
CREATE TABLE d_att_1 (id int NOT NULL, v text);
INSERT INTO d_att_1 VALUES (1, 'x');
ALTER TABLE d_att ATTACH PARTITION d_att_1 FOR VALUES FROM (0) TO (10);
SELECT * FROM d_att;
ALTER TABLE d_att DETACH PARTITION d_att_1;
SELECT count(*) FROM d_att;
SELECT * FROM d_att_1;
DROP TABLE d_att, d_att_1;
-- name: default_partition
CREATE TABLE d_def (id int, v text) PARTITION BY LIST (id);
CREATE TABLE d_def_1 PARTITION OF d_def FOR VALUES IN (1, 2) /*hanse TABLESPACE g1*/;
CREATE TABLE d_def_rest PARTITION OF d_def DEFAULT /*hanse TABLESPACE g2*/;
INSERT INTO d_def VALUES (1, 'a'), (2, 'b'), (3, 'c'), (NULL, 'd');
SELECT * FROM d_def;
SELECT * FROM d_def_rest;
SELECT v FROM d_def WHERE id = 7;
DROP TABLE d_def;
-- name: like_and_inherits_columns
CREATE TABLE d_like (LIKE products INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
INSERT INTO d_like SELECT * FROM products WHERE product_id < 4;
SELECT count(*), max(price) FROM d_like;
DROP TABLE d_like;
-- name: create_table_as
CREATE TABLE d_as AS SELECT customer_id, count(*) AS n FROM orders GROUP BY customer_id;
SELECT count(*), sum(n) FROM d_as;
DROP TABLE d_as;
-- name: select_into
SELECT product_id, name INTO d_into FROM products WHERE price > 25;
SELECT * FROM d_into;
DROP TABLE d_into;
-- name: create_if_not_exists
CREATE TABLE IF NOT EXISTS customers (x int);
CREATE TABLE IF NOT EXISTS d_maybe (x int);
DROP TABLE IF EXISTS d_maybe, d_never;
-- name: indexes
CREATE TABLE d_ix (id int PRIMARY KEY, a text, b int) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO d_ix SELECT g, 'a' || g % 7, g FROM generate_series(1, 30) g;
CREATE INDEX d_ix_a ON d_ix (a);
CREATE INDEX d_ix_expr ON d_ix (lower(a), b DESC) WHERE b > 3;
CREATE INDEX ON d_ix USING hash (b);
SELECT count(*) FROM d_ix WHERE a = 'a3';
ALTER INDEX d_ix_a RENAME TO d_ix_renamed;
DROP INDEX d_ix_renamed;
SELECT indexname FROM pg_indexes WHERE schemaname = '{schema}' AND tablename = 'd_ix' AND indexname LIKE 'd_ix_e%';
CREATE UNIQUE INDEX d_ix_u ON d_ix (id, a);
-- error: 23505
INSERT INTO d_ix VALUES (3, 'a3', 3);
DROP TABLE d_ix;
-- name: constraints
CREATE TABLE d_con (id int PRIMARY KEY, n int) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO d_con VALUES (1, 5), (2, -5), (3, 5);
-- error: 23514
ALTER TABLE d_con ADD CONSTRAINT d_con_n CHECK (n > 0);
UPDATE d_con SET n = 5;
ALTER TABLE d_con ADD CONSTRAINT d_con_n CHECK (n > 0);
-- error: 23514
UPDATE d_con SET n = -1 WHERE id = 2;
ALTER TABLE d_con DROP CONSTRAINT d_con_n;
UPDATE d_con SET n = -1 WHERE id = 2;
ALTER TABLE d_con ALTER COLUMN n SET NOT NULL;
-- error: 23502
INSERT INTO d_con (id) VALUES (9);
DROP TABLE d_con;
-- name: foreign_keys
CREATE TABLE d_parent (k int PRIMARY KEY) /*hanse PARTITION BY HASH (k) WITH (shards = 4)*/;
CREATE TABLE d_child (k int, n int, PRIMARY KEY (k, n)) /*hanse PARTITION BY HASH (k) WITH (shards = 4)*/;
INSERT INTO d_parent VALUES (1), (2), (3), (4);
INSERT INTO d_child VALUES (1, 1), (2, 2), (9, 9);
-- error: 23503
ALTER TABLE d_child ADD CONSTRAINT d_fk FOREIGN KEY (k) REFERENCES d_parent ON DELETE CASCADE;
DELETE FROM d_child WHERE k = 9;
ALTER TABLE d_child ADD CONSTRAINT d_fk FOREIGN KEY (k) REFERENCES d_parent ON DELETE CASCADE;
-- error: 23503
INSERT INTO d_child VALUES (7, 7);
DELETE FROM d_parent WHERE k = 1;
SELECT * FROM d_child;
DROP TABLE d_child;
DROP TABLE d_parent;
-- name: rename_table
CREATE TABLE d_old (id int PRIMARY KEY) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO d_old VALUES (1), (2), (3);
ALTER TABLE d_old RENAME TO d_new;
SELECT count(*) FROM d_new;
-- error: 42P01
SELECT count(*) FROM d_old;
SELECT * FROM d_new WHERE id = 2;
DROP TABLE d_new;
-- name: schemas
CREATE SCHEMA {schema}_extra;
CREATE TABLE {schema}_extra.t (id int PRIMARY KEY, v text) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO {schema}_extra.t VALUES (1, 'a'), (2, 'b'), (3, 'c');
SELECT count(*) FROM {schema}_extra.t;
SET search_path = {schema}_extra, {schema};
SELECT t.v, c.name FROM t JOIN customers c ON c.customer_id = t.id;
-- error: 42P06
CREATE SCHEMA {schema}_extra;
-- error: 2BP01
DROP SCHEMA {schema}_extra;
DROP SCHEMA {schema}_extra CASCADE;
-- error: 3F000
DROP SCHEMA {schema}_extra;
-- name: set_schema
CREATE SCHEMA {schema}_there;
CREATE TABLE d_move (id int PRIMARY KEY) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO d_move VALUES (1), (2), (3), (4);
ALTER TABLE d_move SET SCHEMA {schema}_there;
SELECT count(*) FROM {schema}_there.d_move;
DROP SCHEMA {schema}_there CASCADE;
-- name: views
CREATE VIEW d_view AS SELECT country, count(*) AS n FROM customers GROUP BY country;
SELECT * FROM d_view;
CREATE OR REPLACE VIEW d_view AS SELECT country, count(*) AS n, sum(credit) AS s FROM customers GROUP BY country;
SELECT * FROM d_view WHERE n > 5;
ALTER VIEW d_view RENAME TO d_view2;
SELECT count(*) FROM d_view2;
DROP VIEW d_view2;
-- name: view_of_view
CREATE VIEW d_v1 AS SELECT * FROM orders WHERE status = 'paid';
CREATE VIEW d_v2 AS SELECT customer_id, sum(total) AS s FROM d_v1 GROUP BY customer_id;
SELECT * FROM d_v2;
-- error: 2BP01
DROP VIEW d_v1;
DROP VIEW d_v1 CASCADE;
-- error: 42P01
SELECT * FROM d_v2;
-- name: view_check_option
CREATE VIEW d_cheap AS SELECT product_id, name, price FROM products WHERE price < 5 WITH CHECK OPTION;
-- error: 44000
UPDATE d_cheap SET price = 50;
SELECT count(*) FROM d_cheap;
DROP VIEW d_cheap;
-- name: materialized_view
CREATE MATERIALIZED VIEW d_mat AS SELECT status, count(*) AS n FROM orders GROUP BY status;
SELECT * FROM d_mat;
SELECT o.order_id, m.n FROM orders o JOIN d_mat m USING (status) WHERE o.customer_id = 8;
REFRESH MATERIALIZED VIEW d_mat;
SELECT sum(n) FROM d_mat;
DROP MATERIALIZED VIEW d_mat;
-- name: types
CREATE TYPE d_colour AS ENUM ('red', 'green');
CREATE TABLE d_painted (id int PRIMARY KEY, c d_colour) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO d_painted VALUES (1, 'red'), (2, 'green'), (3, 'red');
ALTER TYPE d_colour ADD VALUE 'blue' AFTER 'red';
INSERT INTO d_painted VALUES (4, 'blue');
-- ordered
SELECT c, count(*) FROM d_painted GROUP BY c ORDER BY c;
-- error: 2BP01
DROP TYPE d_colour;
DROP TABLE d_painted;
DROP TYPE d_colour;
-- name: composite_type
CREATE TYPE d_pair AS (a int, b text);
CREATE TABLE d_pairs (id int PRIMARY KEY, p d_pair) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO d_pairs VALUES (1, (1, 'x')), (2, ROW(2, 'y'));
SELECT id, (p).b FROM d_pairs;
DROP TABLE d_pairs;
DROP TYPE d_pair;
-- name: domains
CREATE DOMAIN d_email AS text CHECK (VALUE LIKE '%@%');
CREATE TABLE d_users (id int PRIMARY KEY, mail d_email) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO d_users VALUES (1, 'a@b'), (2, 'c@d');
-- error: 23514
INSERT INTO d_users VALUES (3, 'nope');
SELECT id, mail FROM d_users;
DROP TABLE d_users;
DROP DOMAIN d_email;
-- name: functions
CREATE FUNCTION d_twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT n * 2 $$;
SELECT emp_id, d_twice(emp_id) FROM employees WHERE emp_id < 5;
SELECT name FROM employees WHERE emp_id = d_twice(4);
CREATE OR REPLACE FUNCTION d_twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT n * 3 $$;
SELECT sum(d_twice(emp_id)) FROM employees;
DROP FUNCTION d_twice(int);
-- error: 42883
SELECT d_twice(1);
-- name: function_overloads
CREATE FUNCTION d_kind(int) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'int' $$;
CREATE FUNCTION d_kind(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'text' $$;
SELECT d_kind(1), d_kind('x'), d_kind(emp_id) FROM employees WHERE emp_id = 1;
DROP FUNCTION d_kind(int), d_kind(text);
-- name: function_table
CREATE FUNCTION d_rows(n int) RETURNS TABLE (a int, b text) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..n LOOP
        a := i;
        b := 'row ' || i;
        RETURN NEXT;
    END LOOP;
END $$;
SELECT * FROM d_rows(3);
SELECT e.name, r.b FROM employees e JOIN d_rows(5) r ON r.a = e.emp_id;
DROP FUNCTION d_rows;
-- name: function_over_reference
CREATE FUNCTION d_country(c char(2)) RETURNS text LANGUAGE sql STABLE AS $$ SELECT name FROM {schema}.countries WHERE code = c $$;
SELECT customer_id, d_country(country) FROM customers;
DROP FUNCTION d_country;
-- name: procedure
CREATE PROCEDURE d_nothing(x int) LANGUAGE plpgsql AS $$ BEGIN IF x < 0 THEN RAISE EXCEPTION 'negative'; END IF; END $$;
CALL d_nothing(1);
-- error: P0001
CALL d_nothing(-1);
DROP PROCEDURE d_nothing;
-- name: aggregate
CREATE FUNCTION d_mul(a numeric, b numeric) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT a * b $$;
CREATE AGGREGATE d_product(numeric) (SFUNC = d_mul, STYPE = numeric, INITCOND = '1');
SELECT d_product(quantity) FROM order_lines WHERE order_id < 1010;
SELECT dept, d_product(emp_id) FROM employees WHERE emp_id < 12 GROUP BY dept;
DROP AGGREGATE d_product(numeric);
DROP FUNCTION d_mul;
-- name: row_trigger
CREATE TABLE d_trig (id int PRIMARY KEY, v text, stamp text) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
CREATE FUNCTION d_stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.stamp := TG_OP || ' ' || NEW.v; RETURN NEW; END $$;
CREATE TRIGGER d_stamp BEFORE INSERT OR UPDATE ON d_trig FOR EACH ROW EXECUTE FUNCTION d_stamp();
INSERT INTO d_trig (id, v) VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd');
UPDATE d_trig SET v = 'z' WHERE id IN (2, 3);
SELECT * FROM d_trig;
DROP TRIGGER d_stamp ON d_trig;
DROP TABLE d_trig;
DROP FUNCTION d_stamp;
-- name: generated_columns
CREATE TABLE d_gen (id int PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO d_gen VALUES (1, 10), (2, 20), (3, 30);
INSERT INTO d_gen (id, a) SELECT id + 10, a FROM d_gen;
SELECT * FROM d_gen;
SELECT sum(twice) FROM d_gen;
DROP TABLE d_gen;
-- name: identity_key
CREATE TABLE d_ident (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, v text) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO d_ident (v) VALUES ('a'), ('b'), ('c');
INSERT INTO d_ident (v) SELECT 'x' || g FROM generate_series(1, 40) g;
SELECT count(*), count(DISTINCT id) FROM d_ident;
INSERT INTO d_ident (id, v) VALUES (-5, 'own');
SELECT v FROM d_ident WHERE id = -5;
DROP TABLE d_ident;
-- name: default_on_key
CREATE TABLE d_uuid (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), v text) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO d_uuid (v) VALUES ('a'), ('b'), ('c'), ('d');
INSERT INTO d_uuid (v) SELECT 'x' || g FROM generate_series(1, 20) g;
SELECT count(*), count(DISTINCT id) FROM d_uuid;
SELECT count(*) FROM d_uuid a JOIN d_uuid b USING (id);
DROP TABLE d_uuid;
-- name: default_now_on_range_key
CREATE TABLE d_now (at date NOT NULL DEFAULT DATE '2025-06-01', v text) PARTITION BY RANGE (at);
CREATE TABLE d_now_1 PARTITION OF d_now FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') /*hanse TABLESPACE g2*/;
CREATE TABLE d_now_2 PARTITION OF d_now FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') /*hanse TABLESPACE g1*/;
INSERT INTO d_now (v) VALUES ('a'), ('b');
INSERT INTO d_now VALUES ('2026-02-02', 'c'), (DEFAULT, 'd');
SELECT * FROM d_now;
DROP TABLE d_now;
-- name: default_volatile_other_column
CREATE TABLE d_vol (id int PRIMARY KEY, r double precision DEFAULT random(), s serial) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO d_vol (id) VALUES (1), (2), (3), (4), (5);
SELECT count(DISTINCT r), count(DISTINCT s) FROM d_vol;
DROP TABLE d_vol;
-- name: volatile_in_reference
CREATE TABLE d_volref (id int PRIMARY KEY, r double precision DEFAULT random()) /*hanse WITH (distribution = 'reference')*/;
INSERT INTO d_volref (id) VALUES (1), (2), (3);
UPDATE d_volref SET r = random() WHERE id = 2;
SELECT count(*) FROM d_volref a JOIN d_volref b ON a.id = b.id AND a.r = b.r JOIN customers c ON c.customer_id = a.id;
DROP TABLE d_volref;
-- name: sequences
CREATE SEQUENCE d_seq;
SELECT count(DISTINCT nextval('d_seq')) FROM generate_series(1, 100);
SELECT setval('d_seq', 100000);
SELECT nextval('d_seq') > 100000;
ALTER SEQUENCE d_seq RESTART WITH 500000;
SELECT nextval('d_seq') >= 500000;
DROP SEQUENCE d_seq;
-- name: comments
COMMENT ON TABLE nothing IS 'holds nothing';
SELECT obj_description('nothing'::regclass, 'pg_class');
COMMENT ON COLUMN nothing.v IS 'a value';
SELECT col_description('nothing'::regclass, 2);
COMMENT ON TABLE nothing IS NULL;
-- name: drop_many
CREATE TABLE d_one (id int);
CREATE TABLE d_two (id int PRIMARY KEY) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
DROP TABLE d_one, d_two;
-- error: 42P01
DROP TABLE d_one, d_two;
-- name: truncate_restart
CREATE TABLE d_trunc (id serial PRIMARY KEY, v text) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO d_trunc (v) VALUES ('a'), ('b');
TRUNCATE d_trunc RESTART IDENTITY;
INSERT INTO d_trunc (v) VALUES ('c');
SELECT count(*) FROM d_trunc;
DROP TABLE d_trunc;
-- name: rules
CREATE TABLE d_rule (id int PRIMARY KEY, v text) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO d_rule VALUES (1, 'a'), (2, 'b'), (3, 'c');
CREATE RULE d_no_delete AS ON DELETE TO d_rule DO INSTEAD NOTHING;
DELETE FROM d_rule;
DELETE FROM d_rule WHERE id = 2;
SELECT count(*) FROM d_rule;
DROP TABLE d_rule;
-- name: key_types
CREATE TABLE d_k1 (k smallint PRIMARY KEY) /*hanse PARTITION BY HASH (k) WITH (shards = 4)*/;
INSERT INTO d_k1 VALUES (1), (-2), (30000);
SELECT * FROM d_k1 WHERE k = -2;
CREATE TABLE d_k2 (k varchar(10) PRIMARY KEY) /*hanse PARTITION BY HASH (k) WITH (shards = 4)*/;
INSERT INTO d_k2 VALUES ('a'), ('ä'), ('');
SELECT * FROM d_k2 WHERE k = 'ä';
CREATE TABLE d_k3 (k date PRIMARY KEY) /*hanse PARTITION BY HASH (k) WITH (shards = 4)*/;
INSERT INTO d_k3 VALUES ('2026-01-01'), ('1999-12-31'), ('infinity');
SELECT * FROM d_k3 WHERE k = '1999-12-31';
CREATE TABLE d_k4 (a text, b int, c bigint, PRIMARY KEY (a, b, c)) /*hanse PARTITION BY HASH (a, b) WITH (shards = 4)*/;
INSERT INTO d_k4 VALUES ('x', 1, 1), ('x', 2, 1), ('y', 1, 5000000000);
SELECT * FROM d_k4 WHERE a = 'x' AND b = 2;
SELECT * FROM d_k4 WHERE a = 'y';
DROP TABLE d_k1, d_k2, d_k3, d_k4;
-- name: quoted_identifiers
CREATE TABLE "d Odd" ("Id" int PRIMARY KEY, "select" text, "ü" int) /*hanse PARTITION BY HASH ("Id") WITH (shards = 4)*/;
INSERT INTO "d Odd" ("Id", "select", "ü") VALUES (1, 'a', 2), (2, 'b', 3), (3, 'c', 4);
SELECT "select", "ü" FROM "d Odd" WHERE "Id" = 2;
UPDATE "d Odd" SET "ü" = 0 WHERE "Id" IN (1, 3);
SELECT sum("ü") AS "Sum" FROM "d Odd";
DROP TABLE "d Odd";
-- name: many_columns
CREATE TABLE d_wide (id int PRIMARY KEY, a text, b text, c text, d text, e text, f text, g text, h text, i text, j text) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO d_wide (id, j, a) VALUES (1, 'j', 'a'), (2, 'jj', 'aa');
SELECT * FROM d_wide;
DROP TABLE d_wide;
-- name: create_distributed_table
CREATE TABLE d_conv (id int PRIMARY KEY, v text);
INSERT INTO d_conv SELECT g, 'v' || g FROM generate_series(1, 60) g;
/*hanse SELECT create_distributed_table('d_conv', 'id')*/;
SELECT count(*), sum(id) FROM d_conv;
SELECT v FROM d_conv WHERE id = 31;
DROP TABLE d_conv;
-- name: create_distributed_table_empty
CREATE TABLE d_conv2 (id bigint, n int, PRIMARY KEY (id, n));
/*hanse SELECT create_distributed_table('d_conv2', 'id', shard_count => 6)*/;
INSERT INTO d_conv2 SELECT g, g % 3 FROM generate_series(1, 60) g;
SELECT n, count(*) FROM d_conv2 GROUP BY n;
DROP TABLE d_conv2;
-- name: create_reference_table
CREATE TABLE d_conv3 (id int PRIMARY KEY, v text);
INSERT INTO d_conv3 VALUES (1, 'a'), (2, 'b');
/*hanse SELECT create_reference_table('d_conv3')*/;
SELECT c.customer_id, r.v FROM customers c JOIN d_conv3 r ON r.id = c.customer_id;
INSERT INTO d_conv3 VALUES (3, 'c');
SELECT count(*) FROM customers c JOIN d_conv3 r ON r.id = c.customer_id;
DROP TABLE d_conv3;
-- name: roles_and_grants
-- modes: simple
CREATE TABLE d_priv (id int PRIMARY KEY, v text) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO d_priv VALUES (1, 'a'), (2, 'b'), (3, 'c');
SET ROLE corpus_reader;
-- error: 42501
SELECT count(*) FROM d_priv;
RESET ROLE;
GRANT SELECT ON d_priv TO corpus_reader;
SET ROLE corpus_reader;
SELECT count(*) FROM d_priv;
SELECT v FROM d_priv WHERE id = 2;
-- error: 42501
DELETE FROM d_priv WHERE id = 2;
RESET ROLE;
REVOKE SELECT ON d_priv FROM corpus_reader;
SET ROLE corpus_reader;
-- error: 42501
SELECT v FROM d_priv WHERE id = 2;
RESET ROLE;
DROP TABLE d_priv;
-- name: explain_runs
-- unchecked
EXPLAIN SELECT name FROM customers WHERE customer_id = 7;
-- unchecked
EXPLAIN SELECT count(*) FROM customers;
-- unchecked
EXPLAIN SELECT * FROM events e JOIN customers c USING (customer_id);
-- unchecked
EXPLAIN (COSTS OFF) UPDATE customers SET credit = 0;
-- unchecked
EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM orders WHERE customer_id = 8;
-- unchecked
EXPLAIN (VERBOSE) SELECT * FROM products;
-- error: 42P01
EXPLAIN SELECT * FROM no_such_table;
-- name: explain_analyze_write
BEGIN;
-- unchecked
EXPLAIN ANALYZE DELETE FROM employees WHERE emp_id = 3;
SELECT count(*) FROM employees;
ROLLBACK;
SELECT count(*) FROM employees;
-- name: explain_does_not_run
-- unchecked
EXPLAIN DELETE FROM employees;
SELECT count(*) FROM employees;
